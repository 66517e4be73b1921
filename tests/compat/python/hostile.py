"""Bad input over raw sockets: each gets Kafka's error or a closed connection, others are served, memory stays small.

With COMPAT_PIDS=name=pid,… (set by tests/compat/run) the memory and life of those processes are watched: over one check,
none may grow by more than 64 MiB at its peak. Checks run one after the other.
"""

import os
import pathlib
import sys
import uuid

import hostile_frames  # noqa: F401 registers its checks
import hostile_requests  # noqa: F401
import hostile_batches  # noqa: F401
import hostile_bombs  # noqa: F401 last: what an allocator keeps from these would hide later growth
import wire
from checks import CHECKS, equal, expect, main

MEMORY_MAX_MIB = 64


class Victim:
    """The server under attack: before a check its memory is noted, after it the server must still serve."""

    def __init__(self, bootstrap, check_name):
        self.bootstrap = bootstrap
        self.prefix = f"hostile-{check_name.replace('_', '-')}-{uuid.uuid4().hex[:6]}"
        pairs = (pair.split("=") for pair in os.environ.get("COMPAT_PIDS", "").split(",") if pair)
        self.pids = {name: int(pid) for name, pid in pairs}
        # Rules of our own, tighter than Kafka's, hold only for servers that the runner has started.
        self.own_rules = bool(self.pids)
        self.topics = []
        self.before = {name: _reset_peak(pid) for name, pid in self.pids.items()}

    def connect(self, timeout=15, greeted=True):
        """A connection; greeted: ApiVersions was asked already, before which a server may allow small frames only."""
        connection = wire.Connection(self.bootstrap, timeout)
        if greeted:
            connection.request(wire.API_VERSIONS, 0, b"")
            connection.correlation = 0
        return connection

    def name(self, suffix="topic"):
        return f"{self.prefix}-{suffix}"

    def topic(self, suffix="topic", partitions=1, **config):
        name = self.name(suffix)
        error = self.create(name, partitions, config=config)
        equal(error, 0, f"the error of creating {name}")
        self.topics.append(name)
        with self.connect() as connection:
            self.led(connection, name, partitions)
        return name

    def create(self, name, partitions=1, replication=1, assignments=(), config=None):
        """CreateTopics v2; returns the error."""
        entries = [wire.string(k.replace("_", ".")) + wire.string(str(v)) for k, v in (config or {}).items()]
        placed = [wire.i32(p) + wire.array([wire.i32(r) for r in replicas]) for p, replicas in assignments]
        count, copies = (-1, -1) if placed else (partitions, replication)
        topic = wire.string(name) + wire.i32(count) + wire.i16(copies) + wire.array(placed) + wire.array(entries)
        with self.connect(30) as connection:
            reply = connection.request(wire.CREATE_TOPICS, 2, wire.array([topic]) + wire.i32(20000) + wire.i8(0))
        reply.i32()
        reply.i32()
        reply.string()
        return reply.i16()

    def led(self, connection, topic, partitions):
        from checks import wait_for

        def offsets():
            try:
                return [wire.end_offset(connection, topic, p) for p in range(partitions)] or True
            except AssertionError:
                return None

        wait_for(f"{topic} to be led", offsets)

    def produce(self, topic, records, **more):
        with self.connect(30 if self.own_rules else 6) as connection:
            return wire.produce(connection, topic, records, **more)

    def end_offset(self, topic):
        with self.connect() as connection:
            return wire.end_offset(connection, topic)

    def serves(self):
        """A well-behaved client on a connection of its own creates, produces and fetches."""
        topic = self.topic(f"served-{uuid.uuid4().hex[:4]}")
        with self.connect() as connection:
            equal(wire.produce(connection, topic, wire.batch([b"a", b"b"])), (0, 0), "a good client's produce")
            body = wire.fetch_body(topic, [(0, 0)], version=10)
            error, _, found = wire.fetch_reply(connection.request(wire.FETCH, 10, body))
            equal((error, found[0][2], found[0][3]), (0, 0, 2), "a good client's fetch")
            expect(b"key" in found[0][4], "a good client's records are not there")

    def close(self):
        body = wire.array([wire.string(t) for t in self.topics]) + wire.i32(10000)
        with self.connect() as connection:
            connection.request(20, 1, body)

    def judge(self):
        """After the attack: alive, serving, and not much larger at any moment of it."""
        self.serves()
        for name, pid in self.pids.items():
            peak = _memory(pid, "VmHWM")
            expect(peak is not None, f"{name} died")
            grown = peak - self.before[name]
            print(f"        {self.prefix[:-7]}: {name} grew {grown} MiB at its peak, to {peak} MiB", file=sys.stderr)
            expect(grown <= MEMORY_MAX_MIB, f"{name} grew by {grown} MiB, at most {MEMORY_MAX_MIB}")


def _memory(pid, field):
    """A memory figure of a process in MiB; None if it is gone."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    return None


def _reset_peak(pid):
    try:
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        pass  # not ours to reset: the peak so far then counts as what was there before
    return _memory(pid, "VmHWM") or 0


def _judged(function):
    def run(victim):
        function(victim)
        victim.judge()

    run.__name__ = function.__name__
    return run


if __name__ == "__main__":
    for one in CHECKS:
        one.alone = True
        one.function = _judged(one.function)
    main(Victim, __doc__)
