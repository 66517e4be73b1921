//! `strom cluster` and leader elections against clusters with known faults.

use std::sync::atomic::{AtomicBool, Ordering};

use strom_kafka_codec::messages::describe_cluster_response::DescribeClusterBroker;
use strom_kafka_codec::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use strom_kafka_codec::messages::describe_quorum_response::{PartitionData, ReplicaState, TopicData};
use strom_kafka_codec::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use strom_kafka_codec::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use strom_kafka_codec::messages::*;
use strom_kafka_codec::{ApiKey, ByteStr};

use super::fake_broker::{Answer, Call, FakeBroker};
use super::golden::check;
use super::strom;
use crate::ExitCode;

/// Nobody listens on the discard port of this machine.
const NOWHERE: i32 = 9;

/// A cluster as the script shows it; broker 1 is the one that answers.
#[derive(Clone)]
struct Shown {
    brokers: Vec<(i32, i32, bool)>,
    /// Name, leader, replicas, ISR.
    topics: Vec<(&'static str, i32, Vec<i32>, Vec<i32>)>,
    min_isr: &'static str,
    leader: i32,
    voters: i32,
}

impl Shown {
    fn healthy() -> Self {
        Self {
            brokers: vec![(1, 0, false)],
            topics: vec![("orders", 1, vec![1], vec![1])],
            min_isr: "1",
            leader: 9000,
            voters: 1,
        }
    }

    fn sick() -> Self {
        Self {
            brokers: vec![(1, 0, false), (2, NOWHERE, false), (3, 0, true)],
            topics: vec![
                ("gone", -1, vec![3], vec![3]),
                ("orders", 1, vec![1, 2, 4], vec![1]),
                ("pair", 1, vec![1, 2], vec![1, 2]),
            ],
            min_isr: "2",
            leader: -1,
            voters: 2,
        }
    }

    fn answer(&self, call: &Call) -> Answer {
        match call.key {
            ApiKey::Metadata => call.reply(&self.metadata(call)),
            ApiKey::DescribeCluster => call.reply(&DescribeClusterResponse {
                cluster_id: "fake".into(),
                controller_id: 1,
                brokers: self
                    .brokers
                    .iter()
                    .map(|&(broker_id, port, is_fenced)| DescribeClusterBroker {
                        broker_id,
                        host: "127.0.0.1".into(),
                        port: if port == 0 { i32::from(call.port) } else { port },
                        is_fenced,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }),
            ApiKey::DescribeConfigs => call.reply(&self.configs(&call.read())),
            ApiKey::DescribeQuorum => call.reply(&self.quorum()),
            _ => call.basics(&[]),
        }
    }

    fn metadata(&self, call: &Call) -> MetadataResponse {
        let topics = self.topics.iter().map(|(name, leader, replicas, isr)| {
            let partition = MetadataResponsePartition {
                leader_id: *leader,
                replica_nodes: replicas.clone(),
                isr_nodes: isr.clone(),
                ..Default::default()
            };
            MetadataResponseTopic {
                name: Some((*name).into()),
                partitions: vec![partition],
                ..Default::default()
            }
        });
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: "127.0.0.1".into(),
                port: i32::from(call.port),
                rack: None,
            }],
            topics: topics.collect(),
            ..Default::default()
        }
    }

    fn configs(&self, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
        let results = request.resources.iter().map(|resource| DescribeConfigsResult {
            resource_name: resource.resource_name.clone(),
            configs: vec![DescribeConfigsResourceResult {
                name: "min.insync.replicas".into(),
                value: Some(ByteStr::from_static(self.min_isr)),
                ..Default::default()
            }],
            ..Default::default()
        });
        DescribeConfigsResponse {
            results: results.collect(),
            ..Default::default()
        }
    }

