//! Changes through the controllers: order, errors, reading one's own writes, and unknown outcomes.

use std::time::Duration;

use strom_kafka_codec::messages::*;
use strom_proto::convert::service_error;
use strom_proto::status::to_status;
use strom_types::ErrorCode;

use super::cluster::{Cluster, topic_id};
use super::controller::Fault;

fn create(names: &[&str]) -> CreateTopicsRequest {
    let topic = |name: &&str| create_topics_request::CreatableTopic {
        name: (*name).to_owned().into(),
        num_partitions: 3,
        replication_factor: 2,
        ..Default::default()
    };
    CreateTopicsRequest {
        topics: names.iter().map(topic).collect(),
        timeout_ms: 5000,
        validate_only: false,
    }
}

fn created(response: &CreateTopicsResponse) -> Vec<(&str, i16)> {
    let topics = response.topics.iter();
    topics
        .map(|topic| (topic.name.as_str(), topic.error_code))
        .collect()
}

fn refusal(code: ErrorCode) -> Fault {
    Fault::Refuse(to_status(&service_error(code, "by script")))
}

#[tokio::test]
async fn a_created_topic_is_there_at_the_next_request() {
    let cluster = Cluster::with_topics().await;
    let mut request = create(&[
        "new",
        "orders",
        "bad name",
        "__cluster_metadata",
        "twice",
        "twice",
        "nulls",
    ]);
    request.topics[6].configs = vec![create_topics_request::CreatableTopicConfig {
        name: "retention.ms".into(),
        value: None,
    }];
    let response = cluster.ask(7, &request).await;
    assert_eq!(
        created(&response),
        [
            ("new", 0),
            ("orders", 36),
            ("bad name", 17),
            ("__cluster_metadata", 42),
            ("twice", 42),
            ("twice", 42),
            ("nulls", 40),
        ]
    );
    let new = &response.topics[0];
    assert_eq!((new.num_partitions, new.replication_factor), (3, 2));
    assert_eq!(new.error_message, None);
    let configs = new.configs.as_ref().unwrap();
    assert!(
        configs
            .iter()
            .any(|config| config.name == "retention.ms" && config.config_source == 5)
    );
    let failed = &response.topics[1];
    assert_eq!((failed.num_partitions, failed.replication_factor), (-1, -1));
    let image = cluster.gateway.metadata().image();
    let topic = image.topic_by_name("new").unwrap();
    assert_eq!(topic.id.0, new.topic_id);
}

