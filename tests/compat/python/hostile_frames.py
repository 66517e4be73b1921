"""Attacks below the requests: frame lengths, headers, unknown keys and versions, random bytes, slow and silent peers."""

import random
import socket
import struct
import time

import wire
from checks import check, equal, expect, wait_for
from wire import Closed, array, i8, i16, i32, string, uvarint

LIMIT = 100 * 1024 * 1024
UNREGISTER_BROKER = 64


def closed_or_answered(victim, what, data, seconds=15):
    """Sends data as the first thing on a connection, and again after ApiVersions. Either must end in an answer or a
    close; returns the answers that came."""
    answers = []
    for greeted in (False, True):
        with victim.connect(seconds, greeted) as connection:
            try:
                connection.send_raw(data)
                answers.append(connection.receive()[1])
            except Closed:
                pass
            except TimeoutError:
                raise AssertionError(f"{what}: neither answered nor closed within {seconds} s") from None
    return answers


def closed(victim, what, data, seconds=15):
    """As closed_or_answered, and there must be no answer."""
    answers = closed_or_answered(victim, what, data, seconds)
    expect(not answers, f"{what}: answered with {answers and answers[0][:60]!r}")


def framed(payload):
    return i32(len(payload)) + payload


def header(key, version, client=string("hostile"), correlation=7):
    return i16(key) + i16(version) + i32(correlation) + client


@check(quick=True)
def frame_lengths_out_of_range(victim):
    for what, length in (("-1", -1), ("-2^31", -(2**31)), ("2^31-1", 2**31 - 1), ("limit + 1", LIMIT + 1)):
        closed(victim, f"length {what}", i32(length) + b"\0" * 64)
    for length in (0, 1, 3, 7):
        closed(victim, f"length {length}", i32(length) + b"\0" * length)


