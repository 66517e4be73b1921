"""Kills the server again and again under an acks=all idempotent load, then reads everything back.

  crash.py --form standalone|cluster|cluster3|command [--rounds N] [--dir DIR] [--seed N]
           [--command 'PROGRAM ARGS' --bootstrap HOST:PORT]    (for command: any server, started and killed as given)

Each round waits for fresh acknowledgements, sends SIGKILL to one process (cluster: controller, broker, gateway in
turn), starts it again and waits for the next acknowledgement. At the end every acknowledged record must be there once,
at the offset it was acknowledged with, in order per partition; what was not acknowledged may be there, once; no client
may have seen a fatal error; a group's commits may not go back. Checks are printed as in the other suites.
"""

import argparse
import os
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import servers
import wire
from checks import Results

PARTITIONS = 6
TOPIC = "crash-load"
OLD_TOPIC = "crash-old-versions"
GROUP = "crash-readers"
PER_SECOND = 3000
QUIET_SECONDS_MAX = 60


class Fatal:
    """Fatal errors of all clients, by error_cb."""

    def __init__(self):
        self.seen = []

    def callback(self, error):
        if error.fatal() or error.code() == KafkaError._FATAL:
            self.seen.append(str(error))


class Load(threading.Thread):
    """One idempotent producer; values are `partition:number`, numbered without gaps per partition."""

    def __init__(self, bootstrap, name, fatal):
        super().__init__(daemon=True)
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": 300_000,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 20_000,
                "reconnect.backoff.max.ms": 500,
                "error_cb": fatal.callback,
            }
        )
        self.name = name
        self.sent = [0] * PARTITIONS
        self.acked = {}  # (partition, number) -> offset
        self.failed = []
        self.last_ack = time.monotonic()
        self.ending = threading.Event()

    def reported(self, error, message):
        partition, number = message.partition(), int(message.value().split(b":")[1])
        if error is None:
            self.acked[(partition, number)] = message.offset()
            self.last_ack = time.monotonic()
        else:
            self.failed.append((partition, number, str(error)))

    def run(self):
        began, count = time.monotonic(), 0
        while not self.ending.is_set():
            partition = random.randrange(PARTITIONS)
            value = b"%s:%d:%s" % (self.name.encode(), self.sent[partition], b"x" * random.randrange(200))
            try:
                self.producer.produce(TOPIC, value, partition=partition, on_delivery=self.reported)
                self.sent[partition] += 1
                count += 1
            except BufferError:
                pass  # nothing is acknowledged just now
            except KafkaException as error:  # a fatal error: the producer is of no more use
                self.failed.append((partition, self.sent[partition], str(error)))
                return
            self.producer.poll(0)
            ahead = count / PER_SECOND - (time.monotonic() - began)
            if ahead > 0.01:
                self.producer.poll(ahead)
            elif ahead < -1:
                began, count = time.monotonic(), 0  # do not make up for what a crash held back

    def finish(self):
        self.ending.set()
        self.join(30)
        return self.producer.flush(180)


class Readers(threading.Thread):
    """A member of a group that reads along and commits; after each commit that succeeded, nothing may go back."""

    def __init__(self, bootstrap, fatal):
        super().__init__(daemon=True)
        self.settings = {
            "bootstrap.servers": bootstrap,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 20_000,
            "reconnect.backoff.max.ms": 500,
            "check.crcs": True,
            "error_cb": fatal.callback,
        }
        self.committed = {}  # partition -> the last offset whose commit succeeded
        self.read = 0
        self.commits = 0
        self.gaps = []
        self.ending = threading.Event()

    def run(self):
        consumer = Consumer(self.settings)
        consumer.subscribe([TOPIC])
        positions, last_commit = {}, time.monotonic()
        while not self.ending.is_set():
            message = consumer.poll(0.2)
            if message is not None and not message.error():
                self.read += 1
                expected = positions.get(message.partition())
                # Going on from an older commit is right after a rebalance; skipping forward never is.
                if expected is not None and message.offset() > expected:
                    self.gaps.append((message.partition(), expected, message.offset()))
                positions[message.partition()] = message.offset() + 1
            if positions and time.monotonic() - last_commit > 0.3:
                last_commit = time.monotonic()
                self._commit(consumer, dict(positions))
        consumer.close()

    def _commit(self, consumer, positions):
        try:
            places = [TopicPartition(TOPIC, p, offset) for p, offset in positions.items()]
            for place in consumer.commit(offsets=places, asynchronous=False):
                if place.error is None:
                    self.committed[place.partition] = place.offset
                    self.commits += 1
        except KafkaException:
            pass  # not committed, or not known to be


