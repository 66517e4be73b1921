//! OffsetDelete (key 47): forgets committed offsets of topics that the group does not read any more.

use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use strom_kafka_codec::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use strom_metadata::Image;
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::ErrorCode;

use super::call::unary;
use super::coordinators::{COORDINATOR_TIMEOUT, coordinator};
use super::{Call, Start};
use crate::codes::{coordinator_call_code, coordinator_code, kafka};

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let image = call.gateway.metadata().image();
    let known = |topic: &str, partition: i32| {
        image
            .topic_by_name(topic)
            .is_some_and(|topic| topic.partitions.contains_key(&partition))
    };
    let mut sent = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if known(&topic.name, partition.partition_index) {
                sent.push(v1::OffsetFetchPartition {
                    topic: topic.name.to_string(),
                    partition: partition.partition_index,
                });
            }
        }
    }
    if request.group_id.is_empty() {
        return OffsetDeleteResponse {
            error_code: kafka(ErrorCode::InvalidGroupId),
            ..Default::default()
        };
    }
    let answers = match delete(&call, &image, &request.group_id, sent).await {
        Ok(answers) => answers,
        Err(code) => {
            return OffsetDeleteResponse {
                error_code: kafka(code),
                ..Default::default()
            };
        }
    };
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or(ErrorCode::CoordinatorNotAvailable);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|partition| {
            let code = if known(&topic.name, partition.partition_index) {
                next()
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: kafka(code),
            }
        });
        topics.push(OffsetDeleteResponseTopic {
            partitions: partitions.collect(),
            name: topic.name.clone(),
        });
    }
    OffsetDeleteResponse {
        topics,
        ..Default::default()
    }
}

/// One code per partition; the error is the group's. Asked also without partitions: the group's state counts.
async fn delete(
    call: &Call,
    image: &Image,
    group_id: &str,
    partitions: Vec<v1::OffsetFetchPartition>,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    let broker = coordinator(call, image, group_id)?;
    let request = v1::OffsetDeleteRequest {
        group_id: group_id.to_owned(),
        partitions,
    };
    let reply = broker.groups(COORDINATOR_TIMEOUT, |mut stub| async move {
        stub.offset_delete(request).await
    });
    let reply = reply.await.map_err(|error| coordinator_call_code(&error))?;
    match coordinator_code(error_code(reply.error)) {
        ErrorCode::None => Ok(reply
            .partition_errors
            .into_iter()
            .map(|code| coordinator_code(error_code(code)))
            .collect()),
        code => Err(code),
    }
}
