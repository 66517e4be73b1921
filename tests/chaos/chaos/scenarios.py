"""Scenarios of crashes and restarts under load: each returns figures, and raises Trouble where a promise is broken."""

import collections
import os
import random
import signal
import threading
import time

from chaos import checker
from chaos.cluster import KEPT, ROLES, Trouble, quiet, wait_for
from chaos.history import History
from chaos.load import Bumps, Load, read_all

NODES = [(role, n) for role, count in ROLES.items() for n in range(count)]


def judge(context, cluster, load, history, name):
    """Reads everything back and checks the history; its verdict. A history that fails is kept."""
    read_all(cluster, history, load.topic, load.partitions)
    verdict = checker.check(history.events)
    path = context.out / f"{name}-{context.seed}.history.jsonl"
    panics = cluster.panics()
    faults = [f"{what}: {count}, as {verdict['anomalies'][what][:3]}" for what, count in verdict["counts"].items()]
    faults += [f"fatal: {error}" for error in load.fatal] + [f"panic: {line}" for line in panics[:3]]
    if load.delivery_errors:
        faults.append(f"{len(load.delivery_errors)} delivery errors, as {load.delivery_errors[:3]}")
    if faults:
        history.write(path)
        path.with_suffix(".clients.log").write_text("\n".join(KEPT.lines))
        raise Trouble(f"{'; '.join(faults)}; history: {path}")
    return {"acked": verdict["acked"], "read": verdict["read"], "unknown": verdict["unknown"]}


class MinIsr:
    """Polls metadata and counts how often a partition stood below its min.insync.replicas."""

    def __init__(self, cluster, topic, minimum=2):
        self.cluster, self.topic, self.minimum = cluster, topic, minimum
        self.below, self.polls, self.leaderless = [], 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self):
        while not self._stop.wait(0.1):
            try:
                parts = self.cluster.partitions(self.topic)
            except Exception:  # noqa: BLE001 a gateway that restarts
                continue
            self.polls += 1
            self.leaderless += any(p.leader < 0 for p in parts.values())
            self.below += [[n, sorted(p.isrs)] for n, p in parts.items() if len(p.isrs) < self.minimum]

    def finish(self):
        self._stop.set()
        self._thread.join(10)
        return self


def kill(context, minutes=10.0, quick=False):
    """kill -9 of any one process and its restart, in turn and then at random, under load."""
    cluster, rng, history = context.cluster(), random.Random(context.seed), History()
    topic = context.topic("kill")
    cluster.create_topic(topic)
    load = Load(cluster, history, topic, context.run_id).start(java=not quick)
    load.wait_acked(200)
    if quick:
        plan = [(role, rng.randrange(count)) for role, count in ROLES.items()]
        end = None
    else:
        plan, end = list(NODES), time.monotonic() + minutes * 60
    kills, isr_times = collections.Counter(), []
    while plan or (end and time.monotonic() < end):
        role, n = plan.pop(0) if plan else rng.choice(NODES)
        context.say(f"kill -9 {role}-{n}")
        cluster.kill(role, n)
        load.wait_acked(30, 60)
        time.sleep(rng.uniform(0, 1.0 if quick else 5.0))
        cluster.restart(role, n)
        kills[role] += 1
        taken = cluster.wait_in_sync(topic)
        if role == "broker":
            isr_times.append(round(taken, 2))
        load.wait_acked(30, 60)
    load.finish()
    figures = judge(context, cluster, load, history, "kill")
    return {
        **figures, "java_acked": load.java_acked, "kills": dict(kills), "isr_return_s_max": max(isr_times, default=0),
        "longest_gap_s": round(load.longest_gap(), 2), "errors": dict(load.errors), "notices": dict(load.notices),
    }


