"""A member of a consumer group that polls in a thread of its own and keeps what happened to it.

As a program (member.py BOOTSTRAP GROUP TOPIC SESSION_MS) it is a member in its own process, to be stopped or killed
from outside; it prints one JSON object a line: {"event": "assigned"|"revoked"|"lost", "partitions": [...]}.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException

from checks import expect, wait_for
from target import settings_of

SESSION_MS = 10000


def settings(bootstrap, group, **more):
    base = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": 500,
        "topic.metadata.refresh.interval.ms": 1000,
    }
    return base | settings_of(more)


class Member(threading.Thread):
    """Subscribes at once; owned, events, messages and errors may be read from other threads at any time."""

    def __init__(self, bootstrap, group, topics, report=None, **more):
        super().__init__(daemon=True)
        self.owned = set()
        self.events = []
        self.messages = []
        self.errors = []
        self.polling = True
        self.commit_on_revoke = False
        self._report = report
        self._ending = threading.Event()
        self._calls = queue.Queue()
        self.consumer = Consumer(settings(bootstrap, group, **more))
        self.consumer.subscribe(
            topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        self.start()

    def _note(self, kind, partitions):
        pairs = {(p.topic, p.partition) for p in partitions}
        self.owned = self.owned | pairs if kind == "assigned" else self.owned - pairs
        self.events.append((kind, pairs))
        if self._report:
            self._report(kind, pairs)

    def _assigned(self, _, partitions):
        self._note("assigned", partitions)

    def _revoked(self, consumer, partitions):
        if self.commit_on_revoke:
            positions = [p for p in consumer.position(partitions) if p.offset >= 0]
            try:
                if positions:
                    consumer.commit(offsets=positions, asynchronous=False)
            except KafkaException as error:
                self.errors.append(error.args[0])
        self._note("revoked", partitions)

    def _lost(self, _, partitions):
        self._note("lost", partitions)

    def run(self):
        while not self._ending.is_set():
            self._serve_calls()
            if not self.polling:
                time.sleep(0.05)
                continue
            message = self.consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                self.errors.append(message.error())
                continue
            self.messages.append(message)
        self.consumer.close()

    def _serve_calls(self):
        while not self._calls.empty():
            function, answer = self._calls.get()
            try:
                answer.put((function(self.consumer), None))
            except Exception as error:  # noqa: B902 handed to the caller
                answer.put((None, error))

    def call(self, function, seconds=30):
        """Runs function(consumer) between two polls: a commit beside a poll may wait for ever in this client."""
        answer = queue.Queue()
        self._calls.put((function, answer))
        value, error = answer.get(timeout=seconds)
        if error is not None:
            raise error
        return value

    def commit(self, message):
        return self.call(lambda consumer: consumer.commit(message=message, asynchronous=False))

    def leave(self):
        """Ends the polling and closes the consumer (a static member stays in the group by that)."""
        self._ending.set()
        self.join(30)
        expect(not self.is_alive(), "a member did not close within 30 s")

    def taken_away(self, since=0):
        """Partitions revoked or lost after the first `since` events."""
        gone = set()
        for kind, pairs in self.events[since:]:
            if kind != "assigned":
                gone |= pairs
        return gone


def balanced(members, sizes, seconds=40):
    """Waits until the members own, between them and without overlap, the given numbers of partitions (any order)."""

    def is_so():
        owned = [set(m.owned) for m in members]
        return sorted(map(len, owned)) == sorted(sizes) and len(set().union(*owned)) == sum(sizes)

    try:
        wait_for(f"an assignment of {sizes}", is_so, seconds)
    except AssertionError as error:
        owned = [sorted(m.owned) for m in members]
        raise AssertionError(f"{error}; owned: {owned}; errors: {[getattr(m, 'errors', None) for m in members]}") from None


class ProcessMember:
    """The same in a process of its own."""

    def __init__(self, bootstrap, group, topic, session_ms=6000):
        command = [sys.executable, __file__, bootstrap, group, topic, str(session_ms)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.owned = set()
        self.events = []
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        for line in self.process.stdout:
            event = json.loads(line)
            pairs = {(topic, partition) for topic, partition in event["partitions"]}
            self.owned = self.owned | pairs if event["event"] == "assigned" else self.owned - pairs
            self.events.append((event["event"], pairs))

    def signal(self, number):
        os.kill(self.process.pid, number)

    def end(self):
        self.process.kill()
        self.process.wait()


def main():
    bootstrap, group, topic, session_ms = sys.argv[1:5]

    def report(kind, pairs):
        print(json.dumps({"event": kind, "partitions": sorted(pairs)}), flush=True)

    Member(bootstrap, group, [topic], report, session_timeout_ms=int(session_ms)).join()


if __name__ == "__main__":
    main()
