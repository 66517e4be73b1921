"""How long clients wait after each fault: measured by a raw client with one request at a time, p50 and p99."""

import random
import signal
import threading
import time

from chaos.cluster import Trouble, wait_for
from chaos.history import History
from chaos.load import Load
from chaos.scenarios import judge


def spread(values):
    """p50, p99 (nearest rank) and the greatest of a list of seconds, in milliseconds."""
    if not values:
        return {"n": 0}
    ordered = sorted(values)

    def rank(q):
        return round(1000 * ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * q // 100) - 1))])

    return {"n": len(ordered), "p50_ms": rank(50), "p99_ms": rank(99), "max_ms": round(1000 * ordered[-1])}


class Probe:
    """A raw client of one gateway that connects anew when its connection breaks."""

    def __init__(self, address, timeout=2.0):
        self.address, self.timeout, self._connection = address, timeout, None

    def produce(self, topic, partition, value, acks=-1, timeout_ms=1500):
        """(error code, base offset), or (None, reason) where the connection broke or nothing came."""
        import wire

        try:
            if self._connection is None:
                self._connection = wire.Connection(self.address, self.timeout)
            return wire.produce(
                self._connection, topic, wire.batch([value]), partition, acks=acks, timeout_ms=timeout_ms
            )
        except (wire.Closed, OSError, EOFError, AssertionError) as error:
            self.close()
            return None, type(error).__name__

    def fetch(self, topic, partition, offset, max_wait_ms=100):
        """(error code, high watermark, records) of one fetch, or (None, reason, b"")."""
        import wire

        try:
            if self._connection is None:
                self._connection = wire.Connection(self.address, self.timeout)
            body = wire.fetch_body(topic, [(partition, offset)], max_wait_ms=max_wait_ms)
            answer = wire.fetch_reply(self._connection.request(wire.FETCH, 7, body))
            _, _, code, high, records = answer[2][0]
            return code, high, records
        except (wire.Closed, OSError, EOFError, AssertionError, IndexError) as error:
            self.close()
            return None, type(error).__name__, b""

    def close(self):
        if self._connection is not None:
            self._connection.socket.close()
            self._connection = None


def writable_after(cluster, topic, partitions, start, seconds=30, gateway=0):
    """Seconds from `start` until each of `partitions` has taken an acks=all record, one thread per partition."""
    taken, threads = {}, []

    def probe(partition):
        client = Probe(cluster.gateway_address(gateway), timeout=0.3)
        while time.monotonic() - start < seconds:
            code, _ = client.produce(topic, partition, b"probe:0:0:")
            if code == 0:
                taken[partition] = time.monotonic() - start
                break
            time.sleep(0.01)
        client.close()

    for partition in partitions:
        threads.append(threading.Thread(target=probe, args=(partition,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(seconds + 5)
    missing = sorted(set(partitions) - set(taken))
    if missing:
        raise Trouble(f"partitions {missing} of {topic} take no write in {seconds} s")
    return list(taken.values())


def led_by(cluster, topic, broker):
    return [n for n, p in cluster.partitions(topic).items() if p.leader == broker]


def balanced(cluster, topic, seconds=40):
    """Waits until each broker leads something of the topic; asks for the preferred leaders meanwhile."""
    from confluent_kafka import ElectionType

    cluster.wait_in_sync(topic)

    def spread_out():
        parts = cluster.partitions(topic).values()
        if len({p.leader for p in parts}) == 3:
            return True
        cluster.admin.elect_leaders(ElectionType.PREFERRED).result(5)
        return False

    wait_for("a leader on each broker", spread_out, seconds, every=0.2)


def broker_kills(context, cluster, topic, count):
    """kill -9 of a broker: its partitions writable again; its restart until it is back in each ISR."""
    rng, writable, followers, back = random.Random(context.seed), [], [], []
    for number in range(count):
        balanced(cluster, topic)
        broker = rng.randrange(3)
        led = led_by(cluster, topic, broker)
        others = [p for p in range(6) if p not in led]
        at = cluster.signal("broker", broker, signal.SIGKILL)
        writable.append(max(writable_after(cluster, topic, led, at)))
        followers.append(max(writable_after(cluster, topic, others, at)))
        cluster.script("kill", "broker", broker)
        wait_for("the dead broker out of the ISR", lambda: all(
            broker not in p.isrs for p in cluster.partitions(topic).values()), 20, every=0.05)
        start = time.monotonic()
        cluster.restart("broker", broker)
        cluster.wait_in_sync(topic)
        back.append(time.monotonic() - start)
        context.say(f"broker kill {number + 1}: writable after {writable[-1]:.2f} s, in the ISR {back[-1]:.2f} s after start")
    return {
        "broker_kill_writable": spread(writable), "broker_kill_other_partitions": spread(followers),
        "broker_restart_to_isr": spread(back),
    }


def broker_pauses(context, cluster, topic, count):
    """SIGSTOP of a broker: only its session tells."""
    rng, writable = random.Random(context.seed + 1), []
    for number in range(count):
        balanced(cluster, topic)
        broker = rng.randrange(3)
        led = led_by(cluster, topic, broker)
        at = cluster.pause("broker", broker)
        try:
            writable.append(max(writable_after(cluster, topic, led, at)))
        finally:
            cluster.resume("broker", broker)
        context.say(f"broker pause {number + 1}: writable after {writable[-1]:.2f} s")
    return {"broker_pause_writable": spread(writable)}


def controller_kills(context, cluster, topic, count):
    """kill -9 of the leading controller under load: the next leader, and no failed produce."""
    history, elected = History(), []
    load = Load(cluster, history, topic, context.run_id, consumers=0).start()
    load.wait_acked(100)
    for number in range(count):
        leader = wait_for("a leading controller", lambda: [cluster.controller_leader()], 20)[0]
        at = cluster.kill("controller", leader)

        def another(old=leader):
            now = cluster.controller_leader(2)
            return [now] if now != old else None

        wait_for("another leading controller", another, 20, every=0.02)
        elected.append(time.monotonic() - at)
        context.say(f"controller leader kill {number + 1}: another leads after {elected[-1]:.2f} s")
        load.wait_acked(30)
        cluster.restart("controller", leader)
    load.finish()
    judge(context, cluster, load, history, "timing-controllers")
    if load.errors:
        raise Trouble(f"errors at a controller's kill: {dict(load.errors)}")
    return {
        "controller_leader_kill_elected": spread(elected), "controller_kill_failed_produces": len(load.delivery_errors),
        "controller_kill_longest_ack_gap_ms": round(1000 * load.longest_gap()),
    }


def gateway_kills(context, cluster, topic, count):
    """kill -9 of a gateway under load: the longest time without an ack until clients are back through the other."""
    history, gaps = History(), []
    load = Load(cluster, history, topic, f"{context.run_id}g", producers=1, consumers=0, rate=200).start()
    load.wait_acked(100)
    for number in range(count):
        gateway = number % 2
        before = len(load.ack_times)
        at = cluster.kill("gateway", gateway)
        load.wait_acked(200, 60)
        times = [at, *load.ack_times[before:]]
        gaps.append(max(b - a for a, b in zip(times, times[1:])))
        cluster.restart("gateway", gateway)
        load.wait_acked(50)
        context.say(f"gateway kill {number + 1}: longest gap {gaps[-1]:.2f} s")
    load.finish()
    judge(context, cluster, load, history, "timing-gateways")
    return {"gateway_kill_longest_ack_gap": spread(gaps)}


def starts(context, count):
    """A cluster's start with no data until a topic is made and a record of it is acknowledged at RF=3."""
    taken = []
    for number in range(count):
        # The client of the cluster before asks on for its topic at the same ports, which would create it here.
        topic = f"first-{number}"
        cluster = context.cluster(start=False)
        at = time.monotonic()
        cluster.up()
        cluster.create_topic(topic, 1)
        writable_after(cluster, topic, [0], at, 60)
        taken.append(time.monotonic() - at)
        cluster.destroy()
    return {"start_to_first_ack": spread(taken)}


def measure(context, kills=20):
    """Every figure in turn, each in fresh topics of one cluster."""
    figures = starts(context, 3)
    cluster = context.cluster()
    for name in ("brokers", "pauses", "controllers", "gateways"):
        cluster.create_topic(f"timing-{name}")
    figures |= gateway_kills(context, cluster, "timing-gateways", max(4, kills // 2))
    figures |= controller_kills(context, cluster, "timing-controllers", max(4, kills // 2))
    figures |= broker_kills(context, cluster, "timing-brokers", kills)
    figures |= broker_pauses(context, cluster, "timing-pauses", max(4, kills // 4))
    return figures
