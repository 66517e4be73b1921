"""Attacks by record batches: wrong fields, checksums, codecs, bombs, sequences."""

import gzip
import struct
import time
import zlib

import wire
from checks import check, equal, expect
from wire import Closed, array, blob, i16, i32, i64, string, varint

CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, INVALID_REQUIRED_ACKS = 2, 10, 21
COORDINATOR_LOADING, INVALID_TIMESTAMP, UNSUPPORTED_FOR_MESSAGE_FORMAT = 14, 32, 43
OUT_OF_ORDER_SEQUENCE, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE = 45, 47, 48
UNSUPPORTED_COMPRESSION, INVALID_RECORD, INVALID_REQUEST = 76, 87, 42


def refused(victim, topic, what, records, allowed, **more):
    """The batch must get one of the errors (None: the connection closed), and leave the log as it was."""
    before = victim.end_offset(topic)
    if not victim.own_rules:
        allowed = (*allowed, -1)  # Kafka's answer to some of these; never one of ours
    try:
        error = victim.produce(topic, records, **more)[0]
    except Closed:
        error = None
    except TimeoutError:
        expect(not victim.own_rules, f"{what}: no answer")
        error = None  # Kafka forgets some
    expect(error in allowed, f"{what}: error {error}, wanted one of {allowed}")
    equal(victim.end_offset(topic), before, f"the end offset after {what}")


@check(quick=True)
def batches_with_wrong_fields(victim):
    topic = victim.topic()
    good = wire.batch([b"a", b"b", b"c"])
    equal(victim.produce(topic, good), (0, 0), "a good batch")
    size = len(good) - 12
    corrupt = (CORRUPT_MESSAGE, INVALID_RECORD)
    cases = [
        ("a wrong checksum", {"crc": 12345}, (CORRUPT_MESSAGE,)),
        ("magic 0", {"magic": 0}, (INVALID_RECORD, CORRUPT_MESSAGE)),
        ("magic 1", {"magic": 1}, (INVALID_RECORD, CORRUPT_MESSAGE)),
        ("magic 3", {"magic": 3}, (INVALID_RECORD, CORRUPT_MESSAGE, UNSUPPORTED_FOR_MESSAGE_FORMAT)),
        ("magic 127", {"magic": 127}, (INVALID_RECORD, CORRUPT_MESSAGE, UNSUPPORTED_FOR_MESSAGE_FORMAT)),
        ("a length too small", {"length": 20}, corrupt),
        ("a length of 0", {"length": 0}, corrupt),
        ("a negative length", {"length": -5}, corrupt),
        ("a length one less", {"length": size - 1}, corrupt),
        ("a length one more", {"length": size + 1}, corrupt),
        ("a length of 2^31-1", {"length": 2**31 - 1}, corrupt),
        ("a count of -1", {"count": -1}, corrupt),
        ("a count of 2^31-1", {"count": 2**31 - 1, "last_offset_delta": 2**31 - 2}, corrupt),
        ("a last offset delta too large", {"last_offset_delta": 5}, corrupt),
        ("a last offset delta too small", {"last_offset_delta": 1}, corrupt),
        ("a last offset delta of -1", {"last_offset_delta": -1}, corrupt),
        ("no records", {"count": 0, "payload": b"", "last_offset_delta": -1}, corrupt),
        ("a control batch", {"attributes": 0x20}, corrupt),
        ("codec 5", {"attributes": 5}, (INVALID_RECORD, CORRUPT_MESSAGE, UNSUPPORTED_COMPRESSION)),
        ("codec 7", {"attributes": 7}, (INVALID_RECORD, CORRUPT_MESSAGE, UNSUPPORTED_COMPRESSION)),
        ("a far future", {"timestamp": int(time.time() * 1000) + 10**10}, (INVALID_TIMESTAMP,)),
    ]
    for what, over, allowed in cases:
        refused(victim, topic, what, wire.batch([b"a", b"b", b"c"], **over), (*allowed, None))
    # Kafka takes these in: the server sets the base offset itself, and attributes have bits to spare.
    for what, over in (("base offset -1", {"base_offset": -1}), ("base offset 2^62", {"base_offset": 2**62})):
        try:
            error, base = victim.produce(topic, wire.batch(**over))
        except Closed:
            continue
        expect(error != 0 or base < 20, f"{what} was stored at {base}")


