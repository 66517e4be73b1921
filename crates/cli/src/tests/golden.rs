//! What people and programs see, word for word: `tests/golden/*`. `STROM_UPDATE_GOLDEN=1 cargo test -p strom-cli`
//! writes the files anew; read the difference before you commit it.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use strom_kafka_codec::ApiKey;
use strom_kafka_codec::messages::describe_cluster_response::DescribeClusterBroker;
use strom_kafka_codec::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use strom_kafka_codec::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use strom_kafka_codec::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use strom_kafka_codec::messages::describe_quorum_response::{PartitionData, ReplicaState, TopicData};
use strom_kafka_codec::messages::list_groups_response::ListedGroup;
use strom_kafka_codec::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use strom_kafka_codec::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use strom_kafka_codec::messages::*;

use super::fake_broker::{Answer, Call, FakeBroker};
use super::{Cli, strom};
use crate::ExitCode;

pub(super) fn check(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("STROM_UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == found, "{name} has changed; it is now:\n{found}");
}

/// The help of every verb, in one file.
#[test]
fn help() {
    let mut text = String::new();
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut commands = vec![("strom".to_owned(), root)];
    while let Some((name, mut command)) = commands.pop() {
        text.push_str(&format!("==== {name}\n{}\n", command.render_long_help()));
        let children = command
            .get_subcommands()
            .filter(|child| child.get_name() != "help");
        let mut children: Vec<_> = children
            .map(|child| (format!("{name} {}", child.get_name()), child.clone()))
            .collect();
        children.reverse();
        commands.extend(children);
    }
    check("help.txt", &text);
}

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
}

fn answer(call: &Call) -> Answer {
    match call.key {
        ApiKey::DescribeConfigs => call.reply(&configs()),
        ApiKey::DescribeCluster => call.reply(&cluster(call)),
        ApiKey::ListOffsets => {
            let request: ListOffsetsRequest = call.read();
            let offset = if request.topics[0].partitions[0].timestamp == -2 {
                10
            } else {
                1000
            };
            let partitions = (0..2).map(|partition_index| ListOffsetsPartitionResponse {
                partition_index,
                offset: offset + i64::from(partition_index),
                ..Default::default()
            });
            let topic = ListOffsetsTopicResponse {
                name: "orders".into(),
                partitions: partitions.collect(),
            };
            call.reply(&ListOffsetsResponse {
                topics: vec![topic],
                ..Default::default()
            })
        }
        ApiKey::DescribeGroups => call.reply(&group()),
        ApiKey::ListGroups => call.reply(&ListGroupsResponse {
            groups: vec![
                ListedGroup {
                    group_id: "readers".into(),
                    protocol_type: "consumer".into(),
                    group_state: "Stable".into(),
                    group_type: "classic".into(),
                },
                ListedGroup {
                    group_id: "idle".into(),
                    group_state: "Empty".into(),
                    ..Default::default()
                },
            ],
            ..Default::default()
        }),
        ApiKey::OffsetFetch => {
            let partition = OffsetFetchResponsePartition {
                committed_offset: 990,
                ..Default::default()
            };
            let gone = OffsetFetchResponsePartition {
                committed_offset: 5,
                ..Default::default()
            };
            call.reply(&OffsetFetchResponse {
                topics: vec![
                    OffsetFetchResponseTopic {
                        name: "orders".into(),
                        partitions: vec![partition],
                    },
                    OffsetFetchResponseTopic {
                        name: "deleted".into(),
                        partitions: vec![gone],
                    },
                ],
                ..Default::default()
            })
        }
        ApiKey::DescribeQuorum => call.reply(&quorum()),
        ApiKey::DescribeLogDirs => call.reply(&log_dirs()),
        _ => call.basics(&[("orders", 2), ("__consumer_offsets", 3)]),
    }
}