#[tokio::test]
async fn validation_creates_nothing() {
    let cluster = Cluster::with_topics().await;
    let mut request = create(&["new"]);
    request.validate_only = true;
    let response = cluster.ask(7, &request).await;
    assert_eq!(created(&response), [("new", 0)]);
    assert_eq!(response.topics[0].num_partitions, 3);
    assert!(cluster.controller.image().topic_by_name("new").is_none());
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_topic_and_no_false_error() {
    let cluster = Cluster::with_topics().await;
    cluster.controller.fail_next(Fault::LoseAnswer);
    let response = cluster.ask(7, &create(&["new"])).await;
    assert_eq!(
        created(&response),
        [("new", 0)],
        "the repeated call finds its own topic"
    );
    assert_eq!(cluster.controller.calls(), 2);
}

#[tokio::test]
async fn what_is_not_visible_in_time_is_a_timeout() {
    let cluster = Cluster::with_topics().await;
    cluster.controller.hold_feed();
    let mut request = create(&["new"]);
    request.timeout_ms = 100;
    let response = cluster.ask(7, &request).await;
    assert_eq!(created(&response), [("new", 7)]);
    assert!(
        cluster.controller.image().topic_by_name("new").is_some(),
        "it was made"
    );
}

#[tokio::test]
async fn a_refused_call_refuses_each_item() {
    let cluster = Cluster::with_topics().await;
    for (code, told) in [
        (ErrorCode::PolicyViolation, 44),
        (ErrorCode::Overloaded, 89),
        (ErrorCode::InvalidRequest, 42),
    ] {
        cluster.controller.fail_next(refusal(code));
        let response = cluster.ask(7, &create(&["a", "b"])).await;
        assert_eq!(created(&response), [("a", told), ("b", told)]);
        assert_eq!(response.topics[0].error_message.as_deref(), Some("by script"));
    }
}

fn delete(version: i16, names: &[&str], ids: &[u128]) -> DeleteTopicsRequest {
    let mut request = DeleteTopicsRequest {
        timeout_ms: 5000,
        ..Default::default()
    };
    if version < 6 {
        request.topic_names = names.iter().map(|name| (*name).to_owned().into()).collect();
        return request;
    }
    let by_name = names.iter().map(|name| delete_topics_request::DeleteTopicState {
        name: Some((*name).to_owned().into()),
        ..Default::default()
    });
    let by_id = ids.iter().map(|id| delete_topics_request::DeleteTopicState {
        name: None,
        topic_id: topic_id(*id).0,
    });
    request.topics = by_name.chain(by_id).collect();
    request
}

fn deleted(response: &DeleteTopicsResponse) -> Vec<(Option<&str>, i16)> {
    let responses = response.responses.iter();
    responses
        .map(|topic| (topic.name.as_deref(), topic.error_code))
        .collect()
}

#[tokio::test]
async fn topics_are_deleted_by_name_or_id() {
    let cluster = Cluster::with_topics().await;
    let mut request = delete(6, &["missing"], &[9, 1, 0]);
    request.topics.push(delete_topics_request::DeleteTopicState {
        name: Some("orders".into()),
        topic_id: topic_id(1).0,
    });
    let response = cluster.ask(6, &request).await;
    assert_eq!(
        deleted(&response),
        [
            (Some("missing"), 3),
            (None, 100),
            (Some("orders"), 0),
            (None, 42),
            (Some("orders"), 42),
        ]
    );
    assert!(
        cluster
            .gateway
            .metadata()
            .image()
            .topic_by_name("orders")
            .is_none()
    );
    let old = cluster
        .ask(1, &delete(1, &["__consumer_offsets", "missing"], &[]))
        .await;
    assert_eq!(
        deleted(&old),
        [(Some("__consumer_offsets"), 0), (Some("missing"), 3)]
    );
}

#[tokio::test]
async fn a_deletion_whose_answer_is_lost_is_not_repeated() {
    let cluster = Cluster::with_topics().await;
    cluster.controller.fail_next(Fault::LoseAnswer);
    let response = cluster.ask(5, &delete(5, &["orders"], &[])).await;
    assert_eq!(
        deleted(&response),
        [(Some("orders"), 7)],
        "unknown, so it may be tried again"
    );
    assert_eq!(cluster.controller.calls(), 1);
}

#[tokio::test]
async fn deletion_that_is_switched_off_has_a_code_from_version_3_on() {
    let cluster = Cluster::with_topics().await;
    for (version, code) in [(2, 42), (3, 73)] {
        cluster
            .controller
            .fail_next(refusal(ErrorCode::TopicDeletionDisabled));
        let response = cluster.ask(version, &delete(version, &["orders"], &[])).await;
        assert_eq!(deleted(&response), [(Some("orders"), code)]);
    }
}

#[tokio::test]
async fn topics_grow() {
    let cluster = Cluster::with_topics().await;
    let topic = |name: &'static str, count, assignments| create_partitions_request::CreatePartitionsTopic {
        name: name.into(),
        count,
        assignments,
    };
    let replicas = create_partitions_request::CreatePartitionsAssignment {
        broker_ids: vec![2, 1],
    };
    let request = CreatePartitionsRequest {
        topics: vec![
            topic("missing", 4, None),
            topic("orders", 4, Some(vec![replicas])),
            topic("__consumer_offsets", 1, None),
        ],
        timeout_ms: 5000,
        validate_only: false,
    };
    let response = cluster.ask(3, &request).await;
    let codes: Vec<_> = response
        .results
        .iter()
        .map(|r| (r.name.as_str(), r.error_code))
        .collect();
    assert_eq!(codes, [("missing", 3), ("orders", 0), ("__consumer_offsets", 37)]);
    let image = cluster.gateway.metadata().image();
    let grown = image.topic_by_name("orders").unwrap();
    let leader = grown.partitions.get(&3).and_then(|state| state.leader);
    assert_eq!(leader.map(|id| id.get()), Some(2));
}

