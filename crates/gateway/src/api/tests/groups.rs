//! Group APIs: routing to the coordinator, shapes by version, and what failures mean to members.

use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::*;
use strom_types::{ErrorCode, coordinator_partition};
use tonic::Status;

use super::cluster::{Cluster, topic_id};

/// A group whose coordinator is the given broker (1 or 2).
fn group_of(broker: i32) -> ByteStr {
    let name = |n: i32| format!("group-{n}");
    let found = (0..)
        .map(name)
        .find(|name| coordinator_partition(name, 2) == broker - 1);
    found.unwrap().into()
}

fn join(group: ByteStr) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group,
        member_id: "mine".into(),
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![join_group_request::JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: b"subscription".as_slice().into(),
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn joining_goes_to_the_coordinator_whoever_was_addressed() {
    let cluster = Cluster::with_topics().await;
    for broker in [1, 2] {
        for address in [None, Some(1), Some(2)] {
            cluster.ask_at(address, 9, &join(group_of(broker))).await;
            let asked = cluster.brokers.iter().map(|b| b.take_calls().len());
            let expected = [usize::from(broker == 1), usize::from(broker == 2), 0];
            assert_eq!(asked.collect::<Vec<_>>(), expected);
        }
    }
}

#[tokio::test]
async fn joining_by_version() {
    let cluster = Cluster::with_topics().await;
    let told =
        |response: &JoinGroupResponse| String::from_utf8(response.members[0].metadata.to_vec()).unwrap();
    let v3 = cluster.ask(3, &join("g".into())).await;
    assert_eq!(told(&v3), "test-client /127.0.0.1 false false");
    assert!(!v3.skip_assignment);
    let v4 = cluster.ask(4, &join("g".into())).await;
    assert_eq!(told(&v4), "test-client /127.0.0.1 true false", "KIP-394");
    let v9 = cluster.ask(9, &join("g".into())).await;
    assert_eq!(told(&v9), "test-client /127.0.0.1 true true", "KIP-814");
    assert!(v9.skip_assignment);
    assert_eq!(
        (v9.generation_id, v9.protocol_name.as_deref()),
        (4, Some("range"))
    );
}

#[tokio::test]
async fn a_refused_join_keeps_kafkas_shape() {
    let cluster = Cluster::with_topics().await;
    cluster.script_brokers(|script| script.error = ErrorCode::MemberIdRequired as i32);
    let v6 = cluster.ask(6, &join("g".into())).await;
    assert_eq!(
        (v6.error_code, v6.generation_id, v6.member_id.as_str()),
        (79, -1, "m-1")
    );
    assert_eq!(v6.protocol_name.as_deref(), Some(""), "not null before version 7");
    let v7 = cluster.ask(7, &join("g".into())).await;
    assert_eq!(v7.protocol_name, None);
    let mut heavy = join("g".into());
    heavy.protocols[0].metadata = vec![0; 300_000].into();
    cluster
        .brokers
        .iter()
        .for_each(|broker| drop(broker.take_calls()));
    let refused = cluster.ask(9, &heavy).await;
    assert_eq!((refused.error_code, refused.member_id.as_str()), (42, "mine"));
    assert!(
        cluster
            .brokers
            .iter()
            .all(|broker| broker.take_calls().is_empty())
    );
}

#[tokio::test]
async fn a_lost_coordinator_is_looked_for_again() {
    let beat = HeartbeatRequest {
        group_id: "g".into(),
        ..Default::default()
    };
    let cluster = Cluster::with_topics().await;
    for (status, error, told) in [
        (Some(Status::unavailable("gone")), ErrorCode::None, 15),
        (None, ErrorCode::NotCoordinator, 16),
        (None, ErrorCode::CoordinatorLoadInProgress, 14),
        (None, ErrorCode::NotLeaderOrFollower, 16),
        (None, ErrorCode::Indeterminate, 15),
        (None, ErrorCode::IllegalGeneration, 22),
        (None, ErrorCode::FencedInstanceId, 82),
        (None, ErrorCode::None, 0),
    ] {
        cluster.script_brokers(|script| {
            script.status = status.clone();
            script.error = error as i32;
        });
        assert_eq!(cluster.ask(4, &beat).await.error_code, told, "{error}");
        assert_eq!(
            cluster.ask(9, &join("g".into())).await.error_code,
            told,
            "{error}"
        );
    }
    let nowhere = Cluster::empty(&[]).await;
    assert_eq!(nowhere.ask(4, &beat).await.error_code, 15);
}

#[tokio::test]
async fn leaving_alone_or_in_a_batch() {
    let cluster = Cluster::with_topics().await;
    cluster.script_brokers(|script| script.error = ErrorCode::UnknownMemberId as i32);
    let alone = LeaveGroupRequest {
        group_id: "g".into(),
        member_id: "m-1".into(),
        ..Default::default()
    };
    let response = cluster.ask(2, &alone).await;
    assert_eq!(
        response.error_code, 25,
        "the only member's error is the request's"
    );
    let batch = LeaveGroupRequest {
        group_id: "g".into(),
        members: [("m-1", None), ("", Some("i-2"))]
            .map(|(member, instance)| leave_group_request::MemberIdentity {
                member_id: member.into(),
                group_instance_id: instance.map(Into::into),
                reason: None,
            })
            .into(),
        ..Default::default()
    };
    let response = cluster.ask(5, &batch).await;
    assert_eq!(response.error_code, 0);
    let members: Vec<_> = response
        .members
        .iter()
        .map(|m| (m.member_id.as_str(), m.group_instance_id.as_deref(), m.error_code))
        .collect();
    assert_eq!(members, [("m-1", None, 25), ("", Some("i-2"), 25)]);
}

/// Name or id, and partitions with their metadata.
type Committed = (ByteStr, uuid::Uuid, Vec<(i32, &'static str)>);

fn commit(topics: Vec<Committed>) -> OffsetCommitRequest {
    let partition =
        |(index, metadata): (i32, &'static str)| offset_commit_request::OffsetCommitRequestPartition {
            partition_index: index,
            committed_offset: 5,
            committed_metadata: Some(metadata.into()),
            ..Default::default()
        };
    OffsetCommitRequest {
        group_id: "g".into(),
        topics: topics
            .into_iter()
            .map(
                |(name, topic_id, partitions)| offset_commit_request::OffsetCommitRequestTopic {
                    name,
                    topic_id,
                    partitions: partitions.into_iter().map(partition).collect(),
                },
            )
            .collect(),
        ..Default::default()
    }
}

fn committed(response: &OffsetCommitResponse) -> Vec<Vec<(i32, i16)>> {
    let topics = response.topics.iter();
    topics
        .map(|topic| {
            topic
                .partitions
                .iter()
                .map(|p| (p.partition_index, p.error_code))
                .collect()
        })
        .collect()
}

#[tokio::test]
async fn commits_keep_the_order_of_the_request() {
    let cluster = Cluster::with_topics().await;
    let long: &'static str = Box::leak("x".repeat(4097).into_boxed_str());
    let nil = uuid::Uuid::nil();
    let request = commit(vec![
        ("missing".into(), nil, vec![(0, "")]),
        (
            "orders".into(),
            nil,
            vec![(2, ""), (9, ""), (0, long), (1, "note")],
        ),
        ("orders".into(), nil, vec![]),
    ]);
    let response = cluster.ask(9, &request).await;
    let expected = vec![vec![(0, 3)], vec![(2, 0), (9, 3), (0, 12), (1, 0)], vec![]];
    assert_eq!(committed(&response), expected);
    cluster.script_brokers(|script| script.leave_out_last = true);
    let short = cluster.ask(9, &request).await;
    assert_eq!(
        committed(&short)[1],
        [(2, 0), (9, 3), (0, 12), (1, 15)],
        "no made-up success"
    );
    cluster.script_brokers(|script| script.status = Some(Status::unavailable("gone")));
    let lost = cluster.ask(9, &request).await;
    assert_eq!(committed(&lost)[1], [(2, 15), (9, 3), (0, 12), (1, 15)]);
    let ids = commit(vec![
        (ByteStr::new(), topic_id(1).0, vec![(0, "")]),
        (ByteStr::new(), topic_id(77).0, vec![(0, "")]),
    ]);
    cluster.script_brokers(|script| *script = Default::default());
    let by_id = cluster.ask(10, &ids).await;
    assert_eq!(committed(&by_id), vec![vec![(0, 0)], vec![(0, 100)]]);
    assert_eq!(by_id.topics[1].topic_id, topic_id(77).0);
}

fn fetch_group(
    group: &'static str,
    topics: Option<Vec<(&'static str, uuid::Uuid, Vec<i32>)>>,
) -> offset_fetch_request::OffsetFetchRequestGroup {
    let topics = topics.map(|topics| {
        topics
            .into_iter()
            .map(
                |(name, topic_id, partition_indexes)| offset_fetch_request::OffsetFetchRequestTopics {
                    name: name.into(),
                    topic_id,
                    partition_indexes,
                },
            )
            .collect()
    });
    offset_fetch_request::OffsetFetchRequestGroup {
        group_id: group.into(),
        topics,
        ..Default::default()
    }
}

fn fetch_groups(groups: Vec<offset_fetch_request::OffsetFetchRequestGroup>) -> OffsetFetchRequest {
    OffsetFetchRequest {
        topics: Some(vec![]),
        groups,
        ..Default::default()
    }
}

type Fetched<'a> = Vec<(&'a str, Vec<(i32, i64, i16)>)>;

fn fetched(group: &offset_fetch_response::OffsetFetchResponseGroup) -> Fetched<'_> {
    let topics = group.topics.iter();
    topics
        .map(|topic| {
            let partitions = topic.partitions.iter();
            let partitions = partitions.map(|p| (p.partition_index, p.committed_offset, p.error_code));
            (topic.name.as_str(), partitions.collect())
        })
        .collect()
}

#[tokio::test]
async fn offsets_of_many_groups() {
    let cluster = Cluster::with_topics().await;
    let nil = uuid::Uuid::nil();
    let request = fetch_groups(vec![
        fetch_group(
            "g",
            Some(vec![("orders", nil, vec![2, 0, 2]), ("gone", nil, vec![0])]),
        ),
        fetch_group("all", None),
        fetch_group("g", None),
        fetch_group("none", Some(vec![])),
    ]);
    let response = cluster.ask(9, &request).await;
    let groups: Vec<&str> = response
        .groups
        .iter()
        .map(|group| group.group_id.as_str())
        .collect();
    assert_eq!(groups, ["g", "all", "none"], "each once");
    assert_eq!(
        fetched(&response.groups[0]),
        [
            ("orders", vec![(2, 52, 0), (0, 50, 0), (2, -1, 42)]),
            ("gone", vec![(0, 50, 0)]),
        ]
    );
    assert_eq!(
        fetched(&response.groups[1]),
        [("gone", vec![(0, 50, 0)]), ("orders", vec![(1, 51, 0)])]
    );
    assert!(response.groups[2].topics.is_empty());
    let metadata = &response.groups[0].topics[0].partitions[0].metadata;
    assert_eq!(metadata.as_deref(), Some("note"));
}

#[tokio::test]
async fn offsets_by_topic_id() {
    let cluster = Cluster::with_topics().await;
    let request = fetch_groups(vec![
        fetch_group(
            "g",
            Some(vec![("", topic_id(1).0, vec![0]), ("", topic_id(77).0, vec![3])]),
        ),
        fetch_group("all", None),
    ]);
    let response = cluster.ask(10, &request).await;
    assert_eq!(
        fetched(&response.groups[0]),
        [("", vec![(0, 50, 0)]), ("", vec![(3, -1, 100)])]
    );
    let all: Vec<_> = response.groups[1]
        .topics
        .iter()
        .map(|topic| topic.topic_id)
        .collect();
    assert_eq!(all, [topic_id(1).0], "topics without an id are left out");
}

#[tokio::test]
async fn an_offset_that_was_not_told_is_not_nothing_committed() {
    let cluster = Cluster::with_topics().await;
    cluster.script_brokers(|script| script.leave_out_last = true);
    let nil = uuid::Uuid::nil();
    let group = fetch_group("g", Some(vec![("orders", nil, vec![0, 1])]));
    let response = cluster.ask(9, &fetch_groups(vec![group])).await;
    assert_eq!(response.groups[0].error_code, 15);
    assert!(response.groups[0].topics.is_empty());
}

#[tokio::test]
async fn a_groups_error_stands_where_the_version_has_a_place() {
    let cluster = Cluster::with_topics().await;
    cluster.script_brokers(|script| script.error = ErrorCode::CoordinatorLoadInProgress as i32);
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: Some(vec![offset_fetch_request::OffsetFetchRequestTopic {
            name: "orders".into(),
            partition_indexes: vec![0],
        }]),
        ..Default::default()
    };
    let v1 = cluster.ask(1, &request).await;
    let partition = &v1.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.committed_offset), (14, -1));
    assert_eq!(partition.metadata.as_deref(), Some(""));
    let v2 = cluster.ask(2, &request).await;
    assert_eq!((v2.error_code, v2.topics.len()), (14, 0));
}

