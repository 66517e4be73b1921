"""Attacks by well-formed requests: followers' fetches, sessions, names, counts, configurations, groups, commits."""

import time

import wire
from checks import check, equal, expect
from wire import Closed, array, blob, i8, i16, i32, i64, string

UNKNOWN_TOPIC, TOPIC_AUTHORIZATION_FAILED, NOT_LEADER = 3, 29, 6
OFFSET_METADATA_TOO_LARGE, INVALID_TOPIC, INVALID_SESSION_TIMEOUT = 12, 17, 26
ILLEGAL_GENERATION, INCONSISTENT_PROTOCOL, INVALID_GROUP_ID, UNKNOWN_MEMBER, REBALANCE = 22, 23, 24, 25, 27
TOPIC_EXISTS, INVALID_PARTITIONS, INVALID_REPLICATION, INVALID_ASSIGNMENT, INVALID_CONFIG = 36, 37, 38, 39, 40
INVALID_REQUEST, POLICY_VIOLATION, SESSION_NOT_FOUND, INVALID_SESSION_EPOCH = 42, 44, 70, 71


def fetch(connection, topic, parts, version=10, **more):
    return wire.fetch_reply(connection.request(wire.FETCH, version, wire.fetch_body(topic, parts, version=version, **more)))


@check(quick=True)
def fetching_as_a_follower(victim):
    """A client that says it is a replica must not move the high watermark nor get more than others."""
    topic = victim.topic()
    victim.produce(topic, wire.batch([b"v"] * 3))
    for replica in (0, 1, 5, 2**31 - 1):
        with victim.connect() as connection:
            try:
                error, _, found = fetch(connection, topic, [(0, 0)], replica_id=replica)
            except Closed:
                continue
            code = found[0][2] if found else error
            allowed = (0, TOPIC_AUTHORIZATION_FAILED, NOT_LEADER, UNKNOWN_TOPIC, 9, INVALID_REQUEST, 74, 75)
            expect(code in allowed, f"replica id {replica}: error {code}")
    with victim.connect() as connection:
        equal(fetch(connection, topic, [(0, 0)])[2][0][3], 3, "the high watermark afterwards")


@check(seconds=90)
def fetching_without_measure(victim):
    topic = victim.topic()
    for _ in range(4):
        victim.produce(topic, wire.batch([b"v" * 1000] * 500))
    most = 2**31 - 1
    held = []
    for _ in range(30):
        connection = victim.connect(30)
        body = wire.fetch_body(topic, [(0, 0)], version=10, max_bytes=most, partition_max_bytes=most)
        connection.send_frame(connection.header(wire.FETCH, 10) + body)
        held.append(connection)
    for connection in held:
        _, rest = connection.receive()
        expect(len(rest) > 2_000_000, f"a fetch gave {len(rest)} bytes")
        connection.socket.close()
    parked = []
    for _ in range(50):
        connection = victim.connect(2)
        body = wire.fetch_body(topic, [(0, 0)], version=10, min_bytes=most, max_wait_ms=most)
        connection.send_frame(connection.header(wire.FETCH, 10) + body)
        parked.append(connection)
    victim.serves()
    for connection in parked:
        connection.socket.close()
    for what, more in (("max_bytes 0", {"max_bytes": 0}), ("max_bytes -1", {"max_bytes": -1}),
                       ("min_bytes -1", {"min_bytes": -1}), ("max_wait -1", {"max_wait_ms": -1}),
                       ("partition bytes -1", {"partition_max_bytes": -1})):
        with victim.connect() as connection:
            try:
                fetch(connection, topic, [(0, 0)], **more)
            except Closed:
                pass
            except TimeoutError:
                raise AssertionError(f"{what}: no answer") from None


@check(quick=True)
def fetch_sessions(victim):
    topic = victim.topic()
    victim.produce(topic, wire.batch([b"v"]))
    with victim.connect() as connection:
        equal(fetch(connection, topic, [(0, 0)], session_id=123456, session_epoch=5)[0], SESSION_NOT_FOUND, "unknown id")
        error, session, found = fetch(connection, topic, [(0, 0)], session_id=0, session_epoch=0)
        equal((error, len(found)), (0, 1), "a new session's error and partitions")
        if session == 0:
            return  # no session given: always legal
        equal(fetch(connection, "", [], session_id=session, session_epoch=9)[0], INVALID_SESSION_EPOCH, "a wrong epoch")
        error, again, found = fetch(connection, topic, [(0, 1)], session_id=session, session_epoch=1)
        equal((error, again), (0, session), "the next request of the session")
        started = time.monotonic()
        error, again, found = fetch(connection, "", [], session_id=session, session_epoch=2, max_wait_ms=500)
        equal((error, found), (0, []), "a request without news")
        expect(time.monotonic() - started > 0.3, "it did not wait")
        victim.produce(topic, wire.batch([b"w"]))
        error, again, found = fetch(connection, "", [], session_id=session, session_epoch=3, max_wait_ms=3000)
        expect(found and found[0][4], f"the session's new record is missing: {found}")
    with victim.connect() as connection:
        error, _, _ = fetch(connection, "", [], session_id=session, session_epoch=4)
        expect(error in (0, SESSION_NOT_FOUND), f"the session from another connection: error {error}")


