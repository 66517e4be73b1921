//! CreateTopics, DeleteTopics, CreatePartitions.

use std::collections::BTreeMap;
use std::time::Instant;

use super::super::{Command, Reply};
use super::{code, refusal};
use crate::testing::{TestBroker, World, topic_id, uuid_bytes};
use crate::v1;
use strom_types::ErrorCode;

fn new_topic(name: &str, partitions: i32, replication_factor: i32) -> v1::NewTopic {
    v1::NewTopic {
        name: name.into(),
        partitions,
        replication_factor,
        topic_id: uuid_bytes(77),
        ..Default::default()
    }
}

fn assigned(lists: &[(i32, &[i32])]) -> v1::NewTopic {
    let list = |(partition, brokers): &(i32, &[i32])| v1::ReplicaAssignment {
        partition: *partition,
        brokers: brokers.to_vec(),
    };
    v1::NewTopic {
        assignments: lists.iter().map(list).collect(),
        ..new_topic("t", -1, -1)
    }
}

fn configured(key: &str, value: &str) -> v1::NewTopic {
    v1::NewTopic {
        configs: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ..new_topic("t", 1, 1)
    }
}

fn create(world: &mut World, topics: Vec<v1::NewTopic>, validate_only: bool) -> v1::CreateTopicsReply {
    let request = v1::CreateTopicsRequest {
        topics,
        validate_only,
    };
    match world.run(Command::CreateTopics(request)) {
        Ok(Reply::CreateTopics(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

fn cluster() -> World {
    World::new(&[
        TestBroker::active(1),
        TestBroker::active(2),
        TestBroker::active(3),
        TestBroker::fenced(4),
    ])
}

#[test]
fn refusals_name_the_right_error_and_write_nothing() {
    use ErrorCode::*;
    let long = "x".repeat(250);
    let cases = vec![
        (new_topic("", 1, 1), InvalidTopicException, "empty"),
        (new_topic("..", 1, 1), InvalidTopicException, ".."),
        (new_topic("a/b", 1, 1), InvalidTopicException, "character"),
        (new_topic(&long, 1, 1), InvalidTopicException, "longer"),
        (
            new_topic("taken", 1, 1),
            TopicAlreadyExists,
            "Topic 'taken' already exists.",
        ),
        (
            new_topic("da.ta_1", 1, 1),
            InvalidTopicException,
            "collides with existing topic: da_ta_1",
        ),
        (new_topic("t", 0, 1), InvalidPartitions, "non-positive"),
        (new_topic("t", -2, 1), InvalidPartitions, "non-positive"),
        (new_topic("t", 1, 0), InvalidReplicationFactor, "larger than 0"),
        (new_topic("t", 1, -2), InvalidReplicationFactor, "larger than 0"),
        (
            new_topic("t", 1, 5),
            InvalidReplicationFactor,
            "only 4 broker(s) are registered",
        ),
        (configured("no.such.key", "1"), InvalidConfig, "no.such.key"),
        (configured("retention.ms", "soon"), InvalidConfig, "retention.ms"),
        (
            configured("min.insync.replicas", "0"),
            InvalidConfig,
            "min.insync.replicas",
        ),
        (
            v1::NewTopic {
                partitions: 1,
                ..assigned(&[(0, &[1])])
            },
            InvalidRequest,
            "number of partitions",
        ),
        (
            v1::NewTopic {
                replication_factor: 1,
                ..assigned(&[(0, &[1])])
            },
            InvalidRequest,
            "replication factor",
        ),
        (
            assigned(&[(0, &[1]), (2, &[1])]),
            InvalidReplicaAssignment,
            "consecutive",
        ),
        (
            assigned(&[(0, &[1]), (0, &[2])]),
            InvalidReplicaAssignment,
            "consecutive",
        ),
        (
            assigned(&[(0, &[])]),
            InvalidReplicaAssignment,
            "empty replica list",
        ),
        (
            assigned(&[(0, &[9])]),
            InvalidReplicaAssignment,
            "no such broker is registered",
        ),
        (
            assigned(&[(0, &[-1])]),
            InvalidReplicaAssignment,
            "no such broker is registered",
        ),
        (
            assigned(&[(0, &[1, 1])]),
            InvalidReplicaAssignment,
            "more than once",
        ),
        (
            assigned(&[(0, &[1]), (1, &[1, 2])]),
            InvalidReplicaAssignment,
            "not consistent",
        ),
        (assigned(&[(0, &[4])]), InvalidReplicaAssignment, "fenced"),
        (
            v1::NewTopic {
                topic_id: Default::default(),
                ..new_topic("t", 1, 1)
            },
            InvalidRequest,
            "id",
        ),
        (
            v1::NewTopic {
                topic_id: uuid_bytes(0),
                ..new_topic("t", 1, 1)
            },
            InvalidRequest,
            "id",
        ),
    ];
    let mut world = cluster();
    world.create("taken", &[&[1]], &[]);
    world.create("da_ta_1", &[&[1]], &[]);
    let before = world.image.clone();
    for (topic, want, text) in cases {
        let reply = create(&mut world, vec![topic.clone()], false);
        let error = reply.results[0].error.as_ref();
        assert_eq!(code(error), want, "{topic:?}");
        let message = &error.expect("an error").message;
        assert!(message.contains(text), "{message:?} has no {text:?}");
        assert_eq!(world.image, before);
    }
}

#[test]
fn good_and_bad_topics_of_one_request_do_not_mix() {
    let mut world = cluster();
    let named = |name: &str, id| v1::NewTopic {
        topic_id: uuid_bytes(id),
        ..new_topic(name, 2, 2)
    };
    let topics = vec![
        named("a.b", 1),
        named("a_b", 2),
        named("twice", 3),
        named("twice", 4),
        named("fine", 5),
        named("same-id", 5),
    ];
    let reply = create(&mut world, topics, false);
    let codes: Vec<_> = reply.results.iter().map(|r| code(r.error.as_ref())).collect();
    use ErrorCode::{InvalidRequest, InvalidTopicException, None};
    assert_eq!(
        codes,
        [
            None,
            InvalidTopicException,
            InvalidRequest,
            InvalidRequest,
            None,
            InvalidRequest
        ]
    );
    assert_eq!(reply.metadata_offset, world.image.index.get());
    let names: Vec<_> = world.image.topics().map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["a.b", "fine"]);
}

#[test]
fn defaults_come_from_the_configs() {
    let mut world = cluster();
    let statics = [
        ("num.partitions", "4"),
        ("default.replication.factor", "3"),
        ("min.insync.replicas", "2"),
    ];
    world.settings.static_configs = statics.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let reply = create(&mut world, vec![new_topic("t", -1, -1)], false);
    assert_eq!(
        (reply.results[0].partitions, reply.results[0].replication_factor),
        (4, 3)
    );
    let state = world.partition(topic_id(77), 3);
    assert_eq!(
        (state.min_isr, state.isr.len(), state.leader),
        (2, 3, state.replicas.first().copied())
    );
    let reply = create(
        &mut world,
        vec![v1::NewTopic {
            topic_id: uuid_bytes(78),
            ..new_topic("one", 1, 1)
        }],
        false,
    );
    assert_eq!(code(reply.results[0].error.as_ref()), ErrorCode::None);
    assert_eq!(
        world.partition(topic_id(78), 0).min_isr,
        1,
        "never more than the replicas"
    );
}

#[test]
fn validate_only_answers_as_if_but_writes_nothing() {
    let mut world = cluster();
    let before = world.image.clone();
    let reply = create(
        &mut world,
        vec![new_topic("t", 3, 2), new_topic("t.t", 1, 9)],
        true,
    );
    assert_eq!(reply.results[0].partitions, 3);
    assert_eq!(code(reply.results[1].error.as_ref()), ErrorCode::InvalidRequest);
    assert_eq!(world.image, before);
}

#[test]
fn a_retried_creation_is_not_a_second_topic() {
    let mut world = cluster();
    create(&mut world, vec![new_topic("t", 3, 2)], false);
    let again = create(&mut world, vec![new_topic("t", 3, 2)], false);
    assert_eq!(again.results[0].error, None);
    assert_eq!(
        (again.results[0].partitions, again.results[0].replication_factor),
        (3, 2)
    );
    let other = v1::NewTopic {
        topic_id: uuid_bytes(78),
        ..new_topic("t", 3, 2)
    };
    let reply = create(&mut world, vec![other], false);
    assert_eq!(
        code(reply.results[0].error.as_ref()),
        ErrorCode::TopicAlreadyExists
    );
}

#[test]
fn fenced_replicas_are_assigned_but_not_in_sync() {
    let mut world = cluster();
    let topic = world.create("t", &[&[4, 2, 1]], &[("min.insync.replicas", "2")]);
    assert_eq!(world.state(topic, 0), (2, vec![2, 1], vec![]));
    let internal = world.create("__consumer_offsets", &[&[1]], &[]);
    assert!(world.image.topic(internal).expect("exists").internal);
}

#[test]
fn the_durability_in_force_is_written_down_when_it_is_weaker() {
    let mut world = cluster();
    let plain = world.create("plain", &[&[1]], &[]);
    world.settings.static_configs = [("strom.durability".to_owned(), "page_cache".to_owned())].into();
    let weak = world.create("weak", &[&[1]], &[]);
    let strong = world.create("strong", &[&[1]], &[("strom.durability", "durable")]);
    let modes = [plain, weak, strong].map(|id| world.image.is_page_cache_topic(id));
    assert_eq!(modes, [false, true, false]);
}

#[test]
fn limits_on_partitions() {
    let mut world = cluster();
    let big = v1::CreateTopicsRequest {
        topics: vec![new_topic("a", 6_000, 1), new_topic("b", 6_000, 1)],
        validate_only: false,
    };
    assert_eq!(
        refusal(world.run(Command::CreateTopics(big))),
        ErrorCode::PolicyViolation
    );
    world.settings.partitions_max = 10;
    let reply = create(&mut world, vec![new_topic("t", 11, 1)], false);
    assert_eq!(code(reply.results[0].error.as_ref()), ErrorCode::PolicyViolation);
}

#[test]
fn deletion_by_id_or_name_takes_configs_along() {
    let mut world = cluster();
    let a = world.create("a", &[&[1]], &[("retention.ms", "5")]);
    world.create("b", &[&[1]], &[]);
    world.create("c", &[&[1]], &[]);
    let named = |name: &str, id: Option<u128>| v1::TopicName {
        name: name.into(),
        topic_id: id.map(uuid_bytes).unwrap_or_default(),
    };
    let request = v1::DeleteTopicsRequest {
        topics: vec![
            v1::TopicName {
                name: String::new(),
                topic_id: bytes::Bytes::copy_from_slice(a.as_bytes()),
            },
            named("b", None),
            named("c", None),
            named("c", None),
            named("no", None),
            named("", Some(999)),
            named("b", Some(999)),
        ],
    };
    let reply = match world.run(Command::DeleteTopics(request.clone())) {
        Ok(Reply::DeleteTopics(reply)) => reply,
        other => panic!("{other:?}"),
    };
    let codes: Vec<_> = reply.results.iter().map(|r| code(r.error.as_ref())).collect();
    use ErrorCode::{InvalidRequest, UnknownTopicId, UnknownTopicOrPartition};
    assert_eq!(
        codes,
        [
            ErrorCode::None,
            ErrorCode::None,
            InvalidRequest,
            InvalidRequest,
            UnknownTopicOrPartition,
            UnknownTopicId,
            InvalidRequest
        ]
    );
    assert_eq!(reply.results[0].name, "a");
    assert_eq!(world.image.topic_count(), 1, "one named twice stays");
    assert_eq!(world.image.configs().count(), 0);
    world.settings.static_configs = [("delete.topic.enable".to_owned(), "false".to_owned())].into();
    assert_eq!(
        refusal(world.run(Command::DeleteTopics(request))),
        ErrorCode::TopicDeletionDisabled
    );
}

#[test]
fn topics_grow_and_never_shrink() {
    let mut world = cluster();
    let t = world.create("t", &[&[1, 2], &[2, 3]], &[("min.insync.replicas", "2")]);
    let grow = |world: &mut World, name: &str, count: i32, lists: &[&[i32]], validate_only: bool| {
        let assignments = lists.iter().map(|brokers| v1::ReplicaAssignment {
            partition: 0,
            brokers: brokers.to_vec(),
        });
        let request = v1::CreatePartitionsRequest {
            topics: vec![v1::NewPartitions {
                name: name.into(),
                count,
                assignments: assignments.collect(),
            }],
            validate_only,
        };
        match world.run(Command::CreatePartitions(request)) {
            Ok(Reply::CreatePartitions(reply)) => code(reply.results[0].error.as_ref()),
            other => panic!("{other:?}"),
        }
    };
    use ErrorCode::{
        InvalidPartitions, InvalidReplicaAssignment, None, PolicyViolation, UnknownTopicOrPartition,
    };
    let bad: [(&str, i32, &[&[i32]], ErrorCode); 9] = [
        ("no", 3, &[], UnknownTopicOrPartition),
        ("t", 2, &[], InvalidPartitions),
        ("t", 1, &[], InvalidPartitions),
        ("t", -1, &[], InvalidPartitions),
        ("t", 20_000, &[], PolicyViolation),
        ("t", 4, &[&[1, 2]], InvalidReplicaAssignment),
        ("t", 3, &[&[1]], InvalidReplicaAssignment),
        ("t", 3, &[&[1, 9]], InvalidReplicaAssignment),
        ("t", 3, &[&[4]], InvalidReplicaAssignment),
    ];
    for (name, count, lists, want) in bad {
        assert_eq!(
            grow(&mut world, name, count, lists, false),
            want,
            "{name} {count} {lists:?}"
        );
    }
    assert_eq!(grow(&mut world, "t", 4, &[], true), None);
    assert_eq!(world.image.partition_count(), 2);
    assert_eq!(grow(&mut world, "t", 3, &[&[3, 1]], false), None);
    assert_eq!(grow(&mut world, "t", 5, &[], false), None);
    assert_eq!(world.state(t, 2), (3, vec![3, 1], vec![]));
    assert_eq!(world.partition(t, 4).replicas.len(), 2);
    assert_eq!(world.partition(t, 4).min_isr, 2);
}

#[test]
fn a_hundred_thousand_partitions_are_routine() {
    let mut world = World::with_active(&[1, 2, 3]);
    let start = Instant::now();
    for n in 0..100u128 {
        let topic = v1::NewTopic {
            topic_id: uuid_bytes(10_000 + n),
            ..new_topic(&format!("t{n}"), 1_000, 3)
        };
        let reply = create(&mut world, vec![topic], false);
        assert_eq!(reply.results[0].error, None);
    }
    let created = start.elapsed();
    let start = Instant::now();
    let records: Vec<_> = world.image.to_records().collect();
    let bytes: usize = records.iter().map(prost::Message::encoded_len).sum();
    let again = crate::Image::from_records(world.image.index, records).expect("rebuilds");
    let snapshot = start.elapsed();
    assert_eq!(again, world.image);
    let start = Instant::now();
    let fence = super::super::BrokerChange::fence(strom_types::BrokerId(1), world.epoch(1));
    world.run(Command::ChangeBroker(fence)).expect("fences");
    println!(
        "100,000 partitions: created in {created:?}, snapshot of {bytes} bytes and back in {snapshot:?}, \
         a broker fenced in {:?}",
        start.elapsed()
    );
    let led: usize = world
        .image
        .partitions()
        .filter(|(_, state)| state.leader.is_some())
        .count();
    assert_eq!(led, 100_000);
}
