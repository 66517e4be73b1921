"""A cluster of real processes, driven by scripts/cluster: kill, stop, pause, restart, and what it says of itself."""

import collections
import json
import logging
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "cluster"
ROLES = {"controller": 3, "broker": 3, "gateway": 2}
ADMIN_OFFSET = {"controller": 50, "broker": 60, "gateway": 80}

sys.path.insert(0, str(ROOT / "tests" / "compat" / "python"))


class Trouble(Exception):
    """A deadline passed or a promise did not hold."""


def wait_for(what, condition, seconds, every=0.1):
    """The first true answer of `condition`; Trouble after `seconds`. Its exceptions count as 'not yet'."""
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            answer = condition()
            if answer:
                return answer
        except Trouble:
            raise
        except Exception as error:  # noqa: BLE001 a server that is down answers with whatever
            last = error
        time.sleep(every)
    raise Trouble(f"not reached in {seconds} s: {what}" + (f" (last error: {last})" if last else ""))


class Cluster:
    """Three controllers, three brokers and two gateways in one directory."""

    def __init__(self, directory, binary, base_port, settings=(), wrapper=None):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.base_port = base_port
        self.settings = list(settings)
        self.binary = self.dir / "strom"
        if not self.binary.exists():
            shutil.copy2(binary, self.binary)
        self.environment = dict(os.environ, STROM_BIN=str(wrapper(self) if wrapper else self.binary))
        self.bootstrap = ""
        self._admin = None
        self._readers = {}

    def script(self, *arguments, seconds=90):
        """Runs scripts/cluster; its standard output, or Trouble with the end of what it said."""
        command = [str(SCRIPT), *map(str, arguments), "--dir", str(self.dir)]
        if arguments[0] == "up":
            command += ["--base-port", str(self.base_port)]
            command += ["--", *self.settings] if self.settings else []
        done = subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds, check=False,
        )
        if done.returncode:
            raise Trouble(f"{' '.join(map(str, arguments))}: {done.stderr.strip()[-600:]}")
        return done.stdout

    def up(self):
        for n in range(ROLES["gateway"]):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.base_port + 100 * n)) == 0:
                    raise Trouble(f"port {self.base_port + 100 * n} is taken: another cluster runs there")
        self.bootstrap = self.script("up").strip().splitlines()[-1]
        return self.bootstrap

    def down(self):
        self.script("down", seconds=120)

    def destroy(self):
        """Kills whatever still runs of this cluster."""
        for pid in self.pids().values():
            for sign in (signal.SIGCONT, signal.SIGKILL):
                try:
                    os.kill(pid, sign)
                except ProcessLookupError:
                    pass
        for pid in self.pids().values():
            deadline = time.monotonic() + 10
            while pathlib.Path(f"/proc/{pid}/fd").exists() and self._alive(pid) and time.monotonic() < deadline:
                time.sleep(0.02)

    @staticmethod
    def _alive(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
        except OSError:
            return False

    def pids(self):
        path = self.dir / "pids"
        lines = path.read_text().split("\n") if path.exists() else []
        return {name: int(pid) for name, pid in (line.split() for line in lines if line)}

    def signal(self, role, n, sign):
        """Sends a signal at once; the monotonic time just before it."""
        pid = self.pids()[f"{role}-{n}"]
        at = time.monotonic()
        os.kill(pid, sign)
        return at

    def kill(self, role, n):
        """kill -9; the monotonic time of the signal."""
        at = self.signal(role, n, signal.SIGKILL)
        self.script("kill", role, n)
        return at

    def stop(self, role, n):
        self.script("stop", role, n)

    def pause(self, role, n):
        return self.signal(role, n, signal.SIGSTOP)

    def resume(self, role, n):
        return self.signal(role, n, signal.SIGCONT)

    def restart(self, role, n):
        self.script("restart", role, n)

    def gateway_address(self, n):
        return f"127.0.0.1:{self.base_port + 100 * n}"

    @property
    def admin(self):
        if self._admin is None:
            self._admin = AdminClient({
                "bootstrap.servers": self.bootstrap, "socket.timeout.ms": 10000, "logger": quiet(),
                "reconnect.backoff.max.ms": 500,
            })
        return self._admin

    def create_topic(self, name, partitions=6, factor=3, config=None, seconds=20):
        config = {"min.insync.replicas": "2", **(config or {})}
        topic = NewTopic(name, partitions, factor, config=config)
        made = self.admin.create_topics([topic], operation_timeout=seconds, request_timeout=seconds)
        made[name].result(seconds + 5)
        wait_for(f"leaders of {name}", lambda: all(p.leader >= 0 for p in self.partitions(name).values()), 20)

    def partitions(self, topic):
        """{partition: its metadata (leader, replicas, isrs)}"""
        found = self.admin.list_topics(topic, timeout=5).topics[topic]
        if found.error:
            raise RuntimeError(str(found.error))
        return found.partitions

    def wait_in_sync(self, topic, seconds=60):
        """Waits until each partition has all replicas in sync; seconds taken."""
        start = time.monotonic()

        def full():
            parts = self.partitions(topic).values()
            return parts and all(len(p.isrs) == len(p.replicas) and p.leader >= 0 for p in parts)

        wait_for(f"all replicas of {topic} in sync", full, seconds, every=0.05)
        return time.monotonic() - start

    def committed(self, group, topic, count):
        """{partition: committed offset} of a group, by a consumer that does not join it. (The admin client's call for
        this ends librdkafka 2.16 by an assertion, `eonce->refcnt > 0`, when the coordinator's connection breaks.)"""
        reader = self._readers.get(group)
        if reader is None:
            reader = self._readers[group] = Consumer({
                "bootstrap.servers": self.bootstrap, "group.id": group, "enable.auto.commit": False,
                "logger": quiet(), "reconnect.backoff.max.ms": 500,
            })
        found = reader.committed([TopicPartition(topic, p) for p in range(count)], timeout=5)
        if any(p.error for p in found):
            raise RuntimeError("offsets of the group with errors")
        return {p.partition: p.offset for p in found if p.offset >= 0}

    def controller_leader(self, seconds=5):
        """Number of the controller that leads the quorum, as `strom quorum status` says it."""
        done = subprocess.run(
            [str(self.binary), "quorum", "status", "-b", self.bootstrap, "-o", "json", "--timeout", f"{seconds}s"],
            capture_output=True, text=True, timeout=seconds + 5, check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-300:])
        return leader_of(json.loads(done.stdout)) - 9000

    def status(self, role, n):
        """Text of a process's /status and /readyz for reports of failure."""
        port = self.base_port + ADMIN_OFFSET[role] + n
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=2) as reply:
            return reply.read().decode()

    def panics(self):
        """Lines of the logs that no fault excuses."""
        found = []
        for log in sorted((self.dir / "logs").glob("*.log")):
            for line in log.read_text(errors="replace").splitlines():
                if "panicked at" in line or "RUST_BACKTRACE" in line:
                    found.append(f"{log.name}: {line[:300]}")
        return found


def leader_of(status):
    """The leader's node id in the JSON of `strom quorum status`."""
    for key in ("leader", "leader_id", "leaderId"):
        if key in status:
            return int(status[key])
    raise RuntimeError(f"no leader in {status}")


class Kept(logging.Handler):
    """The last lines that clients logged, for reports of failure."""

    def __init__(self, lines=4000):
        super().__init__()
        self.lines = collections.deque(maxlen=lines)

    def emit(self, record):
        self.lines.append(f"{time.strftime('%H:%M:%S')} {record.getMessage()}")


KEPT = Kept()


def quiet():
    """A logger for clients whose connections break on purpose: it keeps the last lines to itself."""
    logger = logging.getLogger("chaos.client")
    if KEPT not in logger.handlers:
        logger.addHandler(KEPT)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
    return logger
