"""Checks of describing and altering configurations, with their sources."""


from confluent_kafka import KafkaError
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, ResourceType

import wire
from checks import check, equal, expect, wait_for
from target import REQUEST_SECONDS, kafka_error

# Every topic configuration of Kafka 4.3 with its default; None where the default depends on the broker.
TOPIC_DEFAULTS = {
    "cleanup.policy": "delete",
    "compression.gzip.level": "-1",
    "compression.lz4.level": "9",
    "compression.type": "producer",
    "compression.zstd.level": "3",
    "delete.retention.ms": "86400000",
    "file.delete.delay.ms": "60000",
    "flush.messages": "9223372036854775807",
    "flush.ms": "9223372036854775807",
    "follower.replication.throttled.replicas": "",
    "index.interval.bytes": "4096",
    "leader.replication.throttled.replicas": "",
    "local.retention.bytes": "-2",
    "local.retention.ms": "-2",
    "max.compaction.lag.ms": "9223372036854775807",
    "max.message.bytes": "1048588",
    "message.timestamp.after.max.ms": "3600000",
    "message.timestamp.before.max.ms": "9223372036854775807",
    "message.timestamp.type": "CreateTime",
    "min.cleanable.dirty.ratio": "0.5",
    "min.compaction.lag.ms": "0",
    "min.insync.replicas": None,
    "preallocate": "false",
    "remote.log.copy.disable": "false",
    "remote.log.delete.on.disable": "false",
    "remote.storage.enable": "false",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "segment.bytes": "1073741824",
    "segment.index.bytes": "10485760",
    "segment.jitter.ms": "0",
    "segment.ms": "604800000",
    "unclean.leader.election.enable": "false",
}


def topic_resource(name, *changes):
    entries = [ConfigEntry(key, value, incremental_operation=op) for key, value, op in changes]
    return ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)


def describe(target, kind, name):
    resource = ConfigResource(kind, name)
    return target.admin.describe_configs([resource])[resource].result(REQUEST_SECONDS)


def alter(target, resource, **more):
    return target.admin.incremental_alter_configs([resource], **more)[resource].result(REQUEST_SECONDS)


def shows(target, topic, **wanted):
    """Waits until the topic shows these values (dots as underscores): Kafka's brokers follow its controller."""
    keys = {key.replace("_", "."): value for key, value in wanted.items()}

    def values():
        found = describe(target, ResourceType.TOPIC, topic)
        return {key: found[key].value for key in keys}

    try:
        wait_for(f"{keys}", lambda: values() == keys, 5)
    except AssertionError:
        equal(values(), keys, "the values shown")


def source(entry):
    return ConfigSource(entry.source)


@check(quick=True)
def a_topic_shows_every_config_with_its_source(target):
    topic = target.topic(config={"retention.ms": "86400000", "cleanup.policy": "compact,delete"})
    found = describe(target, ResourceType.TOPIC, topic)
    shown = {key for key in found if not key.startswith("strom.")}
    equal(sorted(set(TOPIC_DEFAULTS) ^ shown), [], "keys shown by one side only")
    for key in ("retention.ms", "cleanup.policy"):
        equal(source(found[key]), ConfigSource.DYNAMIC_TOPIC_CONFIG, f"the source of {key}")
        equal(found[key].is_default, False, f"is_default of {key}")
    equal((found["retention.ms"].value, found["cleanup.policy"].value), ("86400000", "compact,delete"), "set values")
    for key, value in TOPIC_DEFAULTS.items():
        if key in ("retention.ms", "cleanup.policy") or value is None:
            continue
        entry = found[key]
        expect(source(entry) != ConfigSource.DYNAMIC_TOPIC_CONFIG, f"{key} is shown as set on the topic")
        if source(entry) == ConfigSource.DEFAULT_CONFIG:
            equal(entry.value, value, f"the default of {key}")
        expect(not entry.is_read_only and not entry.is_sensitive, f"{key} is shown as read-only or sensitive")


