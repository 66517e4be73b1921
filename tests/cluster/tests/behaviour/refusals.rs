//! Records that Kafka refuses, and topics that are not there.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureRecord;
use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::{PATIENCE, librdkafka};
use strom_kafka_codec::messages::fetch_request::{FetchPartition, FetchTopic};
use strom_kafka_codec::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strom_kafka_codec::messages::{FetchRequest, ProduceRequest};
use strom_records::{BatchBuilder, NewRecord};
use strom_testkit::{Cluster, Member};
use uuid::Uuid;

#[tokio::test]
async fn a_batch_over_max_message_bytes_is_refused() {
    let cluster = Cluster::builder().start().await;
    let bootstrap = cluster.bootstrap();
    let mut raw = Raw::connect(&bootstrap).await;
    let limit = batch(&[&"x".repeat(1000)]).len();
    create_topic(&mut raw, "small", 1, &[("max.message.bytes", &limit.to_string())]).await;
    let fits = produce(&mut raw, "small", 0, batch(&[&"x".repeat(1000)])).await;
    assert_eq!((fits.error_code, fits.base_offset), (NONE, 0));
    let over = produce(&mut raw, "small", 0, batch(&[&"x".repeat(1001)])).await;
    assert_eq!((over.error_code, over.base_offset), (MESSAGE_TOO_LARGE, -1));

    let producer = librdkafka::producer(&bootstrap);
    let value = "x".repeat(2000);
    let sent = producer
        .send(FutureRecord::<str, str>::to("small").payload(&value), PATIENCE)
        .await;
    let (error, _) = sent.unwrap_err();
    assert!(
        matches!(
            error,
            KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)
        ),
        "{error}"
    );
    assert_eq!(read_all(&mut raw, "small", 0, 0).await.len(), 1);
}

#[tokio::test]
async fn records_of_a_compacted_topic_are_deleted_by_compaction_alone() {
    let cluster = Cluster::builder()
        .allow_log("key=\"cleanup.policy\"")
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    for (topic, policy, code) in [
        ("compacted", "compact", POLICY_VIOLATION),
        ("both", "compact,delete", NONE),
    ] {
        create_topic(&mut raw, topic, 1, &[("cleanup.policy", policy)]).await;
        produce_values(&mut raw, topic, 0, &["a", "b"]).await;
        assert_eq!(delete_records(&mut raw, topic, 0, 1).await.1, code, "{policy}");
    }
    let answered = |error| {
        let labels = [("request", "DeleteRecords"), ("error", error)];
        cluster.metric(
            Member::Gateway(0),
            "kafka_network_requestmetrics_errors_total",
            &labels,
        )
    };
    assert_eq!((answered("POLICY_VIOLATION"), answered("NONE")), (1.0, 1.0));
}

#[tokio::test]
async fn a_compacted_topic_refuses_records_without_a_key_and_names_them() {
    // That nothing is compacted yet is said once.
    let cluster = Cluster::builder()
        .allow_log("key=\"cleanup.policy\"")
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "compacted", 1, &[("cleanup.policy", "compact")]).await;
    let mut builder = BatchBuilder::new();
    for key in [Some(b"k".as_slice()), None, Some(b"l")] {
        let record = NewRecord {
            timestamp: now_ms(),
            key,
            value: Some(b"v"),
            headers: &[],
        };
        builder.push(&record).unwrap();
    }
    let refused = produce(&mut raw, "compacted", 0, builder.build().unwrap()).await;
    assert_eq!(refused.error_code, INVALID_RECORD);
    let named: Vec<i32> = refused
        .record_errors
        .iter()
        .map(|error| error.batch_index)
        .collect();
    assert_eq!(named, [1]);
    assert_eq!(produce_values(&mut raw, "compacted", 0, &["with a key"]).await, 0);
}

#[tokio::test]
async fn unknown_topics_partitions_and_ids_are_answered_each_with_its_own_code() {
    let cluster = Cluster::builder()
        .setting("auto.create.topics.enable", "false")
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "known", 1, &[]).await;
    let produced = produce(&mut raw, "unknown", 0, batch(&["x"])).await;
    assert_eq!(produced.error_code, UNKNOWN_TOPIC_OR_PARTITION);
    let produced = produce(&mut raw, "known", 7, batch(&["x"])).await;
    assert_eq!(produced.error_code, UNKNOWN_TOPIC_OR_PARTITION);
    let produced = produce(&mut raw, "known", -1, batch(&["x"])).await;
    assert_eq!(produced.error_code, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(
        fetch(&mut raw, "unknown", 0, 0).await.error_code,
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(
        fetch(&mut raw, "known", 7, 0).await.error_code,
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(
        list_offset(&mut raw, "unknown", 0, -1).await.error_code,
        UNKNOWN_TOPIC_OR_PARTITION
    );
    let described = describe_topic(&mut raw, "unknown", true).await;
    assert_eq!(described.error_code, UNKNOWN_TOPIC_OR_PARTITION);

    let topic_id = Uuid::from_u128(42);
    assert_eq!(
        produce_by_id(&mut raw, topic_id, batch(&["x"])).await,
        UNKNOWN_TOPIC_ID
    );
    assert_eq!(fetch_by_id(&mut raw, topic_id).await.0, UNKNOWN_TOPIC_ID);
}

/// Produces to partition 0 of a topic named by its id.
pub(crate) async fn produce_by_id(raw: &mut Raw, topic_id: Uuid, records: bytes::Bytes) -> i16 {
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 5_000,
        topic_data: vec![TopicProduceData {
            topic_id,
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(records),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let reply = raw.call(13, &request).await;
    reply
        .responses
        .first()
        .unwrap()
        .partition_responses
        .first()
        .unwrap()
        .error_code
}

/// The error and the number of records of partition 0 of a topic named by its id.
pub(crate) async fn fetch_by_id(raw: &mut Raw, topic_id: Uuid) -> (i16, usize) {
    let request = FetchRequest {
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic_id,
            partitions: vec![FetchPartition {
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let reply = raw.call(13, &request).await;
    let data = reply.responses.first().unwrap().partitions.first().unwrap();
    (data.error_code, records_of(data).len())
}
