"""Checks of what a consumer asks for: positions, times, waiting, limits."""

import json
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, TopicPartition

from checks import check, equal, expect, wait_for
from target import REQUEST_SECONDS, poll_messages


def numbers(count):
    return [b"%d" % i for i in range(count)]


@check(quick=True)
def reading_from_any_position(target):
    topic = target.topic()
    target.send_ok(topic, numbers(100), batch_num_messages=10, linger_ms=50)
    for start, first in ((OFFSET_BEGINNING, 0), (0, 0), (37, 37), (99, 99)):
        equal(int(target.read(topic, 1, start=start)[0].value()), first, f"the first message from {start}")
    consumer = target.consumer()
    equal(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=REQUEST_SECONDS), (0, 100), "watermarks")
    consumer.assign([TopicPartition(topic, 0, OFFSET_END)])
    # The end is looked up while polling; a message sent before that is not read.
    wait_for("the position to be known", lambda: consumer.poll(0.1) is None and consumer.position([TopicPartition(topic, 0)]))
    deadline = time.monotonic() + 20
    message = None
    while message is None and time.monotonic() < deadline:
        target.send_ok(topic, [b"late"])
        message = consumer.poll(0.5)
    expect(message is not None and message.value() == b"late", f"from the end came {message and message.value()}")


@check()
def seeking_to_and_fro(target):
    topic = target.topic()
    target.send_ok(topic, numbers(200), batch_num_messages=20, linger_ms=50)
    consumer = target.consumer()
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    poll_messages(consumer, 50)
    for place in (150, 3, 199, 0, 77):
        consumer.seek(TopicPartition(topic, 0, place))
        equal(poll_messages(consumer, 1)[0].offset(), place, "the offset after seeking")
    equal(consumer.position([TopicPartition(topic, 0)])[0].offset, 78, "the position")


@check()
def pausing_and_resuming(target):
    topic = target.topic(partitions=2)
    target.send_ok(topic, [{"value": b"%d" % i, "partition": p} for i in range(50) for p in (0, 1)])
    consumer = target.consumer()
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in (0, 1)])
    consumer.pause([TopicPartition(topic, 1)])
    equal({m.partition() for m in poll_messages(consumer, 50)}, {0}, "partitions read while the other is paused")
    expect(consumer.poll(1.0) is None, "a message of the paused partition")
    consumer.resume([TopicPartition(topic, 1)])
    equal([m.offset() for m in poll_messages(consumer, 50)], list(range(50)), "offsets after resuming")


@check()
def what_to_do_without_an_offset(target):
    topic = target.topic()
    target.send_ok(topic, numbers(10))
    earliest = target.consumer(target.name("earliest"), auto_offset_reset="earliest")
    earliest.subscribe([topic])
    equal(poll_messages(earliest, 1)[0].offset(), 0, "earliest")
    strict = target.consumer(target.name("none"), auto_offset_reset="error")
    strict.subscribe([topic])

    def error():
        message = strict.poll(0.2)
        return message.error() if message is not None else None

    equal(wait_for("an error", error).code(), KafkaError._AUTO_OFFSET_RESET, "reset to an error")
    beyond = target.consumer(target.name("beyond"), auto_offset_reset="earliest")
    beyond.assign([TopicPartition(topic, 0, 5000)])
    equal(poll_messages(beyond, 1)[0].offset(), 0, "out of range, then earliest")


@check(quick=True)
def offsets_for_times(target):
    topic = target.topic(partitions=2)
    base = int(time.time() * 1000) - 1_000_000
    for i in range(5):
        target.send_ok(topic, [{"value": b"v", "timestamp": base + i * 1000, "partition": 0}])
    consumer = target.consumer()
    for asked, wanted in ((0, 0), (base, 0), (base + 1, 1), (base + 3999, 4), (base + 4000, 4)):
        found = consumer.offsets_for_times([TopicPartition(topic, 0, asked)], REQUEST_SECONDS)
        equal(found[0].offset, wanted, f"the offset {asked - base} ms after the first")
    found = consumer.offsets_for_times([TopicPartition(topic, 0, base + 4001), TopicPartition(topic, 1, 0)], REQUEST_SECONDS)
    equal([p.offset for p in found], [OFFSET_END, OFFSET_END], "after the last, and in an empty partition")


