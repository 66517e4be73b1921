//! Questions that go to partitions' leaders or to any broker: offsets, epochs, producers, disks, producer ids.

use strom_kafka_codec::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use strom_kafka_codec::messages::{
    DeleteRecordsRequest, DescribeLogDirsRequest, DescribeProducersRequest, InitProducerIdRequest,
    ListOffsetsRequest, ListOffsetsResponse, delete_records_request, describe_log_dirs_request,
    describe_producers_request,
};
use strom_proto::convert::topic_id_bytes;
use strom_types::ErrorCode;
use tonic::Status;

use super::cluster::{Cluster, partition_record, topic_id};

fn latest(topics: &[(&str, &[i32])]) -> ListOffsetsRequest {
    let partition = |index: &i32| ListOffsetsPartition {
        partition_index: *index,
        timestamp: -1,
        ..Default::default()
    };
    ListOffsetsRequest {
        replica_id: -1,
        topics: topics
            .iter()
            .map(|(name, partitions)| ListOffsetsTopic {
                name: (*name).to_owned().into(),
                partitions: partitions.iter().map(partition).collect(),
            })
            .collect(),
        ..Default::default()
    }
}

fn offsets(response: &ListOffsetsResponse) -> Vec<Vec<(i32, i16, i64)>> {
    let topics = response.topics.iter();
    topics
        .map(|topic| {
            let partitions = topic.partitions.iter();
            partitions
                .map(|p| (p.partition_index, p.error_code, p.offset))
                .collect()
        })
        .collect()
}

#[tokio::test]
async fn each_leader_is_asked_once_and_the_order_stays() {
    let cluster = Cluster::with_topics().await;
    // Partitions 0 and 2 are led by broker 1, partition 1 by broker 2.
    let request = latest(&[("orders", &[2, 1, 9, 0]), ("missing", &[0]), ("orders", &[2])]);
    let response = cluster.ask(11, &request).await;
    assert_eq!(
        offsets(&response),
        vec![
            vec![(2, 0, 102), (1, 0, 201), (9, 3, -1), (0, 0, 100)],
            vec![(0, 3, -1)],
            vec![(2, 42, -1)],
        ],
        "a partition that is named twice is INVALID_REQUEST"
    );
    assert_eq!(cluster.brokers[0].take_calls(), ["list_offsets"]);
    assert_eq!(cluster.brokers[1].take_calls(), ["list_offsets"]);
    let old = cluster.ask(3, &latest(&[("orders", &[0])])).await;
    assert_eq!(
        old.topics[0].partitions[0].leader_epoch, -1,
        "version 3 has no epochs"
    );
}

#[tokio::test]
async fn what_goes_wrong_with_a_leader_makes_clients_look_again() {
    let cluster = Cluster::with_topics().await;
    let request = latest(&[("orders", &[0, 1])]);
    cluster.brokers[1].script(|script| script.status = Some(Status::unavailable("gone")));
    let half = cluster.ask(7, &request).await;
    assert_eq!(offsets(&half), vec![vec![(0, 0, 100), (1, 6, -1)]]);
    cluster.brokers[0].script(|script| script.leave_out_last = true);
    let short = cluster.ask(7, &request).await;
    assert_eq!(offsets(&short), vec![vec![(0, 6, -1), (1, 6, -1)]]);
    let id = topic_id_bytes(topic_id(1));
    let at = cluster
        .controller
        .commit(vec![partition_record(&id, 0, None, &[1, 2])]);
    cluster.sees(at).await;
    let leaderless = cluster.ask(7, &latest(&[("orders", &[0])])).await;
    assert_eq!(offsets(&leaderless), vec![vec![(0, 5, -1)]]);
}

