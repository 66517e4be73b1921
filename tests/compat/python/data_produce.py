"""Checks of what a producer sends: codecs, keys, headers, timestamps, acks, idempotence."""

import os
import random
import time

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME

import wire
from checks import check, equal, expect, wait_for

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@check(quick=True)
def every_codec_round_trips(target):
    topic = target.topic()
    sent = []
    for codec in CODECS:
        records = []
        for i in range(200):
            value = os.urandom(20) + f"{codec} {i} ".encode() * random.randint(1, 60)
            records.append({"key": f"{codec}-{i}".encode(), "value": value})
        target.send_ok(topic, records, compression_type=codec, linger_ms=100)
        sent += [(r["key"], r["value"]) for r in records]
    read = target.read(topic, len(sent))
    equal([m.offset() for m in read], list(range(1000)), "offsets")
    expect([(m.key(), m.value()) for m in read] == sent, "keys or values came back changed")


@check()
def codecs_mix_in_one_partition(target):
    """Reading from every offset of mixed batches starts at that very record."""
    topic = target.topic()
    for codec in CODECS:
        target.send_ok(topic, [f"{codec}{i}".encode() for i in range(5)], compression_type=codec, linger_ms=100)
    for start in range(25):
        equal(target.read(topic, 1, start=start)[0].offset(), start, "the first offset")


@check(quick=True)
def headers_keep_order_and_duplicates(target):
    topic = target.topic()
    headers = [("a", b"1"), ("b", None), ("a", b"2"), ("empty", b""), ("a", b"1"), ("é", "ü".encode()), ("", b"x")]
    target.send_ok(topic, [{"value": b"v", "headers": headers}, {"value": b"w"}], compression_type="lz4")
    read = target.read(topic, 2)
    equal(read[0].headers(), headers, "headers")
    equal(read[1].headers(), None, "headers of a record without")


@check()
def a_thousand_headers(target):
    topic = target.topic()
    headers = [(f"name-{i % 10}", os.urandom(30)) for i in range(1000)]
    target.send_ok(topic, [{"value": b"v", "headers": headers}])
    equal(target.read(topic, 1)[0].headers(), headers, "headers")


@check(quick=True)
def null_and_empty_differ(target):
    topic = target.topic()
    pairs = [(None, None), (b"", b""), (b"k", None), (None, b"v"), (b"k", b""), (b"", b"v"), (b"\0" * 9, b"\xff" * 9)]
    target.send_ok(topic, [{"key": k, "value": v} for k, v in pairs])
    equal([(m.key(), m.value()) for m in target.read(topic, len(pairs))], pairs, "keys and values")


@check()
def own_timestamps_are_kept(target):
    topic = target.topic()
    base = int(time.time() * 1000) - 50_000_000
    stamps = [base, base + 5, base - 1000, base + 100_000, 1]
    target.send_ok(topic, [{"value": b"v", "timestamp": t} for t in stamps], linger_ms=100)
    equal([m.timestamp() for m in target.read(topic, 5)], [(TIMESTAMP_CREATE_TIME, t) for t in stamps], "timestamps")


