"""The checker's own test: for each anomaly a history that must fail, and a near twin that must pass."""

from chaos.checker import check


def send(kind, value, offset=None, key="t-0", proc="p0"):
    return {"t_ns": 0, "proc": proc, "type": kind, "f": "send", "ops": [["send", key, value, offset]]}


def poll(pairs, proc="final", key="t-0"):
    return {"t_ns": 0, "proc": proc, "type": "ok", "f": "poll", "ops": [["poll", {key: pairs}]]}


def committed(offset, floor=-1):
    return {
        "t_ns": 0, "proc": "watch", "type": "ok", "f": "committed", "ops": [["committed", {"t-0": offset}]],
        "floor": {"t-0": floor},
    }


A, B, C = "r:p0:0", "r:p0:1", "r:p0:2"
BOTH = [send("ok", A, 0), send("ok", B, 1)]
GOOD = BOTH + [poll([[0, A], [1, B]])]
ASSIGN = {"t_ns": 0, "proc": "c", "type": "ok", "f": "assign", "ops": []}

CASES = [
    ("lost-write", BOTH + [poll([[0, A]])], [send("ok", A, 0), send("info", B), poll([[0, A]])]),
    ("duplicate", BOTH + [poll([[0, A], [1, B], [2, B]])], GOOD),
    ("inconsistent-offset", BOTH + [poll([[0, A], [1, B]]), poll([[1, A]], "c")], GOOD + [poll([[1, B]], "c")]),
    ("never-sent", GOOD + [poll([[2, C]], "c")], [send("info", C)] + GOOD + [poll([[2, C]], "c")]),
    ("failed-but-read", [send("fail", C)] + GOOD + [poll([[2, C]], "c")], [send("fail", C)] + GOOD),
    ("out-of-order", [send("info", A), send("info", B), poll([[0, B], [1, A]])], GOOD),
    ("nonmonotonic-send", [send("ok", A, 1), send("ok", B, 0), poll([[0, B], [1, A]])], GOOD),
    ("lost-write", [send("ok", A, None), poll([])], [send("ok", A, None), poll([[0, A]])]),
    ("nonmonotonic-poll", GOOD + [poll([[1, B]], "c"), poll([[0, A]], "c")],
     GOOD + [poll([[1, B]], "c"), ASSIGN, poll([[0, A]], "c")]),
    ("poll-skip", GOOD + [send("ok", C, 2), poll([[2, C]]), poll([[0, A]], "c"), poll([[2, C]], "c")],
     GOOD + [send("ok", C, 5), poll([[5, C]]), poll([[1, B]], "c"), poll([[5, C]], "c")]),
    ("committed-went-back", [committed(5), committed(4)], [committed(5), committed(5)]),
    ("committed-went-back", [committed(5, floor=6)], [committed(6, floor=6)]),
]


def run():
    """Raises AssertionError where the checker is wrong; the number of cases."""
    for anomaly, bad, good in CASES:
        verdict = check(bad)
        assert anomaly in verdict["counts"], f"{anomaly} is not seen: {verdict}"
        verdict = check(good)
        assert not verdict["counts"], f"the twin of {anomaly} must pass: {verdict}"
    return len(CASES)