@check()
def synonyms_are_in_order_of_precedence(target):
    topic = target.topic(config={"max.message.bytes": "100000"})
    found = describe(target, ResourceType.TOPIC, topic)
    synonyms = [(e.name, ConfigSource(e.source)) for e in found["max.message.bytes"].synonyms.values()]
    equal(
        synonyms,
        [("max.message.bytes", ConfigSource.DYNAMIC_TOPIC_CONFIG), ("message.max.bytes", ConfigSource.DEFAULT_CONFIG)],
        "synonyms of a key set on the topic",
    )
    synonyms = [e.name for e in found["flush.messages"].synonyms.values()]
    equal(synonyms, ["log.flush.interval.messages"], "synonyms of a key left at its default")


@check(quick=True)
def configs_are_altered_one_by_one(target):
    topic = target.topic(config={"retention.ms": "86400000", "segment.bytes": "2097152"})
    SET, DELETE = AlterConfigOpType.SET, AlterConfigOpType.DELETE
    alter(target, topic_resource(topic, ("retention.ms", "1000", SET), ("segment.bytes", None, DELETE)))
    shows(target, topic, retention_ms="1000", segment_bytes="1073741824")
    found = describe(target, ResourceType.TOPIC, topic)
    equal(source(found["segment.bytes"]), ConfigSource.DEFAULT_CONFIG, "the source of what was deleted")
    alter(target, topic_resource(topic, ("cleanup.policy", "compact", AlterConfigOpType.APPEND)))
    shows(target, topic, cleanup_policy="delete,compact")
    alter(target, topic_resource(topic, ("cleanup.policy", "delete", AlterConfigOpType.SUBTRACT)))
    shows(target, topic, cleanup_policy="compact")
    alter(target, topic_resource(topic, ("retention.ms", "2000", SET)), validate_only=True)
    shows(target, topic, retention_ms="1000")


@check(quick=True)
def alterations_that_must_fail(target):
    topic = target.topic()
    cases = {
        "unknown key": ("no.such.key", "1", KafkaError.INVALID_CONFIG),
        "not a number": ("retention.ms", "soon", KafkaError.INVALID_CONFIG),
        "out of range": ("min.cleanable.dirty.ratio", "2", KafkaError.INVALID_CONFIG),
        "NaN": ("min.cleanable.dirty.ratio", "x", KafkaError.INVALID_CONFIG),
        "no such policy": ("cleanup.policy", "shred", KafkaError.INVALID_CONFIG),
        "no such codec": ("compression.type", "rar", KafkaError.INVALID_CONFIG),
        "too small": ("max.message.bytes", "-1", KafkaError.INVALID_CONFIG),
        "not a boolean": ("preallocate", "perhaps", KafkaError.INVALID_CONFIG),
        "a key of brokers": ("log.retention.ms", "1", KafkaError.INVALID_CONFIG),
    }
    for what, (key, value, wanted) in cases.items():
        change = topic_resource(topic, (key, value, AlterConfigOpType.SET))
        equal(kafka_error(lambda c=change: alter(target, c)).code(), wanted, what)
    both = topic_resource(topic, ("retention.ms", "5", AlterConfigOpType.SET), ("no.such", "1", AlterConfigOpType.SET))
    equal(kafka_error(lambda: alter(target, both)).code(), KafkaError.INVALID_CONFIG, "one good, one bad")
    equal(describe(target, ResourceType.TOPIC, topic)["retention.ms"].value, "604800000", "nothing was applied")
    unknown = topic_resource(target.name("none"), ("retention.ms", "1", AlterConfigOpType.SET))
    equal(kafka_error(lambda: alter(target, unknown)).code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "an unknown topic")
    equal(
        kafka_error(lambda: describe(target, ResourceType.TOPIC, target.name("none"))).code(),
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        "describing an unknown topic",
    )


@check()
def the_older_alteration_replaces_all(target):
    topic = target.topic(config={"retention.ms": "86400000", "segment.bytes": "2097152"})
    resource = ConfigResource(ResourceType.TOPIC, topic, set_config={"retention.ms": "5000"})
    target.admin.alter_configs([resource])[resource].result(REQUEST_SECONDS)
    shows(target, topic, retention_ms="5000", segment_bytes="1073741824")


