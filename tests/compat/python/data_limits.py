"""Checks of what a broker must refuse, and of large and empty records."""

import os
import time

from confluent_kafka import KafkaError

from checks import check, equal, expect
from target import kafka_error


def refusal(target, topic, record, **settings):
    error = target.send(topic, [record], **settings)[0][0]
    return error.code() if error else None


@check(quick=True)
def records_over_the_limit_are_refused(target):
    topic = target.topic(config={"max.message.bytes": "20000"})
    equal(refusal(target, topic, os.urandom(30_000)), KafkaError.MSG_SIZE_TOO_LARGE, "30,000 bytes of 20,000")
    equal(refusal(target, topic, b"0" * 30_000, compression_type="zstd"), None, "30,000 bytes that compress well")
    equal(refusal(target, topic, os.urandom(19_000)), None, "19,000 bytes of 20,000")
    read = target.read(topic, 2)
    equal([len(m.value()) for m in read], [30_000, 19_000], "sizes read")
    equal(target.end_offset(topic), 2, "the end offset: nothing of the refused one")


@check()
def the_default_limit_is_kafkas(target):
    topic = target.topic()
    more = {"message_max_bytes": 3_000_000}
    equal(refusal(target, topic, os.urandom(1_048_400), **more), None, "just under 1 MiB")
    equal(refusal(target, topic, os.urandom(1_048_600), **more), KafkaError.MSG_SIZE_TOO_LARGE, "just over 1 MiB")


@check()
def large_messages_pass_small_fetches(target):
    """At least one batch is given however small the reader's limits are."""
    topic = target.topic(config={"max.message.bytes": "6000000"})
    sent = [os.urandom(1 << 20) for _ in range(8)] + [os.urandom(5_000_000)]
    target.send_ok(topic, sent, message_max_bytes=6_000_000, linger_ms=0)
    read = target.read(topic, 9, fetch_message_max_bytes=1000, message_max_bytes=1000, fetch_max_bytes=1000)
    expect([m.value() for m in read] == sent, "large messages came back changed")


@check()
def zero_length_records(target):
    topic = target.topic()
    target.send_ok(topic, [b""] * 500, linger_ms=100)
    expect(all(m.value() == b"" for m in target.read(topic, 500)), "not all empty")


@check(quick=True)
def compacted_topics_want_keys(target):
    topic = target.topic(config={"cleanup.policy": "compact"})
    for codec in ("none", "zstd"):
        code = refusal(target, topic, {"value": b"v"}, compression_type=codec)
        equal(code, KafkaError.INVALID_RECORD, f"no key, {codec}")
    equal(refusal(target, topic, {"key": b"k", "value": b"v"}), None, "with a key")
    equal(refusal(target, topic, {"key": b"k", "value": None}), None, "a tombstone")
    equal(refusal(target, topic, {"key": b"", "value": b"v"}), None, "an empty key")
    equal([(m.key(), m.value()) for m in target.read(topic, 3)], [(b"k", b"v"), (b"k", None), (b"", b"v")], "kept")


@check()
def timestamps_out_of_the_window_are_refused(target):
    topic = target.topic(config={"message.timestamp.before.max.ms": "60000"})
    now = int(time.time() * 1000)
    for what, stamp, wanted in (
        ("two hours ahead", now + 7_200_000, KafkaError.INVALID_TIMESTAMP),
        ("half an hour ahead", now + 1_800_000, None),
        ("two minutes ago", now - 120_000, KafkaError.INVALID_TIMESTAMP),
        ("now", now, None),
    ):
        equal(refusal(target, topic, {"value": b"v", "timestamp": stamp}), wanted, what)


@check()
def unknown_partitions_are_refused(target):
    topic = target.topic(partitions=2)
    producer = target.producer(message_timeout_ms=5000)

    def produce():
        reports = target.send(topic, [{"value": b"v", "partition": 7}], producer)
        return reports[0][0].code()

    try:
        code = produce()
    except Exception as error:
        code = error.args[0].code()
    equal(code, KafkaError._UNKNOWN_PARTITION, "partition 7 of 2")


@check()
def producing_to_a_deleted_topic_fails(target):
    topic = target.topic()
    producer = target.producer(message_timeout_ms=3000)
    target.send_ok(topic, [b"v"], producer)
    consumer = target.consumer()
    consumer.subscribe([topic])
    target.admin.delete_topics([topic])[topic].result(20)
    error = target.send(topic, [b"v"], producer)[0][0]
    allowed = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._MSG_TIMED_OUT,
               KafkaError._UNKNOWN_PARTITION)
    # Auto-creation may bring the topic back, as a new one.
    expect(error is None or error.code() in allowed, f"producing to a deleted topic got {error}")


@check()
def transactions_fail_cleanly_where_not_served(target):
    """Where transactions are not served, a transactional producer gets an error, not a hang."""
    import wire
    from checks import Skip

    if 24 in wire.api_versions(target.bootstrap):
        raise Skip("transactions are served; their own suite is to judge them")
    producer = target.producer(transactional_id=target.name())
    error = kafka_error(lambda: producer.init_transactions(10))
    expect(error.code() is not None, "no code")
