"""Named checks with deadlines: what every suite in Python is made of.

A suite marks functions with @check and ends with main(). Each check gets a fresh context, runs in a thread of its own
(several at once unless marked alone) and prints one line; the last line is `N passed, N failed, N skipped`.
"""

import argparse
import os
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

CHECKS = []


class Skip(Exception):
    """Raised by a check that cannot say anything here, with the reason."""


class Check:
    def __init__(self, function, seconds, quick, alone):
        self.name = function.__name__
        self.function = function
        self.seconds = seconds
        self.quick = quick
        self.alone = alone


def check(seconds=60, quick=False, alone=False):
    """Registers a check: its deadline, whether --quick runs it, whether nothing else may run beside it."""

    def register(function):
        CHECKS.append(Check(function, seconds, quick, alone))
        return function

    return register


def expect(condition, text):
    if not condition:
        raise AssertionError(text)


def equal(actual, wanted, what):
    if actual != wanted:
        raise AssertionError(f"{what}: {_short(actual)}, wanted {_short(wanted)}")


def _short(value):
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:400]}… ({len(text)} characters)"


def wait_for(what, condition, seconds=20):
    """Polls until condition() is true and returns its value; fails with the last value seen after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}; last seen: {_short(value)}")
        time.sleep(0.05)


class Results:
    def __init__(self):
        self.counts = {"ok": 0, "FAIL": 0, "skip": 0}
        self.lock = threading.Lock()

    def add(self, verdict, name, seconds, text=""):
        with self.lock:
            self.counts[verdict] += 1
            detail = f": {text}" if text else ""
            print(f"  {verdict:<4}  {name} ({seconds:.1f} s){detail}", flush=True)

    def closing_line(self):
        return f"{self.counts['ok']} passed, {self.counts['FAIL']} failed, {self.counts['skip']} skipped"


def _where(error):
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.endswith("checks.py")]
    frames = [f for f in frames if os.path.dirname(__file__) in os.path.abspath(f.filename)]
    return f" [{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}]" if frames else ""


def _run(one, make_context, results):
    outcome = []

    def body():
        context = None
        try:
            context = make_context(one.name)
            one.function(context)
            outcome.append(("ok", ""))
        except Skip as reason:
            outcome.append(("skip", str(reason)))
        except BaseException as error:  # noqa: B902 a failed check, whatever it raised
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            outcome.append(("FAIL", f"{kind}{error}{_where(error)}"))
        finally:
            if hasattr(context, "close"):
                try:
                    context.close()
                except Exception as error:  # noqa: B902
                    print(f"  (cleaning up after {one.name}: {error})", file=sys.stderr)

    started = time.monotonic()
    thread = threading.Thread(target=body, daemon=True, name=one.name)
    thread.start()
    limit = started + one.seconds
    while thread.is_alive() and not outcome and time.monotonic() < limit:
        thread.join(0.1)
    thread.join(10 if outcome else 0)
    took = time.monotonic() - started
    if outcome:
        results.add(outcome[0][0], one.name, took, outcome[0][1])
        return
    frame = sys._current_frames().get(thread.ident)
    stack = traceback.extract_stack(frame) if frame else []
    at = [f"{os.path.basename(f.filename)}:{f.lineno}" for f in stack if os.path.dirname(__file__) in f.filename]
    results.add("FAIL", one.name, took, f"not done after {one.seconds} s, at {' < '.join(reversed(at[-4:]))}")


def main(make_context, description, jobs=4):
    """Runs the suite: make_context(bootstrap, check_name) is what each check gets; exits 1 if one failed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("bootstrap", nargs="?", default="127.0.0.1:9092")
    parser.add_argument("--quick", action="store_true", help="only the checks marked quick")
    parser.add_argument("--only", help="only these checks, comma-separated; a name may be a prefix")
    parser.add_argument("--jobs", type=int, default=jobs, help="how many checks run at once")
    parser.add_argument("--list", action="store_true", help="name the checks and end")
    args = parser.parse_args()
    chosen = [c for c in CHECKS if c.quick or not args.quick]
    if args.only:
        chosen = [c for c in CHECKS if c.name.startswith(tuple(args.only.split(",")))]
    if args.list:
        print("\n".join(c.name for c in chosen))
        return
    results = Results()

    def context(name):
        return make_context(args.bootstrap, name)

    with ThreadPoolExecutor(args.jobs) as pool:
        for future in [pool.submit(_run, one, context, results) for one in chosen if not one.alone]:
            future.result()
    for one in chosen:
        if one.alone:
            _run(one, context, results)
    print(results.closing_line(), flush=True)
    sys.stderr.flush()
    # A check past its deadline may still hold a client: end without waiting for it.
    os._exit(1 if results.counts["FAIL"] or not chosen else 0)
