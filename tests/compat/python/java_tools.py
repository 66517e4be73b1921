"""Kafka's own command-line tools: topics, configs, groups, offsets, log dirs, quorum, consoles, performance tests."""

import json
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import uuid

import java
import wire
from checks import Skip, check, equal, expect, main, wait_for

TOOLS = "org.apache.kafka.tools"
PRODUCER, CONSUMER = f"{TOOLS}.ConsoleProducer", f"{TOOLS}.consumer.ConsoleConsumer"
TOPICS, CONFIGS, GROUPS = f"{TOOLS}.TopicCommand", "kafka.admin.ConfigCommand", f"{TOOLS}.consumer.group.ConsumerGroupCommand"


class Tools:
    def __init__(self, bootstrap, check_name):
        java.command("")  # skips where the jars are missing
        self.bootstrap = bootstrap
        self.prefix = f"tools-{check_name.replace('_', '-')}-{uuid.uuid4().hex[:6]}"
        self.folder = tempfile.TemporaryDirectory(prefix="strom-tools-")

    def file(self, name, text):
        path = pathlib.Path(self.folder.name) / name
        path.write_text(text)
        return path

    def run(self, main_class, *arguments, **more):
        return java.run(main_class, "--bootstrap-server", self.bootstrap, *arguments, **more)

    def topic(self, suffix="topic", partitions=1, *more):
        name = f"{self.prefix}-{suffix}"
        out = self.run(TOPICS, "--create", "--topic", name, "--partitions", partitions, *more)
        expect(f"Created topic {name}" in out, f"kafka-topics printed {out!r}")
        return name

    def produce(self, topic, lines, *more):
        self.run(PRODUCER, "--topic", topic, *more, text="".join(f"{line}\n" for line in lines))

    def consume(self, topic, count, *more):
        out = self.run(CONSUMER, "--topic", topic, "--from-beginning", "--max-messages", count, "--timeout-ms", 30000, *more)
        return out.splitlines()

    def close(self):
        self.folder.cleanup()


@check(seconds=120)
def topics(tools):
    name = tools.topic("a", 3, "--config", "retention.ms=3600000")
    expect(name in tools.run(TOPICS, "--list").splitlines(), "not listed")
    out = tools.run(TOPICS, "--describe", "--topic", name)
    expect(re.search(rf"Topic: {name}\s+TopicId: \S{{22}}\s+PartitionCount: 3\s+ReplicationFactor: 1", out), out)
    expect("retention.ms=3600000" in out, f"no configs: {out}")
    equal(len(re.findall(r"Partition: \d+\s+Leader: \d+\s+Replicas: \d+\s+Isr: \d+", out)), 3, "partitions described")
    tools.run(TOPICS, "--alter", "--topic", name, "--partitions", 5)
    expect("PartitionCount: 5" in tools.run(TOPICS, "--describe", "--topic", name), "not altered")
    equal(tools.run(TOPICS, "--describe", "--under-replicated-partitions", "--topic", name).strip(), "", "under-replicated")
    equal(tools.run(TOPICS, "--describe", "--unavailable-partitions", "--topic", name).strip(), "", "unavailable")
    tools.run(TOPICS, "--create", "--topic", name, good=False)
    tools.run(TOPICS, "--create", "--topic", name, "--if-not-exists")
    tools.run(TOPICS, "--delete", "--topic", name)
    wait_for("the topic to be gone", lambda: name not in tools.run(TOPICS, "--list").splitlines(), 30)


@check(seconds=120)
def consoles(tools):
    name = tools.topic("lines", 1)
    lines = [f"line {i}" for i in range(500)]
    tools.produce(name, lines)
    equal(tools.consume(name, 500), lines, "lines")
    keyed = tools.topic("keyed", 1)
    tools.produce(
        keyed, ["h1:1,h2:2\tk1=v1", "h1:\tk2=v2"], "--reader-property", "parse.key=true", "--reader-property",
        "key.separator==", "--reader-property", "parse.headers=true", "--compression-codec", "zstd",
    )
    shown = tools.consume(
        keyed, 2, *sum((["--formatter-property", f"print.{what}=true"] for what in
                        ("key", "headers", "offset", "partition", "timestamp")), []),
    )
    for line, wanted in zip(shown, ("Partition:0\tOffset:0\th1:1,h2:2\tk1\tv1", "Partition:0\tOffset:1\th1:\tk2\tv2")):
        expect(line.startswith("CreateTime:") and line.endswith(wanted), f"shown: {line!r}")