@check(quick=True)
def a_broker_shows_its_configs(target):
    broker = str(next(iter(target.admin.list_topics(timeout=REQUEST_SECONDS).brokers)))
    found = describe(target, ResourceType.BROKER, broker)
    expect(len(found) > 200, f"only {len(found)} configs")
    for key in ("log.retention.hours", "num.partitions", "message.max.bytes", "auto.create.topics.enable", "log.dirs",
                "advertised.listeners", "group.initial.rebalance.delay.ms", "offsets.topic.num.partitions"):
        expect(key in found, f"{key} is not shown")
    expect(found["log.dirs"].is_read_only, "log.dirs is shown as changeable")
    expect(not found["log.retention.ms"].is_read_only, "log.retention.ms is shown as read-only")


@check()
def a_broker_config_is_altered(target):
    broker = str(next(iter(target.admin.list_topics(timeout=REQUEST_SECONDS).brokers)))

    def change(value, op):
        entry = ConfigEntry("log.segment.delete.delay.ms", value, incremental_operation=op)
        return alter(target, ConfigResource(ResourceType.BROKER, broker, incremental_configs=[entry]))

    def shown():
        found = describe(target, ResourceType.BROKER, broker)["log.segment.delete.delay.ms"]
        return found.value, source(found)

    change("61000", AlterConfigOpType.SET)
    wait_for("the broker to show it", lambda: shown() == ("61000", ConfigSource.DYNAMIC_BROKER_CONFIG))
    change(None, AlterConfigOpType.DELETE)
    wait_for("its end", lambda: shown() == ("60000", ConfigSource.DEFAULT_CONFIG))


def alter_cluster_default(bootstrap, key, value):
    """IncrementalAlterConfigs of the nameless broker, which the Python client does not let through."""
    operation = wire.i8(1) if value is None else wire.i8(0)
    entry = wire.string(key) + operation + wire.string(value)
    body = wire.array([wire.i8(4) + wire.string("") + wire.array([entry])]) + wire.i8(0)
    with wire.Connection(bootstrap) as connection:
        reply = connection.request(wire.INCREMENTAL_ALTER_CONFIGS, 0, body)
    reply.i32()
    reply.i32()
    equal(reply.i16(), 0, f"the error of setting the default of {key}")


@check(alone=True)
def a_default_of_all_brokers_reaches_topics(target):
    topic = target.topic()
    alter_cluster_default(target.bootstrap, "log.flush.interval.messages", "12345")

    def shown():
        found = describe(target, ResourceType.TOPIC, topic)["flush.messages"]
        return found.value, source(found)

    try:
        wait_for("the topic to show it", lambda: shown() == ("12345", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG))
    finally:
        alter_cluster_default(target.bootstrap, "log.flush.interval.messages", None)
    wait_for("its end", lambda: shown() == ("9223372036854775807", ConfigSource.DEFAULT_CONFIG))


@check()
def read_only_and_unknown_broker_configs_are_refused(target):
    broker = str(next(iter(target.admin.list_topics(timeout=REQUEST_SECONDS).brokers)))
    for key, value in (("log.dirs", "/tmp"), ("node.id", "7"), ("num.io.threads", "none")):
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.BROKER, broker, incremental_configs=[entry])
        error = kafka_error(lambda r=resource: alter(target, r))
        expect(error.code() in (KafkaError.INVALID_REQUEST, KafkaError.INVALID_CONFIG), f"setting {key} got {error}")


@check()
def a_changed_config_takes_effect(target):
    topic = target.topic()
    target.send_ok(topic, [b"x" * 50_000])
    alter(target, topic_resource(topic, ("max.message.bytes", "10000", AlterConfigOpType.SET)))
    wait_for(
        "a record over the new limit to be refused",
        lambda: (target.send(topic, [b"x" * 50_000])[0][0] or KafkaError(0)).code() == KafkaError.MSG_SIZE_TOO_LARGE,
    )
    alter(target, topic_resource(topic, ("max.message.bytes", None, AlterConfigOpType.DELETE)))
    wait_for("it to be taken again", lambda: target.send(topic, [b"x" * 50_000])[0][0] is None)
