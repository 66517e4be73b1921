//! Rows 25 to 32: well-formed requests that ask for what must not be.

use bytes::Bytes;
use strom_cluster::codes::*;
use strom_cluster::group::{Member, wait_coordinator};
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_kafka_codec::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use strom_kafka_codec::messages::fetch_request::ReplicaState;
use strom_kafka_codec::messages::{CreateTopicsRequest, FetchResponse};
use strom_testkit::Member as Process;

use crate::target::Target;

#[tokio::test]
async fn row_25_a_client_that_poses_as_a_replica() {
    let mut target = Target::start().await;
    let mut raw = target.known().await;
    create_topic(&mut raw, "led", 1, &[]).await;
    produce_values(&mut raw, "led", 0, &["a"]).await;
    let before = fetch(&mut raw, "led", 0, 0).await;
    target
        .survives("a fetch as replica", async {
            let mut old = fetch_request("led", 0, 1_000_000);
            old.replica_id = 0;
            let mut new = fetch_request("led", 0, 1_000_000);
            new.replica_state = ReplicaState {
                replica_id: 1,
                replica_epoch: 5,
            };
            let mut topic = new.topics.first().unwrap().clone();
            topic.topic_id = describe_topic(&mut raw, "led", false).await.topic_id;
            new.topics = vec![topic];
            for (version, request) in [(FETCH, old), (17, new)] {
                let reply = raw.call(version, &request).await;
                let data = reply.responses.first().unwrap().partitions.first().unwrap();
                assert_eq!(
                    (data.error_code, data.high_watermark),
                    (TOPIC_AUTHORIZATION_FAILED, -1),
                    "{version}"
                );
            }
            let after = fetch(&mut raw, "led", 0, 0).await;
            assert_eq!(after, before, "nothing has moved");
        })
        .await;
}

#[tokio::test]
async fn row_26_fetches_that_ask_for_everything_and_for_ever() {
    let mut target = Target::start().await;
    let mut raw = target.known().await;
    create_topic(&mut raw, "full", 1, &[]).await;
    let value = "v".repeat(200_000);
    for _ in 0..20 {
        produce_values(&mut raw, "full", 0, &[&value]).await;
    }
    let mut everything = fetch_request("full", 0, 0);
    everything.max_bytes = i32::MAX;
    everything
        .topics
        .first_mut()
        .unwrap()
        .partitions
        .first_mut()
        .unwrap()
        .partition_max_bytes = i32::MAX;
    let mut for_ever = fetch_request("full", 0, 20);
    (for_ever.max_bytes, for_ever.min_bytes, for_ever.max_wait_ms) = (i32::MAX, i32::MAX, i32::MAX);
    let bootstrap = target.cluster.bootstrap();
    target
        .survives("everything at once, one after the other", async {
            for _ in 0..20 {
                let mut raw = Raw::connect(&bootstrap).await;
                let reply = raw.call(FETCH, &everything).await;
                assert_eq!(
                    records_of(&reply.responses.first().unwrap().partitions[0]).len(),
                    20
                );
            }
        })
        .await;
    let mut waiting = Vec::new();
    target
        .survives("a hundred that wait for ever", async {
            for _ in 0..100 {
                let mut raw = Raw::connect(&bootstrap).await;
                raw.send(FETCH, &for_ever).await;
                waiting.push(raw);
            }
        })
        .await;
    // They still wait, and go away when the client does.
    for raw in &mut waiting {
        raw.hang_up().await;
        assert_eq!(raw.frame().await, None);
    }
    let open = || {
        target.cluster.metric(
            Process::Gateway(0),
            "kafka_server_socket_server_metrics_connection_count",
            &[],
        )
    };
    strom_cluster::until("their connections are gone", || async {
        (open() <= 2.0).then_some(())
    })
    .await;
    // Negative sizes and times are none.
    let mut negative = fetch_request("full", 0, 0);
    (negative.max_bytes, negative.min_bytes, negative.max_wait_ms) = (-1, -1, -1);
    raw.send(FETCH, &negative).await;
    let (_, reply) = raw.receive::<FetchResponse>(FETCH).await;
    assert_eq!(reply.error_code, NONE);
}

fn creatable(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned().into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    }
}

async fn create(raw: &mut Raw, topic: CreatableTopic) -> i16 {
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 5_000,
        ..Default::default()
    };
    raw.call(CREATE_TOPICS, &request)
        .await
        .topics
        .first()
        .unwrap()
        .error_code
}

