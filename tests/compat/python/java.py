"""Where Kafka's own jars lie (tests/compat/java, built by tests/compat/run), and how its programs are run."""

import os
import pathlib
import signal
import subprocess

from checks import Skip, expect

TARGET = pathlib.Path(__file__).resolve().parent.parent / "java" / "target"
# Small heaps and the first compiler only: these programs live for seconds.
OPTIONS = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]


def command(main_class, *arguments):
    if not (TARGET / "libs").is_dir():
        raise Skip("Kafka's jars are not there; tests/compat/run fetches them where Java and Maven are")
    classpath = os.pathsep.join([str(TARGET / "classes"), str(TARGET / "libs" / "*")])
    return ["java", *OPTIONS, "-cp", classpath, main_class, *map(str, arguments)]


def run(main_class, *arguments, text="", seconds=60, good=True, merge=False):
    """Runs a program to its end; returns what it printed. good: it must exit with 0 (or, with None, as it likes)."""
    process = subprocess.Popen(
        command(main_class, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merge else subprocess.PIPE, text=True, start_new_session=True,
    )
    try:
        out, err = process.communicate(text, timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        name = main_class.rsplit(".", 1)[-1]
        raise AssertionError(f"{name} was not done after {seconds} s; it printed {(out + (err or ''))[-300:]}") from None
    if good is not None:
        shown = (out + (err or ""))[-500:].strip()
        expect((process.returncode == 0) == good, f"{main_class.rsplit('.', 1)[-1]} ended with {process.returncode}: {shown}")
    return out
