"""The clients of a run: idempotent producers at a steady rate, a group that commits, watchers, and the last read."""

import collections
import logging
import os
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from chaos import java_load
from chaos.cluster import Trouble, quiet

# What librdkafka reports when a connection goes away: reconnect notices, not failures of an operation.
NOTICES = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT}
PRODUCER = {
    "enable.idempotence": True, "acks": "all", "linger.ms": 5, "message.timeout.ms": 120000,
    "retry.backoff.ms": 50, "retry.backoff.max.ms": 500, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500,
    **({"debug": os.environ["CHAOS_DEBUG"]} if "CHAOS_DEBUG" in os.environ else {}),
    "socket.timeout.ms": 10000, "topic.metadata.refresh.interval.ms": 5000,
}


class Bumps(logging.Handler):
    """The reasons for which librdkafka's producers raised their epoch, as its log (debug=eos) tells them."""

    def __init__(self):
        super().__init__()
        self.reasons = []

    def emit(self, record):
        text = record.getMessage()
        if "Beginning partition drain" in text and "epoch bump" in text:
            self.reasons.append(text[:300])


class Load:
    """Producers and a consumer group on one topic, until `finish`."""

    def __init__(self, cluster, history, topic, run, producers=3, rate=100, consumers=2, partitions=6, size=100, more=()):
        self.more = dict(more)
        self.cluster, self.history, self.topic, self.run = cluster, history, topic, run
        self.partitions, self.rate, self.size = partitions, rate, size
        self.stopping = threading.Event()
        self.errors = collections.Counter()
        self.fatal, self.delivery_errors = [], []
        self.notices = collections.Counter()
        self.acked = 0
        self.java, self.java_acked = None, 0
        self.ack_times = []
        self.latencies = []
        self.floor = collections.defaultdict(lambda: -1)
        self.group = f"{topic}-group"
        self.threads = [threading.Thread(target=self._produce, args=(n,), daemon=True) for n in range(producers)]
        self.threads += [threading.Thread(target=self._consume, args=(n,), daemon=True) for n in range(consumers)]
        if consumers:
            self.threads.append(threading.Thread(target=self._watch, daemon=True))

    def start(self, java=False):
        for thread in self.threads:
            thread.start()
        if java and java_load.available():
            self.java = java_load.JavaLoad(self)
        return self

    def _error(self, who):
        def callback(error):
            if error.fatal():
                self.fatal.append(f"{who}: {error}")
            if error.code() in NOTICES:
                self.notices[error.name()] += 1
            else:
                self.errors[f"{who.rstrip('0123456789')}: {error.name()}: {error.str()[:120]}"] += 1

        return callback

    def _delivered(self, proc, key, value, sent_at):
        def callback(error, message):
            if error is None:
                self.acked += 1
                now = time.monotonic()
                self.ack_times.append(now)
                self.latencies.append(now - sent_at)
                self.history.add(proc, "ok", "send", [["send", key, value, message.offset()]])
                return
            kind = "info"
            self.delivery_errors.append(f"{proc} {key}: {error.name()}: {error.str()}")
            self.history.add(proc, "info", "send", [["send", key, value, None]], err=error.name())

        return callback

    def _produce(self, n):
        proc, number = f"p{n}", 0
        producer = Producer({
            **PRODUCER, **self.more, "bootstrap.servers": self.cluster.bootstrap, "client.id": proc,
            "error_cb": self._error(proc), "logger": quiet(),
        })
        start = time.monotonic()
        while not self.stopping.is_set():
            partition = (number * 7 + n) % self.partitions
            key, value = f"{self.topic}-{partition}", f"{self.run}:{proc}:{number}"
            self.history.add(proc, "invoke", "send", [["send", key, value]])
            payload = f"{value}:".ljust(self.size, ".")
            try:
                producer.produce(
                    self.topic, payload, partition=partition,
                    on_delivery=self._delivered(proc, key, value, time.monotonic()),
                )
            except BufferError:
                self.history.add(proc, "fail", "send", [["send", key, value, None]], err="queue full")
            except KafkaException as error:
                self.fatal.append(f"{proc}: produce: {error}")
                return
            number += 1
            producer.poll(0)
            while (ahead := start + number / self.rate - time.monotonic()) > 0 and not self.stopping.is_set():
                producer.poll(min(ahead, 0.1))
        left = producer.flush(45)
        if left:
            self.delivery_errors.append(f"{proc}: {left} messages neither acknowledged nor refused 45 s after the end of faults")

    def _consume(self, n):
        proc, positions = f"c{n}", {}
        consumer = Consumer({
            "bootstrap.servers": self.cluster.bootstrap, "group.id": self.group, "client.id": proc,
            "enable.auto.commit": False, "auto.offset.reset": "earliest", "session.timeout.ms": 10000,
            "heartbeat.interval.ms": 1000, "reconnect.backoff.max.ms": 500, "error_cb": self._error(proc),
            "logger": quiet(),
        })

        def assigned(_consumer, parts):
            positions.clear()
            self.history.add(proc, "ok", "assign", [[p.partition for p in parts]])

        def revoked(_consumer, _parts):
            self._commit(consumer, proc, positions)
            positions.clear()

        def lost(_consumer, _parts):
            positions.clear()

        consumer.subscribe([self.topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)
        due = time.monotonic() + 0.5
        while not self.stopping.is_set():
            found = collections.defaultdict(list)
            for message in consumer.consume(200, 0.1):
                self._message(proc, message, found, positions)
            if found:
                self.history.add(proc, "ok", "poll", [["poll", found]])
            if time.monotonic() > due:
                self._commit(consumer, proc, positions)
                due = time.monotonic() + 0.5
        self._commit(consumer, proc, positions)
        consumer.close()

    def _message(self, proc, message, found, positions):
        if message.error():
            if message.error().code() not in NOTICES:
                self.errors[f"consume: {message.error().name()}: {message.error().str()[:120]}"] += 1
            return
        value = message.value().decode().rsplit(":", 1)[0]
        found[f"{self.topic}-{message.partition()}"].append([message.offset(), value])
        positions[message.partition()] = message.offset() + 1

    def _commit(self, consumer, proc, positions):
        if not positions:
            return
        offsets = [TopicPartition(self.topic, p, o) for p, o in positions.items()]
        kind, error_name = "info", None
        try:
            done = consumer.commit(offsets=offsets, asynchronous=False)
            if all(p.error is None for p in done):
                kind = "ok"
        except KafkaException as error:
            error_name = error.args[0].name()
            if error.args[0].fatal():
                self.fatal.append(f"{proc}: commit: {error}")
        ops = {f"{self.topic}-{p}": o for p, o in positions.items()}
        self.history.add(proc, kind, "commit", [["commit", ops]], err=error_name)
        if kind == "ok":
            for key, offset in ops.items():
                self.floor[key] = max(self.floor[key], offset)

    def _watch(self):
        """Reads the group's committed offsets each second; the floor is what was acked before it asked."""
        while not self.stopping.wait(1.0):
            floor = dict(self.floor)
            try:
                offsets = self.cluster.committed(self.group, self.topic, self.partitions)
            except Exception:  # noqa: BLE001 a coordinator that is away answers later
                continue
            ops = {f"{self.topic}-{p}": o for p, o in offsets.items()}
            self.history.add("watch", "ok", "committed", [["committed", ops]], floor=floor)

    def wait_acked(self, more, seconds=60):
        """Waits for `more` further acknowledgements; seconds taken."""
        start, goal = time.monotonic(), self.acked + more
        while self.acked < goal:
            if time.monotonic() - start > seconds:
                raise Trouble(f"fewer than {more} acknowledgements in {seconds} s; {self.summary()}")
            time.sleep(0.02)
        return time.monotonic() - start

    def finish(self):
        self.stopping.set()
        if self.java:
            self.java.finish()
        for thread in self.threads:
            thread.join(120)
            if thread.is_alive():
                raise Trouble(f"a client does not end; {self.summary()}")
        self._last_commits()

    def _last_commits(self):
        if not self.floor:
            return
        deadline, floor = time.monotonic() + 30, dict(self.floor)
        while time.monotonic() < deadline:
            try:
                offsets = self.cluster.committed(self.group, self.topic, self.partitions)
                ops = {f"{self.topic}-{p}": o for p, o in offsets.items()}
                self.history.add("watch", "ok", "committed", [["committed", ops]], floor=floor)
                return
            except Exception:  # noqa: BLE001
                time.sleep(0.2)
        raise Trouble("the group's committed offsets cannot be read 30 s after healing")

    def longest_gap(self):
        """The longest time without any acknowledgement, in seconds."""
        times = sorted(self.ack_times)
        return max((b - a for a, b in zip(times, times[1:])), default=0.0)

    def summary(self):
        return {
            "acked": self.acked, "fatal": self.fatal[:5], "delivery_errors": self.delivery_errors[:5],
            "delivery_error_count": len(self.delivery_errors), "errors": dict(self.errors), "notices": dict(self.notices),
        }


def read_all(cluster, history, topic, partitions, seconds=120):
    """Reads every partition from its start to its end as the proc "final"; Trouble if that takes too long."""
    consumer = Consumer({
        "bootstrap.servers": cluster.bootstrap, "group.id": f"{topic}-final", "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "logger": quiet(), "reconnect.backoff.max.ms": 500,
    })
    deadline, ends = time.monotonic() + seconds, {}
    try:
        while len(ends) < partitions:
            for partition in set(range(partitions)) - set(ends):
                try:
                    ends[partition] = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)[1]
                except KafkaException:
                    pass
            if time.monotonic() > deadline:
                raise Trouble(f"end offsets of {topic} cannot be read: {ends}")
        consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        at = {p: 0 for p in range(partitions)}
        while any(at[p] < ends[p] for p in ends):
            found = collections.defaultdict(list)
            for message in consumer.consume(500, 0.2):
                if message.error():
                    continue
                value = message.value().decode().rsplit(":", 1)[0]
                found[f"{topic}-{message.partition()}"].append([message.offset(), value])
                at[message.partition()] = message.offset() + 1
            if found:
                history.add("final", "ok", "poll", [["poll", found]])
            if time.monotonic() > deadline:
                raise Trouble(f"unseen: {topic} is not read to its end in {seconds} s: {at} of {ends}")
    finally:
        consumer.close()
    return ends
