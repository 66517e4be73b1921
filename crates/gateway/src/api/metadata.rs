//! Metadata (key 3): brokers, and topics with their partitions, from one applied index of the metadata.

use std::collections::{BTreeMap, BTreeSet};

use strom_kafka_codec::messages::metadata_request::MetadataRequestTopic;
use strom_kafka_codec::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use strom_kafka_codec::messages::{MetadataRequest, MetadataResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_metadata::{Image, PartitionState, TopicImage};
use strom_types::{ErrorCode, TopicId, is_internal_topic, validate_topic_name};

use super::call::unary;
use super::nodes::{
    CLUSTER_OPERATIONS, Node, OPERATIONS_OMITTED, TOPIC_OPERATIONS, controller_id, ids, listed,
    offline_replicas, operations, text,
};
use super::topic_creation::create_missing;
use super::{Call, Start};
use crate::codes::kafka;

/// Topics may be asked for by id (KIP-516). Versions 10 and 11 have the field, but must not use it.
const LOOKUP_BY_ID_SINCE_VERSION: i16 = 12;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

/// Which topics are asked for.
enum Wanted {
    All,
    /// Each once, in the order of the request.
    Some(Vec<Named>),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Name(ByteStr),
    Id(TopicId),
}

async fn handle(call: Call, request: MetadataRequest) -> MetadataResponse {
    let topic_operations = operations(request.include_topic_authorized_operations, TOPIC_OPERATIONS);
    let cluster_operations = operations(request.include_cluster_authorized_operations, CLUSTER_OPERATIONS);
    let may_create = request.allow_auto_topic_creation && call.gateway.config().auto_create_topics;
    let wanted = wanted(call.version, request.topics);
    let refused = match &wanted {
        Ok(Wanted::Some(named)) if may_create => create_named(&call, named).await,
        _ => BTreeMap::new(),
    };
    let image = call.gateway.metadata().image();
    let topics = match wanted {
        Err(refusals) => refusals,
        Ok(Wanted::All) => image
            .topics()
            .map(|topic| describe(&image, topic, topic_operations))
            .collect(),
        Ok(Wanted::Some(named)) => named
            .into_iter()
            .map(|named| one(&image, named, &refused, topic_operations))
            .collect(),
    };
    MetadataResponse {
        brokers: brokers(&call, &image),
        cluster_id: Some(text(image.cluster_id())),
        controller_id: controller_id(&call, &image),
        topics,
        cluster_authorized_operations: cluster_operations,
        ..Default::default()
    }
}

/// Reads the request; an error answers it.
fn wanted(
    version: i16,
    topics: Option<Vec<MetadataRequestTopic>>,
) -> Result<Wanted, Vec<MetadataResponseTopic>> {
    let Some(topics) = topics else {
        return Ok(Wanted::All);
    };
    if version == 0 && topics.is_empty() {
        return Ok(Wanted::All);
    }
    let by_id = |topic: &MetadataRequestTopic| topic.name.is_none() || !topic.topic_id.is_nil();
    if version < LOOKUP_BY_ID_SINCE_VERSION && topics.iter().any(by_id) {
        let refuse = |topic: MetadataRequestTopic| MetadataResponseTopic {
            error_code: kafka(ErrorCode::InvalidRequest),
            name: Some(topic.name.unwrap_or_default()),
            topic_authorized_operations: OPERATIONS_OMITTED,
            ..Default::default()
        };
        return Err(topics.into_iter().map(refuse).collect());
    }
    let mut seen = BTreeSet::new();
    let named = topics.into_iter().map(|topic| match topic.name {
        Some(name) if topic.topic_id.is_nil() => Named::Name(name),
        _ => Named::Id(TopicId(topic.topic_id)),
    });
    // A topic that is named twice is told of once, as in Kafka.
    Ok(Wanted::Some(
        named.filter(|named| seen.insert(named.clone())).collect(),
    ))
}

async fn create_named(call: &Call, named: &[Named]) -> BTreeMap<String, ErrorCode> {
    let names: Vec<&str> = named
        .iter()
        .filter_map(|named| match named {
            Named::Name(name) => Some(name.as_str()),
            Named::Id(_) => None,
        })
        .collect();
    create_missing(call, &names).await
}

fn one(
    image: &Image,
    named: Named,
    refused: &BTreeMap<String, ErrorCode>,
    operations: i32,
) -> MetadataResponseTopic {
    match named {
        Named::Name(name) => match image.topic_by_name(&name) {
            Some(topic) => describe(image, topic, operations),
            None => MetadataResponseTopic {
                error_code: kafka(missing(&name, refused)),
                is_internal: is_internal_topic(&name),
                name: Some(name),
                topic_authorized_operations: operations,
                ..Default::default()
            },
        },
        Named::Id(id) => match image.topic(id) {
            Some(topic) => describe(image, topic, operations),
            None => MetadataResponseTopic {
                error_code: kafka(ErrorCode::UnknownTopicId),
                name: None,
                topic_id: id.0,
                topic_authorized_operations: OPERATIONS_OMITTED,
                ..Default::default()
            },
        },
    }
}

/// What clients are told of a topic that does not exist. All but these make them come again.
fn missing(name: &str, refused: &BTreeMap<String, ErrorCode>) -> ErrorCode {
    if validate_topic_name(name).is_err() {
        return ErrorCode::InvalidTopicException;
    }
    match refused.get(name) {
        Some(
            code @ (ErrorCode::InvalidTopicException
            | ErrorCode::InvalidReplicationFactor
            | ErrorCode::PolicyViolation),
        ) => *code,
        _ => ErrorCode::UnknownTopicOrPartition,
    }
}

fn brokers(call: &Call, image: &Image) -> Vec<MetadataResponseBroker> {
    let broker = |node: Node| MetadataResponseBroker {
        node_id: node.id,
        host: node.host,
        port: node.port,
        rack: node.rack,
    };
    listed(image).map(|image| broker(Node::of(call, image))).collect()
}

fn describe(image: &Image, topic: &TopicImage, operations: i32) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: 0,
        name: Some(text(&topic.name)),
        topic_id: topic.id.0,
        is_internal: topic.internal || is_internal_topic(&topic.name),
        partitions: topic
            .partitions
            .iter()
            .map(|(index, state)| partition(image, *index, state))
            .collect(),
        topic_authorized_operations: operations,
    }
}

fn partition(image: &Image, partition_index: i32, state: &PartitionState) -> MetadataResponsePartition {
    let error = match state.leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    MetadataResponsePartition {
        error_code: kafka(error),
        partition_index,
        leader_id: state.leader.map_or(-1, |leader| leader.get()),
        leader_epoch: state.leader_epoch.get(),
        replica_nodes: ids(&state.replicas),
        isr_nodes: ids(&state.isr),
        offline_replicas: offline_replicas(image, state),
    }
}
