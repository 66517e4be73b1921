//! Consuming as a member of a group: join, assign, resume, commit, rebalance, leave.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use strom_kafka_codec::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use strom_kafka_codec::messages::join_group_response::JoinGroupResponseMember;
use strom_kafka_codec::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use strom_kafka_codec::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use strom_kafka_codec::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use strom_kafka_codec::messages::*;
use strom_kafka_codec::{ApiKey, ByteStr};
use strom_records::{BatchBuilder, NewRecord};
use strom_types::ErrorCode;

use super::fake_broker::{Answer, Call, FakeBroker};
use super::strom;
use crate::ExitCode;

/// A coordinator with one member at a time, over `orders`: two partitions of five records each.
#[derive(Default)]
struct Coordinator {
    generation: i32,
    committed: Vec<(i32, i64)>,
    left: bool,
    /// Answers the next heartbeat with REBALANCE_IN_PROGRESS.
    rebalance: bool,
    /// There is nothing to fetch before this generation.
    quiet_until: i32,
}

const RECORDS: i64 = 5;

fn batch(partition: i32, from: i64) -> Bytes {
    let mut builder = BatchBuilder::new().base_offset(0);
    for offset in 0..RECORDS {
        let value = format!("{partition}:{offset}");
        builder
            .push(&NewRecord {
                timestamp: 1,
                value: Some(value.as_bytes()),
                ..Default::default()
            })
            .unwrap();
    }
    // The whole batch, also to one who wants only its end.
    if from < RECORDS {
        builder.build().unwrap()
    } else {
        Bytes::new()
    }
}

fn code(code: ErrorCode) -> i16 {
    code.kafka_code().unwrap()
}

impl Coordinator {
    fn answer(&mut self, call: &Call) -> Answer {
        match call.key {
            ApiKey::JoinGroup => self.join(call),
            ApiKey::SyncGroup => {
                let request: SyncGroupRequest = call.read();
                assert_eq!(request.generation_id, self.generation);
                let assignment = request.assignments[0].assignment.clone();
                call.reply(&SyncGroupResponse {
                    assignment,
                    ..Default::default()
                })
            }
            ApiKey::Heartbeat => {
                let moved = std::mem::take(&mut self.rebalance);
                let error_code = if moved {
                    code(ErrorCode::RebalanceInProgress)
                } else {
                    0
                };
                call.reply(&HeartbeatResponse {
                    error_code,
                    ..Default::default()
                })
            }
            ApiKey::LeaveGroup => {
                self.left = true;
                call.reply(&LeaveGroupResponse::default())
            }
            ApiKey::OffsetFetch => call.reply(&self.offsets()),
            ApiKey::OffsetCommit => self.commit(call),
            ApiKey::ListOffsets => list(call),
            ApiKey::Fetch => fetch(call, self.generation < self.quiet_until),
            _ => call.basics(&[("orders", 2), ("other", 1)]),
        }
    }

    fn join(&mut self, call: &Call) -> Answer {
        let request: JoinGroupRequest = call.read();
        if request.member_id.is_empty() {
            let error_code = code(ErrorCode::MemberIdRequired);
            return call.reply(&JoinGroupResponse {
                error_code,
                member_id: "m1".into(),
                ..Default::default()
            });
        }
        self.generation += 1;
        let protocol = request.protocols[0].clone();
        call.reply(&JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: Some("consumer".into()),
            protocol_name: Some(protocol.name),
            leader: "m1".into(),
            member_id: "m1".into(),
            members: vec![JoinGroupResponseMember {
                member_id: "m1".into(),
                metadata: protocol.metadata,
                ..Default::default()
            }],
            ..Default::default()
        })
    }

    fn offsets(&self) -> OffsetFetchResponse {
        let partitions =
            self.committed.iter().map(
                |&(partition_index, committed_offset)| OffsetFetchResponsePartition {
                    partition_index,
                    committed_offset,
                    ..Default::default()
                },
            );
        let topic = OffsetFetchResponseTopic {
            name: "orders".into(),
            partitions: partitions.collect(),
        };
        OffsetFetchResponse {
            topics: vec![topic],
            ..Default::default()
        }
    }

    fn commit(&mut self, call: &Call) -> Answer {
        let request: OffsetCommitRequest = call.read();
        assert_eq!(
            (request.member_id.as_str(), request.generation_id_or_member_epoch),
            ("m1", self.generation)
        );
        let mut answered = Vec::new();
        for partition in &request.topics[0].partitions {
            self.committed
                .retain(|(index, _)| *index != partition.partition_index);
            self.committed
                .push((partition.partition_index, partition.committed_offset));
            answered.push(OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: 0,
            });
        }
        let topic = OffsetCommitResponseTopic {
            name: "orders".into(),
            partitions: answered,
            ..Default::default()
        };
        call.reply(&OffsetCommitResponse {
            topics: vec![topic],
            ..Default::default()
        })
    }
}

