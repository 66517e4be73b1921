//! DeleteRecords (key 21): moves the start of partitions' logs up.

use std::time::Duration;

use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use strom_kafka_codec::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::{ErrorCode, is_internal_topic};

use super::admin::Deadline;
use super::call::unary;
use super::scatter::{Leaders, scatter};
use super::{Call, Start};
use crate::codes::{client_code, kafka, partition_call_code};

const REPLY_MARGIN: Duration = Duration::from_secs(5);

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let image = call.gateway.metadata().image();
    let mut leaders = Leaders::new(&call, &image);
    let mut wants = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let found = if is_internal_topic(&topic.name) {
                // Coordinators would lose what they have to load.
                Err(ErrorCode::InvalidTopicException)
            } else {
                leaders.find(&topic.name, partition.partition_index)
            };
            let offset = partition.offset;
            wants.push(found.map(|(broker, key)| {
                let key = Some(key);
                (broker, v1::DeleteRecordsPartition { key, offset })
            }));
        }
    }
    let limit = Deadline::of_request(request.timeout_ms).left();
    let send = |broker: crate::brokers::Broker, partitions| async move {
        let request = v1::DeleteRecordsRequest {
            partitions,
            timeout_ms: u32::try_from(limit.as_millis()).unwrap_or(u32::MAX),
        };
        let reply = broker.control(limit + REPLY_MARGIN, |mut stub| async move {
            stub.delete_records(request).await
        });
        Ok(reply.await?.partitions)
    };
    let mut answers = scatter(wants, partition_call_code, send).await.into_iter();
    let topics = request.topics.into_iter().map(|topic| DeleteRecordsTopicResult {
        partitions: topic
            .partitions
            .iter()
            .zip(answers.by_ref())
            .map(|(partition, answer)| reply(partition.partition_index, answer))
            .collect(),
        name: topic.name,
    });
    DeleteRecordsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn reply(
    partition_index: i32,
    answer: Result<v1::DeleteRecordsPartitionReply, ErrorCode>,
) -> DeleteRecordsPartitionResult {
    let deleted = answer.and_then(|answer| match client_code(error_code(answer.error)) {
        ErrorCode::None => Ok(answer.low_watermark),
        code => Err(code),
    });
    DeleteRecordsPartitionResult {
        partition_index,
        low_watermark: deleted.unwrap_or(-1),
        error_code: kafka(deleted.err().unwrap_or(ErrorCode::None)),
    }
}