class OldVersions(threading.Thread):
    """Requests of old versions by raw sockets all along: whatever state the server is in, it must be able to say so in
    each of them. Replies are only counted; what could not be said stands in the server's log."""

    def __init__(self, bootstrap):
        super().__init__(daemon=True)
        self.bootstrap = bootstrap
        self.answers = 0
        self.ending = threading.Event()

    def run(self):
        partition = 0
        while not self.ending.is_set():
            partition = (partition + 1) % PARTITIONS
            try:
                with wire.Connection(self.bootstrap, 3) as connection:
                    records = [(OLD_TOPIC, [(partition, wire.batch())])]
                    for version in (3, 5, 7, 8):
                        connection.request(wire.PRODUCE, version, wire.produce_body(records))
                        self.answers += 1
                    for version in (7, 8, 9, 10):
                        body = wire.fetch_body(OLD_TOPIC, [(partition, 0)], version=version, partition_max_bytes=100)
                        connection.request(wire.FETCH, version, body)
                        self.answers += 1
                    place = wire.string(OLD_TOPIC) + wire.array([wire.i32(partition) + wire.i64(-1)])
                    connection.request(wire.LIST_OFFSETS, 1, wire.i32(-1) + wire.array([place]))
                    connection.request(wire.METADATA, 1, wire.array([wire.string(OLD_TOPIC)]))
                    connection.request(wire.OFFSET_FETCH, 1, wire.string(GROUP) + wire.array([]))
                    self.answers += 3
            except (OSError, wire.Closed):
                time.sleep(0.01)


