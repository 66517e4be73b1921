//! Why a batch of records does not fit the image.

use strom_proto::convert::MalformedField;
use strom_types::{BrokerId, MetadataOffset, TopicId, TopicIdPartition};
use thiserror::Error;
use uuid::Uuid;

use super::config::UnknownConfigResource;

/// The batch was not applied, no part of it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ImageError {
    #[error(transparent)]
    Malformed(#[from] MalformedField),
    #[error("a metadata record of a kind this build does not know")]
    UnknownRecord,
    #[error("entry {got} does not follow the image's index {at}")]
    Index { at: MetadataOffset, got: MetadataOffset },
    #[error("topic {0} is not known")]
    UnknownTopic(TopicId),
    #[error("topic {id} takes the name {name:?}, which another topic has, or changes its name")]
    TopicName { id: TopicId, name: String },
    #[error("partition {0} breaks the rule: {1}")]
    Partition(TopicIdPartition, &'static str),
    #[error("broker {0} is not registered under the epoch the record names")]
    UnknownBroker(BrokerId),
    #[error("gateway {0} is not registered")]
    UnknownGateway(Uuid),
    #[error(transparent)]
    ConfigResource(#[from] UnknownConfigResource),
    #[error("producer ids go back from {at} to {got}")]
    ProducerIds { at: i64, got: i64 },
}