@check(seconds=90)
def sessions_without_end(victim):
    """More sessions than there are slots: old ones go, or new ones are refused by id 0; nothing breaks."""
    topic = victim.topic()
    with victim.connect(30) as connection:
        for _ in range(3000):
            body = wire.fetch_body(topic, [(0, 0)], version=10, session_id=0, session_epoch=0, max_wait_ms=0)
            connection.send_frame(connection.header(wire.FETCH, 10) + body)
        for _ in range(3000):
            connection.receive()


@check(quick=True)
def offsets_out_of_range(victim):
    topic = victim.topic()
    victim.produce(topic, wire.batch([b"v"] * 3))
    with victim.connect() as connection:
        for offset, wanted in ((-1, 1), (4, 1), (2**62, 1), (3, 0), (0, 0)):
            equal(fetch(connection, topic, [(0, offset)])[2][0][2], wanted, f"fetching from {offset}")
        equal(fetch(connection, topic, [(9, 0)])[2][0][2], UNKNOWN_TOPIC, "an unknown partition")
        equal(fetch(connection, victim.name("none"), [(0, 0)])[2][0][2], UNKNOWN_TOPIC, "an unknown topic")


@check(quick=True)
def illegal_topic_names(victim):
    names = ["", ".", "..", "../../etc", "/tmp/x", "x" * 250, "a\0b", "ünïcode", "a b", "a:b", "a\nb", "*"]
    for name in names:
        equal(victim.create(name), INVALID_TOPIC, f"creating {name[:20]!r}")
        with victim.connect() as connection:
            reply = connection.request(wire.METADATA, 4, array([string(name)]) + i8(1))
        codes = metadata_errors(reply)
        expect(codes[0] in (INVALID_TOPIC, UNKNOWN_TOPIC), f"metadata of {name[:20]!r}: error {codes}")
        with victim.connect() as connection:
            body = wire.produce_body([(name, [(0, wire.batch())])])
            try:
                answers = wire.produce_answers(connection.request(wire.PRODUCE, 7, body))
            except Closed:
                continue
            expect(answers[0][2] in (INVALID_TOPIC, UNKNOWN_TOPIC), f"producing to {name[:20]!r}: error {answers[0][2]}")
    topic = victim.topic("a.b")
    equal(victim.create(topic.replace("a.b", "a_b")), INVALID_TOPIC, "a name that collides")
    equal(victim.create(topic), TOPIC_EXISTS, "the same name")


def metadata_errors(reply):
    reply.i32()
    reply.array(lambda: (reply.i32(), reply.string(), reply.i32(), reply.string()))
    reply.string()
    reply.i32()

    def topic():
        error = reply.i16()
        reply.string()
        reply.i8()
        reply.array(partition)
        return error

    def partition():
        reply.i16(), reply.i32(), reply.i32()
        reply.array(reply.i32)
        reply.array(reply.i32)

    return reply.array(topic)


@check(quick=True, seconds=90)
def topics_that_cannot_be(victim):
    for what, more, allowed in (
        ("0 partitions", {"partitions": 0}, (INVALID_PARTITIONS,)),
        ("-2 partitions", {"partitions": -2}, (INVALID_PARTITIONS,)),
        ("a million partitions", {"partitions": 10**6}, (INVALID_PARTITIONS, POLICY_VIOLATION)),
        ("2^31-1 partitions", {"partitions": 2**31 - 1}, (INVALID_PARTITIONS, POLICY_VIOLATION)),
        ("replication 0", {"replication": 0}, (INVALID_REPLICATION,)),
        ("replication -2", {"replication": -2}, (INVALID_REPLICATION,)),
        ("replication 32767", {"replication": 32767}, (INVALID_REPLICATION,)),
        ("a replica twice", {"assignments": [(0, [1, 1])]}, (INVALID_ASSIGNMENT,)),
        ("a replica of nobody", {"assignments": [(0, [4711])]}, (INVALID_ASSIGNMENT,)),
        ("partitions with a hole", {"assignments": [(1, [1])]}, (INVALID_ASSIGNMENT,)),
        ("no replicas", {"assignments": [(0, [])]}, (INVALID_ASSIGNMENT,)),
    ):
        error = victim.create(victim.name("bad"), **more)
        expect(error in allowed, f"{what}: error {error}, wanted one of {allowed}")
    with victim.connect() as connection:
        reply = connection.request(wire.METADATA, 4, array([string(victim.name("bad"))]) + i8(0))
    equal(metadata_errors(reply), [UNKNOWN_TOPIC], "the topic that could not be")