#[tokio::test]
async fn row_28_illegal_topic_names() {
    let mut target = Target::start().await;
    let mut raw = target.known().await;
    let scratch = target.cluster.scratch_dir().to_owned();
    let listing = || {
        let names = std::fs::read_dir(&scratch)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let before = listing();
    assert_eq!(create(&mut raw, creatable("a.b")).await, NONE);
    let long = "x".repeat(250);
    let names = [
        "",
        ".",
        "..",
        "../../etc",
        "/etc",
        "a\0b",
        "a b",
        "ünicode",
        "a/b",
        "a\\b",
        &long,
        "a_b",
    ];
    for name in names {
        target
            .survives(&format!("a topic of the name {name:?}"), async {
                assert_eq!(
                    create(&mut raw, creatable(name)).await,
                    INVALID_TOPIC_EXCEPTION,
                    "{name:?}"
                );
            })
            .await;
    }
    assert_eq!(create(&mut raw, creatable(&"x".repeat(249))).await, NONE);
    assert_eq!(listing(), before, "files outside the data directory");
}

#[tokio::test]
async fn row_29_impossible_topics() {
    let mut target = Target::start().await;
    let mut raw = target.known().await;
    let assigned = |brokers: Vec<i32>| CreatableTopic {
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![CreatableReplicaAssignment {
            partition_index: 0,
            broker_ids: brokers,
        }],
        ..creatable("impossible")
    };
    let partitions = |num_partitions| CreatableTopic {
        num_partitions,
        ..creatable("impossible")
    };
    let copies = |replication_factor| CreatableTopic {
        replication_factor,
        ..creatable("impossible")
    };
    let gap = CreatableTopic {
        assignments: vec![CreatableReplicaAssignment {
            partition_index: 5,
            broker_ids: vec![0],
        }],
        ..assigned(vec![])
    };
    let rows = [
        ("10^6 partitions", partitions(1_000_000), POLICY_VIOLATION),
        ("2^31-1 partitions", partitions(i32::MAX), POLICY_VIOLATION),
        ("0 partitions", partitions(0), INVALID_PARTITIONS),
        ("-5 partitions", partitions(-5), INVALID_PARTITIONS),
        ("32767 copies", copies(i16::MAX), INVALID_REPLICATION_FACTOR),
        ("2 copies on one broker", copies(2), INVALID_REPLICATION_FACTOR),
        ("0 copies", copies(0), INVALID_REPLICATION_FACTOR),
        ("-7 copies", copies(-7), INVALID_REPLICATION_FACTOR),
        (
            "a replica twice",
            assigned(vec![0, 0]),
            INVALID_REPLICA_ASSIGNMENT,
        ),
        ("an unknown broker", assigned(vec![7]), INVALID_REPLICA_ASSIGNMENT),
        ("a broker of -1", assigned(vec![-1]), INVALID_REPLICA_ASSIGNMENT),
        ("no replica", assigned(vec![]), INVALID_REPLICA_ASSIGNMENT),
        ("a gap in the partitions", gap, INVALID_REPLICA_ASSIGNMENT),
    ];
    for (name, topic, expected) in rows {
        target
            .survives(name, async {
                assert_eq!(create(&mut raw, topic).await, expected, "{name}");
            })
            .await;
    }
    target
        .survives("10,000 topics of a bad name in one request", async {
            let topics = (0..10_000).map(|n| creatable(&format!("bad name {n}"))).collect();
            let request = CreateTopicsRequest {
                topics,
                timeout_ms: 5_000,
                ..Default::default()
            };
            let reply = raw.call(CREATE_TOPICS, &request).await;
            assert!(
                reply
                    .topics
                    .iter()
                    .all(|topic| topic.error_code == INVALID_TOPIC_EXCEPTION)
            );
        })
        .await;
    assert_eq!(
        describe_topic(&mut raw, "impossible", false).await.error_code,
        UNKNOWN_TOPIC_OR_PARTITION
    );
}

#[tokio::test]
async fn row_30_impossible_configs() {
    let mut target = Target::start().await;
    let mut raw = target.known().await;
    let huge = "9".repeat(32_000);
    let rows = [
        ("no.such.key", "1"),
        ("retention.ms", "NaN"),
        ("retention.ms", "-2"),
        ("segment.bytes", "-1"),
        ("segment.bytes", "1.5"),
        ("segment.bytes", huge.as_str()),
        ("cleanup.policy", "burn"),
        ("compression.type", "brotli"),
        ("min.insync.replicas", "0"),
        ("max.message.bytes", "99999999999999999999"),
        ("message.timestamp.type", ""),
    ];
    for (key, value) in rows {
        let shown = value.get(..20).unwrap_or(value);
        let name = format!("{key}={shown}");
        target
            .survives(&name, async {
                let config = CreatableTopicConfig {
                    name: key.into(),
                    value: Some(value.to_owned().into()),
                };
                let topic = CreatableTopic {
                    configs: vec![config],
                    ..creatable("configured")
                };
                assert_eq!(
                    create(&mut raw, topic).await,
                    INVALID_CONFIG,
                    "{name} at creation"
                );
                assert_eq!(
                    alter_config(&mut raw, (TOPIC_RESOURCE, "healthy"), key, value).await,
                    INVALID_CONFIG,
                    "{name} later"
                );
            })
            .await;
    }
    let unknown = describe_topic(&mut raw, "configured", false).await.error_code;
    assert_eq!(unknown, UNKNOWN_TOPIC_OR_PARTITION, "nothing was made");
}

#[tokio::test]
async fn row_31_members_without_measure() {
    let mut target = Target::start().await;
    let mut raw = target.known().await;
    wait_coordinator(&mut raw, "crowd").await;
    target
        .survives("3,000 members that never come back", async {
            for n in 0..3_000 {
                let mut member = Member::new("crowd");
                member.send_join(&mut raw).await;
                assert_eq!(
                    member.joined(&mut raw).await.error_code,
                    MEMBER_ID_REQUIRED,
                    "member {n}"
                );
            }
        })
        .await;
    target
        .survives("the id of a member of another group", async {
            let mut member = Member::new("one");
            assert_eq!(member.join(&mut raw).await.error_code, NONE);
            let thief = Member {
                group: "crowd".to_owned(),
                ..member
            };
            assert_eq!(thief.heartbeat(&mut raw).await, UNKNOWN_MEMBER_ID);
            let mut thief = thief;
            thief.send_join(&mut raw).await;
            assert_eq!(thief.joined(&mut raw).await.error_code, UNKNOWN_MEMBER_ID);
        })
        .await;
    target
        .survives("10 MiB of metadata", async {
            let mut request = Member::new("fat").join_request();
            request.protocols.first_mut().unwrap().metadata = Bytes::from(vec![0; 10 << 20]);
            let first = raw.call(7, &request).await;
            let code = match first.error_code {
                MEMBER_ID_REQUIRED => {
                    request.member_id = first.member_id;
                    raw.call(7, &request).await.error_code
                }
                code => code,
            };
            assert!(
                [INVALID_REQUEST, MESSAGE_TOO_LARGE].contains(&code),
                "error {code}"
            );
        })
        .await;
    for (name, change, codes) in [
        (
            "a session of -1",
            (-1, 10_000),
            [INVALID_SESSION_TIMEOUT, INVALID_SESSION_TIMEOUT],
        ),
        (
            "a session of 2^31-1",
            (i32::MAX, 10_000),
            [INVALID_SESSION_TIMEOUT, INVALID_SESSION_TIMEOUT],
        ),
        // As in Kafka: then nobody is waited for.
        (
            "a rebalance time-out of -1",
            (10_000, -1),
            [NONE, INVALID_REQUEST],
        ),
    ] {
        let mut member = Member::new("odd");
        (member.session_timeout_ms, member.rebalance_timeout_ms) = change;
        target
            .survives(name, async {
                let code = member.join(&mut raw).await.error_code;
                assert!(codes.contains(&code), "{name}: error {code}");
            })
            .await;
    }
    target
        .survives("a member without protocols", async {
            let mut request = Member::new("none").join_request();
            request.protocols.clear();
            let code = raw.call(7, &request).await.error_code;
            assert!(
                [INCONSISTENT_GROUP_PROTOCOL, MEMBER_ID_REQUIRED].contains(&code),
                "error {code}"
            );
        })
        .await;
}

#[tokio::test]
async fn row_32_commits_without_measure() {
    let mut target = Target::start().await;
    let mut raw = target.known().await;
    wait_coordinator(&mut raw, "commits").await;
    let member = Member::new("commits");
    target
        .survives("1 MiB of metadata with an offset", async {
            let large = "m".repeat(32_000);
            assert_eq!(
                member.commit(&mut raw, "healthy", 1, &large).await,
                OFFSET_METADATA_TOO_LARGE
            );
        })
        .await;
    target
        .survives("a negative offset", async {
            for offset in [-5, i64::MIN] {
                let code = member.commit(&mut raw, "healthy", offset, "").await;
                assert_eq!(code, INVALID_REQUEST, "offset {offset}");
            }
        })
        .await;
    target
        .survives("an unknown topic", async {
            let code = member.commit(&mut raw, "nowhere", 1, "").await;
            assert_eq!(code, UNKNOWN_TOPIC_OR_PARTITION);
        })
        .await;
}
