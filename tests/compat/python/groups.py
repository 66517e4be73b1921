"""Consumer groups through librdkafka: rebalances, static members, evictions and commits."""

import signal
import threading
import time

from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaError, TopicPartition

from checks import check, equal, expect, main, wait_for
from member import Member, ProcessMember, balanced, settings
from target import REQUEST_SECONDS, Target, kafka_error, poll_messages


def describe(target, group):
    return target.admin.describe_consumer_groups([group])[group].result(REQUEST_SECONDS)


def stable(target, group, members):
    def is_so():
        found = describe(target, group)
        return found if found.state == ConsumerGroupState.STABLE and len(found.members) == members else None

    return wait_for(f"{group} to be stable with {members} members", is_so)


def fill(target, topic, per_partition, partitions):
    records = [
        {"value": f"{p}:{i}".encode(), "key": f"k{i}".encode(), "partition": p}
        for i in range(per_partition)
        for p in range(partitions)
    ]
    return target.send_ok(topic, records)


@check(quick=True)
def two_groups_read_independently(target):
    topic = target.topic(partitions=3)
    fill(target, topic, 20, 3)
    groups = [target.name("one"), target.name("two")]
    members = [Member(target.bootstrap, group, [topic]) for group in groups]
    for member in members:
        wait_for("60 messages", lambda m=member: len(m.messages) >= 60)
        equal(len({(m.partition(), m.offset()) for m in member.messages}), 60, "distinct messages")
    members[0].call(lambda consumer: consumer.commit(asynchronous=False))
    partitions = [TopicPartition(topic, p) for p in range(3)]
    found = [m.call(lambda consumer: consumer.committed(partitions, REQUEST_SECONDS)) for m in members]
    equal([p.offset for p in found[0]], [20, 20, 20], "the committing group's offsets")
    expect(all(p.offset < 0 for p in found[1]), f"the other group has offsets: {found[1]}")
    for member in members:
        member.leave()


def third_member(target, assignor, eager):
    """Two members of six partitions, a third joins and leaves again, under load; returns what was taken away."""
    topic, group = target.topic(partitions=6), target.name("group")
    strategy = {"partition_assignment_strategy": assignor}
    first, second = (Member(target.bootstrap, group, [topic], **strategy) for _ in range(2))
    balanced([first, second], [3, 3])
    equal(stable(target, group, 2).partition_assignor, assignor, "the assignor shown")
    before = [len(m.events) for m in (first, second)]
    third = Member(target.bootstrap, group, [topic], **strategy)
    balanced([first, second, third], [2, 2, 2])
    taken = [m.taken_away(n) for m, n in zip((first, second), before)]
    if eager:
        equal([len(t) for t in taken], [3, 3], "partitions revoked on joining (an eager assignor gives all up)")
    else:
        equal([len(t) for t in taken], [1, 1], "partitions revoked on joining (only the moved ones)")
        equal(taken[0] | taken[1], third.owned, "what moved to the third member")
    stable(target, group, 3)
    before = [len(m.events) for m in (first, second)]
    third.leave()
    balanced([first, second], [3, 3])
    taken = [m.taken_away(n) for m, n in zip((first, second), before)]
    equal([len(t) for t in taken], [2, 2] if eager else [0, 0], "partitions revoked when the third left")
    fill(target, topic, 10, 6)
    wait_for(
        "every message read after it all",
        lambda: len({(m.partition(), m.offset()) for m in first.messages + second.messages}) == 60,
    )
    first.leave()
    second.leave()


@check(seconds=90)
def third_member_joins_and_leaves_range(target):
    third_member(target, "range", True)


@check(seconds=90)
def third_member_joins_and_leaves_roundrobin(target):
    third_member(target, "roundrobin", True)


@check(seconds=90, quick=True)
def third_member_joins_and_leaves_cooperative(target):
    third_member(target, "cooperative-sticky", False)