fn list(call: &Call) -> Answer {
    let request: ListOffsetsRequest = call.read();
    let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                offset: if partition.timestamp == -2 { 0 } else { RECORDS },
                ..Default::default()
            })
            .collect(),
    });
    call.reply(&ListOffsetsResponse {
        topics: topics.collect(),
        ..Default::default()
    })
}

fn fetch(call: &Call, quiet: bool) -> Answer {
    let request: FetchRequest = call.read();
    let topics = request.topics.iter().map(|topic| FetchableTopicResponse {
        topic: ByteStr::from(topic.topic.as_str().to_owned()),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| PartitionData {
                partition_index: partition.partition,
                high_watermark: RECORDS,
                records: (!quiet).then(|| batch(partition.partition, partition.fetch_offset)),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    call.reply(&FetchResponse {
        responses: topics.collect(),
        ..Default::default()
    })
}

async fn run(coordinator: Coordinator, flags: &str) -> (super::Ran, Coordinator) {
    let shared = Arc::new(Mutex::new(coordinator));
    let script = Arc::clone(&shared);
    let broker = FakeBroker::start(move |call| script.lock().unwrap().answer(call)).await;
    let ran = strom(&broker.address, &format!("consume orders -g readers {flags}"), "").await;
    let coordinator = std::mem::take(&mut *shared.lock().unwrap());
    (ran, coordinator)
}

#[tokio::test]
async fn a_member_reads_from_what_was_committed_and_commits_to_the_end() {
    let begun = Coordinator {
        committed: vec![(1, 3)],
        ..Default::default()
    };
    let (ran, mut after) = run(begun, "-e -f %s\\x20").await;
    assert_eq!(ran.code, ExitCode::Ok, "{}", ran.err);
    let mut values: Vec<&str> = ran.out.split_whitespace().collect();
    values.sort_unstable();
    assert_eq!(values, ["0:0", "0:1", "0:2", "0:3", "0:4", "1:3", "1:4"]);
    after.committed.sort_unstable();
    assert_eq!(
        (after.committed, after.left, after.generation),
        (vec![(0, 5), (1, 5)], true, 1)
    );
    assert!(
        ran.err.contains("group readers: orders-0, orders-1"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn only_what_was_printed_is_committed() {
    let (ran, after) = run(Coordinator::default(), "-n 2").await;
    assert_eq!(
        (ran.code, ran.out.lines().count()),
        (ExitCode::Ok, 2),
        "{}",
        ran.err
    );
    assert_eq!(after.committed.iter().map(|(_, offset)| offset).sum::<i64>(), 2);
    let (_, after) = run(Coordinator::default(), "-e --no-commit").await;
    assert_eq!((after.committed, after.left), (vec![], true));
}

#[tokio::test]
async fn a_rebalance_is_followed() {
    let begun = Coordinator {
        rebalance: true,
        quiet_until: 2,
        committed: vec![(0, 5), (1, 4)],
        ..Default::default()
    };
    let (ran, after) = run(begun, "-n 1").await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (ExitCode::Ok, "1:4\n"),
        "{}",
        ran.err
    );
    assert_eq!((after.generation, after.left), (2, true));
    assert_eq!(
        ran.err.matches("group readers: orders-0, orders-1").count(),
        2,
        "{}",
        ran.err
    );
}

/// Without a group: positions by number, from the end, by partition.
#[tokio::test]
async fn a_lone_consumer_begins_where_it_is_told() {
    let shared = Arc::new(Mutex::new(Coordinator::default()));
    let broker = FakeBroker::start(move |call| shared.lock().unwrap().answer(call)).await;
    for (flags, expected) in [
        ("-p 1 --from 3 -e", "1:3\n1:4\n"),
        ("-p 0 --from -1 -e", "0:4\n"),
        ("-p 0 --from end -e", ""),
        ("-p 0 --from-beginning -n 1", "0:0\n"),
        ("-p 0 --offset 4 --count 1", "0:4\n"),
    ] {
        let ran = strom(&broker.address, &format!("consume orders {flags}"), "").await;
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (ExitCode::Ok, expected),
            "{flags}: {}",
            ran.err
        );
    }
    let ran = strom(&broker.address, "consume orders -p 9 -e", "").await;
    assert_eq!(ran.code, ExitCode::Usage);
    let ran = strom(&broker.address, "consume nowhere -e", "").await;
    assert_eq!(ran.code, ExitCode::Failed);
    assert!(
        ran.err.contains("topic nowhere: UNKNOWN_TOPIC_OR_PARTITION"),
        "{}",
        ran.err
    );
    assert_eq!(
        broker.count(ApiKey::OffsetCommit) + broker.count(ApiKey::JoinGroup),
        0
    );
}
