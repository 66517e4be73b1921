"""Servers that the runner and the crash suite start, kill and start again: standalone, as separate processes, or any
other program given as a command (Kafka itself, say)."""

import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
READY_SECONDS = 60
_taken = set()


def free_base_port(span=300):
    """A port with those after it free that scripts/cluster uses, below the ephemeral range; another one at each call."""
    for base in range(20000 + os.getpid() % 37 * 100, 32000, span):
        if base not in _taken and all(_is_free(base + offset) for offset in (*range(5), *range(50, 100), *range(100, 105))):
            _taken.add(base)
            return base
    raise RuntimeError("no free ports between 20000 and 32000")


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def find_binary(quick):
    """The strom binary: $STROM_BIN, else built now (a debug build for the quick run, as `cargo test` makes)."""
    if os.environ.get("STROM_BIN"):
        return os.environ["STROM_BIN"]
    profile = [] if quick else ["--release"]
    print(f"compat: building strom ({'debug' if quick else 'release'})", flush=True)
    subprocess.run(["cargo", "build", "--locked", "--quiet", "--bin", "strom", *profile], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return str((ROOT / target / ("debug" if quick else "release") / "strom").resolve())


def wait_ready(bootstrap, alive, log, seconds=READY_SECONDS):
    """Waits until the server answers Metadata with at least one broker."""
    import wire

    deadline = time.monotonic() + seconds
    while True:
        try:
            with wire.Connection(bootstrap, 5) as connection:
                reply = connection.request(wire.METADATA, 1, wire.array([]))
                if reply.i32() > 0:
                    return
        except (OSError, EOFError, wire.Closed):
            pass
        if not alive():
            raise RuntimeError(f"the server has ended; its log is {log}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"the server is not ready after {seconds} s; its log is {log}:\n{tail(log)}")
        time.sleep(0.05)


def tail(log, lines=15):
    try:
        return "\n".join(line[:400] for line in pathlib.Path(log).read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return str(error)


FAULTS = re.compile(r"panicked at|cannot be encoded|internal error: entered unreachable")


def faults(logs):
    """Lines of the logs that tell of a fault of the server itself, whatever the clients made of it."""
    found = []
    for log in logs:
        for line in pathlib.Path(log).read_text(errors="replace").splitlines():
            if FAULTS.search(line):
                found.append(f"{log}: {line[:400]}")
    return found


class Program:
    """One process that is the whole server, started by a command line."""

    def __init__(self, command, bootstrap, directory, name="server"):
        self.command = command if isinstance(command, list) else shlex.split(command)
        self.bootstrap = bootstrap
        self.name = name
        pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
        self.log = pathlib.Path(directory) / f"{name}.log"
        self.process = None

    def start(self, _name=None):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_ready(self.bootstrap, lambda: self.process.poll() is None, self.log)

    def names(self):
        return [self.name]

    def pids(self):
        return {self.name: self.process.pid}

    def logs(self):
        return [self.log]

    def dead(self):
        return [] if self.process.poll() is None else [self.name]

    def kill(self, _name=None):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Stops it cleanly; returns the seconds that took."""
        started = time.monotonic()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise RuntimeError(f"{self.name} did not stop within 30 s of SIGTERM") from None
        return time.monotonic() - started


class Standalone(Program):
    """`strom standalone`: three roles in one process."""

    def __init__(self, binary, directory):
        base = free_base_port()
        command = [binary, "standalone", "--data-dir", f"{directory}/data", "--kafka", f"127.0.0.1:{base}"]
        super().__init__(command + ["--admin", f"127.0.0.1:{base + 1}"], f"127.0.0.1:{base}", directory, "standalone")


class Cluster:
    """Controllers, brokers and gateways as separate processes, by scripts/cluster; one of each unless said otherwise."""

    def __init__(self, binary, directory, controllers=1, brokers=1, gateways=1):
        self.counts = {"controller": controllers, "broker": brokers, "gateway": gateways}
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.base = free_base_port()
        self.environment = os.environ | {"STROM_BIN": binary}
        self.bootstrap = f"127.0.0.1:{self.base}"

    def _script(self, *arguments, seconds=90):
        command = [str(ROOT / "scripts" / "cluster"), *arguments, "--dir", str(self.directory)]
        with open(self.directory / "script.log", "ab") as log:
            done = subprocess.run(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                timeout=seconds, text=True, check=False,
            )
        if done.returncode:
            text = tail(self.directory / "script.log")
            raise RuntimeError(f"scripts/cluster {' '.join(arguments)} failed with {done.returncode}:\n{text}")
        return done.stdout

    def start(self, name=None):
        if name:
            role, number = name.rsplit("-", 1)
            self._script("restart", role, number)
        else:
            counts = sum(([f"--{role}s", str(count)] for role, count in self.counts.items()), [])
            out = self._script("up", "--base-port", str(self.base), *counts)
            self.bootstrap = out.strip().splitlines()[-1]
        wait_ready(self.bootstrap, lambda: not self.dead(), self.directory / "logs")

    def names(self):
        most = max(self.counts.values())
        return [f"{role}-{n}" for n in range(most) for role, count in self.counts.items() if n < count]

    def pids(self):
        lines = (self.directory / "pids").read_text().split("\n")
        return {name: int(pid) for name, pid in (line.split() for line in lines if line)}

    def logs(self):
        return sorted((self.directory / "logs").glob("*.log"))

    def dead(self):
        pids = self.pids()
        return [name for name in self.names() if name not in pids or not _lives(pids[name])]

    def kill(self, name):
        role, number = name.rsplit("-", 1)
        self._script("kill", role, number)

    def stop(self):
        started = time.monotonic()
        if (self.directory / "pids").exists():
            self._script("down")
        return time.monotonic() - started


FORMS = {
    "standalone": Standalone,
    "cluster": Cluster,
    "cluster3": lambda binary, directory: Cluster(binary, directory, 3, 3, 2),
}


def _lives(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
