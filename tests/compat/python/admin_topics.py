"""Checks of the cluster's description and of making, growing, describing and deleting topics."""

from confluent_kafka import KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic

from checks import check, equal, expect, wait_for
from target import REQUEST_SECONDS, kafka_error


def create(target, name, partitions=1, replication=1, **more):
    new = NewTopic(name, num_partitions=partitions, replication_factor=replication, config=more.pop("config", {}))
    future = target.admin.create_topics([new], **more)[name]
    if not more.get("validate_only"):
        target.topics.append(name)
    return future.result(REQUEST_SECONDS)


def code_of(call):
    return kafka_error(call).code()


@check(quick=True)
def the_cluster_is_described(target):
    found = target.admin.describe_cluster(include_authorized_operations=True).result(REQUEST_SECONDS)
    expect(found.cluster_id, "no cluster id")
    expect(found.controller is not None, "no controller")
    ids = [node.id for node in found.nodes]
    expect(found.controller.id in ids, f"the controller {found.controller.id} is not among the nodes {ids}")
    expect(found.authorized_operations, "no authorized operations")
    again = target.admin.describe_cluster().result(REQUEST_SECONDS)
    equal(again.cluster_id, found.cluster_id, "the cluster id asked again")
    metadata = target.admin.list_topics(timeout=REQUEST_SECONDS)
    equal(sorted(metadata.brokers), sorted(ids), "brokers in metadata")
    equal(metadata.cluster_id, found.cluster_id, "the cluster id in metadata")
    expect(metadata.controller_id in ids, f"controller {metadata.controller_id} in metadata")


@check(quick=True)
def a_topic_is_created_described_and_deleted(target):
    name = target.name()
    create(target, name, 4)
    listed = target.admin.list_topics(timeout=REQUEST_SECONDS).topics
    expect(name in listed, "not listed right after its creation")
    equal(sorted(listed[name].partitions), [0, 1, 2, 3], "partitions listed")
    found = target.admin.describe_topics(TopicCollection([name]))[name].result(REQUEST_SECONDS)
    equal((found.name, found.is_internal, len(found.partitions)), (name, False, 4), "the description")
    for partition in found.partitions:
        expect(partition.leader is not None and partition.leader.id >= 0, f"partition {partition.id} has no leader")
        equal(len(partition.replicas), 1, "replicas")
        equal([n.id for n in partition.isr], [partition.leader.id], "the ISR")
    expect(str(found.topic_id) != "AAAAAAAAAAAAAAAAAAAAAA", "a zero topic id")
    target.admin.delete_topics([name])[name].result(REQUEST_SECONDS)
    expect(name not in target.admin.list_topics(timeout=REQUEST_SECONDS).topics, "listed right after its deletion")
    error = kafka_error(lambda: target.admin.describe_topics(TopicCollection([name]))[name].result(REQUEST_SECONDS))
    equal(error.code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "describing what was deleted")


@check()
def a_recreated_topic_is_a_new_one(target):
    name = target.name()
    ids, producer = [], target.producer()
    for round_number in range(3):
        create(target, name, 1)
        found = target.admin.describe_topics(TopicCollection([name]))[name].result(REQUEST_SECONDS)
        ids.append(str(found.topic_id))
        wait_for("the producer to reach the new topic", lambda: target.send(name, [b"x"], producer)[0][0] is None)
        consumer = target.consumer(target.name(f"reader-{round_number}"))
        low, high = consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=REQUEST_SECONDS)
        equal((low, high), (0, 1), "the offsets of the topic made anew")
        consumer.close()
        target.admin.delete_topics([name])[name].result(REQUEST_SECONDS)
    equal(len(set(ids)), 3, "different topic ids")


@check(quick=True)
def creations_that_must_fail(target):
    name = target.topic("taken")
    cases = {
        "existing topic": (KafkaError.TOPIC_ALREADY_EXISTS, lambda: create(target, name)),
        "replication 40": (KafkaError.INVALID_REPLICATION_FACTOR, lambda: create(target, target.name("a"), 1, 40)),
        "unknown config": (
            KafkaError.INVALID_CONFIG, lambda: create(target, target.name("b"), config={"no.such.key": "1"})),
        "bad config value": (
            KafkaError.INVALID_CONFIG, lambda: create(target, target.name("c"), config={"retention.ms": "soon"})),
        "config out of range": (
            KafkaError.INVALID_CONFIG, lambda: create(target, target.name("d"), config={"segment.bytes": "3"})),
        "space in the name": (KafkaError.TOPIC_EXCEPTION, lambda: create(target, "a name")),
        "slash in the name": (KafkaError.TOPIC_EXCEPTION, lambda: create(target, "../escape")),
        "name of dots": (KafkaError.TOPIC_EXCEPTION, lambda: create(target, "..")),
        "name of 250": (KafkaError.TOPIC_EXCEPTION, lambda: create(target, "x" * 250)),
    }
    for what, (wanted, call) in cases.items():
        equal(code_of(call), wanted, what)
    listed = set(target.admin.list_topics(timeout=REQUEST_SECONDS).topics)
    equal([t for t in listed if t.startswith(target.prefix) and t != name], [], "topics left by refused creations")


