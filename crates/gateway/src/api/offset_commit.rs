//! OffsetCommit (key 8): by name, or by topic id from version 10 on.

use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use strom_kafka_codec::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use strom_kafka_codec::messages::{OffsetCommitRequest, OffsetCommitResponse};
use strom_metadata::{Image, TopicImage};
use strom_proto::convert::{error_code, topic_id_bytes};
use strom_proto::v1;
use strom_types::{ErrorCode, TopicId};

use super::call::unary;
use super::coordinators::{COORDINATOR_TIMEOUT, coordinator};
use super::{Call, Start};
use crate::codes::{coordinator_call_code, coordinator_code, kafka};

const GROUP_NOT_FOUND_SINCE_VERSION: i16 = 9;
const TOPIC_IDS_SINCE_VERSION: i16 = 10;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let image = call.gateway.metadata().image();
    let metadata_max = usize::try_from(call.gateway.config().settings.int("offset.metadata.max.bytes"));
    let metadata_max = metadata_max.unwrap_or(0);
    let mut sent = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let found = find(&image, call.version, topic);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let committed = found.and_then(|topic| commit(topic, partition, metadata_max));
            let error = match committed {
                Ok(committed) => {
                    sent.push(committed);
                    None
                }
                Err(code) => Some(code),
            };
            partitions.push((partition.partition_index, error));
        }
        topics.push((topic.name.clone(), topic.topic_id, partitions));
    }
    let answers = send(&call, &image, &request, sent).await;
    let mut answers = answers.into_iter();
    // What a short answer leaves out is not known.
    let mut next = || match answers.next() {
        None => ErrorCode::CoordinatorNotAvailable,
        // Clients of then rejoin on this, and do not know the other.
        Some(ErrorCode::GroupIdNotFound) if call.version < GROUP_NOT_FOUND_SINCE_VERSION => {
            ErrorCode::IllegalGeneration
        }
        Some(code) => code,
    };
    let topics = topics
        .into_iter()
        .map(|(name, topic_id, partitions)| OffsetCommitResponseTopic {
            name,
            topic_id,
            partitions: partitions
                .into_iter()
                .map(|(partition_index, error)| OffsetCommitResponsePartition {
                    partition_index,
                    error_code: kafka(error.unwrap_or_else(&mut next)),
                })
                .collect(),
        })
        .collect();
    OffsetCommitResponse {
        topics,
        ..Default::default()
    }
}

fn find<'a>(
    image: &'a Image,
    version: i16,
    topic: &OffsetCommitRequestTopic,
) -> Result<&'a TopicImage, ErrorCode> {
    if version >= TOPIC_IDS_SINCE_VERSION {
        image
            .topic(TopicId(topic.topic_id))
            .ok_or(ErrorCode::UnknownTopicId)
    } else {
        image
            .topic_by_name(&topic.name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

fn commit(
    topic: &TopicImage,
    partition: &OffsetCommitRequestPartition,
    metadata_max: usize,
) -> Result<v1::OffsetCommitPartition, ErrorCode> {
    if !topic.partitions.contains_key(&partition.partition_index) {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
    // Kafka counts UTF-16 units.
    if metadata.encode_utf16().count() > metadata_max {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    Ok(v1::OffsetCommitPartition {
        topic: topic.name.to_string(),
        topic_id: topic_id_bytes(topic.id),
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: metadata.to_owned(),
    })
}

/// One code per partition sent.
async fn send(
    call: &Call,
    image: &Image,
    request: &OffsetCommitRequest,
    partitions: Vec<v1::OffsetCommitPartition>,
) -> Vec<ErrorCode> {
    let count = partitions.len();
    if count == 0 {
        return Vec::new();
    }
    let broker = match coordinator(call, image, &request.group_id) {
        Ok(broker) => broker,
        Err(code) => return vec![code; count],
    };
    let request = v1::OffsetCommitRequest {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.clone().map(String::from),
        generation: request.generation_id_or_member_epoch,
        partitions,
        retention_ms: request.retention_time_ms,
    };
    let reply = broker.groups(COORDINATOR_TIMEOUT, |mut stub| async move {
        stub.offset_commit(request).await
    });
    match reply.await {
        Ok(reply) => reply
            .errors
            .into_iter()
            .map(|code| coordinator_code(error_code(code)))
            .collect(),
        Err(error) => vec![coordinator_call_code(&error); count],
    }
}
