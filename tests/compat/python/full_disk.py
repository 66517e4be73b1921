"""Fills the disk of a broker, up to its reserve and to the last byte: refused at once, nothing lost, reads go on, and
writes too once there is room.

  full_disk.py --form standalone|cluster [--dir DIR]

The data lies on a small tmpfs, so this needs root; without it everything is skipped. A file of somebody else's stands
for what an operator can remove.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import servers
import wire
from checks import Results, equal, expect, wait_for

DISK_MIB = 160
OTHERS_MIB = 32
RESERVE_BYTES = 16 << 20
TOPIC = "full-disk"
VALUE = b"x" * 50_000
STORAGE_ERROR, AFTER_APPEND = 56, 20
AT_ONCE_SECONDS = 10
BROKER = 4


class Disk:
    """A tmpfs with a file on it that is not the server's."""

    def __init__(self, place):
        self.place = pathlib.Path(place)
        self.others = self.place / "somebody-elses"

    def mount(self):
        self.place.mkdir(parents=True, exist_ok=True)
        options = f"size={DISK_MIB}m"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.place], capture_output=True, text=True, check=False
        )
        return "" if mounted.returncode == 0 else mounted.stderr.strip()

    def unmount(self):
        subprocess.run(["umount", "-l", self.place], capture_output=True, check=False)

    def occupy(self):
        self.others.write_bytes(b"\1" * (OTHERS_MIB << 20))

    def make_room(self):
        self.others.unlink()


class Story:
    """What was acknowledged so far, and the steps that each are one check."""

    def __init__(self, server, disk):
        self.server = server
        self.disk = disk
        self.acked = {}  # offset -> number
        self.number = 0

    def connect(self, seconds=60):
        return wire.Connection(self.server.bootstrap, seconds)

    def produce(self, connection):
        """One record with acks=all and a time-out of two minutes; returns its error and the seconds."""
        number, self.number = self.number, self.number + 1
        began = time.monotonic()
        records = wire.batch([b"%d:" % number + VALUE])
        error, base = wire.produce(connection, TOPIC, records, timeout_ms=120_000)
        if error == 0:
            self.acked[base] = number
        return error, time.monotonic() - began

    def reserve(self, size):
        entry = wire.string("strom.disk.reserve.bytes") + wire.i8(0) + wire.string(str(size))
        body = wire.array([wire.i8(BROKER) + wire.string("") + wire.array([entry])]) + wire.i8(0)
        with self.connect() as connection:
            reply = connection.request(wire.INCREMENTAL_ALTER_CONFIGS, 0, body)
            reply.i32()
            reply.i32()
            equal(reply.i16(), 0, "the error of altering the reserve")

    def create(self):
        self.reserve(RESERVE_BYTES)  # the default one is larger than this disk
        topic = wire.string(TOPIC) + wire.i32(1) + wire.i16(1) + wire.array([]) + wire.array([])
        with self.connect() as connection:
            connection.request(wire.CREATE_TOPICS, 2, wire.array([topic]) + wire.i32(20000) + wire.i8(0))
            wait_for("the topic to take writes", lambda: self.produce(connection)[0] == 0)

    def fill(self, allowed):
        """Produces until it is refused three times in a row."""
        with self.connect() as connection:
            refused = 0
            for _ in range(2 * (DISK_MIB << 20) // len(VALUE)):
                error, seconds = self.produce(connection)
                if error == 0:
                    refused = 0
                    continue
                expect(error in allowed, f"error {error}, expected one of {allowed}")
                expect(seconds < AT_ONCE_SECONDS, f"the refusal took {seconds:.1f} s")
                refused += 1
                if refused == 3:
                    equal(error, STORAGE_ERROR, "the error on a disk known to be full")
                    return
            raise AssertionError("the disk never was full")

    def intact(self):
        """Every acknowledged record lies where it was acknowledged."""
        equal(self.server.dead(), [], "dead processes")
        with self.connect() as connection:
            for offset, number in self.acked.items():
                body = wire.fetch_body(TOPIC, [(0, offset)], partition_max_bytes=1)
                error, _, parts = wire.fetch_reply(connection.request(wire.FETCH, 7, body))
                _, _, code, _, records = parts[0]
                equal((error, code), (0, 0), f"the errors of reading {offset}")
                equal(int.from_bytes(records[:8], "big"), offset, "the offset read")
                expect(b"%d:x" % number in records[:200], f"another record than {number} at {offset}")

    def takes_writes(self):
        with self.connect() as connection:
            wait_for("writes to be taken again", lambda: self.produce(connection)[0] == 0)

    def fills_up_to_its_reserve(self):
        self.disk.occupy()
        self.fill([STORAGE_ERROR])
        self.intact()

    def goes_on_when_there_is_room(self):
        self.disk.make_room()
        self.takes_writes()
        self.fill([STORAGE_ERROR])
        self.intact()

    def a_lower_reserve_is_room(self):
        self.reserve(RESERVE_BYTES // 2)
        self.takes_writes()
        self.fill([STORAGE_ERROR])
        self.intact()

    def comes_back_full_after_a_kill(self):
        for name in self.server.names():
            self.server.kill(name)
            self.server.start(name)
        with self.connect() as connection:
            wait_for("the topic to be led", lambda: self.produce(connection)[0] == STORAGE_ERROR)
        self.intact()

    def fills_up_to_the_last_byte(self):
        self.reserve(0)
        self.takes_writes()
        self.fill([STORAGE_ERROR, AFTER_APPEND])
        self.intact()


STEPS = [
    Story.fills_up_to_its_reserve,
    Story.goes_on_when_there_is_room,
    Story.a_lower_reserve_is_room,
    Story.comes_back_full_after_a_kill,
    Story.fills_up_to_the_last_byte,
]


def run(form, directory):
    results, disk = Results(), Disk(pathlib.Path(directory) / "disk")
    problem = disk.mount()
    if problem:
        for step in STEPS:
            results.add("skip", step.__name__, 0, f"needs root and a tmpfs: {problem}")
        return results
    binary = os.environ.get("STROM_BIN") or servers.find_binary(False)
    server = servers.FORMS[form](binary, str(disk.place / "server"))
    try:
        server.start()
        story = Story(server, disk)
        story.create()
        for step in STEPS:
            began = time.monotonic()
            try:
                step(story)
                results.add("ok", step.__name__, time.monotonic() - began)
            except Exception as error:  # the later steps would only repeat it
                results.add("FAIL", step.__name__, time.monotonic() - began, f"{type(error).__name__}: {error}")
                print("\n".join(servers.tail(log) for log in server.logs()))
                break
        print(f"  note  {len(story.acked)} records acknowledged of {story.number}")
        found = servers.faults(server.logs())
        results.add("FAIL" if found else "ok", "no_faults_in_the_servers_logs", 0, found[0] if found else "")
    finally:
        try:
            server.stop()
        except RuntimeError as error:
            results.add("FAIL", "a_clean_stop", 0, str(error))
        disk.unmount()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=servers.FORMS, required=True)
    parser.add_argument("--dir")
    args = parser.parse_args()
    results = run(args.form, args.dir or tempfile.mkdtemp(prefix="strom-full-disk-"))
    print(results.closing_line(), flush=True)
    sys.exit(1 if results.counts["FAIL"] else 0)


if __name__ == "__main__":
    main()
