"""Scenarios of outages: a majority down, and a leader that is stopped beyond its session and wakes up."""

import random
import threading
import time

from confluent_kafka import KafkaException

from chaos.cluster import Trouble, wait_for
from chaos.timing import Probe, balanced, led_by, writable_after

NOT_ENOUGH_REPLICAS = (19, 20)


def expect(what, condition):
    if not condition:
        raise Trouble(what)


def two_down(context):
    """Two of three brokers down, then two of three controllers: what must go on does, what must be refused is."""
    cluster = context.cluster()
    topic = context.topic("two-down")
    cluster.create_topic(topic, 3)
    probe = Probe(cluster.gateway_address(0), timeout=8)
    for partition in range(3):
        expect("a first record", probe.produce(topic, partition, b"a:0:0:")[0] == 0)
    figures = _two_brokers(context, cluster, topic, probe)
    return figures | _two_controllers(context, cluster, topic, probe)


def _two_brokers(context, cluster, topic, probe):
    context.say("kill -9 broker-1, broker-2")
    at = cluster.kill("broker", 1)
    cluster.kill("broker", 2)
    wait_for("broker 0 leads all", lambda: len(led_by(cluster, topic, 0)) == 3, 30)
    led = time.monotonic() - at
    refused = wait_for("acks=all is refused", lambda: [
        c for c in (probe.produce(topic, p, b"a:0:1:")[0] for p in range(3)) if c in NOT_ENOUGH_REPLICAS], 20)
    for partition in range(3):
        code, base = probe.produce(topic, partition, b"a:0:2:")
        expect(f"acks=all with one replica of three answered {code}", code in NOT_ENOUGH_REPLICAS)
        code, base = probe.produce(topic, partition, b"one:0:3:", acks=1)
        expect(f"acks=1 at a live leader answered {code} {base}", code == 0)
        code, high, records = probe.fetch(topic, partition, 0)
        expect(f"a read answered {code}, {high}, {len(records)} bytes", code == 0 and b"a:0:0:" in records)
    at = time.monotonic()
    cluster.restart("broker", 1)
    writable = max(writable_after(cluster, topic, range(3), at, 40))
    cluster.restart("broker", 2)
    healed = cluster.wait_in_sync(topic, 60)
    for partition in range(3):
        seen = wait_for("the acks=1 record", lambda p=partition: b"one:0:3:" in probe.fetch(topic, p, 0)[2], 10)
        expect("the acks=1 record is read after healing", seen)
    return {
        "brokers_led_by_last_s": round(led, 2), "acks_all_code": refused[0], "writable_after_second_s": round(writable, 2),
        "brokers_in_sync_after_s": round(healed, 2),
    }


def _two_controllers(context, cluster, topic, probe):
    context.say("kill -9 controller-1, controller-2")
    for n in (1, 2):
        cluster.kill("controller", n)
    end = time.monotonic() + 10
    writes = reads = 0
    while time.monotonic() < end:
        for partition in range(3):
            code, _ = probe.produce(topic, partition, b"b:0:0:")
            expect(f"produce without a controller majority answered {code}", code == 0)
            code, _, _ = probe.fetch(topic, partition, 0)
            expect(f"fetch without a controller majority answered {code}", code == 0)
            writes, reads = writes + 1, reads + 1
        time.sleep(0.05)
    at = time.monotonic()
    try:
        cluster.create_topic("chaos-without-majority", 1, seconds=6)
        raise Trouble("CreateTopics succeeds without a controller majority")
    except KafkaException as error:
        refusal = f"{error.args[0].name()}: {error.args[0].str()[:100]}"
    refused = time.monotonic() - at
    context.say(f"CreateTopics without a majority: {refusal}")
    at = time.monotonic()
    for n in (1, 2):
        cluster.restart("controller", n)
    wait_for("CreateTopics works again", lambda: cluster.create_topic("chaos-healed", 1, seconds=5) or True, 40)
    healed = time.monotonic() - at
    for partition in range(3):
        expect("produce after healing", probe.produce(topic, partition, b"c:0:0:")[0] == 0)
    cluster.wait_in_sync(topic)
    return {
        "writes_without_majority": writes, "reads_without_majority": reads, "create_topics_refusal": refusal,
        "refused_after_s": round(refused, 2), "controllers_healed_s": round(healed, 2),
    }


