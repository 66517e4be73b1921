//! Every served API at every version: filled replies and failures alike can be encoded and read back.

use std::collections::BTreeSet;

use strom_kafka_codec::messages::*;
use strom_kafka_codec::{ApiKey, ByteStr, Request};
use strom_proto::convert::service_error;
use strom_proto::status::to_status;
use strom_types::ErrorCode;
use tonic::Status;
use uuid::Uuid;

use super::cluster::{Cluster, topic_id};
use super::controller::Fault;
use crate::api;

/// Sends what `make` builds at each version, with everything well and with everything failing.
struct Round {
    cluster: Cluster,
    covered: BTreeSet<i16>,
    failing: bool,
}

impl Round {
    async fn api<R: Request>(&mut self, make: impl Fn(i16) -> R) {
        self.covered.insert(R::KEY.as_i16());
        for version in R::KEY.versions().min..=R::KEY.latest_stable() {
            if self.failing {
                let refusal = service_error(ErrorCode::PolicyViolation, "by script");
                self.cluster
                    .controller
                    .fail_next(Fault::Refuse(to_status(&refusal)));
            }
            for address in [None, Some(2)] {
                self.cluster.ask_at(address, version, &make(version)).await;
            }
        }
    }
}

fn orders() -> ByteStr {
    "orders".into()
}

fn name_or_id(version: i16, ids_since: i16) -> (ByteStr, Uuid) {
    if version >= ids_since {
        (ByteStr::new(), topic_id(1).0)
    } else {
        (orders(), Uuid::nil())
    }
}

async fn partitions(round: &mut Round) {
    round
        .api(|version| ListOffsetsRequest {
            isolation_level: i8::from(version >= 2),
            topics: vec![list_offsets_request::ListOffsetsTopic {
                name: orders(),
                partitions: (-7..=4)
                    .map(|n: i32| list_offsets_request::ListOffsetsPartition {
                        partition_index: n.max(0),
                        timestamp: i64::from(n),
                        ..Default::default()
                    })
                    .collect(),
            }],
            ..Default::default()
        })
        .await;
    round
        .api(|_| OffsetForLeaderEpochRequest {
            topics: vec![offset_for_leader_epoch_request::OffsetForLeaderTopic {
                topic: orders(),
                partitions: [0, 9]
                    .map(
                        |partition| offset_for_leader_epoch_request::OffsetForLeaderPartition {
                            partition,
                            leader_epoch: 5,
                            ..Default::default()
                        },
                    )
                    .into(),
            }],
            ..Default::default()
        })
        .await;
    round
        .api(|_| DeleteRecordsRequest {
            topics: vec![delete_records_request::DeleteRecordsTopic {
                name: orders(),
                partitions: [0, 9]
                    .map(|partition_index| delete_records_request::DeleteRecordsPartition {
                        partition_index,
                        offset: 10,
                    })
                    .into(),
            }],
            timeout_ms: 1000,
        })
        .await;
    round
        .api(|_| DescribeProducersRequest {
            topics: vec![describe_producers_request::TopicRequest {
                name: orders(),
                partition_indexes: vec![0, 9],
            }],
        })
        .await;
    round
        .api(|_| DescribeLogDirsRequest {
            topics: Some(vec![describe_log_dirs_request::DescribableLogDirTopic {
                topic: orders(),
                partitions: vec![0, 1],
            }]),
        })
        .await;
    round
        .api(|_| InitProducerIdRequest {
            transactional_id: None,
            ..Default::default()
        })
        .await;
}

async fn cluster_wide(round: &mut Round) {
    round
        .api(|version| MetadataRequest {
            topics: Some(
                ["orders", "missing", "not a name"]
                    .map(|name| metadata_request::MetadataRequestTopic {
                        name: Some(name.into()),
                        ..Default::default()
                    })
                    .into(),
            ),
            allow_auto_topic_creation: version < 4,
            include_topic_authorized_operations: version >= 8,
            include_cluster_authorized_operations: (8..=10).contains(&version),
        })
        .await;
    round
        .api(|version| DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            include_fenced_brokers: version >= 2,
            ..Default::default()
        })
        .await;
    round.api(|_| DescribeTopicPartitionsRequest::default()).await;
    round
        .api(|_| DescribeQuorumRequest {
            topics: vec![describe_quorum_request::TopicData {
                topic_name: "__cluster_metadata".into(),
                partitions: vec![Default::default()],
            }],
        })
        .await;
    round
        .api(|version| FindCoordinatorRequest {
            key: if version < 4 { "g".into() } else { "".into() },
            key_type: 0,
            coordinator_keys: if version < 4 {
                vec![]
            } else {
                vec!["g".into(), "h".into()]
            },
        })
        .await;
    round
        .api(|_| DescribeConfigsRequest {
            resources: [
                (2, "orders"),
                (2, "missing"),
                (4, "1"),
                (4, ""),
                (8, "1"),
                (16, "m"),
                (32, "g"),
                (7, "?"),
            ]
            .map(
                |(resource_type, name)| describe_configs_request::DescribeConfigsResource {
                    resource_type,
                    resource_name: name.into(),
                    configuration_keys: None,
                },
            )
            .into(),
            include_synonyms: true,
            include_documentation: false,
        })
        .await;
    round.api(|_| ListConfigResourcesRequest::default()).await;
}

