//! Identifiers, epochs, offsets, time and error codes shared by two or more crates: plain data, no IO.

mod coordinator;
mod epochs;
mod error_code;
mod identity;
mod ids;
mod producer_order;
mod time;
mod topic_name;

pub use coordinator::{
    GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC, coordinator_partition, is_internal_topic, java_hash,
};
pub use epochs::{BrokerEpoch, LeaderEpoch, MetadataOffset, PartitionEpoch};
pub use error_code::{ErrorCode, UnknownErrorCode};
pub use identity::{Identity, Role, UnknownIdentity};
pub use ids::{BrokerId, NodeId, ProducerEpoch, ProducerId, TopicId, TopicIdPartition};
pub use producer_order::{Admitted, FailedBatch, OrderedWay, ProducerBatch, leaves_gap};
pub use time::{Mono, WallMs};
pub use topic_name::{TopicNameError, collision_key, validate_topic_name};

/// A position in one partition's log; the first record has offset 0. Kafka's signed 64-bit offset:
/// negative values never name a record, they are the wire's sentinels (`-1` = none).
pub type Offset = i64;