fn configs() -> DescribeConfigsResponse {
    let config = |name: &'static str, value: &'static str, source: i8| DescribeConfigsResourceResult {
        name: name.into(),
        value: (!value.is_empty()).then(|| value.into()),
        config_source: source,
        config_type: 5,
        is_sensitive: value.is_empty(),
        read_only: source == 4,
        synonyms: vec![DescribeConfigsSynonym {
            name: name.into(),
            value: Some("7".into()),
            source: 5,
        }],
        ..Default::default()
    };
    let all = vec![
        config("retention.ms", "86400000", 1),
        config("cleanup.policy", "delete", 5),
        config("ssl.key.password", "", 4),
    ];
    DescribeConfigsResponse {
        results: vec![DescribeConfigsResult {
            configs: all,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn cluster(call: &Call) -> DescribeClusterResponse {
    let broker = |broker_id, rack: Option<&'static str>, is_fenced| DescribeClusterBroker {
        broker_id,
        host: "127.0.0.1".into(),
        port: i32::from(call.port),
        rack: rack.map(Into::into),
        is_fenced,
    };
    DescribeClusterResponse {
        cluster_id: "fake".into(),
        controller_id: 1,
        brokers: vec![broker(2, Some("b"), true), broker(1, None, false)],
        ..Default::default()
    }
}

fn log_dirs() -> DescribeLogDirsResponse {
    let partition = |partition_index, partition_size| DescribeLogDirsPartition {
        partition_index,
        partition_size,
        ..Default::default()
    };
    let topic = DescribeLogDirsTopic {
        name: "orders".into(),
        partitions: vec![partition(0, 3 << 20), partition(1, 1 << 20)],
    };
    let dir = DescribeLogDirsResult {
        log_dir: "/var/lib/strom".into(),
        topics: vec![topic],
        total_bytes: 100 << 30,
        usable_bytes: 40 << 30,
        ..Default::default()
    };
    let broken = DescribeLogDirsResult {
        error_code: 56,
        log_dir: "/mnt/broken".into(),
        ..Default::default()
    };
    DescribeLogDirsResponse {
        results: vec![dir, broken],
        ..Default::default()
    }
}

fn group() -> DescribeGroupsResponse {
    // Version 1; `orders` 0 and 1; no user data.
    let assignment = [
        &b"\0\x01\0\0\0\x01\0\x06orders\0\0\0\x02"[..],
        &[0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
    ];
    let member = DescribedGroupMember {
        member_id: "c-1".into(),
        client_id: "c".into(),
        client_host: "/10.0.0.1".into(),
        member_assignment: assignment.concat().into(),
        ..Default::default()
    };
    let group = DescribedGroup {
        group_id: "readers".into(),
        group_state: "Stable".into(),
        protocol_type: "consumer".into(),
        protocol_data: "range".into(),
        members: vec![member],
        ..Default::default()
    };
    DescribeGroupsResponse {
        groups: vec![group],
        ..Default::default()
    }
}

fn quorum() -> DescribeQuorumResponse {
    // Without times, which would differ from run to run.
    let replica = |replica_id, log_end_offset| ReplicaState {
        replica_id,
        replica_directory_id: uuid::Uuid::from_u128(9),
        log_end_offset,
        ..Default::default()
    };
    let state = PartitionData {
        leader_id: 1,
        leader_epoch: 3,
        high_watermark: 100,
        current_voters: vec![replica(1, 100), replica(2, 90)],
        observers: vec![replica(11, 100)],
        ..Default::default()
    };
    let topic = TopicData {
        topic_name: "__cluster_metadata".into(),
        partitions: vec![state],
    };
    DescribeQuorumResponse {
        topics: vec![topic],
        ..Default::default()
    }
}

#[tokio::test]
async fn results() {
    let broker = FakeBroker::start(answer).await;
    let port = broker.address.rsplit(':').next().unwrap();
    for (name, line) in [
        ("topic-list", "topic list --internal"),
        ("topic-describe", "topic describe orders --offsets"),
        ("config-describe", "config describe --topic orders --all"),
        ("broker-list", "broker list"),
        ("broker-describe", "broker describe"),
        ("group-list", "group list"),
        ("group-describe", "group describe readers"),
        ("group-reset", "group reset idle --topic orders --to-latest"),
        ("quorum-status", "quorum status"),
        ("api-versions", "api-versions"),
    ] {
        for format in ["table", "json"] {
            // `group reset` needs an idle group.
            let target = if name == "group-reset" {
                idle_broker().await
            } else {
                broker.address.clone()
            };
            let ran = strom(&target, &format!("{line} -o {format}"), "").await;
            assert_eq!(ran.code, ExitCode::Ok, "{line}: {}", ran.err);
            check(&format!("{name}.{format}"), &ran.out.replace(port, "PORT"));
        }
    }
}

async fn idle_broker() -> String {
    let broker = FakeBroker::start(|call| match call.key {
        ApiKey::DescribeGroups => {
            let mut idle = group();
            idle.groups[0].members.clear();
            call.reply(&idle)
        }
        _ => answer(call),
    })
    .await;
    broker.address
}
