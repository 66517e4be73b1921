//! DescribeTopicPartitions (key 75): topics by pages of partitions, with the eligible leader replicas (KIP-966).

use std::collections::BTreeSet;

use strom_kafka_codec::messages::describe_topic_partitions_request::Cursor as Asked;
use strom_kafka_codec::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use strom_kafka_codec::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_metadata::{Image, PartitionState, TopicImage};
use strom_types::{ErrorCode, is_internal_topic, validate_topic_name};

use super::call::unary;
use super::nodes::{TOPIC_OPERATIONS, ids, offline_replicas, text};
use super::{Call, Start};
use crate::codes::kafka;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let image = call.gateway.metadata().image();
    let page_max = call
        .gateway
        .config()
        .settings
        .size("max.request.partition.size.limit");
    let page = usize::try_from(request.response_partition_limit).unwrap_or(0);
    describe(&image, request, page.min(page_max).max(1))
}

/// `page` = partitions in the reply, at least 1.
fn describe(
    image: &Image,
    request: DescribeTopicPartitionsRequest,
    page: usize,
) -> DescribeTopicPartitionsResponse {
    let all = request.topics.is_empty();
    let cursor = request.cursor;
    let from = cursor
        .as_ref()
        .map(|cursor| cursor.topic_name.clone())
        .unwrap_or_default();
    // Kafka's order is by name, whatever the request's: the cursor counts on it.
    let names: BTreeSet<ByteStr> = if all {
        image
            .topics()
            .filter(|topic| topic.name.as_ref() >= from.as_str())
            .map(|topic| text(&topic.name))
            .collect()
    } else {
        let named = request.topics.iter().map(|topic| topic.name.clone());
        named.filter(|name| *name >= from).collect()
    };
    if let Some(cursor) = &cursor
        && (cursor.partition_index < 0 || (!all && !names.contains(&cursor.topic_name)))
    {
        return refused(request.topics.into_iter().map(|topic| topic.name));
    }
    pages(image, names, cursor.as_ref(), page, all)
}

/// The cursor names no topic of the request, or no partition.
fn refused(names: impl Iterator<Item = ByteStr>) -> DescribeTopicPartitionsResponse {
    let topics = names.map(|name| failed(name, ErrorCode::InvalidRequest));
    DescribeTopicPartitionsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn pages(
    image: &Image,
    names: BTreeSet<ByteStr>,
    cursor: Option<&Asked>,
    page: usize,
    all: bool,
) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut room = page;
    let next = |name: &ByteStr, partition_index| Cursor {
        topic_name: name.clone(),
        partition_index,
    };
    for name in names {
        if room == 0 {
            response.next_cursor = Some(next(&name, 0));
            break;
        }
        let first = match cursor {
            Some(cursor) if cursor.topic_name == name => cursor.partition_index,
            _ => 0,
        };
        let Some(topic) = image.topic_by_name(&name) else {
            if !all {
                let legal = validate_topic_name(&name).is_ok();
                let code = if legal {
                    ErrorCode::UnknownTopicOrPartition
                } else {
                    ErrorCode::InvalidTopicException
                };
                response.topics.push(failed(name, code));
            }
            continue;
        };
        let partitions: Vec<_> = topic
            .partitions
            .range(first..)
            .take(room)
            .map(|(index, state)| partition(image, *index, state))
            .collect();
        room -= partitions.len();
        let after = partitions.last().map_or(first, |last| last.partition_index + 1);
        let more = topic.partitions.contains_key(&after);
        response.topics.push(described(topic, partitions));
        if more {
            response.next_cursor = Some(next(&name, after));
            break;
        }
    }
    response
}

fn described(
    topic: &TopicImage,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: 0,
        name: Some(text(&topic.name)),
        topic_id: topic.id.0,
        is_internal: topic.internal || is_internal_topic(&topic.name),
        partitions,
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}

fn failed(name: ByteStr, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: kafka(code),
        is_internal: is_internal_topic(&name),
        name: Some(name),
        ..Default::default()
    }
}

fn partition(
    image: &Image,
    partition_index: i32,
    state: &PartitionState,
) -> DescribeTopicPartitionsResponsePartition {
    let error = match state.leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    DescribeTopicPartitionsResponsePartition {
        error_code: kafka(error),
        partition_index,
        leader_id: state.leader.map_or(-1, |leader| leader.get()),
        leader_epoch: state.leader_epoch.get(),
        replica_nodes: ids(&state.replicas),
        isr_nodes: ids(&state.isr),
        eligible_leader_replicas: Some(ids(&state.elr)),
        last_known_elr: Some(ids(&state.last_known_elr)),
        offline_replicas: offline_replicas(image, state),
    }
}

#[cfg(test)]
#[path = "describe_topic_partitions_tests.rs"]
mod tests;