@check(quick=True)
def log_append_time_replaces_timestamps(target):
    """The checksum is verified by the reader: the broker has changed bytes that it covers."""
    topic = target.topic(config={"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000) - 2000
    for codec in CODECS:
        records = [{"value": b"v" * 100, "timestamp": 1000 + i} for i in range(20)]
        sent = target.send_ok(topic, records, compression_type=codec, linger_ms=100)
        for message in sent:
            kind, stamp = message.timestamp()
            expect(stamp >= before, f"the delivery report has the timestamp {kind, stamp}")
    for message in target.read(topic, 100):
        kind, stamp = message.timestamp()
        equal(kind, TIMESTAMP_LOG_APPEND_TIME, "the kind of timestamp")
        expect(before <= stamp <= int(time.time() * 1000) + 2000, f"the timestamp {stamp} is not now")


@check(quick=True)
def every_level_of_acks(target):
    topic = target.topic()
    # Without acks a record is lost if the new partition's leader does not know yet that it leads, with Kafka as here.
    wait_for("the leader to lead", lambda: target.end_offset(topic) == 0)
    for number, acks in enumerate(("0", "1", "all")):
        sent = target.send_ok(topic, [f"{acks}-{i}".encode() for i in range(50)], acks=acks)
        if acks == "0":  # nothing tells this client when they are written
            wait_for("50 records", lambda: target.end_offset(topic) == 50)
        else:
            equal([m.offset() for m in sent], list(range(number * 50, number * 50 + 50)), f"offsets with acks={acks}")
    values = [m.value() for m in target.read(topic, 150)]
    equal(values, [f"{a}-{i}".encode() for a in ("0", "1", "all") for i in range(50)], "values in order")


@check()
def idempotent_producers_keep_order(target):
    topic = target.topic(partitions=4)
    producers = [
        target.producer(enable_idempotence=True, acks="all", linger_ms=1, batch_num_messages=50) for _ in range(3)
    ]
    for i in range(2000):
        for number, producer in enumerate(producers):
            producer.produce(topic, f"{number}:{i}".encode(), partition=i % 4)
            producer.poll(0)
    for producer in producers:
        equal(producer.flush(60), 0, "messages left")
    seen = {}
    for message in target.read(topic, 6000, partitions=4):
        number, i = message.value().decode().split(":")
        seen.setdefault((number, message.partition()), []).append(int(i))
    for (number, partition), values in seen.items():
        equal(values, list(range(partition, 2000, 4)), f"values of producer {number} in partition {partition}")


@check()
def many_small_records(target):
    topic = target.topic(partitions=3)
    producer = target.producer(linger_ms=20, enable_idempotence=True, acks="all", compression_type="lz4")
    for i in range(100_000):
        try:
            producer.produce(topic, b"%d" % i, partition=i % 3)
        except BufferError:
            producer.poll(0.5)
            producer.produce(topic, b"%d" % i, partition=i % 3)
        if i % 1000 == 0:
            producer.poll(0)
    equal(producer.flush(60), 0, "messages left")
    read = target.read(topic, 100_000, partitions=3)
    for partition in range(3):
        values = [int(m.value()) for m in read if m.partition() == partition]
        expect(values == list(range(partition, 100_000, 3)), f"partition {partition} is not complete and in order")


@check()
def a_partitioner_and_keys(target):
    """Equal keys go to one partition, also with Java's partitioner."""
    topic = target.topic(partitions=5)
    places = {}
    for partitioner in ("murmur2_random", "consistent_random"):
        for _ in range(3):
            for m in target.send_ok(topic, [{"key": b"k%d" % k, "value": b"v"} for k in range(20)], partitioner=partitioner):
                places.setdefault((partitioner, m.key()), set()).add(m.partition())
    expect(all(len(where) == 1 for where in places.values()), f"keys in several partitions: {places}")
    expect(len(set.union(*places.values())) == 5, "not all partitions used")


@check()
def one_request_with_many_partitions(target):
    topic = target.topic(partitions=60)
    target.send_ok(topic, [{"value": b"%d" % p, "partition": p} for p in range(60)], linger_ms=200)
    read = target.read(topic, 60, partitions=60)
    equal(sorted((m.partition(), m.value()) for m in read), sorted((p, b"%d" % p) for p in range(60)), "messages")


@check()
def the_topics_codec_wins(target):
    """compression.type other than producer makes the broker compress anew; seen in the stored batch's attributes."""
    for number, codec in enumerate(CODECS):
        setting = "uncompressed" if codec == "none" else codec
        topic = target.topic(codec, config={"compression.type": setting})
        sent = [b"a text that compresses " * 20] * 30
        target.send_ok(topic, sent, compression_type="gzip" if codec != "gzip" else "lz4", linger_ms=100)
        with wire.Connection(target.bootstrap) as connection:
            found = wire.fetch_reply(connection.request(wire.FETCH, 10, wire.fetch_body(topic, [(0, 0)], version=10)))
        attributes = int.from_bytes(found[2][0][4][21:23], "big")
        equal(attributes & 7, number, f"the codec stored with compression.type={setting}")
        equal([m.value() for m in target.read(topic, 30)], sent, "values")
