//! OffsetForLeaderEpoch (key 23): where a leader epoch ends, so that clients see truncation (KIP-101, KIP-320).

use std::time::Duration;

use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use strom_kafka_codec::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use strom_kafka_codec::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::ErrorCode;

use super::call::unary;
use super::scatter::{Leaders, scatter};
use super::{Call, Start};
use crate::codes::{client_code, kafka, read_call_code};

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let image = call.gateway.metadata().image();
    let mut leaders = Leaders::new(&call, &image);
    let mut wants = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let found = leaders.find(&topic.topic, partition.partition);
            wants.push(found.map(|(broker, key)| (broker, query(key, partition))));
        }
    }
    let send = |broker: crate::brokers::Broker, partitions| async move {
        let request = v1::OffsetsForLeaderEpochRequest { partitions };
        let reply = broker.control(LOOKUP_TIMEOUT, |mut stub| async move {
            stub.offsets_for_leader_epoch(request).await
        });
        Ok(reply.await?.partitions)
    };
    let mut answers = scatter(wants, read_call_code, send).await.into_iter();
    let topics = request
        .topics
        .into_iter()
        .map(|topic| OffsetForLeaderTopicResult {
            partitions: topic
                .partitions
                .iter()
                .zip(answers.by_ref())
                .map(|(partition, answer)| reply(partition.partition, answer))
                .collect(),
            topic: topic.topic,
        });
    OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn query(key: v1::PartitionKey, partition: &OffsetForLeaderPartition) -> v1::OffsetsForLeaderEpochPartition {
    v1::OffsetsForLeaderEpochPartition {
        key: Some(key),
        current_leader_epoch: partition.current_leader_epoch,
        leader_epoch: partition.leader_epoch,
    }
}

fn reply(
    partition: i32,
    answer: Result<v1::OffsetsForLeaderEpochPartitionReply, ErrorCode>,
) -> EpochEndOffset {
    let found = answer.and_then(|answer| match client_code(error_code(answer.error)) {
        ErrorCode::None => Ok(answer),
        code => Err(code),
    });
    match found {
        Ok(found) => EpochEndOffset {
            error_code: 0,
            partition,
            leader_epoch: found.leader_epoch,
            end_offset: found.end_offset,
        },
        Err(code) => EpochEndOffset {
            error_code: kafka(code),
            partition,
            ..Default::default()
        },
    }
}