@check()
def counts_that_do_not_fit_the_records(victim):
    """The header agrees with itself but not with the records behind it: a reader would stumble over it for ever."""
    topic = victim.topic()
    good = [wire.record(i, b"k", b"v") for i in range(3)]
    for codec, pack in ((0, lambda data: data), (1, gzip.compress)):
        payload = pack(b"".join(good))
        for count in (1, 2, 4, 100):
            over = {"attributes": codec, "payload": payload, "count": count}
            refused(victim, topic, f"a count of {count} for 3, codec {codec}", wire.batch(**over), (INVALID_RECORD, CORRUPT_MESSAGE))


@check(quick=True)
def records_with_wrong_fields(victim):
    topic = victim.topic(cleanup_policy="compact")

    def one(body):
        return {"payload": varint(len(body)) + body, "count": 1}

    start = b"\0" + varint(0) + varint(0)
    cases = [
        ("2^31-1 headers", one(start + varint(1) + b"k" + varint(1) + b"v" + varint(2**31 - 1))),
        ("-1 headers", one(start + varint(1) + b"k" + varint(1) + b"v" + varint(-1))),
        ("a key of -2", one(start + varint(-2) + varint(1) + b"v" + varint(0))),
        ("a key of 2^31-1", one(start + varint(2**31 - 1) + b"k" + varint(1) + b"v" + varint(0))),
        ("a value of 2^31-1", one(start + varint(1) + b"k" + varint(2**31 - 1) + b"v" + varint(0))),
        ("no key", one(start + varint(-1) + varint(1) + b"v" + varint(0))),
        ("no key, no value", one(start + varint(-1) + varint(-1) + varint(0))),
        ("bytes left over", one(start + varint(1) + b"k" + varint(1) + b"v" + varint(0) + b"more")),
        ("a length of 2^31-1", {"payload": varint(2**31 - 1) + start, "count": 1}),
        ("a length of -1", {"payload": varint(-1) + start, "count": 1}),
        ("an endless varint", {"payload": b"\xff" * 30, "count": 1}),
        ("noise", {"payload": bytes(range(200)), "count": 1}),
    ]
    for what, over in cases:
        refused(victim, topic, what, wire.batch(**over), (INVALID_RECORD, CORRUPT_MESSAGE, None))
    payload = wire.record(0, b"k", b"v")
    for codec in (1, 2, 3, 4):
        for what, noise in (("noise", b"\x99" * 50), ("nothing", b""), ("plain records", payload)):
            over = {"attributes": codec, "payload": noise, "count": 1}
            refused(victim, topic, f"{what} as codec {codec}", wire.batch(**over), (INVALID_RECORD, CORRUPT_MESSAGE, None))


@check(quick=True)
def several_batches_at_once(victim):
    topic = victim.topic()
    refused(victim, topic, "two batches", wire.batch() + wire.batch(), (INVALID_RECORD,))
    refused(victim, topic, "half a batch", wire.batch()[:40], (INVALID_RECORD, CORRUPT_MESSAGE, None))
    for what, records in (("no bytes", b""), ("null records", None)):
        refused(victim, topic, what, records, (INVALID_RECORD, CORRUPT_MESSAGE, INVALID_REQUEST, 0, None))
    body = wire.produce_body([(topic, [(0, wire.batch([b"1"])), (0, wire.batch([b"2"]))])])
    with victim.connect(5) as connection:
        try:
            answers = wire.produce_answers(connection.request(wire.PRODUCE, 7, body))
        except Closed:
            answers = []
        except TimeoutError:
            expect(not victim.own_rules, "one partition named twice: no answer")
            answers = None  # Kafka's own behaviour
    # One answered well must be there, one refused must not.
    if answers is not None:
        kept = len({base for _, _, error, base in answers if error == 0})
        equal(victim.end_offset(topic), kept, "records kept of one partition named twice")
    other = victim.topic("other")
    try:
        error = victim.produce(other, wire.batch() + wire.batch()[:40])[0]
    except Closed:
        error = None
    # Kafka takes the whole batch and drops the rest of it; refusing both is right too.
    expect(error in (0, INVALID_RECORD, CORRUPT_MESSAGE, None), f"a batch and a half: error {error}")
    equal(victim.end_offset(other), 1 if error == 0 else 0, "the end offset after a batch and a half")