@check(seconds=120)
def console_consumers_in_a_group(tools):
    name, group = tools.topic("grouped", 2), f"{tools.prefix}-group"
    tools.produce(name, [str(i) for i in range(100)])
    first = tools.consume(name, 60, "--group", group)
    rest = tools.consume(name, 40, "--group", group)
    equal(sorted(map(int, first + rest)), list(range(100)), "values read by two runs")
    from_end = tools.run(CONSUMER, "--topic", name, "--partition", 0, "--offset", "latest", "--timeout-ms", 3000, good=None)
    equal(from_end, "", "from the end")


def described(tools, group):
    """{(topic, partition): (offset, end, lag)} of kafka-consumer-groups --describe."""
    found = {}
    for line in tools.run(GROUPS, "--describe", "--group", group, merge=True).splitlines():
        parts = line.split()
        if len(parts) >= 6 and parts[0] == group:
            found[(parts[1], int(parts[2]))] = tuple(parts[3:6])
    return found


@check(seconds=300)
def consumer_groups(tools):
    name, group = tools.topic("topic", 2), f"{tools.prefix}-group"
    tools.produce(name, [str(i) for i in range(100)])
    tools.consume(name, 100, "--group", group)
    expect(group in tools.run(GROUPS, "--list").splitlines(), "not listed")
    expect(re.search(rf"{group}\s+Consumer\s+Classic\s+Empty|{group}\s+Classic\s+Consumer\s+Empty|{group}.*Empty",
                     tools.run(GROUPS, "--list", "--state", "--type")), "no state or type listed")
    found = described(tools, group)
    equal(sum(int(lag) for _, _, lag in found.values()), 0, "the lag described")
    equal(sum(int(end) for _, end, _ in found.values()), 100, "the ends described")

    def reset(*how):
        return tools.run(GROUPS, "--reset-offsets", "--group", group, "--topic", name, *how, "--execute")

    ends = [int(end) for _, end, _ in found.values()]  # the console producer fills one partition after the other
    for how, wanted in (
        (["--to-earliest"], 0), (["--to-latest"], 100), (["--shift-by", "-5"], sum(max(0, end - 5) for end in ends)),
        (["--to-offset", "7"], sum(min(7, end) for end in ends)), (["--to-datetime", "2020-01-01T00:00:00.000"], 0),
        (["--by-duration", "PT1H"], 0),
    ):
        reset(*how)
        equal(sum(int(o) for o, _, _ in described(tools, group).values()), wanted, f"offsets after {' '.join(how)}")
    state = tools.run(GROUPS, "--describe", "--group", group, "--state")
    expect(re.search(rf"{group}\s.*Empty\s+0", state), f"--state printed {state}")
    tools.run(GROUPS, "--delete-offsets", "--group", group, "--topic", f"{name}:0")
    equal(set(described(tools, group)), {(name, 1)}, "partitions after --delete-offsets")
    expect("was successful" in tools.run(GROUPS, "--delete", "--group", group), "not deleted")
    expect(group not in tools.run(GROUPS, "--list").splitlines(), "listed after its deletion")


