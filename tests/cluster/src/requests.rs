//! The requests that tests make most, at fixed versions, with their answers unwrapped.

use bytes::Bytes;
use strom_kafka_codec::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use strom_kafka_codec::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use strom_kafka_codec::messages::delete_topics_request::DeleteTopicState;
use strom_kafka_codec::messages::fetch_request::{FetchPartition, FetchTopic};
use strom_kafka_codec::messages::fetch_response::PartitionData;
use strom_kafka_codec::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use strom_kafka_codec::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use strom_kafka_codec::messages::list_offsets_response::ListOffsetsPartitionResponse;
use strom_kafka_codec::messages::metadata_request::MetadataRequestTopic;
use strom_kafka_codec::messages::metadata_response::MetadataResponseTopic;
use strom_kafka_codec::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strom_kafka_codec::messages::produce_response::PartitionProduceResponse;
use strom_kafka_codec::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest,
};
use strom_records::{BatchBuilder, BatchIter, MAX_DECOMPRESSED_BYTES, NewRecord, Record};
use strom_types::{ProducerEpoch, ProducerId};
use uuid::Uuid;

use crate::raw::Raw;

pub const CREATE_TOPICS: i16 = 7;
pub const METADATA: i16 = 12;
/// The last versions that name topics by name.
pub const PRODUCE: i16 = 12;
pub const FETCH: i16 = 12;
pub const LIST_OFFSETS: i16 = 9;

/// Creates a topic with one copy of each partition and waits until it is served; returns its id.
pub async fn create_topic(raw: &mut Raw, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
    let result = try_create_topic(raw, name, partitions, configs).await;
    let id = result.unwrap_or_else(|code| panic!("creating {name}: error {code}"));
    for partition in 0..partitions {
        wait_served(raw, name, partition).await;
    }
    id
}

/// The topic's id or Kafka's error code.
pub async fn try_create_topic(
    raw: &mut Raw,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<Uuid, i16> {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).to_owned().into(),
        value: Some((*value).to_owned().into()),
    });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.to_owned().into(),
            num_partitions: partitions,
            replication_factor: -1,
            configs: configs.collect(),
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let reply = raw.call(CREATE_TOPICS, &request).await;
    let result = reply.topics.first().expect("a result for the topic");
    match result.error_code {
        0 => Ok(result.topic_id),
        code => Err(code),
    }
}

pub async fn delete_topic(raw: &mut Raw, name: &str) -> i16 {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(name.to_owned().into()),
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let reply = raw.call(6, &request).await;
    reply.responses.first().expect("a result").error_code
}

pub async fn describe_topic(raw: &mut Raw, name: &str, auto_create: bool) -> MetadataResponseTopic {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(name.to_owned().into()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: auto_create,
        ..Default::default()
    };
    let reply = raw.call(METADATA, &request).await;
    reply.topics.into_iter().next().expect("the topic asked for")
}

/// An uncompressed batch of one record per value.
pub fn batch(values: &[&str]) -> Bytes {
    fill(BatchBuilder::new(), values)
}

