"""Checks of listing, describing, resetting and deleting consumer groups as an administrator."""

from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from checks import check, equal, expect, wait_for
from member import Member
from target import REQUEST_SECONDS, kafka_error


def listed(target, **more):
    found = target.admin.list_consumer_groups(**more).result(REQUEST_SECONDS)
    equal(found.errors, [], "errors of brokers")
    return {g.group_id: g for g in found.valid}


def describe(target, group):
    return target.admin.describe_consumer_groups([group])[group].result(REQUEST_SECONDS)


def delete(target, group):
    return target.admin.delete_consumer_groups([group])[group].result(REQUEST_SECONDS)


def alter(target, group, topic, offset, partition=0):
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition, offset)])
    done = target.admin.alter_consumer_group_offsets([request])[group].result(REQUEST_SECONDS)
    for place in done.topic_partitions:
        if place.error:
            raise KafkaException(place.error)
    return done


def offsets(target, group):
    request = ConsumerGroupTopicPartitions(group)
    found = target.admin.list_consumer_group_offsets([request])[group].result(REQUEST_SECONDS)
    return {(p.topic, p.partition): p.offset for p in found.topic_partitions}


@check(quick=True)
def a_group_is_listed_and_described(target):
    topic, group = target.topic(partitions=2), target.name("group")
    member = Member(target.bootstrap, group, [topic], client_id="the-client")
    wait_for("the assignment", lambda: len(member.owned) == 2)
    wait_for("the group to be listed as stable",
             lambda: group in listed(target) and listed(target)[group].state == ConsumerGroupState.STABLE)
    expect(group in listed(target, states={ConsumerGroupState.STABLE}), "not listed among the stable ones")
    expect(group not in listed(target, states={ConsumerGroupState.EMPTY}), "listed among the empty ones")
    found = describe(target, group)
    equal((found.state, found.is_simple_consumer_group), (ConsumerGroupState.STABLE, False), "the description")
    expect(found.coordinator.id in target.admin.list_topics(timeout=REQUEST_SECONDS).brokers, "an unknown coordinator")
    only = found.members[0]
    equal(only.client_id, "the-client", "the member's client id")
    expect(only.member_id.startswith("the-client-"), f"its member id is {only.member_id}")
    expect(only.host.startswith("/"), f"its host is {only.host}")
    equal({(p.topic, p.partition) for p in only.assignment.topic_partitions}, {(topic, 0), (topic, 1)}, "assignment")
    member.leave()
    wait_for("the group to be empty", lambda: describe(target, group).state == ConsumerGroupState.EMPTY)


@check()
def an_unknown_group_is_dead(target):
    found = describe(target, target.name("none"))
    equal((found.state, len(found.members)), (ConsumerGroupState.DEAD, 0), "an unknown group")


@check(quick=True)
def groups_are_deleted_when_empty(target):
    topic, group = target.topic(), target.name("group")
    equal(kafka_error(lambda: delete(target, group)).code(), KafkaError.GROUP_ID_NOT_FOUND, "an unknown group")
    member = Member(target.bootstrap, group, [topic])
    wait_for("the assignment", lambda: member.owned)
    member.call(lambda c: c.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False))
    equal(kafka_error(lambda: delete(target, group)).code(), KafkaError.NON_EMPTY_GROUP, "a group with a member")
    member.leave()
    equal(offsets(target, group), {(topic, 0): 1}, "its offsets before")
    delete(target, group)
    expect(group not in listed(target), "listed after its deletion")
    equal(offsets(target, group), {}, "its offsets after")


@check(quick=True)
def offsets_of_a_group_are_altered(target):
    topic, group = target.topic(partitions=2), target.name("group")
    target.send_ok(topic, [{"value": b"%d" % i, "partition": 0} for i in range(10)])
    alter(target, group, topic, 6)
    equal(offsets(target, group), {(topic, 0): 6}, "offsets of a group that never had a member")
    member = Member(target.bootstrap, group, [topic])
    wait_for("the rest", lambda: len(member.messages) == 4)
    equal([m.offset() for m in member.messages], [6, 7, 8, 9], "what the member reads")
    error = kafka_error(lambda: alter(target, group, topic, 0))
    equal(error.code(), KafkaError.UNKNOWN_MEMBER_ID, "altering under a living member")
    member.leave()
    alter(target, group, topic, 0)
    equal(offsets(target, group)[(topic, 0)], 0, "after the reset")
    error = kafka_error(lambda: alter(target, group, target.name("none"), 0))
    expect(error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.NO_ERROR), f"an unknown topic got {error}")


@check()
def offsets_go_with_their_topic(target):
    topic, group = target.topic(), target.name("group")
    alter(target, group, topic, 0)
    equal(offsets(target, group), {(topic, 0): 0}, "before")
    target.admin.delete_topics([topic])[topic].result(REQUEST_SECONDS)
    wait_for("the offsets to be gone", lambda: offsets(target, group) == {})


@check()
def many_groups_are_listed(target):
    topic = target.topic()
    names = {target.name(f"g{i}") for i in range(30)}
    for name in names:
        alter(target, name, topic, 0)
    found = listed(target)
    equal(names - set(found), set(), "groups not listed")
    for future in target.admin.delete_consumer_groups(list(names)).values():
        future.result(REQUEST_SECONDS)
    equal(names & set(listed(target)), set(), "groups listed after their deletion")