async fn changes(round: &mut Round) {
    let config = || Some("1000".into());
    round
        .api(|version| CreateTopicsRequest {
            topics: vec![create_topics_request::CreatableTopic {
                name: format!("created-{version}").into(),
                num_partitions: 2,
                replication_factor: 1,
                configs: vec![create_topics_request::CreatableTopicConfig {
                    name: "retention.ms".into(),
                    value: config(),
                }],
                ..Default::default()
            }],
            timeout_ms: 5000,
            ..Default::default()
        })
        .await;
    round
        .api(|version| CreatePartitionsRequest {
            topics: vec![create_partitions_request::CreatePartitionsTopic {
                name: orders(),
                count: 4 + i32::from(version),
                assignments: None,
            }],
            timeout_ms: 5000,
            validate_only: false,
        })
        .await;
    round
        .api(|_| IncrementalAlterConfigsRequest {
            resources: [(2, "orders"), (8, "1")]
                .map(
                    |(resource_type, name)| incremental_alter_configs_request::AlterConfigsResource {
                        resource_type,
                        resource_name: name.into(),
                        configs: vec![incremental_alter_configs_request::AlterableConfig {
                            name: "retention.ms".into(),
                            config_operation: 0,
                            value: config(),
                        }],
                    },
                )
                .into(),
            validate_only: false,
        })
        .await;
    round
        .api(|_| AlterConfigsRequest {
            resources: vec![alter_configs_request::AlterConfigsResource {
                resource_type: 2,
                resource_name: orders(),
                configs: vec![alter_configs_request::AlterableConfig {
                    name: "retention.ms".into(),
                    value: config(),
                }],
            }],
            validate_only: false,
        })
        .await;
    round
        .api(|_| ElectLeadersRequest {
            election_type: 0,
            topic_partitions: Some(vec![elect_leaders_request::TopicPartitions {
                topic: orders(),
                partitions: vec![0, 9],
            }]),
            timeout_ms: 5000,
        })
        .await;
    round.api(|_| UnregisterBrokerRequest { broker_id: 3 }).await;
    round
        .api(|version| DeleteTopicsRequest {
            topics: if version < 6 {
                vec![]
            } else {
                vec![delete_topics_request::DeleteTopicState {
                    name: None,
                    topic_id: topic_id(404).0,
                }]
            },
            topic_names: if version < 6 {
                vec![format!("created-{version}").into(), "missing".into()]
            } else {
                vec![]
            },
            timeout_ms: 5000,
        })
        .await;
}

async fn members(round: &mut Round) {
    round
        .api(|_| JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            protocol_type: "consumer".into(),
            protocols: vec![join_group_request::JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: b"subscription".as_slice().into(),
            }],
            ..Default::default()
        })
        .await;
    round
        .api(|_| SyncGroupRequest {
            group_id: "g".into(),
            member_id: "m-1".into(),
            assignments: vec![sync_group_request::SyncGroupRequestAssignment {
                member_id: "m-1".into(),
                assignment: b"assignment".as_slice().into(),
            }],
            ..Default::default()
        })
        .await;
    round
        .api(|_| HeartbeatRequest {
            group_id: "g".into(),
            ..Default::default()
        })
        .await;
    round
        .api(|version| LeaveGroupRequest {
            group_id: "g".into(),
            member_id: if version < 3 { "m-1".into() } else { "".into() },
            members: if version < 3 {
                vec![]
            } else {
                vec![leave_group_request::MemberIdentity {
                    member_id: "m-1".into(),
                    group_instance_id: Some("i-1".into()),
                    reason: None,
                }]
            },
        })
        .await;
}

