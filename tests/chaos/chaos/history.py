"""The history of a run: one event per invocation and completion, kept in memory and written as JSON lines."""

import json
import threading
import time


class History:
    """Events {t_ns, proc, type: invoke|ok|fail|info, f, ops, ...}; `ops` are ["send", key, value, [offset]] or
    ["poll", {key: [[offset, value], ...]}] or ["commit", {key: offset}]; a key is `topic-partition`."""

    def __init__(self):
        self.events = []
        self._lock = threading.Lock()

    def add(self, proc, kind, f, ops, **more):
        event = {"t_ns": time.monotonic_ns(), "proc": proc, "type": kind, "f": f, "ops": ops, **more}
        with self._lock:
            self.events.append(event)

    def write(self, path):
        with self._lock, open(path, "w") as out:
            for event in self.events:
                out.write(json.dumps(event) + "\n")


def read(path):
    """The events of a history that was written."""
    with open(path) as lines:
        return [json.loads(line) for line in lines]