    fn quorum(&self) -> DescribeQuorumResponse {
        let voters = (0..self.voters).map(|voter| ReplicaState {
            replica_id: 9000 + voter,
            ..Default::default()
        });
        let state = PartitionData {
            leader_id: self.leader,
            current_voters: voters.collect(),
            ..Default::default()
        };
        DescribeQuorumResponse {
            topics: vec![TopicData {
                topic_name: "__cluster_metadata".into(),
                partitions: vec![state],
            }],
            ..Default::default()
        }
    }
}

#[tokio::test]
async fn health_and_doctor_say_what_they_found() {
    for (name, shown, code) in [
        ("healthy", Shown::healthy(), ExitCode::Ok),
        ("sick", Shown::sick(), ExitCode::Unhealthy),
    ] {
        let broker = FakeBroker::start(move |call| shown.answer(call)).await;
        let port = broker.address.rsplit(':').next().unwrap();
        for verb in ["health", "doctor"] {
            for format in ["table", "json"] {
                let ran = strom(&broker.address, &format!("cluster {verb} -o {format}"), "").await;
                assert_eq!(ran.code, code, "{verb} {name}: {}", ran.err);
                // Columns are as wide as the port has digits.
                let found = ran.out.replace(port, "PORT");
                let found: Vec<&str> = found.lines().map(str::trim_end).collect();
                check(
                    &format!("cluster-{verb}-{name}.{format}"),
                    &(found.join("\n") + "\n"),
                );
            }
        }
    }
}

#[tokio::test]
async fn health_ends_when_the_cluster_is_healthy() {
    let ill = AtomicBool::new(true);
    let broker = FakeBroker::start(move |call| {
        let mut shown = Shown::healthy();
        // The second look finds it well.
        if call.key == ApiKey::DescribeQuorum && ill.swap(false, Ordering::Relaxed) {
            shown.leader = -1;
        }
        shown.answer(call)
    })
    .await;
    let ran = strom(
        &broker.address,
        "cluster health --exit-when-healthy --interval 1ms -o json",
        "",
    )
    .await;
    assert_eq!(ran.code, ExitCode::Ok, "{}", ran.err);
    let seen: Vec<bool> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["healthy"] == true)
        .collect();
    assert_eq!(seen, [false, true]);
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_unhealthy() {
    let ran = strom("127.0.0.1:9", "cluster health", "").await;
    assert_eq!(ran.code, ExitCode::Unhealthy);
    assert!(ran.out.contains("no bootstrap server answers"), "{}", ran.out);
}

#[tokio::test]
async fn leaders_are_elected_on_request() {
    let broker = FakeBroker::start(|call| match call.key {
        ApiKey::ElectLeaders => {
            let request: ElectLeadersRequest = call.read();
            assert_eq!(request.election_type, 1);
            let asked = request.topic_partitions.unwrap_or_default();
            let result = |&partition_id: &i32| PartitionResult {
                partition_id,
                error_code: if partition_id == 1 { 84 } else { 0 },
                error_message: None,
            };
            let results = asked.iter().map(|topic| ReplicaElectionResult {
                topic: topic.topic.clone(),
                partition_result: topic.partitions.iter().map(result).collect(),
            });
            call.reply(&ElectLeadersResponse {
                replica_election_results: results.collect(),
                ..Default::default()
            })
        }
        _ => call.basics(&[("orders", 2)]),
    })
    .await;
    let line = "topic elect-leader orders --unclean";
    let refused = strom(&broker.address, line, "").await;
    assert!(refused.code == ExitCode::Usage && broker.count(ApiKey::ElectLeaders) == 0);
    let ran = strom(&broker.address, &format!("{line} --yes"), "").await;
    assert_eq!(ran.code, ExitCode::Ok, "{}", ran.err);
    let rows: Vec<Vec<&str>> = ran
        .out
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|w| !w.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        rows,
        [
            ["NAME", "RESULT"],
            ["orders-0", "elected"],
            ["orders-1", "not needed"]
        ]
    );
}
