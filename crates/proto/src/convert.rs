//! From wire fields to checked domain types, and back.

use bytes::Bytes;
use strom_types::{ErrorCode, TopicId, TopicIdPartition};
use thiserror::Error;

use crate::v1;

/// A field of an internal message that does not have the form its type promises.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("malformed field {field} in an internal message")]
pub struct MalformedField {
    pub field: &'static str,
}

/// Reads a topic id's 16 bytes.
pub fn topic_id(bytes: &[u8]) -> Result<TopicId, MalformedField> {
    TopicId::from_slice(bytes).ok_or(MalformedField { field: "topic_id" })
}

/// Reads a topic id and a partition index that is not negative.
pub fn topic_id_partition(id: &[u8], partition: i32) -> Result<TopicIdPartition, MalformedField> {
    if partition < 0 {
        return Err(MalformedField { field: "partition" });
    }
    Ok(TopicIdPartition::new(topic_id(id)?, partition))
}

pub fn topic_id_bytes(id: TopicId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

pub fn partition_key(key: TopicIdPartition) -> v1::PartitionKey {
    v1::PartitionKey {
        topic_id: topic_id_bytes(key.topic_id),
        partition: key.partition,
    }
}

/// An error code as it came over the wire; a code of a newer build counts as an unknown server error.
pub fn error_code(code: i32) -> ErrorCode {
    ErrorCode::try_from(code).unwrap_or(ErrorCode::UnknownServerError)
}

pub fn service_error(code: ErrorCode, message: impl Into<String>) -> v1::ServiceError {
    v1::ServiceError {
        code: code as i32,
        message: message.into(),
        ..Default::default()
    }
}
