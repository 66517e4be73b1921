"""Kafka's wire format by hand, for what no client library would send: frames, requests, record batches."""

import socket
import struct

PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT = 8, 9, 10, 11, 12
LEAVE_GROUP, SYNC_GROUP, API_VERSIONS, CREATE_TOPICS, INIT_PRODUCER_ID = 13, 14, 18, 19, 22
DESCRIBE_CONFIGS, INCREMENTAL_ALTER_CONFIGS, ELECT_LEADERS = 32, 44, 43


class Closed(Exception):
    """The server closed the connection instead of answering."""


def i8(n):
    return struct.pack(">b", n)


def i16(n):
    return struct.pack(">h", n)


def i32(n):
    return struct.pack(">i", n)


def i64(n):
    return struct.pack(">q", n)


def string(text):
    if text is None:
        return i16(-1)
    data = text if isinstance(text, bytes) else text.encode()
    return i16(len(data)) + data


def blob(data):
    return i32(-1) if data is None else i32(len(data)) + data


def array(items):
    return i32(-1) if items is None else i32(len(items)) + b"".join(items)


def uvarint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def varint(n):
    return uvarint((n << 1) ^ (n >> 63) if n >= 0 else ((-n) << 1) - 1)


class Reader:
    """Reads a reply's fields in order."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        part = self.data[self.at : self.at + count]
        if len(part) < count:
            raise EOFError(f"the reply ends at {len(self.data)}, {count} more bytes wanted at {self.at}")
        self.at += count
        return part

    def _number(self, form, size):
        return struct.unpack(form, self.take(size))[0]

    def i8(self):
        return self._number(">b", 1)

    def i16(self):
        return self._number(">h", 2)

    def i32(self):
        return self._number(">i", 4)

    def i64(self):
        return self._number(">q", 8)

    def string(self):
        length = self.i16()
        return None if length < 0 else self.take(length).decode()

    def blob(self):
        length = self.i32()
        return None if length < 0 else self.take(length)

    def array(self, item):
        return [item() for _ in range(self.i32())]


class Connection:
    """One socket; requests in the non-flexible form (header version 1) unless given as a whole frame."""

    def __init__(self, bootstrap, timeout=15):
        host, port = bootstrap.split(",")[0].rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.socket.settimeout(timeout)
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send_raw(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed() from None

    def send_frame(self, payload):
        self.send_raw(i32(len(payload)) + payload)

    def header(self, key, version, client=b"hostile", flexible=False):
        self.correlation += 1
        return i16(key) + i16(version) + i32(self.correlation) + string(client) + (b"\0" if flexible else b"")

    def _receive(self, count):
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self.socket.recv(min(count - len(parts), 1 << 20))
            except (ConnectionResetError, BrokenPipeError):
                part = b""
            if not part:
                raise Closed()
            parts += part
        return bytes(parts)

    def receive(self):
        """The next reply as (correlation id, rest); Closed if there is none, TimeoutError if nothing comes."""
        size = struct.unpack(">i", self._receive(4))[0]
        payload = self._receive(size)
        return struct.unpack(">i", payload[:4])[0], payload[4:]

    def request(self, key, version, body, flexible=False):
        self.send_frame(self.header(key, version, flexible=flexible) + body)
        correlation, rest = self.receive()
        if correlation != self.correlation:
            raise AssertionError(f"reply to request {correlation}, wanted {self.correlation}")
        return Reader(rest)


def api_versions(bootstrap):
    """{key: (oldest, newest)} of what the server says it serves."""
    with Connection(bootstrap) as connection:
        reply = connection.request(API_VERSIONS, 0, b"")
        error = reply.i16()
        if error:
            raise AssertionError(f"ApiVersions answered error {error}")
        return {k: (low, high) for k, low, high in reply.array(lambda: (reply.i16(), reply.i16(), reply.i16()))}


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0x82F63B78 if byte & 1 else byte >> 1
        table.append(byte)
    return table


_CRC = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def record(delta, key, value, headers=(), timestamp_delta=0):
    def field(data):
        return varint(-1) if data is None else varint(len(data)) + data

    body = i8(0) + varint(timestamp_delta) + varint(delta) + field(key) + field(value) + varint(len(headers))
    for name, data in headers:
        body += field(name) + field(data)
    return varint(len(body)) + body


def batch(values=(b"value",), **over):
    """One v2 batch of keyed records; `over` replaces any field, also with nonsense. `payload` replaces the records as
    they lie after the header (compressed, say); crc is right unless given."""
    import time

    now = over.get("timestamp", int(time.time() * 1000))
    payload = over.get("payload", b"".join(record(i, b"key", v) for i, v in enumerate(values)))
    count = over.get("count", len(values))
    checked = (
        i16(over.get("attributes", 0))
        + i32(over.get("last_offset_delta", count - 1))
        + i64(now)
        + i64(over.get("max_timestamp", now))
        + i64(over.get("producer_id", -1))
        + i16(over.get("producer_epoch", -1))
        + i32(over.get("sequence", -1))
        + i32(count)
        + payload
    )
    after_length = i32(-1) + struct.pack(">B", over.get("magic", 2)) + struct.pack(">I", over.get("crc", crc32c(checked)))
    length = over.get("length", len(after_length) + len(checked))
    return i64(over.get("base_offset", 0)) + i32(length) + after_length + checked


def produce_body(partitions, acks=-1, transactional_id=None, timeout_ms=5000):
    """The body of Produce v3-8 for {topic: [(partition, records)]} given as a list of pairs."""
    topics = [
        string(topic) + array([i32(p) + blob(records) for p, records in parts]) for topic, parts in partitions
    ]
    return string(transactional_id) + i16(acks) + i32(timeout_ms) + array(topics)


def produce(connection, topic, records, partition=0, **more):
    """Produces to one partition with v7; returns (error, base offset)."""
    reply = connection.request(PRODUCE, 7, produce_body([(topic, [(partition, records)])], **more))
    answers = produce_answers(reply)
    return answers[0][2:]


def produce_answers(reply):
    """[(topic, partition, error, base offset)] of a Produce v7 reply."""
    found = []
    for _ in range(reply.i32()):
        topic = reply.string()
        for _ in range(reply.i32()):
            partition, error, base, _, _ = reply.i32(), reply.i16(), reply.i64(), reply.i64(), reply.i64()
            found.append((topic, partition, error, base))
    return found


def fetch_body(topic, parts, **over):
    """The body of Fetch v7-10 (v9+ with the leader epoch) for one topic's [(partition, offset)]."""
    version = over.get("version", 7)
    epoch = i32(-1) if version >= 9 else b""
    partition_bytes = i32(over.get("partition_max_bytes", 1 << 20))
    items = [i32(p) + epoch + i64(offset) + i64(-1) + partition_bytes for p, offset in parts]
    body = (
        i32(over.get("replica_id", -1))
        + i32(over.get("max_wait_ms", 100))
        + i32(over.get("min_bytes", 1))
        + i32(over.get("max_bytes", 50 << 20))
        + i8(0)
        + i32(over.get("session_id", 0))
        + i32(over.get("session_epoch", -1))
    )
    return body + array([string(topic) + array(items)] if topic else []) + array([])


def fetch_reply(reply):
    """(error, session id, [(topic, partition, error, high watermark, records)]) of a Fetch v7-10 reply."""
    reply.i32()
    error, session, found = reply.i16(), reply.i32(), []
    for _ in range(reply.i32()):
        topic = reply.string()
        for _ in range(reply.i32()):
            partition, code, high, _, _ = reply.i32(), reply.i16(), reply.i64(), reply.i64(), reply.i64()
            for _ in range(max(0, reply.i32())):
                reply.take(16)
            found.append((topic, partition, code, high, reply.blob() or b""))
    return error, session, found


def end_offset(connection, topic, partition=0):
    """The latest offset by ListOffsets v1."""
    body = i32(-1) + array([string(topic) + array([i32(partition) + i64(-1)])])
    reply = connection.request(LIST_OFFSETS, 1, body)
    reply.i32()
    reply.string()
    reply.i32()
    reply.i32()
    error, _, offset = reply.i16(), reply.i64(), reply.i64()
    if error:
        raise AssertionError(f"ListOffsets of {topic}[{partition}] answered error {error}")
    return offset