@check(quick=True)
def other_protocols(victim):
    closed(victim, "an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    closed(victim, "a TLS hello", bytes.fromhex("160301020001000 1fc0303".replace(" ", "")) + b"\x5a" * 505)
    closed(victim, "an SSH greeting", b"SSH-2.0-OpenSSH_9.2\r\n")
    closed(victim, "zeros beyond a header", b"\xff" * 1000)


@check(quick=True)
def large_frame_that_never_comes(victim):
    """100 MiB announced on many connections, little sent: memory is for what came. (Kafka allocates it all at once,
    so other servers get fewer.)"""
    held = []
    for _ in range(20 if victim.own_rules else 3):
        connection = victim.connect(greeted=len(held) % 2 == 0)
        connection.send_raw(i32(LIMIT) + header(wire.PRODUCE, 7) + b"\0" * 2000)
        held.append(connection)
    victim.serves()
    for connection in held:
        connection.socket.close()


@check(seconds=120)
def slow_half_frame(victim):
    """A frame that stops half-way is given up (a rule of our own; Kafka waits for its idle limit)."""
    with victim.connect(60) as connection:
        whole = framed(header(wire.METADATA, 1) + array([]))
        connection.send_raw(whole[:9])
        if not victim.own_rules:
            connection.send_raw(whole[9:])
            equal(connection.receive()[0], 7, "the reply once the rest came")
            return
        started = time.monotonic()
        try:
            while time.monotonic() - started < 50:
                connection.socket.settimeout(1)
                try:
                    connection.receive()
                    raise AssertionError("a half frame was answered")
                except TimeoutError:
                    continue
            raise AssertionError("a half frame is still waited for after 50 s")
        except Closed:
            pass


@check()
def frames_shorter_or_longer_than_their_bodies(victim):
    good = header(wire.METADATA, 1) + array([string("no-such-topic")])
    for cut in (1, 5, 10, 14, len(good) - 9):
        closed(victim, f"a body without its last {cut} bytes", framed(good[:-cut]))
    with victim.connect(greeted=False) as connection:
        try:
            connection.send_raw(framed(good + b"\0" * 100))
            equal(connection.receive()[0], 7, "the reply to a body with bytes left over")
            equal(connection.request(wire.API_VERSIONS, 0, b"").i16(), 0, "the request after it")
        except Closed:
            pass


@check(quick=True)
def unknown_keys_and_versions(victim):
    served = wire.api_versions(victim.bootstrap)
    for key in (-1, 500, 32767, -32768, 4, 5, 6, 7, 52, 56, 62, 63):
        expect(key not in served, f"key {key} is said to be served")
        closed(victim, f"key {key}", framed(header(key, 0) + b"\0" * 40))
    for key, (low, high) in served.items():
        if key == wire.API_VERSIONS:
            continue
        for version in {-1, high + 1, 32767} | ({low - 1} if low > 0 else set()):
            closed(victim, f"key {key} version {version}", framed(header(key, version) + b"\0" * 40))


@check(quick=True)
def api_versions_too_new(victim):
    for version in (5, 99, 32767):
        with victim.connect(greeted=False) as connection:
            reply = connection.request(wire.API_VERSIONS, version, b"\0\0\0\0", flexible=True)
            equal(reply.i16(), 35, f"the error for version {version}")
            ranges = reply.array(lambda r=reply: (r.i16(), r.i16(), r.i16()))
            expect(any(k == wire.API_VERSIONS for k, _, _ in ranges), f"its ranges are {ranges}")
            equal(connection.request(wire.API_VERSIONS, 0, b"").i16(), 0, "the next try, with version 0")


@check()
def client_ids_that_lie(victim):
    for what, client in (("-2", i16(-2)), ("32767 of 3", i16(32767) + b"abc"), ("beyond the frame", i16(200) + b"a")):
        closed(victim, f"client id of length {what}", framed(i16(3) + i16(1) + i32(7) + client))
    body = framed(header(wire.METADATA, 1, i16(4) + b"\xff\xfe\x80\x00") + array([]))
    closed_or_answered(victim, "a client id that is no UTF-8", body)
    closed_or_answered(victim, "a long client id", framed(header(wire.METADATA, 1, string("x" * 32767)) + array([])))


@check(quick=True)
def array_lengths_that_lie(victim):
    for key, version, before in (
        (wire.METADATA, 1, b""),
        (wire.METADATA, 0, b""),
        (wire.PRODUCE, 7, i16(-1) + i16(1) + i32(1000)),
        (wire.FETCH, 7, i32(-1) + i32(1) + i32(1) + i32(1) + i8(0) + i32(0) + i32(-1)),
        (wire.LIST_OFFSETS, 1, i32(-1)),
        (wire.OFFSET_COMMIT, 2, string("g") + i32(-1) + string("") + b"\0" * 8),
        (wire.OFFSET_FETCH, 1, string("g")),
        (wire.CREATE_TOPICS, 2, b""),
        (wire.DESCRIBE_CONFIGS, 1, b""),
        (15, 0, b""),
    ):
        for length in (2**31 - 1, 2**28, 100_000):
            closed(victim, f"an array of {length} in key {key} v{version}", framed(header(key, version) + before + i32(length)))
    closed(victim, "the five bytes", framed(header(wire.METADATA, 0) + bytes.fromhex("033c0c00b6")))
    closed_or_answered(victim, "an array of -2", framed(header(wire.METADATA, 1) + i32(-2)))


@check(quick=True)
def varints_that_lie(victim):
    flexible = header(wire.METADATA, 9) + b"\0"
    for what, number in (("2^32-1", uvarint(2**32 - 1)), ("2^31", uvarint(2**31)), ("10 bytes", b"\xff" * 9 + b"\x01"),
                         ("endless", b"\xff" * 40)):
        closed(victim, f"a compact array of {what}", framed(flexible + number))
        closed(victim, f"tagged fields: {what}", framed(header(wire.METADATA, 9) + number))
        closed(victim, f"a tag of {what} bytes", framed(header(wire.METADATA, 9) + b"\x01\x00" + number))
        closed(victim, f"a compact string of {what}", framed(flexible + b"\x02" + number))


@check(seconds=90)
def millions_of_tagged_fields(victim):
    count = 3_000_000 if victim.own_rules else 200_000
    fields = bytearray(uvarint(count))
    for tag in range(count):
        fields += uvarint(tag) + b"\0"
    body = header(wire.METADATA, 9) + bytes(fields) + b"\x01\0\0\0\0"
    closed_or_answered(victim, f"{count} tagged fields", framed(body), 60)


@check(seconds=120)
def nested_and_repeated_topics(victim):
    """A request of a few MiB with as many elements as fit: bounded memory, an end within a minute."""
    names = array([string(f"t{i}") for i in range(200_000)])
    closed_or_answered(victim, "200,000 topics in Metadata", framed(header(wire.METADATA, 4) + names + i8(0)), 60)
    parts = array([i32(p) + i32(-1) for p in range(50_000)])
    topic = array([string(victim.name("none")) + parts])
    body = i16(-1) + i16(1) + i32(1000) + topic
    closed_or_answered(victim, "50,000 partitions in Produce", framed(header(wire.PRODUCE, 7) + body), 60)


@check(seconds=180, quick=False)
def random_bodies_for_every_key_and_version(victim):
    """Seeded noise after a right header, and bodies cut short: an answer or a close, never silence."""
    rng = random.Random(20260929)
    served = wire.api_versions(victim.bootstrap)
    silent, count = [], 0
    served.pop(UNREGISTER_BROKER, None)  # zeros are a request in good order to remove broker 0
    for key, (low, high) in sorted(served.items()):
        for version in range(low, high + 1):
            for size in (0, 1, 4, 17, 64, 300):
                kind = rng.randrange(3)
                noise = rng.randbytes(size) if kind else bytes(size)
                if kind == 2:
                    noise = bytes(b & 0x07 for b in noise)  # small numbers look more like lengths that fit
                count += 1
                with victim.connect(3, rng.random() < 0.5) as connection:
                    try:
                        connection.send_frame(header(key, version) + noise)
                        connection.receive()
                    except Closed:
                        pass
                    except TimeoutError:
                        silent.append((key, version, size))
    # acks=0 has no reply, and a parked fetch or join may take its time: those may be silent, the others not.
    others = [s for s in silent if s[0] not in (wire.PRODUCE, wire.FETCH, wire.JOIN_GROUP, wire.SYNC_GROUP)]
    equal(others, [], f"requests of {count} without an answer or a close")


@check(seconds=90)
def mutated_good_requests(victim):
    """Single bytes of good requests replaced: an answer, a close, or (a wait asked for) silence; never a dead server."""
    topic = victim.topic()
    rng = random.Random(7)
    good = [
        header(wire.PRODUCE, 7) + wire.produce_body([(topic, [(0, wire.batch([b"x"] * 3))])]),
        header(wire.FETCH, 10) + wire.fetch_body(topic, [(0, 0)], version=10),
        header(wire.METADATA, 9) + b"\0" + uvarint(2) + uvarint(len(topic) + 1) + topic.encode() + b"\0\0\0\0\0",
        header(wire.LIST_OFFSETS, 1) + i32(-1) + array([string(topic) + array([i32(0) + b"\xff" * 8])]),
    ]
    for request in good:
        for _ in range(250):
            changed = bytearray(request)
            for _ in range(rng.randrange(1, 4)):
                changed[rng.randrange(8, len(changed))] = rng.randrange(256)
            with victim.connect(0.3) as connection:
                try:
                    connection.send_frame(bytes(changed))
                    connection.receive()
                except (Closed, TimeoutError):
                    pass


@check(seconds=90)
def pipelining_without_reading(victim):
    """Thousands of requests whose replies are not read: the server stops reading, or closes; memory is bounded."""
    request = framed(header(wire.METADATA, 1) + i32(-1)) * 100
    with victim.connect(2) as connection:
        sent = 0
        try:
            while sent < 100_000:
                connection.send_raw(request)
                sent += 100
        except (TimeoutError, Closed):
            pass
        victim.serves()


@check(seconds=90)
def hundreds_of_silent_connections(victim):
    held = []
    host, port = victim.bootstrap.split(",")[0].rsplit(":", 1)
    for i in range(400):
        peer = socket.create_connection((host, int(port)), 10)
        peer.sendall(struct.pack(">i", 50)[: i % 5])
        held.append(peer)
    victim.serves()
    for peer in held:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        peer.close()


@check()
def replies_keep_their_order(victim):
    """A parked fetch ahead of quick requests on one connection: all answered in the order of asking."""
    topic = victim.topic()
    with victim.connect() as connection:
        payloads = []
        body = wire.fetch_body(topic, [(0, 0)], version=10, max_wait_ms=1500)
        payloads.append(connection.header(wire.FETCH, 10) + body)
        for _ in range(20):
            payloads.append(connection.header(wire.METADATA, 1) + array([string(topic)]))
            payloads.append(connection.header(wire.API_VERSIONS, 0))
        connection.send_raw(b"".join(framed(p) for p in payloads))
        got = [connection.receive()[0] for _ in payloads]
        equal(got, list(range(1, len(payloads) + 1)), "correlation ids in order")


@check()
def produce_without_acks_has_no_reply(victim):
    topic = victim.topic()
    with victim.connect() as connection:
        body = wire.produce_body([(topic, [(0, wire.batch())])], acks=0)
        connection.send_frame(connection.header(wire.PRODUCE, 7) + body)
        equal(connection.request(wire.API_VERSIONS, 0, b"").i16(), 0, "the request after it")
        wait_for("the record", lambda: wire.end_offset(connection, topic) == 1)
        bad = wire.produce_body([(victim.name("none"), [(0, wire.batch())])], acks=0)
        connection.send_frame(connection.header(wire.PRODUCE, 7) + bad)
        try:
            connection.request(wire.API_VERSIONS, 0, b"")
            raise AssertionError("the connection stays open after a failed produce that has no reply")
        except Closed:
            pass