#[tokio::test]
async fn leaders_are_elected_on_request() {
    let cluster = Cluster::with_topics().await;
    let request = |partitions: Option<Vec<i32>>, election_type| ElectLeadersRequest {
        election_type,
        topic_partitions: partitions.map(|partitions| {
            vec![elect_leaders_request::TopicPartitions {
                topic: "orders".into(),
                partitions,
            }]
        }),
        timeout_ms: 5000,
    };
    let some = cluster.ask(2, &request(Some(vec![9, 0]), 0)).await;
    let results: Vec<_> = some.replica_election_results[0]
        .partition_result
        .iter()
        .map(|r| (r.partition_id, r.error_code))
        .collect();
    assert_eq!((some.error_code, results), (0, vec![(9, 3), (0, 84)]));
    let all = cluster.ask(2, &request(None, 0)).await;
    assert_eq!(
        (all.error_code, all.replica_election_results.len()),
        (0, 0),
        "none was needed"
    );
    let odd = cluster.ask(2, &request(Some(vec![0]), 7)).await;
    assert_eq!(odd.error_code, 42);
    cluster.controller.fail_next(refusal(ErrorCode::PolicyViolation));
    let old = cluster.ask(0, &request(Some(vec![0]), 0)).await;
    assert_eq!(old.replica_election_results[0].partition_result[0].error_code, 44);
}

#[tokio::test]
async fn a_broker_that_is_gone_is_forgotten() {
    let cluster = Cluster::with_topics().await;
    let forget = |broker_id| UnregisterBrokerRequest { broker_id };
    assert_eq!(cluster.ask(0, &forget(3)).await.error_code, 0);
    assert!(
        cluster
            .gateway
            .metadata()
            .image()
            .brokers()
            .all(|broker| broker.id.get() != 3)
    );
    assert_eq!(cluster.ask(0, &forget(9)).await.error_code, 102);
    let living = cluster.ask(0, &forget(1)).await;
    assert_eq!(living.error_code, 42);
    assert!(living.error_message.as_deref().unwrap().contains("alive"));
}

#[tokio::test]
async fn the_quorum_in_kafkas_words() {
    let cluster = Cluster::with_topics().await;
    let request = |topic: &'static str| DescribeQuorumRequest {
        topics: vec![describe_quorum_request::TopicData {
            topic_name: topic.into(),
            partitions: vec![Default::default()],
        }],
    };
    let response = cluster.ask(2, &request("__cluster_metadata")).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!(
        (
            partition.leader_id,
            partition.leader_epoch,
            partition.high_watermark
        ),
        (1, 5, 42)
    );
    assert_eq!(
        (partition.current_voters.len(), partition.observers.len()),
        (1, 1)
    );
    assert_eq!(
        (
            response.nodes[0].listeners.len(),
            response.nodes[1].listeners.len()
        ),
        (1, 0)
    );
    let other = cluster.ask(2, &request("orders")).await;
    assert_eq!(other.topics[0].partitions[0].error_code, 3);
}

/// Else the first acks=0 records of a new topic meet a broker that does not know it yet, and are lost.
#[tokio::test]
async fn what_is_told_as_created_is_known_to_its_leader() {
    let cluster = Cluster::with_topics().await;
    let asked = |cluster: &Cluster| -> usize {
        let calls = cluster.brokers.iter().flat_map(|broker| broker.take_calls());
        calls.filter(|call| *call == "await_metadata").count()
    };
    assert_eq!(created(&cluster.ask(7, &create(&["new"])).await), [("new", 0)]);
    assert_eq!(asked(&cluster), 2, "each of its leaders");
    cluster.script_brokers(|script| script.status = Some(tonic::Status::unavailable("stuck")));
    assert_eq!(
        created(&cluster.ask(7, &create(&["other"])).await),
        [("other", 0)]
    );
    let mut check = create(&["only-checked"]);
    check.validate_only = true;
    asked(&cluster);
    assert_eq!(created(&cluster.ask(7, &check).await), [("only-checked", 0)]);
    assert_eq!(asked(&cluster), 0);
}

#[tokio::test]
async fn no_timeout_is_waited_for_long() {
    let cluster = Cluster::with_topics().await;
    cluster.controller.hold_feed();
    let begun = std::time::Instant::now();
    let mut request = create(&["new"]);
    request.timeout_ms = -1;
    assert_eq!(created(&cluster.ask(7, &request).await), [("new", 7)]);
    assert!(begun.elapsed() < Duration::from_secs(10));
}
