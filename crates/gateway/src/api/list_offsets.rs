//! ListOffsets (key 2): offsets by time, and the special ones (KIP-79, 734, 405, 1005, 1023).

use std::time::Duration;

use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::list_offsets_request::ListOffsetsPartition;
use strom_kafka_codec::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use strom_kafka_codec::messages::{ListOffsetsRequest, ListOffsetsResponse};
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::ErrorCode;

use super::call::unary;
use super::scatter::{Leaders, scatter};
use super::{Call, Start};
use crate::codes::{client_code, kafka, read_call_code};

const READ_COMMITTED: i8 = 1;
const LEADER_EPOCH_SINCE_VERSION: i16 = 4;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let image = call.gateway.metadata().image();
    let read_committed = request.isolation_level == READ_COMMITTED;
    let mut leaders = Leaders::new(&call, &image);
    let mut wants = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let want = served(call.version, partition.timestamp)
                .and_then(|()| leaders.find(&topic.name, partition.partition_index));
            wants.push(want.map(|(broker, key)| (broker, query(key, partition))));
        }
    }
    let send = |broker: crate::brokers::Broker, partitions| async move {
        let request = v1::ListOffsetsRequest {
            read_committed,
            partitions,
        };
        let reply = broker.control(LOOKUP_TIMEOUT, |mut stub| async move {
            stub.list_offsets(request).await
        });
        Ok(reply.await?.partitions)
    };
    let mut answers = scatter(wants, read_call_code, send).await.into_iter();
    let topics = request.topics.into_iter().map(|topic| ListOffsetsTopicResponse {
        partitions: topic
            .partitions
            .iter()
            .zip(answers.by_ref())
            .map(|(partition, answer)| reply(call.version, partition.partition_index, answer))
            .collect(),
        name: topic.name,
    });
    ListOffsetsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

/// Whether this version of the request knows the special timestamp.
fn served(version: i16, timestamp: i64) -> Result<(), ErrorCode> {
    let since = match timestamp {
        -2.. => 1,
        -3 => 7,
        -4 => 8,
        -5 => 9,
        -6 => 11,
        _ => i16::MAX,
    };
    if version < since {
        Err(ErrorCode::UnsupportedVersion)
    } else {
        Ok(())
    }
}

fn query(key: v1::PartitionKey, partition: &ListOffsetsPartition) -> v1::ListOffsetsPartition {
    v1::ListOffsetsPartition {
        key: Some(key),
        current_leader_epoch: partition.current_leader_epoch,
        timestamp: partition.timestamp,
    }
}

fn reply(
    version: i16,
    partition_index: i32,
    answer: Result<v1::ListOffsetsPartitionReply, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let found = answer.and_then(|answer| match client_code(error_code(answer.error)) {
        ErrorCode::None => Ok(answer),
        code => Err(code),
    });
    match found {
        Ok(found) => ListOffsetsPartitionResponse {
            partition_index,
            error_code: 0,
            timestamp: found.timestamp,
            offset: found.offset,
            leader_epoch: if version >= LEADER_EPOCH_SINCE_VERSION {
                found.leader_epoch
            } else {
                -1
            },
        },
        Err(code) => ListOffsetsPartitionResponse {
            partition_index,
            error_code: kafka(code),
            ..Default::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_came_one_by_one() {
        for (timestamp, since) in [(0, 1), (-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11)] {
            for version in 1..=11 {
                assert_eq!(
                    served(version, timestamp).is_ok(),
                    version >= since,
                    "{timestamp} in version {version}"
                );
            }
        }
        assert_eq!(served(11, -7), Err(ErrorCode::UnsupportedVersion));
    }
}
