"""Checks a history without transactions: what was acknowledged is read once and in order, and nothing goes back."""

from collections import defaultdict

SAMPLES = 8


def check(events, idempotent=True, final=True):
    """{anomaly: [samples]} plus counts; empty `anomalies` means that the history keeps every promise.

    `final` says that the history ends with a read of every partition from the start to its end (proc "final").
    """
    found = defaultdict(list)
    index = _Index(events)
    _offsets(index, found)
    _duplicates(index, found, idempotent)
    _phantoms(index, found)
    if final:
        _lost(index, found)
    if idempotent:
        _order(index, found)
        _sends_rise(events, found)
    _polls(events, index, found)
    _commits(events, found)
    counts = {name: len(items) for name, items in found.items()}
    return {
        "acked": sum(1 for s in index.sends.values() if s["type"] == "ok"),
        "unknown": sum(1 for s in index.sends.values() if s["type"] in ("info", "invoke")),
        "failed": sum(1 for s in index.sends.values() if s["type"] == "fail"),
        "read": sum(len(values) for values in index.final.values()),
        "counts": counts,
        "anomalies": {name: items[:SAMPLES] for name, items in found.items()},
    }


class _Index:
    """Sends by value, observations by (key, offset), the final read by key."""

    def __init__(self, events):
        self.sends = {}
        self.observed = defaultdict(lambda: defaultdict(set))
        self.read_at = defaultdict(set)
        self.final = defaultdict(list)
        for event in events:
            if event["f"] == "send":
                self._send(event)
            elif event["f"] == "poll":
                self._poll(event)

    def _send(self, event):
        for op in event["ops"]:
            key, value, offset = op[1], op[2], op[3] if len(op) > 3 else None
            self.sends[value] = {"type": event["type"], "key": key, "offset": offset, "proc": event["proc"]}
            if event["type"] == "ok" and offset is not None and offset >= 0:
                self.observed[key][offset].add(value)

    def _poll(self, event):
        for op in event["ops"]:
            for key, pairs in op[1].items():
                for offset, value in pairs:
                    self.observed[key][offset].add(value)
                    self.read_at[(key, value)].add(offset)
                    if event["proc"] == "final":
                        self.final[key].append((offset, value))


def _offsets(index, found):
    for key, offsets in index.observed.items():
        for offset, values in offsets.items():
            if len(values) > 1:
                found["inconsistent-offset"].append([key, offset, sorted(values)])


def _duplicates(index, found, idempotent):
    if not idempotent:
        return
    for (key, value), offsets in index.read_at.items():
        if len(offsets) > 1:
            found["duplicate"].append([key, value, sorted(offsets)])


def _phantoms(index, found):
    for key, value in index.read_at:
        sent = index.sends.get(value)
        if sent is None or sent["key"] != key:
            found["never-sent"].append([key, value])
        elif sent["type"] == "fail":
            found["failed-but-read"].append([key, value])


def _lost(index, found):
    read = {(key, value) for key, pairs in index.final.items() for _, value in pairs}
    for value, sent in index.sends.items():
        if sent["type"] == "ok" and (sent["key"], value) not in read:
            found["lost-write"].append([sent["key"], value, sent["offset"]])


def counter(value):
    """The producer and its running number in a value `run:proc:number`."""
    run, proc, number = value.split(":")[:3]
    return f"{run}:{proc}", int(number)


def _order(index, found):
    """In the log, the values of one producer stand in the order in which it sent them."""
    for key, pairs in index.final.items():
        last = {}
        for offset, value in sorted(pairs):
            if value not in index.sends:
                continue
            proc, number = counter(value)
            if number <= last.get(proc, -1):
                found["out-of-order"].append([key, offset, value, last[proc]])
            last[proc] = number


def _sends_rise(events, found):
    last = {}
    for event in events:
        if event["f"] != "send" or event["type"] != "ok" or event["proc"] == "java":
            continue  # Java's producer goes to the next leader while it waits for the last one: acks cross, records do not
        for op in event["ops"]:
            key, value, offset = op[1], op[2], op[3]
            if offset is None:
                continue  # a retry that the leader knew already: acknowledged without an offset
            at = (event["proc"], key)
            if offset <= last.get(at, -1):
                found["nonmonotonic-send"].append([event["proc"], key, value, offset, last[at]])
            last[at] = offset


def _polls(events, index, found):
    """Between assignments a reader's offsets follow on each other without a hole that holds a record."""
    last = {}
    for event in events:
        if event["f"] in ("assign", "crash"):
            for at in [at for at in last if at[0] == event["proc"]]:
                del last[at]
        if event["f"] != "poll":
            continue
        for op in event["ops"]:
            for key, pairs in op[1].items():
                for offset, value in pairs:
                    at = (event["proc"], key)
                    before = last.get(at)
                    if before is not None and offset <= before:
                        found["nonmonotonic-poll"].append([event["proc"], key, value, offset, before])
                    elif before is not None and any(o in index.observed[key] for o in range(before + 1, offset)):
                        found["poll-skip"].append([event["proc"], key, value, offset, before])
                    last[at] = offset


def _commits(events, found):
    """A group's committed offset, as a watcher reads it, never goes back, nor below what a commit was acked for."""
    last = {}
    for event in events:
        if event["f"] not in ("committed", "commit") or event["type"] != "ok":
            continue
        for op in event["ops"]:
            for key, offset in op[1].items():
                if event["f"] == "committed" and offset < max(event.get("floor", {}).get(key, -1), last.get(key, -1)):
                    found["committed-went-back"].append([key, offset, last.get(key), event.get("floor", {}).get(key)])
                if event["f"] == "committed":
                    last[key] = max(offset, last.get(key, -1))