@check()
def acks_and_sizes_out_of_range(victim):
    topic = victim.topic(max_message_bytes=1000)
    for acks in (2, -2, 100):
        refused(victim, topic, f"acks={acks}", wire.batch(), (INVALID_REQUIRED_ACKS,), acks=acks)
    refused(victim, topic, "a batch over the limit", wire.batch([b"x" * 1100]), (MESSAGE_TOO_LARGE,))
    spare = 1000 - len(wire.batch([b"x" * 900]))
    exact = wire.batch([b"x" * (900 + spare)])
    equal(len(exact), 1000, "the size of the largest batch allowed")
    refused(victim, topic, "a batch of one byte more", wire.batch([b"x" * (901 + spare)]), (MESSAGE_TOO_LARGE,))
    equal(victim.produce(topic, exact)[0], 0, "the error of the largest batch allowed")
    refused(victim, topic, "an unknown partition", wire.batch(), (3,), partition=9)
    refused(victim, topic, "partition -1", wire.batch(), (3,), partition=-1)


@check()
def timestamps_out_of_range(victim):
    topic = victim.topic()
    for stamp in (-2, -(2**63)):
        try:
            error, _ = victim.produce(topic, wire.batch(timestamp=stamp, max_timestamp=stamp))
        except Closed:
            continue
        expect(error in (0, CORRUPT_MESSAGE, INVALID_RECORD, INVALID_TIMESTAMP), f"timestamp {stamp}: error {error}")
    refused(victim, topic, "2^63-1", wire.batch(timestamp=2**63 - 1), (INVALID_TIMESTAMP, INVALID_RECORD, CORRUPT_MESSAGE))


@check()
def transactional_batch_without_a_transaction(victim):
    topic = victim.topic()
    records = wire.batch(attributes=0x10, producer_id=1000, producer_epoch=0, sequence=0)
    refused(victim, topic, "a transactional batch", records, (INVALID_REQUEST, INVALID_RECORD, INVALID_TXN_STATE, 49, 53, None))


def new_producer(victim):
    """InitProducerId v0: (error, id, epoch)."""
    with victim.connect() as connection:
        reply = connection.request(wire.INIT_PRODUCER_ID, 0, string(None) + i32(60000))
    reply.i32()
    return reply.i16(), reply.i64(), reply.i16()