@check()
def dots_and_underscores_collide(target):
    name = target.name("a.b")
    create(target, name)
    equal(code_of(lambda: create(target, target.name("a_b"))), KafkaError.TOPIC_EXCEPTION, "the colliding name")


@check(quick=True)
def validation_alone_creates_nothing(target):
    name = target.name()
    create(target, name, 3, validate_only=True)
    expect(name not in target.admin.list_topics(timeout=REQUEST_SECONDS).topics, "a validated topic exists")
    equal(
        code_of(lambda: create(target, name, 1, 40, validate_only=True)),
        KafkaError.INVALID_REPLICATION_FACTOR,
        "validating what cannot be",
    )


@check()
def partition_counts_and_assignments(target):
    name = target.name("default")
    create(target, name, -1, -1)
    count = len(target.admin.list_topics(name, timeout=REQUEST_SECONDS).topics[name].partitions)
    expect(count >= 1, f"{count} partitions by default")
    broker = next(iter(target.admin.list_topics(timeout=REQUEST_SECONDS).brokers))
    placed = target.name("placed")
    new = NewTopic(placed, num_partitions=2, replica_assignment=[[broker], [broker]])
    target.topics.append(placed)
    target.admin.create_topics([new])[placed].result(REQUEST_SECONDS)
    found = target.admin.list_topics(placed, timeout=REQUEST_SECONDS).topics[placed]
    equal([p.replicas for p in found.partitions.values()], [[broker], [broker]], "the replicas asked for")
    wrong = NewTopic(target.name("wrong"), num_partitions=1, replica_assignment=[[broker, broker]])
    equal(
        code_of(lambda: target.admin.create_topics([wrong])[wrong.topic].result(REQUEST_SECONDS)),
        KafkaError.INVALID_REPLICA_ASSIGNMENT,
        "the same replica twice",
    )


@check(quick=True)
def partitions_are_added(target):
    name = target.topic(partitions=3)

    def grow(topic, count, **more):
        return target.admin.create_partitions([NewPartitions(topic, count)], **more)[topic].result(REQUEST_SECONDS)

    grow(name, 6, validate_only=True)
    equal(len(target.admin.list_topics(name, timeout=REQUEST_SECONDS).topics[name].partitions), 3, "after validation")
    grow(name, 6)
    equal(len(target.admin.list_topics(name, timeout=REQUEST_SECONDS).topics[name].partitions), 6, "after growing")
    target.send_ok(name, [{"value": b"x", "partition": p} for p in range(6)])
    equal(code_of(lambda: grow(name, 6)), KafkaError.INVALID_PARTITIONS, "the same count")
    equal(code_of(lambda: grow(name, 2)), KafkaError.INVALID_PARTITIONS, "fewer")
    equal(code_of(lambda: grow(target.name("none"), 2)), KafkaError.UNKNOWN_TOPIC_OR_PART, "an unknown topic")


@check()
def deleting_what_is_not_there(target):
    name = target.name("none")
    equal(
        code_of(lambda: target.admin.delete_topics([name])[name].result(REQUEST_SECONDS)),
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        "deleting an unknown topic",
    )


@check()
def many_topics_in_one_request(target):
    names = [target.name(f"n{i}") for i in range(40)]
    target.topics.extend(names)
    futures = target.admin.create_topics([NewTopic(n, num_partitions=2, replication_factor=1) for n in names])
    for future in futures.values():
        future.result(REQUEST_SECONDS)
    listed = target.admin.list_topics(timeout=REQUEST_SECONDS).topics
    expect(all(n in listed for n in names), "not all listed")
    for future in target.admin.delete_topics(names).values():
        future.result(REQUEST_SECONDS)


@check(quick=True)
def topics_are_created_on_first_use(target):
    name = target.name("used")
    target.topics.append(name)
    target.send_ok(name, [b"first"])
    partitions = len(target.admin.list_topics(name, timeout=REQUEST_SECONDS).topics[name].partitions)
    equal([m.value() for m in target.read(name, 1, partitions)], [b"first"], "the message")
    consumer = target.consumer()  # this client's consumers do not ask for it
    consumer.subscribe([target.name("never")])
    wait_for("the error for an unknown topic", lambda: _error(consumer) == KafkaError.UNKNOWN_TOPIC_OR_PART)
    expect(target.name("never") not in target.admin.list_topics(timeout=REQUEST_SECONDS).topics, "it was created")


def _error(consumer):
    message = consumer.poll(0.2)
    return message.error().code() if message is not None and message.error() else None


@check()
def illegal_names_are_not_created_on_use(target):
    for name in ("a name", "x" * 250, "a/b"):
        reports = target.send(name, [b"x"], message_timeout_ms=4000)
        code = reports[0][0].code() if reports[0][0] else None
        expect(code in (KafkaError.TOPIC_EXCEPTION, KafkaError._MSG_TIMED_OUT), f"producing to {name[:20]!r} got {code}")