#[tokio::test]
async fn groups_are_described_by_their_coordinators() {
    let cluster = Cluster::with_topics().await;
    let (first, second) = (group_of(1), group_of(2));
    let request = DescribeGroupsRequest {
        groups: vec![second.clone(), "unknown-1".into(), first.clone(), second.clone()],
        include_authorized_operations: false,
    };
    let v5 = cluster.ask(5, &request).await;
    let described = |response: &DescribeGroupsResponse| {
        let groups = response.groups.iter();
        groups
            .map(|g| (g.group_id.clone(), g.error_code, g.group_state.to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        described(&v5),
        [
            (second.clone(), 0, "Stable".to_owned()),
            ("unknown-1".into(), 0, "Dead".to_owned()),
            (first.clone(), 0, "Stable".to_owned()),
        ],
        "in order, each once; unknown is dead"
    );
    let v6 = cluster.ask(6, &request).await;
    assert_eq!(described(&v6)[1], ("unknown-1".into(), 69, "Dead".to_owned()));
    assert_eq!(
        v6.groups[1].error_message.as_deref(),
        Some("Group unknown-1 not found.")
    );
    assert_eq!(v6.groups[0].authorized_operations, i32::MIN);
}

#[tokio::test]
async fn groups_are_listed_by_node() {
    let cluster = Cluster::with_topics().await;
    let request = ListGroupsRequest::default();
    let ids = |response: &ListGroupsResponse| -> Vec<String> {
        response
            .groups
            .iter()
            .map(|group| group.group_id.to_string())
            .collect()
    };
    assert_eq!(ids(&cluster.ask_at(Some(2), 5, &request).await), ["of-broker-2"]);
    let all = cluster.ask(5, &request).await;
    assert_eq!(ids(&all), ["of-broker-1", "of-broker-2"]);
    cluster.brokers[0].script(|script| script.status = Some(Status::unavailable("gone")));
    let half = cluster.ask(5, &request).await;
    assert_eq!(
        (half.error_code, ids(&half)),
        (15, vec!["of-broker-2".to_owned()])
    );
}

#[tokio::test]
async fn offsets_are_deleted_only_of_topics_that_exist() {
    let cluster = Cluster::with_topics().await;
    let partition = |partition_index| offset_delete_request::OffsetDeleteRequestPartition { partition_index };
    let request = OffsetDeleteRequest {
        group_id: "g".into(),
        topics: vec![
            offset_delete_request::OffsetDeleteRequestTopic {
                name: "missing".into(),
                partitions: vec![partition(0)],
            },
            offset_delete_request::OffsetDeleteRequestTopic {
                name: "orders".into(),
                partitions: vec![partition(9), partition(1)],
            },
        ],
    };
    let response = cluster.ask(0, &request).await;
    let codes: Vec<Vec<i16>> = response
        .topics
        .iter()
        .map(|topic| topic.partitions.iter().map(|p| p.error_code).collect())
        .collect();
    assert_eq!(codes, vec![vec![3], vec![3, 0]]);
    cluster.script_brokers(|script| script.error = ErrorCode::GroupIdNotFound as i32);
    let gone = cluster.ask(0, &request).await;
    assert_eq!((gone.error_code, gone.topics.len()), (69, 0));
}