@check()
def the_end_of_a_partition_is_told(target):
    topic = target.topic(partitions=3)
    target.send_ok(topic, [{"value": b"v", "partition": 0}])
    consumer = target.consumer(enable_partition_eof=True)
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(3)])
    ends = {}

    def all_ended():
        message = consumer.poll(0.1)
        if message is not None and message.error() and message.error().code() == KafkaError._PARTITION_EOF:
            ends[message.partition()] = message.offset()
        return len(ends) == 3

    wait_for("the end of three partitions", all_ended)
    equal(ends, {0: 1, 1: 0, 2: 0}, "where they end")


def fetches(consumer_stats):
    stats = json.loads(consumer_stats[-1])
    return sum(b.get("req", {}).get("Fetch", 0) for b in stats["brokers"].values())


@check()
def waiting_readers_are_parked(target):
    """A fetch without data waits at the server, and is answered at once when data comes."""
    topic = target.topic()
    stats = []
    consumer = target.consumer(fetch_wait_max_ms=2000, statistics_interval_ms=200, stats_cb=stats.append)
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    wait_for("the first statistics", lambda: consumer.poll(0.1) is None and stats and fetches(stats) > 0)
    before, started = fetches(stats), time.monotonic()
    while time.monotonic() - started < 5:
        expect(consumer.poll(0.1) is None, "a message in an empty topic")
    made = fetches(stats) - before
    expect(made <= 5, f"{made} fetches in 5 s that should each wait 2 s")
    slowest = 0.0
    producer = target.producer(linger_ms=0)
    for _ in range(20):
        started = time.monotonic()
        target.send_ok(topic, [b"v"], producer)
        poll_messages(consumer, 1)
        slowest = max(slowest, time.monotonic() - started)
    expect(slowest < 1.5, f"a message took {slowest:.2f} s to a waiting reader")


@check()
def few_bytes_wait_for_more(target):
    topic = target.topic()
    consumer = target.consumer(fetch_min_bytes=100_000, fetch_wait_max_ms=3000)
    target.send_ok(topic, [b"small"])
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    started = time.monotonic()
    poll_messages(consumer, 1)
    took = time.monotonic() - started
    expect(2.0 < took < 10, f"a small message came after {took:.1f} s, with a wait of 3 s for 100,000 bytes")
    threading.Timer(0.3, lambda: target.send_ok(topic, [b"x" * 100_000])).start()
    started = time.monotonic()
    poll_messages(consumer, 1)
    took = time.monotonic() - started
    expect(took < 2.5, f"enough bytes came after {took:.1f} s")


@check()
def a_reader_follows_a_writer(target):
    topic = target.topic(partitions=2)
    consumer = target.consumer()
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in (0, 1)])
    done = threading.Event()

    def write():
        producer = target.producer(linger_ms=2, compression_type="snappy")
        for i in range(3000):
            producer.produce(topic, b"%d" % i, partition=i % 2)
            producer.poll(0)
            if i % 100 == 0:
                time.sleep(0.01)
        producer.flush(30)
        done.set()

    threading.Thread(target=write, daemon=True).start()
    read = poll_messages(consumer, 3000)
    for p in (0, 1):
        equal([int(m.value()) for m in read if m.partition() == p], list(range(p, 3000, 2)), f"partition {p}")
    expect(done.wait(30), "the writer did not end")


@check()
def many_readers_of_one_partition(target):
    topic = target.topic()
    target.send_ok(topic, [b"x" * 1000] * 2000, linger_ms=20)
    found, failed = [], []

    def one(number):
        try:
            consumer = target.consumer(target.name(str(number)))
            consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
            found.append(len(poll_messages(consumer, 2000)))
        except AssertionError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=one, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    equal((failed, found), ([], [2000] * 8), "what eight readers read")


@check()
def read_committed_reads_ordinary_records(target):
    topic = target.topic()
    target.send_ok(topic, numbers(50))
    read = target.read(topic, 50, isolation_level="read_committed")
    equal([int(m.value()) for m in read], list(range(50)), "values")
    equal(len(target.read(topic, 50, isolation_level="read_uncommitted")), 50, "values read uncommitted")
