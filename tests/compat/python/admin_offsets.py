"""Checks of asking for offsets and of deleting records."""

import time

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from checks import check, equal, expect
from target import REQUEST_SECONDS, kafka_error


def offset(target, topic, spec, partition=0, **more):
    """Asks until the partition is led: Kafka shows a new topic's leader before that one knows that it leads."""
    place = TopicPartition(topic, partition)
    deadline = time.monotonic() + 10
    while True:
        try:
            return target.admin.list_offsets({place: spec}, **more)[place].result(REQUEST_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@check(quick=True)
def offsets_by_specification(target):
    topic = target.topic()
    base = int(time.time() * 1000) - 100_000
    stamps = [base, base + 1000, base + 5000, base + 2000, base + 3000]
    for stamp in stamps:  # one batch each
        target.send_ok(topic, [{"value": b"x", "timestamp": stamp}])
    equal(offset(target, topic, OffsetSpec.earliest()).offset, 0, "earliest")
    equal(offset(target, topic, OffsetSpec.latest()).offset, 5, "latest")
    newest = offset(target, topic, OffsetSpec.max_timestamp())
    equal((newest.offset, newest.timestamp), (2, base + 5000), "the largest timestamp")
    for asked, wanted in ((base - 1, 0), (base, 0), (base + 1, 1), (base + 1001, 2), (base + 5000, 2), (base + 5001, -1)):
        equal(offset(target, topic, OffsetSpec.for_timestamp(asked)).offset, wanted, f"at {asked - base} ms")


@check()
def offsets_by_time_within_one_batch(target):
    topic = target.topic()
    base = int(time.time() * 1000) - 100_000
    for codec in ("none", "zstd"):
        start = target.end_offset(topic)
        records = [{"value": b"x" * 50, "timestamp": base + i * 10} for i in range(500)]
        target.send_ok(topic, records, linger_ms=200, compression_type=codec)
        equal(offset(target, topic, OffsetSpec.for_timestamp(base + 1234)).offset, start + 124, f"within {codec}")
        base += 10_000
    newest = offset(target, topic, OffsetSpec.max_timestamp())
    equal((newest.offset, newest.timestamp), (999, base - 10_000 + 4990), "the largest timestamp")


@check()
def offsets_of_an_empty_topic(target):
    topic = target.topic()
    for spec, wanted in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 0), (OffsetSpec.max_timestamp(), -1),
                         (OffsetSpec.for_timestamp(1), -1)):
        equal(offset(target, topic, spec).offset, wanted, f"{spec}")


@check()
def offsets_of_unknown_partitions(target):
    topic = target.topic()
    error = kafka_error(lambda: offset(target, topic, OffsetSpec.latest(), 7, request_timeout=5))
    expect(
        error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._NOENT),
        f"an unknown partition got {error}",
    )


@check(quick=True)
def records_are_deleted_up_to_an_offset(target):
    topic = target.topic(partitions=2)
    target.send_ok(topic, [{"value": b"%d" % i, "partition": p} for i in range(10) for p in range(2)])

    def delete(partition, before):
        place = TopicPartition(topic, partition, before)
        return target.admin.delete_records([place])[place].result(REQUEST_SECONDS)

    equal(delete(0, 4).low_watermark, 4, "the low watermark answered")
    equal(offset(target, topic, OffsetSpec.earliest()).offset, 4, "earliest")
    equal(offset(target, topic, OffsetSpec.earliest(), 1).offset, 0, "earliest of the other partition")
    messages = target.read(topic, 6)
    equal([m.offset() for m in messages], list(range(4, 10)), "offsets read from the beginning")
    equal(kafka_error(lambda: delete(0, 11)).code(), KafkaError.OFFSET_OUT_OF_RANGE, "beyond the end")
    equal(delete(0, 2).low_watermark, 4, "an offset deleted already")
    equal(delete(0, -1).low_watermark, 10, "all of it")
    equal(offset(target, topic, OffsetSpec.earliest()).offset, 10, "earliest after deleting all")
    target.send_ok(topic, [{"value": b"new", "partition": 0}])
    equal(target.read(topic, 1)[0].offset(), 10, "the offset of the next record")


@check()
def a_reader_below_deleted_records_is_reset(target):
    topic = target.topic()
    target.send_ok(topic, [b"%d" % i for i in range(10)])
    place = TopicPartition(topic, 0, 7)
    target.admin.delete_records([place])[place].result(REQUEST_SECONDS)
    messages = target.read(topic, 3, start=2)
    equal([m.offset() for m in messages], [7, 8, 9], "offsets after the reset to the earliest")