#[tokio::test]
async fn deleting_records_is_never_said_to_have_failed_when_unknown() {
    let cluster = Cluster::with_topics().await;
    let request = |topic: &'static str| DeleteRecordsRequest {
        topics: vec![delete_records_request::DeleteRecordsTopic {
            name: topic.into(),
            partitions: vec![delete_records_request::DeleteRecordsPartition {
                partition_index: 0,
                offset: 30,
            }],
        }],
        timeout_ms: 1000,
    };
    let result = |response: strom_kafka_codec::messages::DeleteRecordsResponse| {
        let partition = &response.topics[0].partitions[0];
        (partition.error_code, partition.low_watermark)
    };
    assert_eq!(result(cluster.ask(2, &request("orders")).await), (0, 30));
    assert_eq!(
        result(cluster.ask(2, &request("__consumer_offsets")).await),
        (17, -1)
    );
    cluster.script_brokers(|script| script.status = Some(Status::unavailable("gone")));
    assert_eq!(
        result(cluster.ask(2, &request("orders")).await),
        (7, -1),
        "REQUEST_TIMED_OUT"
    );
}

#[tokio::test]
async fn producers_of_a_partition() {
    let cluster = Cluster::with_topics().await;
    let request = DescribeProducersRequest {
        topics: ["orders", "no/name"]
            .map(|name| describe_producers_request::TopicRequest {
                name: name.into(),
                partition_indexes: vec![1],
            })
            .into(),
    };
    let response = cluster.ask(0, &request).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!(
        (partition.error_code, partition.active_producers[0].producer_id),
        (0, 1)
    );
    let refused = &response.topics[1].partitions[0];
    assert_eq!(refused.error_code, 17);
    assert!(refused.error_message.is_some());
}

#[tokio::test]
async fn disks_are_those_of_the_addressed_broker() {
    let cluster = Cluster::with_topics().await;
    let request = DescribeLogDirsRequest {
        topics: Some(vec![describe_log_dirs_request::DescribableLogDirTopic {
            topic: "orders".into(),
            partitions: vec![1, 0],
        }]),
    };
    let one = cluster.ask_at(Some(2), 5, &request).await;
    assert_eq!(one.results.len(), 1);
    let dir = &one.results[0];
    assert_eq!(
        (dir.log_dir.as_str(), dir.total_bytes, dir.is_cordoned),
        ("/data", 1 << 40, true)
    );
    assert_eq!(dir.topics[0].name, "orders");
    let sizes: Vec<_> = dir.topics[0]
        .partitions
        .iter()
        .map(|p| (p.partition_index, p.partition_size))
        .collect();
    assert_eq!(sizes, [(0, 4096), (1, 4096)]);
    let all = cluster.ask(5, &request).await;
    let paths: Vec<&str> = all.results.iter().map(|dir| dir.log_dir.as_str()).collect();
    assert_eq!(paths, ["broker-1:/data", "broker-2:/data"]);
    cluster.script_brokers(|script| script.status = Some(Status::unavailable("gone")));
    assert_eq!(cluster.ask_at(Some(2), 3, &request).await.error_code, 7);
    let old = cluster.ask_at(Some(2), 2, &request).await;
    assert_eq!((old.error_code, old.results[0].error_code), (0, 7));
}

#[tokio::test]
async fn producer_ids_come_from_any_broker() {
    let cluster = Cluster::with_topics().await;
    let request = InitProducerIdRequest {
        transactional_id: None,
        ..Default::default()
    };
    let ask = |broker| cluster.ask_at(broker, 5, &request);
    assert_eq!(
        ask(Some(2)).await.producer_id,
        1002,
        "the one the client speaks to"
    );
    cluster.brokers[1].script(|script| script.status = Some(Status::unavailable("gone")));
    let other = ask(Some(2)).await;
    assert_eq!(
        (other.error_code, other.producer_id, other.producer_epoch),
        (0, 1001, 0)
    );
    cluster.script_brokers(|script| {
        script.status = None;
        script.error = ErrorCode::CoordinatorNotAvailable as i32;
    });
    let none = ask(None).await;
    assert_eq!(
        (none.error_code, none.producer_id, none.producer_epoch),
        (14, -1, -1)
    );
}

#[tokio::test]
async fn transactional_ids_are_refused_for_good() {
    let cluster = Cluster::with_topics().await;
    for (id, producer_id, error) in [(Some("t"), -1, 53), (Some(""), -1, 42), (None, 7, 42)] {
        let request = InitProducerIdRequest {
            transactional_id: id.map(Into::into),
            producer_id,
            ..Default::default()
        };
        let response = cluster.ask(5, &request).await;
        assert_eq!(response.error_code, error, "{id:?} {producer_id}");
    }
}