def pause(context, tries=10):
    """SIGSTOP of a leader beyond its session while a request waits in it; at SIGCONT it must ack and serve nothing stale."""
    cluster, rng = context.cluster(), random.Random(context.seed)
    topic = context.topic("pause")
    cluster.create_topic(topic, 3)
    seen = {"tries": 0, "produces_across": 0, "fetches_across": 0, "probes_after": 0, "stale_acks": 0, "stale_reads": 0}
    takeovers, acked = [], {p: {} for p in range(3)}
    for number in range(tries):
        balanced(cluster, topic)
        taken = _one_pause(context, cluster, topic, rng, seen, acked, number)
        takeovers.append(taken)
        context.say(f"try {number + 1}: new leader writable after {taken:.2f} s; {seen}")
    _all_read(cluster, topic, acked)
    if seen["stale_acks"] or seen["stale_reads"]:
        raise Trouble(f"stale answers: {seen}")
    return seen | {"takeover_s_max": round(max(takeovers), 2), "acked": sum(len(a) for a in acked.values())}


def _one_pause(context, cluster, topic, rng, seen, acked, number):
    broker = rng.randrange(3)
    partition = led_by(cluster, topic, broker)[0]
    answers, lock = [], threading.Lock()
    at = cluster.pause("broker", broker)
    resumed = [None]

    def ask(kind, n, gateway):
        """Sent while the leader sleeps; answered (if at all) when it wakes, or by the new leader."""
        client = Probe(cluster.gateway_address(gateway), timeout=25)
        value = f"try{number}:{kind}{gateway}:{n}:".encode()
        sent = time.monotonic()
        answer = client.fetch(topic, partition, 0) if kind == "fetch" else client.produce(
            topic, partition, value, acks=1 if kind == "one" else -1, timeout_ms=20000)
        with lock:
            answers.append((kind, value, answer, sent, time.monotonic()))
        client.close()

    threads = [threading.Thread(target=ask, args=(kind, 0, g), daemon=True) for kind in ("one", "all", "fetch") for g in (0, 1)]
    for thread in threads:
        thread.start()
    taken = max(writable_after(cluster, topic, [partition], at, 30))
    fence = _fence(cluster, topic, partition, acked, number)
    stay = max(0.0, 6.5 - (time.monotonic() - at)) + rng.uniform(0, 1.5)
    time.sleep(stay)
    resumed[0] = cluster.resume("broker", broker)
    for n in range(1, 9):
        for kind in ("one", "fetch"):
            ask(kind, n, n % 2)
            seen["probes_after"] += 1
    for thread in threads:
        thread.join(40)
    _judge_answers(cluster, topic, partition, answers, acked, seen, fence, resumed[0])
    seen["tries"] += 1
    cluster.wait_in_sync(topic)
    return taken


def _fence(cluster, topic, partition, acked, number):
    """Writes a record with acks=all at the new leader; the offset that every later read must include."""
    client, value = Probe(cluster.gateway_address(1)), f"try{number}:fence:0:".encode()

    def write():
        code, base = client.produce(topic, partition, value)
        return [base] if code == 0 else None

    base = wait_for("a record of the new leader", write, 20)[0]
    acked[partition][value] = base
    client.close()
    return base


def _judge_answers(cluster, topic, partition, answers, acked, seen, fence, resumed):
    """A produce that was acknowledged must be in the log at its offset in the end (checked by `_all_read`); a fetch that
    was asked after the fence must know of it."""
    for kind, value, answer, sent, done in answers:
        if kind == "fetch":
            seen["fetches_across"] += done > resumed > sent
            if answer[0] == 0 and sent >= resumed and answer[1] <= fence:
                seen["stale_reads"] += 1
        else:
            seen["produces_across"] += done > resumed > sent
            if answer[0] == 0:
                acked[partition][value] = answer[1]
    end = Probe(cluster.gateway_address(0))
    for value, base in acked[partition].items():
        records = wait_for("a read of an acked record", lambda b=base: end.fetch(topic, partition, b)[2] or None, 20)
        if value not in records:
            seen["stale_acks"] += 1
    end.close()


def _all_read(cluster, topic, acked):
    """Every acknowledged value is read at the end, at its offset."""
    client = Probe(cluster.gateway_address(1))
    for partition, values in acked.items():
        for value, base in values.items():
            _, _, records = client.fetch(topic, partition, base)
            if value not in records:
                raise Trouble(f"acknowledged {value} of partition {partition} is not at offset {base}")
    client.close()