@check(quick=True)
def sequences_of_idempotent_producers(victim):
    topic = victim.topic()
    error, producer, epoch = new_producer(victim)
    equal((error, epoch), (0, 0), "a new producer's error and epoch")

    def send(sequence, count=1, epoch=0, producer_id=producer):
        records = wire.batch([b"v"] * count, producer_id=producer_id, producer_epoch=epoch, sequence=sequence)
        return victim.produce(topic, records)

    equal(send(0, 3), (0, 0), "sequences 0-2")
    equal(send(3), (0, 3), "sequence 3")
    equal(send(0, 3), (0, 0), "0-2 again: the first answer again")
    equal(send(3), (0, 3), "3 again")
    equal(victim.end_offset(topic), 4, "the end offset: duplicates are not stored")
    equal(send(6)[0], OUT_OF_ORDER_SEQUENCE, "a gap")
    equal(send(1)[0], OUT_OF_ORDER_SEQUENCE, "an old one that is no duplicate")
    for wanted in range(4, 12):
        equal(send(wanted), (0, wanted), f"sequence {wanted}")
    equal(send(7), (0, 7), "a duplicate of one of the last five")
    equal(send(5)[0], OUT_OF_ORDER_SEQUENCE, "a duplicate older than the last five batches")
    equal(send(5, epoch=1)[0], OUT_OF_ORDER_SEQUENCE, "a new epoch not from 0")
    equal(send(0, epoch=1), (0, 12), "a new epoch from 0")
    equal(send(12)[0], INVALID_PRODUCER_EPOCH, "the old epoch")
    refused(victim, topic, "sequence -1 with an id", wire.batch(producer_id=producer, producer_epoch=1, sequence=-1),
            (INVALID_RECORD, CORRUPT_MESSAGE, OUT_OF_ORDER_SEQUENCE, None))
    refused(victim, topic, "an epoch of -1 with an id", wire.batch(producer_id=producer, producer_epoch=-1, sequence=1),
            (INVALID_RECORD, CORRUPT_MESSAGE, INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE, None))


@check()
def sequences_wrap_at_their_end(victim):
    topic = victim.topic()
    producer = new_producer(victim)[1]

    def send(sequence, count):
        records = wire.batch([b"v"] * count, producer_id=producer, producer_epoch=0, sequence=sequence)
        return victim.produce(topic, records)

    last = 2**31 - 1
    first = send(last - 3, 2)
    equal(first, (0, 0), "a producer whose state is gone goes on with any sequence")
    equal(send(last - 1, 4), (0, 2), "four records over the wrap")
    equal(send(2, 1), (0, 6), "the next after the wrap")
    equal(send(last - 1, 4), (0, 2), "the wrapping one again")
    equal(victim.end_offset(topic), 7, "the end offset")


@check(seconds=90)
def thousands_of_producer_ids(victim):
    found = set()
    with victim.connect(30) as connection:
        while len(found) < 5000:
            reply = connection.request(wire.INIT_PRODUCER_ID, 0, string(None) + i32(60000))
            reply.i32()
            error, producer = reply.i16(), reply.i64()
            if error == COORDINATOR_LOADING:
                continue  # Kafka fetches the next block of ids meanwhile
            equal(error, 0, "the error")
            expect(producer not in found, f"producer id {producer} was given twice")
            found.add(producer)


@check(seconds=90)
def unknown_producer_ids_leave_little_behind(victim):
    topic = victim.topic()
    with victim.connect(30) as connection:
        for number in range(3000):
            records = wire.batch([b"v"], producer_id=10**12 + number, producer_epoch=0, sequence=0)
            body = wire.produce_body([(topic, [(0, records)])], acks=1)
            connection.send_frame(connection.header(wire.PRODUCE, 7) + body)
        for _ in range(3000):
            connection.receive()
    expect(victim.end_offset(topic) <= 3000, "more records than sent")


@check()
def old_formats_are_refused(victim):
    """A message set of magic 1, as a client of 2015 would send it."""
    topic = victim.topic()
    message = b"\x01\0" + i64(1) + blob(b"k") + blob(b"v")
    whole = struct.pack(">I", zlib.crc32(message)) + message
    refused(victim, topic, "a message of magic 1", i64(0) + i32(len(whole)) + whole, (INVALID_RECORD, CORRUPT_MESSAGE, None))
    for version in (0, 1, 2):
        body = i16(1) + i32(1000) + array([string(topic) + array([i32(0) + blob(wire.batch())])])
        with victim.connect() as connection:
            try:
                connection.request(wire.PRODUCE, version, body)
                answered = True
            except (Closed, EOFError):
                answered = False
        expect(not answered or victim.end_offset(topic) == 0, f"Produce v{version} was served")