def create_topics(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    news = [NewTopic(name, num_partitions=PARTITIONS, replication_factor=1) for name in (TOPIC, OLD_TOPIC)]
    for future in admin.create_topics(news).values():
        future.result(30)


def read_all(bootstrap):
    """{partition: [(offset, producer, number)]} of everything in the topic."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "crash-check", "enable.auto.commit": False, "check.crcs": True}
    )
    found, ends = {}, {}
    for partition in range(PARTITIONS):
        ends[partition] = consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), timeout=30)[1]
        found[partition] = []
    consumer.assign([TopicPartition(TOPIC, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    deadline = time.monotonic() + 120
    while any(not found[p] or found[p][-1][0] + 1 < ends[p] for p in found if ends[p]):
        if time.monotonic() > deadline:
            break
        for message in consumer.consume(5000, 0.5):
            if message.error():
                raise RuntimeError(f"reading back: {message.error()}")
            name, number, _ = message.value().split(b":", 2)
            found[message.partition()].append((message.offset(), name.decode(), int(number)))
    offsets = {p: [o for o, _, _ in rows] for p, rows in found.items()}
    consumer.close()
    return found, ends, offsets


def judge(loads, readers, found, ends, offsets, fatal, left, committed_now):
    """The list of (check, problem or empty)."""
    acked = {(load.name, p, n): o for load in loads for (p, n), o in load.acked.items()}
    at = {}
    for partition, rows in found.items():
        for offset, name, number in rows:
            at.setdefault((name, partition, number), []).append(offset)
    lost = [key for key in acked if key not in at]
    twice = [(key, where) for key, where in at.items() if len(where) > 1]
    moved = [(key, acked[key], where) for key, where in at.items() if key in acked and acked[key] not in where]
    disorder = []
    for partition, rows in found.items():
        last = {}
        for offset, name, number in rows:
            if number <= last.get(name, -1):
                disorder.append((partition, offset, name, number, last[name]))
            last[name] = max(number, last.get(name, -1))
    holes = [(p, ends[p], len(o)) for p, o in offsets.items() if o != list(range(ends[p]))]
    back = [(p, o, committed_now.get(p)) for p, o in readers.committed.items() if committed_now.get(p, -1) < o]
    failed = [f for load in loads for f in load.failed]
    return [
        ("every_acknowledged_record_is_there", lost),
        ("no_record_is_there_twice", twice),
        ("records_lie_where_they_were_acknowledged", moved),
        ("records_are_in_order_in_each_partition", disorder),
        ("offsets_have_no_holes", holes),
        ("no_client_saw_a_fatal_error", fatal.seen),
        ("no_delivery_failed", failed + ([f"{left} without a report"] if left else [])),
        ("the_group_skipped_nothing", readers.gaps),
        ("the_groups_commits_are_there", back),
    ]


def committed(bootstrap):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP})
    places = consumer.committed([TopicPartition(TOPIC, p) for p in range(PARTITIONS)], 60)
    consumer.close()
    return {p.partition: p.offset for p in places}


def await_progress(loads, readers, rng):
    """Waits for fresh acknowledgements of each producer and a fresh commit of the group; the seconds, or None."""
    began = time.monotonic()
    acks = [len(load.acked) + rng.randrange(500, 3000) for load in loads]
    commits = readers.commits + 1
    while any(len(load.acked) < wanted for load, wanted in zip(loads, acks)) or readers.commits < commits:
        if time.monotonic() > began + QUIET_SECONDS_MAX:
            return None
        time.sleep(0.02)
    return time.monotonic() - began


def rounds(server, loads, readers, results, args, rng):
    """Kills and restarts; returns the seconds from each restart to the next acknowledgement of every producer."""
    gaps = []
    for number in range(args.rounds):
        victim = server.names()[number % len(server.names())]
        progress = await_progress(loads, readers, rng)
        if progress is None:
            text = f"no acknowledgements or no commits within {QUIET_SECONDS_MAX} s"
            results.add("FAIL", f"progress_before_round_{number + 1}", QUIET_SECONDS_MAX, text)
            break
        started = time.monotonic()
        server.kill(victim)
        time.sleep(rng.choice([0, 0, rng.random() * 1.5]))
        restarted = time.monotonic()
        server.start(victim)
        ready = time.monotonic()
        while any(load.last_ack < ready for load in loads) and time.monotonic() < started + QUIET_SECONDS_MAX:
            time.sleep(0.01)
        now = time.monotonic()
        answered = all(load.last_ack > started for load in loads)
        down = restarted - started
        gaps.append(now - started - down)
        acked = sum(len(load.acked) for load in loads)
        print(
            f"  note  round {number + 1}: after {progress:.1f} s and {acked} acknowledgements {victim} killed; from its "
            f"start ready in {ready - restarted:.1f} s, acknowledging in {now - restarted:.1f} s",
            flush=True,
        )
        if not answered:
            results.add("FAIL", f"round_{number + 1}_{victim}", now - started, "no acknowledgement within 60 s")
            break
    return gaps


def make_server(args, directory):
    if args.form == "command":
        return servers.Program(args.command, args.bootstrap, directory)
    binary = os.environ.get("STROM_BIN") or servers.find_binary(False)
    return servers.FORMS[args.form](binary, directory)


def run(args, directory):
    results, fatal, rng = Results(), Fatal(), random.Random(args.seed)
    server = make_server(args, directory)
    server.start()
    began = time.monotonic()
    try:
        create_topics(server.bootstrap)
        loads = [Load(server.bootstrap, name, fatal) for name in ("a", "b")]
        readers = Readers(server.bootstrap, fatal)
        old = OldVersions(server.bootstrap)
        for thread in (*loads, readers, old):
            thread.start()
        gaps = rounds(server, loads, readers, results, args, rng)
        left = sum(load.finish() for load in loads)
        found, ends, offsets = read_all(server.bootstrap)
        total = sum(ends.values())
        deadline = time.monotonic() + 90
        while sum(readers.committed.values()) < total and time.monotonic() < deadline:
            time.sleep(0.1)
        for thread in (readers, old):
            thread.ending.set()
            thread.join(30)
        for name, problems in judge(loads, readers, found, ends, offsets, fatal, left, committed(server.bootstrap)):
            verdict = "FAIL" if problems else "ok"
            text = f"{len(problems)} cases, such as {problems[:3]}" if problems else ""
            results.add(verdict, name, time.monotonic() - began, text)
        found = servers.faults(server.logs())
        results.add("FAIL" if found else "ok", "no_faults_in_the_servers_logs", time.monotonic() - began,
                    f"{len(found)}, such as {found[0]}" if found else "")
        caught_up = sum(readers.committed.values()) == total
        results.add("ok" if caught_up else "FAIL", "the_group_read_to_the_end", time.monotonic() - began,
                    "" if caught_up else f"committed {readers.committed} of {ends}")
        print(
            f"  note  {len(gaps)} kills; {sum(len(load.acked) for load in loads)} acknowledged, {total} stored, "
            f"{readers.read} read by the group in {readers.commits} commits, {old.answers} answers in old versions; from restart to the next acknowledgement "
            f"{min(gaps):.1f}-{max(gaps):.1f} s (median {sorted(gaps)[len(gaps) // 2]:.1f})"
        )
    finally:
        try:
            server.stop()
        except RuntimeError as error:
            results.add("FAIL", "a_clean_stop", 0, str(error))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=[*servers.FORMS, "command"], required=True)
    parser.add_argument("--rounds", type=int, default=0, help="kills (10; 12 or 16 for clusters: each process as often)")
    parser.add_argument("--dir", help="data and logs, kept; without it they go when all is well")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--command")
    parser.add_argument("--bootstrap")
    args = parser.parse_args()
    args.rounds = args.rounds or {"cluster": 12, "cluster3": 16}.get(args.form, 10)
    directory = args.dir or tempfile.mkdtemp(prefix="strom-crash-")
    pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    print(f"  note  seed {args.seed}, data and logs in {directory}", flush=True)
    results = run(args, directory)
    print(results.closing_line(), flush=True)
    failed = results.counts["FAIL"]
    if not failed and not args.dir:
        shutil.rmtree(directory, ignore_errors=True)
    sys.stdout.flush()
    os._exit(1 if failed else 0)


if __name__ == "__main__":
    main()