def failover(context, minutes=2.0):
    """kill -9 of one broker after the other, as fast as they are in sync again, under producers with batches in flight: none
    is told what makes it begin new sequences, for then what was written and not acknowledged would be written again."""
    cluster, rng, history, bumps = context.cluster(), random.Random(context.seed), History(), Bumps()
    topic = context.topic("failover")
    cluster.create_topic(topic)
    quiet().addHandler(bumps)
    load = Load(cluster, history, topic, context.run_id, rate=300, consumers=0, more={"debug": "eos"}).start(java=True)
    load.wait_acked(200)
    end, kills = time.monotonic() + minutes * 60, 0
    while time.monotonic() < end:
        broker = rng.randrange(ROLES["broker"])
        cluster.kill("broker", broker)
        kills += 1
        load.wait_acked(30, 60)
        time.sleep(rng.uniform(0, 1.0))
        cluster.restart("broker", broker)
        cluster.wait_in_sync(topic)
        load.wait_acked(30, 60)
    load.finish()
    quiet().removeHandler(bumps)
    figures = judge(context, cluster, load, history, "failover")
    if bumps.reasons:
        raise Trouble(f"producers raised their epoch {len(bumps.reasons)} times: {bumps.reasons[:2]}")
    return {**figures, "java_acked": load.java_acked, "kills": kills, "epoch_bumps": 0, "longest_gap_s": round(load.longest_gap(), 2)}


def rolling(context, quick=False):
    """SIGTERM and restart of all eight processes, one after the other, under load: clients see nothing."""
    del quick
    cluster, history = context.cluster(), History()
    topic = context.topic("rolling")
    cluster.create_topic(topic)
    load = Load(cluster, history, topic, context.run_id).start()
    load.wait_acked(200)
    time.sleep(3)  # the group forms before the first stop
    watch = MinIsr(cluster, topic)
    stops, started = {}, time.monotonic()
    for role, n in NODES:
        context.say(f"SIGTERM and restart {role}-{n}")
        at = time.monotonic()
        cluster.stop(role, n)
        stops[f"{role}-{n}"] = round(time.monotonic() - at, 2)
        cluster.restart(role, n)
        cluster.wait_in_sync(topic)
        load.wait_acked(30)
    taken = time.monotonic() - started
    load.finish()
    watch.finish()
    figures = judge(context, cluster, load, history, "rolling")
    if load.errors:
        raise Trouble(f"clients saw errors: {dict(load.errors)}")
    if watch.below:
        raise Trouble(f"{len(watch.below)} sights of a partition under min ISR of {watch.polls} polls: {watch.below[:4]}")
    latencies = sorted(load.latencies)
    return {
        **figures, "seconds": round(taken, 1), "stop_s_max": max(stops.values()), "metadata_polls": watch.polls,
        "leaderless_polls": watch.leaderless, "longest_gap_s": round(load.longest_gap(), 3),
        "ack_ms_p50": round(1000 * latencies[len(latencies) // 2], 1),
        "ack_ms_p99": round(1000 * latencies[len(latencies) * 99 // 100], 1),
        "ack_ms_max": round(1000 * latencies[-1], 1), "notices": dict(load.notices),
    }


def power(context, rounds=10, quick=False):
    """kill -9 of all processes at once, what was not fsynced is cut off or turned to garbage, all start again."""
    from chaos import power_cut

    rounds = 1 if quick else rounds
    cluster, rng, history = context.cluster(wrapper=power_cut.wrapper), random.Random(context.seed), History()
    topic = context.topic("power")
    cluster.create_topic(topic)
    cut = collections.Counter()
    for number in range(rounds):
        load = Load(cluster, history, topic, f"{context.run_id}{number}", rate=200, consumers=0, size=1000).start()
        load.wait_acked(rng.randrange(200, 900), 120)
        for pid in cluster.pids().values():
            os.kill(pid, signal.SIGKILL)
        load.stopping.set()
        for role, n in NODES:
            cluster.script("kill", role, n)
        done = power_cut.cut(cluster, rng)
        cut.update(done)
        context.say(f"round {number + 1}: {load.acked} acked; {done}")
        at = time.monotonic()
        cluster.up()
        wait_for("leaders", lambda: all(p.leader >= 0 for p in cluster.partitions(topic).values()), 60)
        context.say(f"round {number + 1}: up and led after {time.monotonic() - at:.1f} s")
        load.finish()
        cluster.wait_in_sync(topic)
        figures = judge(context, cluster, load, history, "power")
        history.events = [e for e in history.events if e["proc"] != "final"]
    return {**figures, "rounds": rounds, "cuts": dict(cut), "acked_lost": 0}
