"""Kafka's own idempotent producer beside librdkafka's, if there is a JDK and tests/compat has fetched kafka-clients."""

import os
import pathlib
import shutil
import subprocess
import threading

ROOT = pathlib.Path(__file__).resolve().parents[3]
SOURCE = ROOT / "tests" / "chaos" / "java" / "IdempotentLoad.java"
LIBS = pathlib.Path(os.environ.get("CHAOS_KAFKA_LIBS", ROOT / "tests" / "compat" / "java" / "target" / "libs"))


def available():
    return shutil.which("javac") is not None and any(LIBS.glob("kafka-clients-*.jar"))


class JavaLoad:
    """One producer process as the proc "java"; its events go to the history of a `Load`, which counts them."""

    def __init__(self, load, rate=100):
        self.load, self.ended = load, False
        arguments = [load.cluster.bootstrap, load.topic, load.partitions, rate, f"{load.run}:java"]
        with open(load.cluster.dir / "logs" / "java-producer.log", "w") as log:
            self.process = subprocess.Popen(
                ["java", "-Xmx256m", "-cp", f"{LIBS}/*", str(SOURCE), *map(str, arguments)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            kind, *rest = line.split()
            if kind == "end":
                self.ended = rest == ["0"]
            elif kind in ("invoke", "ok", "info"):
                self._note(kind, f"{self.load.topic}-{rest[0]}", rest[1], rest[2:])

    def _note(self, kind, key, value, rest):
        offset = int(rest[0]) if kind == "ok" else None
        if kind == "info":
            self.load.delivery_errors.append(f"java {key}: {rest[0]}")
        self.load.java_acked += kind == "ok"
        # Of a retry that the leader knew already the Java client may not know the offset either.
        known = offset if offset is None or offset >= 0 else None
        self.load.history.add("java", kind, "send", [["send", key, value, known][: 3 if kind == "invoke" else 4]])

    def finish(self):
        """Ends the input and waits until everything sent is answered."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        try:
            self.process.wait(150)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.thread.join(10)
        if not self.ended:
            self.load.delivery_errors.append("java: the producer did not end in order")