@check(seconds=90)
def nothing_is_read_twice_over_cooperative_rebalances(target):
    """Each member commits what it has read when partitions are taken from it, as the pattern for this is: a partition
    goes on at its next owner exactly where the one before stopped."""
    topic, group = target.topic(partitions=6), target.name("group")
    strategy = {"partition_assignment_strategy": "cooperative-sticky"}
    ending, sent = threading.Event(), []

    def load():
        producer = target.producer(acks="all")
        while not ending.is_set():
            sent.extend(target.send_ok(topic, [{"value": b"x", "partition": p} for p in range(6)], producer))
            time.sleep(0.02)

    writer = threading.Thread(target=load, daemon=True)
    writer.start()
    members = []
    for size in (1, 2, 3):
        members.append(Member(target.bootstrap, group, [topic], **strategy))
        members[-1].commit_on_revoke = True
        balanced(members, [6 // size] * size)
    members[1].leave()
    balanced([members[0], members[2]], [3, 3])
    ending.set()
    writer.join(30)

    def places():
        return [(m.partition(), m.offset()) for member in members for m in member.messages]

    wait_for("every message read", lambda: len(set(places())) >= len(sent))
    errors = [e for member in members for e in member.errors]
    equal(errors, [], "errors of members")
    equal(len(places()), len(sent), "messages processed")
    for member in (members[0], members[2]):
        member.leave()


@check(seconds=90, quick=True)
def static_member_restarts_without_a_rebalance(target):
    topic, group = target.topic(partitions=4), target.name("group")
    make = {"partition_assignment_strategy": "range", "session_timeout_ms": 30000}
    first = Member(target.bootstrap, group, [topic], group_instance_id="static-1", **make)
    second = Member(target.bootstrap, group, [topic], group_instance_id="static-2", **make)
    balanced([first, second], [2, 2])
    stable(target, group, 2)
    owned, events = set(first.owned), len(second.events)
    first.leave()
    again = Member(target.bootstrap, group, [topic], group_instance_id="static-1", **make)
    wait_for("the assignment of the returned static member", lambda: len(again.owned) == 2)
    equal(again.owned, owned, "the partitions after the restart")
    found = stable(target, group, 2)
    equal({m.group_instance_id for m in found.members}, {"static-1", "static-2"}, "instance ids shown")
    fill(target, topic, 5, 4)
    wait_for("20 messages", lambda: len(again.messages) + len(second.messages) == 20)
    equal(len(second.events), events, "rebalance events at the other member")
    again.leave()
    second.leave()


@check()
def second_owner_of_a_static_id_fences_the_first(target):
    topic, group = target.topic(partitions=2), target.name("group")
    first = Member(target.bootstrap, group, [topic], group_instance_id="one")
    wait_for("an assignment", lambda: len(first.owned) == 2)
    second = Member(target.bootstrap, group, [topic], group_instance_id="one")
    wait_for("the second's assignment", lambda: len(second.owned) == 2)
    fenced = wait_for("the first to be told", lambda: first.errors)[0]
    equal(fenced.code(), KafkaError._FATAL, "the first's error")
    expect("Static consumer fenced" in fenced.str(), f"its text is {fenced.str()}")
    equal(len(stable(target, group, 1).members), 1, "members")
    second.leave()


@check(seconds=90)
def static_member_gone_for_good_is_evicted(target):
    topic, group = target.topic(partitions=2), target.name("group")
    first = Member(target.bootstrap, group, [topic], group_instance_id="s1", session_timeout_ms=6000)
    second = Member(target.bootstrap, group, [topic], group_instance_id="s2", session_timeout_ms=6000)
    balanced([first, second], [1, 1])
    left = time.monotonic()
    first.leave()
    wait_for("the other to own both", lambda: len(second.owned) == 2, 30)
    took = time.monotonic() - left
    expect(4.0 < took < 14, f"the partition moved after {took:.1f} s, with a session of 6 s")
    second.leave()


@check(seconds=90, quick=True)
def fourth_member_of_three_partitions_idles(target):
    topic, group = target.topic(partitions=3), target.name("group")
    members = [Member(target.bootstrap, group, [topic]) for _ in range(4)]
    balanced(members, [0, 1, 1, 1])
    found = stable(target, group, 4)
    equal(sorted(len(m.assignment.topic_partitions) for m in found.members), [0, 1, 1, 1], "assignments shown")
    idle = next(m for m in members if not m.owned)
    next(m for m in members if m.owned).leave()
    wait_for("the idle member to take over", lambda: len(idle.owned) == 1, 30)
    for member in members:
        member.leave()


@check(seconds=90)
def killed_member_is_evicted_in_time(target):
    topic, group = target.topic(partitions=4), target.name("group")
    survivor = Member(target.bootstrap, group, [topic], session_timeout_ms=6000)
    other = ProcessMember(target.bootstrap, group, topic, 6000)
    try:
        balanced([survivor, other], [2, 2])
        other.signal(signal.SIGKILL)
        killed = time.monotonic()
        wait_for("the survivor to own all", lambda: len(survivor.owned) == 4, 30)
        took = time.monotonic() - killed
        expect(4.0 < took < 14, f"the partitions moved after {took:.1f} s, with a session of 6 s")
    finally:
        other.end()
    survivor.leave()


@check(seconds=120)
def paused_member_is_evicted_and_comes_back(target):
    topic, group = target.topic(partitions=4), target.name("group")
    survivor = Member(target.bootstrap, group, [topic], session_timeout_ms=6000)
    other = ProcessMember(target.bootstrap, group, topic, 6000)
    try:
        balanced([survivor, other], [2, 2])
        other.signal(signal.SIGSTOP)
        wait_for("the survivor to own all", lambda: len(survivor.owned) == 4, 30)
        other.signal(signal.SIGCONT)
        balanced([survivor, other], [2, 2])
        expect("lost" in [kind for kind, _ in other.events], f"the paused member saw only {other.events}")
    finally:
        other.end()
    survivor.leave()


@check(seconds=90)
def member_that_stops_polling_loses_its_partitions(target):
    topic, group = target.topic(partitions=2), target.name("group")
    more = {"max_poll_interval_ms": 6000, "session_timeout_ms": 6000}
    lazy, busy = (Member(target.bootstrap, group, [topic], **more) for _ in range(2))
    balanced([lazy, busy], [1, 1])
    lazy.polling = False
    stopped = time.monotonic()
    wait_for("the polling member to own both", lambda: len(busy.owned) == 2, 40)
    took = time.monotonic() - stopped
    expect(took < 20, f"the partition moved after {took:.1f} s, with a poll interval of 6 s")
    lazy.polling = True
    balanced([lazy, busy], [1, 1])
    expect(
        KafkaError._MAX_POLL_EXCEEDED in [e.code() for e in lazy.errors],
        f"the lazy member's errors are {lazy.errors}",
    )
    for member in (lazy, busy):
        member.leave()


@check(seconds=90)
def five_members_at_once_share_out_everything(target):
    topic, group = target.topic(partitions=10), target.name("group")
    members = [Member(target.bootstrap, group, [topic], partition_assignment_strategy="roundrobin") for _ in range(5)]
    balanced(members, [2] * 5)
    stable(target, group, 5)
    for member in members:
        member.leave()
    wait_for("the group to be empty", lambda: describe(target, group).state == ConsumerGroupState.EMPTY)


@check(seconds=60)
def members_of_different_topics_share_a_group(target):
    left, right = target.topic("left", partitions=2), target.topic("right", partitions=2)
    group = target.name("group")
    both = Member(target.bootstrap, group, [left, right])
    only = Member(target.bootstrap, group, [left])
    wait_for("the second member's share", lambda: only.owned and {t for t, _ in only.owned} == {left}, 40)
    wait_for("the rest", lambda: both.owned | only.owned == {(t, p) for t in (left, right) for p in (0, 1)})
    both.leave()
    only.leave()


@check(seconds=60)
def members_without_a_common_assignor_are_refused(target):
    topic, group = target.topic(), target.name("group")
    first = Member(target.bootstrap, group, [topic], partition_assignment_strategy="range")
    wait_for("an assignment", lambda: first.owned)
    second = Member(target.bootstrap, group, [topic], partition_assignment_strategy="roundrobin")
    found = wait_for("the second to be refused", lambda: second.errors)
    equal(found[0].code(), KafkaError.INCONSISTENT_GROUP_PROTOCOL, "the second's error")
    equal(len(first.owned), 1, "the first's partitions")
    second.leave()
    first.leave()


@check(seconds=60)
def pattern_subscription_finds_new_topics(target):
    target.topic("a")
    member = Member(target.bootstrap, target.name("group"), [f"^{target.prefix}-.*"])
    wait_for("the first topic", lambda: member.owned == {(target.name("a"), 0)})
    target.topic("b")
    wait_for("the second topic", lambda: member.owned == {(target.name("a"), 0), (target.name("b"), 0)}, 30)
    member.leave()


@check(seconds=60)
def more_partitions_reach_a_running_group(target):
    from confluent_kafka.admin import NewPartitions

    topic = target.topic(partitions=1)
    member = Member(target.bootstrap, target.name("group"), [topic])
    wait_for("one partition", lambda: len(member.owned) == 1)
    target.admin.create_partitions([NewPartitions(topic, 3)])[topic].result(REQUEST_SECONDS)
    wait_for("three partitions", lambda: len(member.owned) == 3, 30)
    member.leave()


def committed(consumer, topic, partition=0):
    return consumer.committed([TopicPartition(topic, partition)], REQUEST_SECONDS)[0]


@check(quick=True)
def synchronous_and_asynchronous_commits(target):
    topic, group = target.topic(), target.name("group")
    fill(target, topic, 20, 1)
    reports = []
    consumer = Consumer(
        settings(target.bootstrap, group) | {"on_commit": lambda error, parts: reports.append((error, parts))}
    )
    target.closers.append(consumer.close)
    consumer.subscribe([topic])
    messages = poll_messages(consumer, 20)
    done = consumer.commit(message=messages[4], asynchronous=False)
    equal([(p.offset, p.error) for p in done], [(5, None)], "what commit() returned")
    equal(committed(consumer, topic).offset, 5, "after a synchronous commit of a message")
    consumer.commit(offsets=[TopicPartition(topic, 0, 12, "a note, é")], asynchronous=False)
    found = committed(consumer, topic)
    equal((found.offset, found.metadata), (12, "a note, é"), "offset and metadata")
    del reports[:]  # synchronous commits report too
    consumer.commit(offsets=[TopicPartition(topic, 0, 15)], asynchronous=True)

    def reported():
        consumer.poll(0.05)
        return reports

    wait_for("the asynchronous report", reported)
    equal((reports[0][0], reports[0][1][0].offset), (None, 15), "the asynchronous report")
    equal(committed(consumer, topic).offset, 15, "after an asynchronous commit")
    consumer.commit(asynchronous=False)
    equal(committed(consumer, topic).offset, 20, "after a commit of the position")
    consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    equal(committed(consumer, topic).offset, 3, "after going back")


@check()
def automatic_commits(target):
    topic, group = target.topic(), target.name("group")
    fill(target, topic, 10, 1)
    member = Member(target.bootstrap, group, [topic], enable_auto_commit=True, auto_commit_interval_ms=300)
    wait_for("10 messages", lambda: len(member.messages) == 10)
    onlooker = target.consumer(group)
    wait_for("the automatic commit", lambda: committed(onlooker, topic).offset == 10)
    fill(target, topic, 5, 1)
    wait_for("5 more", lambda: len(member.messages) == 15)
    member.leave()
    equal(committed(onlooker, topic).offset, 15, "after closing, which commits")


@check()
def stored_offsets_commit_only_what_was_processed(target):
    topic, group = target.topic(), target.name("group")
    fill(target, topic, 10, 1)
    consumer = target.consumer(group, enable_auto_commit=True, enable_auto_offset_store=False)
    consumer.subscribe([topic])
    messages = poll_messages(consumer, 10)
    consumer.store_offsets(message=messages[6])
    consumer.close()
    equal(committed(target.consumer(group), topic).offset, 7, "the committed offset")


@check(quick=True)
def a_group_resumes_where_it_committed(target):
    topic, group = target.topic(partitions=2), target.name("group")
    fill(target, topic, 10, 2)
    first = target.consumer(group)
    first.subscribe([topic])
    messages = poll_messages(first, 20)
    for partition, count in ((0, 4), (1, 9)):
        one = [m for m in messages if m.partition() == partition][count - 1]
        first.commit(message=one, asynchronous=False)
    first.close()
    second = target.consumer(group)
    second.subscribe([topic])
    rest = poll_messages(second, 7)
    equal(
        sorted((m.partition(), m.offset()) for m in rest),
        [(0, o) for o in range(4, 10)] + [(1, 9)],
        "what was left to read",
    )


@check(seconds=90)
def an_evicted_member_cannot_commit(target):
    """Stops polling, is replaced, then commits what it had: refused, and the new owner's commit stands."""
    topic, group = target.topic(), target.name("group")
    fill(target, topic, 10, 1)
    more = {"max_poll_interval_ms": 6000, "session_timeout_ms": 6000}
    lazy = Member(target.bootstrap, group, [topic], **more)
    wait_for("10 messages", lambda: len(lazy.messages) == 10)
    lazy.polling = False
    busy = Member(target.bootstrap, group, [topic], **more)
    wait_for("the other to own it", lambda: busy.owned, 40)
    wait_for("10 messages", lambda: len(busy.messages) == 10)
    busy.commit(busy.messages[9])
    error = kafka_error(lambda: lazy.commit(lazy.messages[2]))
    evicted = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError._NO_OFFSET, KafkaError._STATE)
    expect(error.code() in evicted, f"the evicted member's commit got {error}")
    equal(busy.call(lambda consumer: committed(consumer, topic)).offset, 10, "the committed offset")
    busy.leave()


@check()
def too_much_commit_metadata_is_refused(target):
    topic, group = target.topic(), target.name("group")
    consumer = target.consumer(group)
    for size in (4096, 20000):  # this client adds a zero byte, so 4,095 characters are the most
        text = "x" * size
        error = kafka_error(lambda: consumer.commit(offsets=[TopicPartition(topic, 0, 1, text)], asynchronous=False))
        equal(error.code(), KafkaError.OFFSET_METADATA_TOO_LARGE, f"the error for {size} characters")
    consumer.commit(offsets=[TopicPartition(topic, 0, 1, "x" * 4095)], asynchronous=False)
    equal(len(committed(consumer, topic).metadata), 4095, "metadata kept")


@check()
def offsets_outlive_the_members(target):
    """Closed members, an empty group: its offsets stay and are listed by the admin client."""
    topic, group = target.topic(partitions=3), target.name("group")
    consumer = target.consumer(group)
    consumer.commit(offsets=[TopicPartition(topic, p, 5 + p) for p in range(3)], asynchronous=False)
    consumer.close()
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, p) for p in range(3)])
    for request in (wanted, ConsumerGroupTopicPartitions(group)):
        found = target.admin.list_consumer_group_offsets([request])[group].result(REQUEST_SECONDS)
        equal(sorted((p.partition, p.offset) for p in found.topic_partitions), [(0, 5), (1, 6), (2, 7)], "offsets")


if __name__ == "__main__":
    main(Target, __doc__, jobs=5)