/// The same from an idempotent producer.
pub fn sequenced(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Bytes {
    let builder = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    fill(builder, values)
}

pub fn fill(mut builder: BatchBuilder, values: &[&str]) -> Bytes {
    for value in values {
        let record = NewRecord {
            timestamp: now_ms(),
            key: Some(b"k"),
            value: Some(value.as_bytes()),
            headers: &[],
        };
        builder.push(&record).expect("room in the batch");
    }
    builder.build().expect("a batch")
}

pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A produce request for one partition.
pub fn produce_request(topic: &str, partition: i32, records: Bytes, acks: i16) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned().into(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(records),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Produces with acks=all.
pub async fn produce(raw: &mut Raw, topic: &str, partition: i32, records: Bytes) -> PartitionProduceResponse {
    let reply = raw
        .call(PRODUCE, &produce_request(topic, partition, records, -1))
        .await;
    let topic = reply.responses.into_iter().next().expect("the topic's reply");
    let partition = topic.partition_responses.into_iter().next();
    partition.expect("the partition's reply")
}

/// Produces values one batch; returns the first offset.
pub async fn produce_values(raw: &mut Raw, topic: &str, partition: i32, values: &[&str]) -> i64 {
    let reply = produce(raw, topic, partition, batch(values)).await;
    assert_eq!(reply.error_code, 0, "producing to {topic}-{partition}: {reply:?}");
    reply.base_offset
}

/// A fetch of one partition without a session.
pub fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.to_owned().into(),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: 50 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub async fn fetch(raw: &mut Raw, topic: &str, partition: i32, offset: i64) -> PartitionData {
    let reply = raw.call(FETCH, &fetch_request(topic, partition, offset)).await;
    assert_eq!(reply.error_code, 0);
    let topic = reply.responses.into_iter().next().expect("the topic's reply");
    topic
        .partitions
        .into_iter()
        .next()
        .expect("the partition's reply")
}

/// All records of whole batches.
pub fn records_of(data: &PartitionData) -> Vec<Record> {
    let bytes = data.records.clone().unwrap_or_default();
    let mut records = Vec::new();
    for batch in BatchIter::new(bytes) {
        let batch = batch.expect("a good batch");
        batch.verify_crc().expect("a good CRC");
        let iter = batch.records(MAX_DECOMPRESSED_BYTES).expect("readable records");
        records.extend(iter.map(|record| record.expect("a good record")));
    }
    records
}

/// Every record of a partition from `offset` on: (offset, value).
pub async fn read_all(raw: &mut Raw, topic: &str, partition: i32, offset: i64) -> Vec<(i64, String)> {
    let mut read: Vec<(i64, String)> = Vec::new();
    let mut next = offset;
    loop {
        let data = fetch(raw, topic, partition, next).await;
        assert_eq!(data.error_code, 0, "fetching {topic}-{partition} at {next}");
        let records = records_of(&data);
        let before = read.len();
        for record in records.into_iter().filter(|record| record.offset >= next) {
            let value = record.value.unwrap_or_default();
            read.push((record.offset, String::from_utf8_lossy(&value).into_owned()));
        }
        match read.last() {
            Some((last, _)) if read.len() > before => next = last + 1,
            _ => return read,
        }
    }
}

pub async fn list_offset(
    raw: &mut Raw,
    topic: &str,
    partition: i32,
    at: i64,
) -> ListOffsetsPartitionResponse {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.to_owned().into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition,
                timestamp: at,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let reply = raw.call(LIST_OFFSETS, &request).await;
    let topic = reply.topics.into_iter().next().expect("the topic's reply");
    topic
        .partitions
        .into_iter()
        .next()
        .expect("the partition's reply")
}

/// Deletes the records before `offset`: (low watermark, error).
pub async fn delete_records(raw: &mut Raw, topic: &str, partition: i32, offset: i64) -> (i64, i16) {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.to_owned().into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: partition,
                offset,
            }],
        }],
        timeout_ms: 10_000,
    };
    let reply = raw.call(2, &request).await;
    let partition = reply.topics.first().and_then(|topic| topic.partitions.first());
    let partition = partition.expect("the partition's reply");
    (partition.low_watermark, partition.error_code)
}

/// Kafka's resource types in requests about configurations.
pub const TOPIC_RESOURCE: i8 = 2;
pub const BROKER_RESOURCE: i8 = 4;

/// Sets one key of a topic or of a broker, by IncrementalAlterConfigs; an empty name is all brokers.
pub async fn alter_config(raw: &mut Raw, resource: (i8, &str), key: &str, value: &str) -> i16 {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: resource.0,
            resource_name: resource.1.to_owned().into(),
            configs: vec![AlterableConfig {
                name: key.to_owned().into(),
                config_operation: 0,
                value: Some(value.to_owned().into()),
            }],
        }],
        ..Default::default()
    };
    let reply = raw.call(1, &request).await;
    reply.responses.first().expect("the resource's reply").error_code
}

/// A producer id with epoch 0.
pub async fn init_producer_id(raw: &mut Raw) -> (i64, i16) {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let reply = raw.call(4, &request).await;
    assert_eq!(reply.error_code, 0);
    (reply.producer_id, reply.producer_epoch)
}

/// Waits until a partition's leader answers.
pub async fn wait_served(raw: &mut Raw, topic: &str, partition: i32) {
    let deadline = tokio::time::Instant::now() + crate::PATIENCE;
    loop {
        let code = list_offset(raw, topic, partition, -1).await.error_code;
        if code == 0 {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{topic}-{partition} is not served: error {code}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