@check()
def configurations_that_cannot_be(victim):
    for key, value in (
        ("no.such.key", "1"), ("", "1"), ("retention.ms\0", "1"), ("retention.ms", "NaN"), ("retention.ms", ""),
        ("retention.ms", "-5"), ("retention.ms", "9" * 400), ("segment.bytes", "0"), ("segment.bytes", "-1"), ("cleanup.policy", "x" * 1_000),
        ("min.insync.replicas", "0"), ("max.message.bytes", "x" * 30_000), ("min.cleanable.dirty.ratio", "NaN"),
    ):
        error = victim.create(victim.name("bad"), config={key: value})
        if value == "NaN" and error == 0 and not victim.own_rules:
            victim.topics.append(victim.name("bad"))  # Kafka's range check lets it through
            break
        expect(error in (INVALID_CONFIG, INVALID_REQUEST), f"{key[:20]!r} = {value[:20]!r}: error {error}")
    topic = victim.topic()
    entry = string("compression.type") + i8(0) + string("y" * 32767)
    body = array([i8(2) + string(topic) + array([entry])]) + i8(0)
    with victim.connect() as connection:
        reply = connection.request(wire.INCREMENTAL_ALTER_CONFIGS, 0, body)
    reply.i32()
    reply.i32()
    error = reply.i16()
    expect(error == INVALID_CONFIG or (error == -1 and not victim.own_rules), f"a value of 32 KiB: error {error}")


def join(connection, group, member="", session=10000, rebalance=10000, metadata=b"m", protocol="range", version=2, kind="consumer"):
    """JoinGroup v1-3: (error, generation, member id)."""
    body = string(group) + i32(session) + i32(rebalance) + string(member) + string(kind)
    body += array([string(protocol) + blob(metadata)] if protocol is not None else [])
    reply = connection.request(wire.JOIN_GROUP, version, body)
    if version >= 2:
        reply.i32()
    error, generation = reply.i16(), reply.i32()
    reply.string()
    reply.string()
    return error, generation, reply.string()


def sync(connection, group, generation, member, assignments=()):
    body = string(group) + i32(generation) + string(member) + array([string(m) + blob(a) for m, a in assignments])
    reply = connection.request(wire.SYNC_GROUP, 1, body)
    reply.i32()
    return reply.i16(), reply.blob()


def heartbeat(connection, group, generation, member):
    reply = connection.request(wire.HEARTBEAT, 1, string(group) + i32(generation) + string(member))
    reply.i32()
    return reply.i16()


def commit(connection, group, generation, member, topic, offset=1, metadata="", partition=0):
    """OffsetCommit v2: the partition's error."""
    part = i32(partition) + i64(offset) + string(metadata)
    body = string(group) + i32(generation) + string(member) + i64(-1) + array([string(topic) + array([part])])
    reply = connection.request(wire.OFFSET_COMMIT, 2, body)
    reply.i32()
    reply.string()
    reply.i32()
    reply.i32()
    return reply.i16()


def ready_coordinator(connection, group):
    """Asks for the group's coordinator until it answers and serves."""
    from checks import wait_for

    def found():
        reply = connection.request(wire.FIND_COORDINATOR, 1, string(group) + i8(0))
        reply.i32()
        return reply.i16() == 0 and heartbeat(connection, group, 1, "nobody") not in (14, 15, 16)

    wait_for("the coordinator", found)


@check(quick=True)
def joins_that_cannot_be(victim):
    group = victim.name("group")
    with victim.connect(30) as connection:
        ready_coordinator(connection, group)
        for what, more, allowed in (
            ("a session of 1 ms", {"session": 1}, (INVALID_SESSION_TIMEOUT,)),
            ("a session of a day", {"session": 86_400_000}, (INVALID_SESSION_TIMEOUT,)),
            ("a session of -1", {"session": -1}, (INVALID_SESSION_TIMEOUT,)),
            ("somebody else's member id", {"member": "stranger"}, (UNKNOWN_MEMBER,)),
            ("no protocol", {"protocol": None}, (INCONSISTENT_PROTOCOL,)),
            ("no protocol type", {"kind": ""}, (INCONSISTENT_PROTOCOL,)),
        ):
            error = join(connection, group, **more)[0]
            expect(error in allowed, f"{what}: error {error}, wanted one of {allowed}")
        equal(join(connection, "")[0], INVALID_GROUP_ID, "an empty group id")