async fn offsets(round: &mut Round) {
    round
        .api(|version| {
            let (name, topic_id) = name_or_id(version, 10);
            OffsetCommitRequest {
                group_id: "g".into(),
                topics: vec![offset_commit_request::OffsetCommitRequestTopic {
                    name,
                    topic_id,
                    partitions: [0, 9]
                        .map(
                            |partition_index| offset_commit_request::OffsetCommitRequestPartition {
                                partition_index,
                                committed_offset: 7,
                                ..Default::default()
                            },
                        )
                        .into(),
                }],
                ..Default::default()
            }
        })
        .await;
    round
        .api(|version| {
            let (name, topic_id) = name_or_id(version, 10);
            let mut request = OffsetFetchRequest::default();
            if version < 8 {
                request.group_id = "g".into();
                request.topics = Some(vec![offset_fetch_request::OffsetFetchRequestTopic {
                    name,
                    partition_indexes: vec![0, 1],
                }]);
            } else {
                request.topics = Some(vec![]);
                let topics = vec![offset_fetch_request::OffsetFetchRequestTopics {
                    name,
                    topic_id,
                    partition_indexes: vec![0, 1],
                }];
                request.groups = [Some(topics), None]
                    .into_iter()
                    .zip(["g", "h"])
                    .map(|(topics, group)| offset_fetch_request::OffsetFetchRequestGroup {
                        group_id: group.into(),
                        topics,
                        ..Default::default()
                    })
                    .collect();
            }
            request
        })
        .await;
    round
        .api(|_| OffsetDeleteRequest {
            group_id: "g".into(),
            topics: vec![offset_delete_request::OffsetDeleteRequestTopic {
                name: orders(),
                partitions: [0, 9]
                    .map(
                        |partition_index| offset_delete_request::OffsetDeleteRequestPartition {
                            partition_index,
                        },
                    )
                    .into(),
            }],
        })
        .await;
    round
        .api(|version| DescribeGroupsRequest {
            groups: vec!["g".into(), "unknown-1".into()],
            include_authorized_operations: version >= 3,
        })
        .await;
    round
        .api(|version| ListGroupsRequest {
            states_filter: if version >= 4 {
                vec!["Stable".into()]
            } else {
                vec![]
            },
            types_filter: if version >= 5 {
                vec!["classic".into()]
            } else {
                vec![]
            },
        })
        .await;
    round
        .api(|_| DeleteGroupsRequest {
            groups_names: vec!["g".into(), "h".into()],
        })
        .await;
}

async fn all(round: &mut Round) {
    partitions(round).await;
    cluster_wide(round).await;
    changes(round).await;
    members(round).await;
    offsets(round).await;
}

#[tokio::test]
async fn filled_replies_can_be_encoded_at_every_version() {
    let mut round = Round {
        cluster: Cluster::with_topics().await,
        covered: BTreeSet::new(),
        failing: false,
    };
    all(&mut round).await;
    let elsewhere = [ApiKey::Produce, ApiKey::Fetch, ApiKey::ApiVersions];
    let served: BTreeSet<i16> = api::table()
        .iter()
        .filter(|api| !elsewhere.contains(&api.key))
        .map(|api| api.key.as_i16())
        .collect();
    assert_eq!(round.covered, served, "every API has its turn");
}

#[tokio::test]
async fn failures_can_be_encoded_at_every_version() {
    let errors = [
        (None, ErrorCode::NotLeaderOrFollower),
        (None, ErrorCode::NotCoordinator),
        (None, ErrorCode::Overloaded),
        (Some(Status::unavailable("gone")), ErrorCode::None),
    ];
    for (status, error) in errors {
        let cluster = Cluster::with_topics().await;
        cluster.script_brokers(|script| {
            script.status = status.clone();
            script.error = error as i32;
        });
        let mut round = Round {
            cluster,
            covered: BTreeSet::new(),
            failing: true,
        };
        all(&mut round).await;
    }
}

#[tokio::test]
async fn what_is_not_served_is_not_advertised() {
    let cluster = Cluster::with_topics().await;
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    };
    let response = cluster.ask(4, &request).await;
    let keys: BTreeSet<i16> = response.api_keys.iter().map(|api| api.api_key).collect();
    assert_eq!(keys.len(), 33, "tier 1 and what issue 3 adds");
    for absent in [
        ApiKey::AddPartitionsToTxn,
        ApiKey::EndTxn,
        ApiKey::TxnOffsetCommit,
        ApiKey::ListTransactions,
        ApiKey::DescribeTransactions,
        ApiKey::ConsumerGroupHeartbeat,
        ApiKey::SaslHandshake,
    ] {
        assert!(!keys.contains(&absent.as_i16()), "{absent}");
    }
    for api in &response.api_keys {
        let key = ApiKey::from_i16(api.api_key).unwrap();
        let min = if key == ApiKey::Produce {
            0
        } else {
            key.versions().min
        };
        assert_eq!(
            (api.min_version, api.max_version),
            (min, key.latest_stable()),
            "{key}"
        );
    }
}