@check(seconds=120)
def a_living_group(tools):
    name, group = tools.topic("topic", 2), f"{tools.prefix}-group"
    consumer = subprocess.Popen(
        java.command(CONSUMER, "--bootstrap-server", tools.bootstrap, "--topic", name, "--group", group),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    try:
        assignment = re.compile(rf"console-consumer.*{name}(:0,1|\(0,1\))")
        wait_for(
            "the member and its assignment to be described",
            lambda: assignment.search(
                tools.run(GROUPS, "--describe", "--group", group, "--members", "--verbose", good=None, merge=True)
            ),
            40,
        )
        out = tools.run(GROUPS, "--describe", "--group", group, "--state")
        expect("Stable" in out, f"--state printed {out}")
        out = tools.run(GROUPS, "--reset-offsets", "--group", group, "--topic", name, "--to-earliest", "--execute",
                        good=None, merge=True)
        expect("inactive" in out or "current state is Stable" in out, f"a reset under a living member printed {out}")
        out = tools.run(GROUPS, "--delete", "--group", group, good=None, merge=True)
        expect("not empty" in out or "GroupNotEmpty" in out, f"deleting it printed {out}")
    finally:
        consumer.send_signal(signal.SIGTERM)
        consumer.wait(20)
    wait_for("the group to be empty",
             lambda: "Empty" in tools.run(GROUPS, "--describe", "--group", group, "--state", good=None, merge=True), 30)


@check(seconds=180)
def configs(tools):
    name = tools.topic("topic", 1)
    tools.run(CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", name, "--add-config",
              "retention.ms=12345,cleanup.policy=[compact,delete]")
    out = tools.run(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", name)
    expect("retention.ms=12345" in out and "cleanup.policy=compact,delete" in out, f"--describe printed {out}")
    expect("DYNAMIC_TOPIC_CONFIG:retention.ms=12345" in out, f"no synonyms in {out}")
    tools.run(CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", name, "--delete-config", "retention.ms")
    out = tools.run(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", name, "--all")
    expect("retention.ms=604800000" in out and "DEFAULT_CONFIG" in out, f"--all printed {out[:600]}")
    tools.run(CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", name, "--add-config", "no.such=1", good=False)
    tools.run(CONFIGS, "--alter", "--entity-type", "brokers", "--entity-default", "--add-config",
              "log.cleaner.delete.retention.ms=77000000")
    out = tools.run(CONFIGS, "--describe", "--entity-type", "brokers", "--entity-default")
    expect("log.cleaner.delete.retention.ms=77000000" in out, f"the brokers' default: {out}")
    tools.run(CONFIGS, "--alter", "--entity-type", "brokers", "--entity-default", "--delete-config",
              "log.cleaner.delete.retention.ms")
    broker = re.search(r"Leader: (\d+)", tools.run(TOPICS, "--describe", "--topic", name)).group(1)
    out = tools.run(CONFIGS, "--describe", "--entity-type", "brokers", "--entity-name", broker, "--all")
    expect("log.retention.hours=168" in out, f"the broker's configs: {out[:600]}")


@check(seconds=180)
def offsets(tools):
    name = tools.topic("topic", 2)
    tools.produce(name, [str(i) for i in range(50)])

    def get(*more):
        out = tools.run(f"{TOOLS}.GetOffsetShell", "--topic", name, *more)
        return [int(line.rsplit(":", 1)[1] or -1) for line in out.splitlines() if line.startswith(name)]

    equal(sum(get()), 50, "the latest offsets")
    for spec, wanted in (("earliest", 0), ("-2", 0), ("latest", 50), ("-1", 50), ("earliest-local", 0), ("-4", 0)):
        equal(sum(get("--time", spec)), wanted, f"offsets at {spec}")
    newest = get("--time", "max-timestamp")
    expect(newest and all(0 <= o < 50 for o in newest), f"the newest are {newest}")
    equal(sum(get("--time", "0")), 0, "offsets at 0 ms")
    get("--time", "latest-tiered")
    equal(len(get("--partitions", "1")), 1, "one partition asked for")
    everything = tools.run(f"{TOOLS}.GetOffsetShell", "--time", "latest")
    expect(f"{name}:0:" in everything, "not among all topics")


@check(seconds=120)
def log_dirs(tools):
    name = tools.topic("topic", 1)
    tools.produce(name, ["x" * 1000] * 100)
    out = tools.run(f"{TOOLS}.LogDirsCommand", "--describe", "--topic-list", name)
    found = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    partitions = [p for b in found["brokers"] for d in b["logDirs"] for p in d["partitions"]]
    equal([p["partition"] for p in partitions], [f"{name}-0"], "partitions shown")
    expect(partitions[0]["size"] > 1000 and partitions[0]["offsetLag"] == 0, f"shown as {partitions[0]}")
    expect(all(d["error"] is None for b in found["brokers"] for d in b["logDirs"]), f"errors in {found}")


@check(seconds=120)
def api_versions(tools):
    out = tools.run(f"{TOOLS}.BrokerApiVersionsCommand")
    for name in ("Produce(0)", "Fetch(1)", "ApiVersions(18)", "DescribeTopicPartitions(75)"):
        expect(name in out, f"{name} is not shown")
    wanted = {"Produce(0)": "13", "Fetch(1)": "18", "Metadata(3)": "13", "JoinGroup(11)": "9", "OffsetCommit(8)": "10"}
    for name, newest in wanted.items():
        line = next(line for line in out.splitlines() if name in line)
        expect(f"to {newest} " in f"{line} ", f"{line.strip()} (wanted up to {newest})")


@check(seconds=120)
def quorum(tools):
    out = tools.run(f"{TOOLS}.MetadataQuorumCommand", "describe", "--status")
    for field in ("ClusterId:", "LeaderId:", "LeaderEpoch:", "HighWatermark:", "CurrentVoters:"):
        expect(field in out, f"no {field} in {out}")
    out = tools.run(f"{TOOLS}.MetadataQuorumCommand", "describe", "--replication")
    expect(re.search(r"\d+\s+.*Leader", out), f"--replication printed {out}")


@check(seconds=120)
def deleted_records(tools):
    name = tools.topic("topic", 1)
    tools.produce(name, [str(i) for i in range(20)])
    request = {"partitions": [{"topic": name, "partition": 0, "offset": 15}], "version": 1}
    out = tools.run(f"{TOOLS}.DeleteRecordsCommand", "--offset-json-file", tools.file("d.json", json.dumps(request)))
    expect("low_watermark: 15" in out, f"it printed {out}")
    equal(tools.consume(name, 5), [str(i) for i in range(15, 20)], "what is left")


@check(seconds=180)
def performance_tests(tools):
    name = tools.topic("topic", 3)
    out = java.run(f"{TOOLS}.ProducerPerformance", "--topic", name, "--num-records", 100000, "--record-size", 200,
                   "--throughput", -1, "--bootstrap-server", tools.bootstrap)
    expect(re.search(r"100000 records sent, .*99.9th", out.strip().splitlines()[-1]), f"it printed {out}")
    out = tools.run(f"{TOOLS}.ConsumerPerformance", "--topic", name, "--num-records", 100000, "--timeout", 30000)
    row = out.strip().splitlines()[-1].split(", ")
    equal(int(row[4]), 100000, f"records read ({out})")
    out = java.run(f"{TOOLS}.EndToEndLatency", "--bootstrap-server", tools.bootstrap, "--topic", name, "--num-records", 200,
                   "--producer-acks", "all", "--record-size", 100, good=None, merge=True)
    expect("Percentiles" in out, f"EndToEndLatency printed {out[-300:]}")


@check(seconds=120)
def leader_election(tools):
    if wire.ELECT_LEADERS not in wire.api_versions(tools.bootstrap):
        raise Skip("ElectLeaders is not served")
    name = tools.topic("topic", 2)
    out = tools.run(f"{TOOLS}.LeaderElectionCommand", "--election-type", "preferred", "--topic", name, "--partition", 0)
    expect("already elected" in out or "completed" in out, f"it printed {out}")
    tools.run(f"{TOOLS}.LeaderElectionCommand", "--election-type", "preferred", "--all-topic-partitions")


@check(seconds=180)
def verifiable_clients(tools):
    name, group = tools.topic("topic", 3), f"{tools.prefix}-group"
    out = tools.run(f"{TOOLS}.VerifiableProducer", "--topic", name, "--max-messages", 5000, "--acks", -1)
    events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    acked = [e for e in events if e["name"] == "producer_send_success"]
    equal(len(acked), 5000, "records acknowledged")
    summary = next(e for e in events if e["name"] == "tool_data")
    equal((summary["sent"], summary["acked"]), (5000, 5000), "the summary")
    # Such a consumer, told to stop after so many, counts only whole batches; it is ended from here.
    consumer = subprocess.Popen(
        java.command(f"{TOOLS}.VerifiableConsumer", "--bootstrap-server", tools.bootstrap, "--topic", name,
                     "--group-id", group, "--reset-policy", "earliest"),
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )
    try:
        read, committed, deadline = 0, {}, time.monotonic() + 60
        while (read < 5000 or sum(committed.values()) < 5000) and time.monotonic() < deadline:
            event = json.loads(consumer.stdout.readline())
            if event["name"] == "records_consumed":
                read += event["count"]
            if event["name"] == "offsets_committed":
                expect(event["success"], f"a commit failed: {event}")
                committed.update({o["partition"]: o["offset"] for o in event["offsets"]})
        equal((read, sum(committed.values())), (5000, 5000), "records read and committed")
    finally:
        consumer.send_signal(signal.SIGTERM)
        consumer.wait(20)


@check(seconds=120)
def the_cluster(tools):
    out = java.run(f"{TOOLS}.ClusterTool", "cluster-id", "--bootstrap-server", tools.bootstrap)
    expect("Cluster ID: " in out, f"cluster-id printed {out}")
    out = java.run(f"{TOOLS}.ClusterTool", "list-endpoints", "--bootstrap-server", tools.bootstrap)
    expect(tools.bootstrap.split(":")[0] in out, f"list-endpoints printed {out}")


if __name__ == "__main__":
    main(Tools, __doc__, jobs=2)