@check(seconds=60)
def large_member_metadata(victim):
    group = victim.name("group")
    with victim.connect(30) as connection:
        ready_coordinator(connection, group)
        try:
            error, _, member = join(connection, group, metadata=b"m" * (10 << 20))
        except Closed:
            return
        except TimeoutError:
            if victim.own_rules:
                raise AssertionError("10 MiB of member metadata: no answer") from None
            return  # Kafka cannot store it and never answers
        allowed = (0, 10, 18, INVALID_REQUEST, 81, INCONSISTENT_PROTOCOL)
        expect(error in allowed, f"10 MiB of member metadata: error {error}")
        body = string(group) + string(member)
        connection.request(wire.LEAVE_GROUP, 1, body)


@check(quick=True)
def wrong_members_and_generations(victim):
    topic, group = victim.topic(), victim.name("group")
    with victim.connect(30) as connection:
        ready_coordinator(connection, group)
        equal(heartbeat(connection, group, 1, "nobody"), UNKNOWN_MEMBER, "a heartbeat to an unknown group")
        equal(sync(connection, group, 1, "nobody")[0], UNKNOWN_MEMBER, "a sync to an unknown group")
        error, generation, member = join(connection, group)
        equal(error, 0, "joining")
        equal(heartbeat(connection, group, generation, "nobody"), UNKNOWN_MEMBER, "a stranger's heartbeat")
        equal(sync(connection, group, generation + 1, member)[0], ILLEGAL_GENERATION, "a sync of the next generation")
        error, assignment = sync(connection, group, generation, member, [(member, b"mine"), ("ghost", b"x")])
        equal((error, assignment), (0, b"mine"), "the sync")
        equal(heartbeat(connection, group, generation, member), 0, "a good heartbeat")
        for wrong in (generation - 1, generation + 1, -1, 2**31 - 1):
            equal(heartbeat(connection, group, wrong, member), ILLEGAL_GENERATION, f"a heartbeat of generation {wrong}")
            if wrong != -1:
                equal(commit(connection, group, wrong, member, topic), ILLEGAL_GENERATION, f"a commit of generation {wrong}")
        equal(commit(connection, group, generation, "nobody", topic), UNKNOWN_MEMBER, "a stranger's commit")
        equal(commit(connection, group, -1, "", topic), UNKNOWN_MEMBER, "a simple consumer's commit to a living group")
        equal(commit(connection, group, generation, member, topic), 0, "a good commit")
        equal(join(connection, group, protocol="other")[0], INCONSISTENT_PROTOCOL, "a second with another protocol")
        equal(join(connection, group, kind="connect")[0], INCONSISTENT_PROTOCOL, "a second of another type")
        connection.request(wire.LEAVE_GROUP, 1, string(group) + string(member))
        equal(heartbeat(connection, group, generation, member), UNKNOWN_MEMBER, "a heartbeat after leaving")
        equal(commit(connection, group, -1, "", topic), 0, "a simple consumer's commit to an empty group")


@check(quick=True)
def commits_that_cannot_be(victim):
    topic, group = victim.topic(), victim.name("group")
    with victim.connect(30) as connection:
        ready_coordinator(connection, group)
        for size in (4097, 32767):
            error = commit(connection, group, -1, "", topic, metadata="m" * size)
            equal(error, OFFSET_METADATA_TOO_LARGE, f"{size} bytes of metadata")
        equal(commit(connection, group, -1, "", topic, metadata="m" * 4096), 0, "4096 bytes of metadata")
        equal(commit(connection, group, -1, "", victim.name("none")), UNKNOWN_TOPIC, "an unknown topic")
        equal(commit(connection, group, -1, "", topic, partition=77), UNKNOWN_TOPIC, "an unknown partition")
        error = commit(connection, group, -1, "", topic, offset=-5)
        expect(error in (0, INVALID_REQUEST, 1, 28), f"offset -5: error {error}")
        error = commit(connection, "", -1, "", topic)
        expect(error in (0, INVALID_GROUP_ID), f"a commit of the nameless group: error {error}")


@check(seconds=120)
def groups_without_end(victim):
    """Thousands of groups with a commit each: served, and small."""
    topic = victim.topic()
    with victim.connect(60) as connection:
        ready_coordinator(connection, victim.name("g0"))
        for number in range(2000):
            error = commit(connection, victim.name(f"g{number}"), -1, "", topic)
            expect(error in (0, 14, 15, 16), f"group {number}: error {error}")


@check()
def writing_to_the_offsets_topic(victim):
    """__consumer_offsets is not for clients to write, create or delete."""
    with victim.connect() as connection:
        ready_coordinator(connection, victim.name("group"))
        error = wire.produce(connection, "__consumer_offsets", wire.batch())[0]
        equal(error, INVALID_TOPIC, "producing to __consumer_offsets")
    expect(victim.create("__consumer_offsets") in (TOPIC_EXISTS, INVALID_TOPIC), "it could be created")
