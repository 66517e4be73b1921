//! DescribeProducers (key 61): who writes idempotently or transactionally to a partition (KIP-664).

use std::time::Duration;

use strom_kafka_codec::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use strom_kafka_codec::messages::{DescribeProducersRequest, DescribeProducersResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::{ErrorCode, validate_topic_name};

use super::call::unary;
use super::scatter::{Leaders, scatter};
use super::{Call, Start};
use crate::codes::{client_code, kafka, read_call_code};

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let image = call.gateway.metadata().image();
    let mut leaders = Leaders::new(&call, &image);
    let mut wants = Vec::new();
    for topic in &request.topics {
        let legal = validate_topic_name(&topic.name).map_err(|_| ErrorCode::InvalidTopicException);
        for partition in &topic.partition_indexes {
            wants.push(legal.and_then(|()| leaders.find(&topic.name, *partition)));
        }
    }
    let send = |broker: crate::brokers::Broker, partitions| async move {
        let request = v1::DescribeProducersRequest { partitions };
        let reply = broker.control(LOOKUP_TIMEOUT, |mut stub| async move {
            stub.describe_producers(request).await
        });
        Ok(reply.await?.partitions)
    };
    let mut answers = scatter(wants, read_call_code, send).await.into_iter();
    let topics = request.topics.into_iter().map(|topic| TopicResponse {
        partitions: topic
            .partition_indexes
            .iter()
            .zip(answers.by_ref())
            .map(|(partition, answer)| reply(*partition, answer))
            .collect(),
        name: topic.name,
    });
    DescribeProducersResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn reply(
    partition_index: i32,
    answer: Result<v1::DescribeProducersPartition, ErrorCode>,
) -> PartitionResponse {
    let described = answer.and_then(|answer| match client_code(error_code(answer.error)) {
        ErrorCode::None => Ok(answer.producers),
        code => Err(code),
    });
    match described {
        Ok(producers) => PartitionResponse {
            partition_index,
            active_producers: producers.into_iter().map(producer).collect(),
            ..Default::default()
        },
        Err(code) => PartitionResponse {
            partition_index,
            error_code: kafka(code),
            error_message: Some(ByteStr::from_static(code.name())),
            ..Default::default()
        },
    }
}

fn producer(state: v1::ProducerState) -> ProducerState {
    ProducerState {
        producer_id: state.producer_id,
        producer_epoch: state.producer_epoch,
        last_sequence: state.last_sequence,
        last_timestamp: state.last_timestamp_ms,
        coordinator_epoch: state.coordinator_epoch,
        current_txn_start_offset: state.current_transaction_start,
    }
}
