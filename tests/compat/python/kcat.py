"""kcat, on a librdkafka of another age: listing, producing, consuming, groups and offsets by time."""

import json
import shutil
import subprocess
import time
import uuid

from checks import Skip, check, equal, expect, main, wait_for


class Kcat:
    def __init__(self, bootstrap, check_name):
        if not shutil.which("kcat"):
            raise Skip("kcat is not installed")
        self.bootstrap = bootstrap
        self.topic = f"kcat-{check_name.replace('_', '-')}-{uuid.uuid4().hex[:6]}"

    def run(self, *arguments, text="", seconds=30):
        command = ["kcat", "-b", self.bootstrap, *map(str, arguments)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, check=False)
        expect(done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def produce(self, lines, *arguments):
        self.run("-P", "-t", self.topic, *arguments, text="".join(f"{line}\n" for line in lines))

    def consume(self, *arguments, **more):
        return self.run("-C", "-t", self.topic, "-e", "-q", *arguments, **more).splitlines()


@check(quick=True)
def metadata_is_listed(kcat):
    kcat.produce(["a"])
    text = kcat.run("-L")
    expect("broker" in text and kcat.topic in text, f"-L printed {text[:200]}")
    found = json.loads(kcat.run("-L", "-J", "-t", kcat.topic))
    expect(len(found["brokers"]) >= 1 and found["controllerid"] in [b["id"] for b in found["brokers"]], f"{found}")
    topic = found["topics"][0]
    equal(topic["topic"], kcat.topic, "the topic listed")
    for partition in topic["partitions"]:
        expect(partition["leader"] >= 0 and len(partition["isrs"]) == 1, f"partition {partition}")


@check(quick=True)
def lines_round_trip(kcat):
    lines = [f"line {i}" for i in range(100)]
    kcat.produce(lines, "-p", 0)
    equal(kcat.consume("-p", 0, "-o", "beginning"), lines, "lines")
    equal(kcat.consume("-p", 0, "-o", "-10"), lines[-10:], "the last ten")
    equal(kcat.consume("-p", 0, "-o", 90), lines[90:], "from offset 90")
    equal(kcat.consume("-p", 0, "-o", "beginning", "-c", 3), lines[:3], "the first three")
    equal(kcat.consume("-p", 0, "-o", "end"), [], "from the end")


@check(quick=True)
def codecs_round_trip(kcat):
    sent = []
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        lines = [f"{codec} {i} " + "x" * 200 for i in range(50)]
        kcat.produce(lines, "-z", codec, "-p", 0)
        sent += lines
    equal(kcat.consume("-p", 0, "-o", "beginning", "-X", "check.crcs=true"), sent, "lines")


@check(quick=True)
def keys_and_headers_round_trip(kcat):
    kcat.produce(["k1:v1", "k2:", ":v3"], "-K", ":", "-H", "one=1", "-H", "two=2", "-H", "one=3", "-p", 0)
    kcat.produce(["k4:"], "-K", ":", "-Z", "-p", 0)
    lines = kcat.consume("-p", 0, "-o", "beginning", "-f", "%o|%k|%s|%S|%h\\n")
    equal(
        lines,
        ["0|k1|v1|2|one=1,two=2,one=3", "1|k2||0|one=1,two=2,one=3", "2||v3|2|one=1,two=2,one=3", "3|k4||-1|"],
        "offset, key, value, size, headers",
    )


@check(quick=True)
def a_group_reads_each_message_once(kcat):
    lines = [f"m{i}" for i in range(60)]
    kcat.produce(lines)
    group = f"{kcat.topic}-group"

    def read(count):
        out = kcat.run("-G", group, "-q", "-c", count, "-X", "auto.offset.reset=earliest", kcat.topic, seconds=60)
        return out.splitlines()

    first = read(40)
    second = read(20)
    equal(sorted(first + second), sorted(lines), "messages read by two runs of the group")


@check(quick=True)
def offsets_by_time_are_queried(kcat):
    kcat.produce(["old"], "-p", 0)
    time.sleep(0.05)
    between = int(time.time() * 1000)
    time.sleep(0.05)
    kcat.produce(["new"], "-p", 0)
    for when, wanted in ((0, 0), (between, 1), (-2, 0), (-1, 2)):
        out = kcat.run("-Q", "-t", f"{kcat.topic}:0:{when}")
        equal(out.strip(), f"{kcat.topic} [0] offset {wanted}", f"the offset at {when}")
    equal(kcat.consume("-p", 0, "-o", f"s@{between}"), ["new"], "messages since a time")
    equal(kcat.consume("-p", 0, "-o", "s@0", "-o", f"e@{between}"), ["old"], "messages until a time")


@check()
def idempotent_and_large(kcat):
    kcat.produce([f"{i}:" + "y" * 100_000 for i in range(50)], "-X", "enable.idempotence=true", "-X", "acks=all", "-p", 0)
    lines = kcat.consume("-p", 0, "-o", "beginning")
    equal([line.split(":")[0] for line in lines], [str(i) for i in range(50)], "order of the lines")
    expect(all(len(line) > 100_000 for line in lines), "lines were cut")


@check()
def acks_of_every_level(kcat):
    for acks in ("0", "1", "-1"):
        kcat.produce([f"acks {acks}"], "-X", f"acks={acks}", "-p", 0)
        wait_for(f"the line with acks={acks}", lambda a=acks: f"acks {a}" in kcat.consume("-p", 0, "-o", "beginning"))


@check()
def what_is_not_there_is_reported(kcat):
    command = ["kcat", "-b", kcat.bootstrap, "-C", "-t", f"{kcat.topic}-none", "-e", "-q",
               "-X", "allow.auto.create.topics=false"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    expect(done.returncode != 0, "consuming an unknown topic succeeded")
    expect("Unknown topic" in done.stderr, f"it said {done.stderr.strip()[-200:]}")


@check()
def json_output(kcat):
    kcat.produce(["key=value"], "-K", "=", "-p", 0)
    found = json.loads(kcat.consume("-p", 0, "-o", "beginning", "-J")[0])
    equal((found["topic"], found["partition"], found["offset"]), (kcat.topic, 0, 0), "the place")
    equal((found["key"], found["payload"], found["tstype"]), ("key", "value", "create"), "the content")
    expect(abs(found["ts"] / 1000 - time.time()) < 60, f"the timestamp is {found['ts']}")


if __name__ == "__main__":
    main(Kcat, __doc__)
