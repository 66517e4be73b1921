//! The records of `__consumer_offsets` that the classic coordinator writes and replays, in typed form.
//!
//! The shell encodes them as Kafka's `OffsetCommitKey/Value` (key version 1) and `GroupMetadataKey/Value` (key
//! version 2); a tombstone is a null value.

use std::sync::Arc;

use bytes::Bytes;
use strom_types::{LeaderEpoch, Offset, TopicId, WallMs};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    OffsetCommit {
        key: OffsetKey,
        value: OffsetCommitValue,
    },
    OffsetTombstone {
        key: OffsetKey,
    },
    GroupMetadata {
        group: Arc<str>,
        value: GroupMetadataValue,
    },
    GroupTombstone {
        group: Arc<str>,
    },
}

impl Record {
    pub fn group(&self) -> &Arc<str> {
        match self {
            Record::OffsetCommit { key, .. } | Record::OffsetTombstone { key } => &key.group,
            Record::GroupMetadata { group, .. } | Record::GroupTombstone { group } => group,
        }
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OffsetKey {
    pub group: Arc<str>,
    pub topic: Arc<str>,
    pub partition: i32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetCommitValue {
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
    pub commit_timestamp: WallMs,
    /// Set only when the client named a retention: then value version 1 is written.
    pub expire_timestamp: Option<WallMs>,
    /// [`TopicId::ZERO`] when unknown.
    pub topic_id: TopicId,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMetadataValue {
    /// Empty = none.
    pub protocol_type: Arc<str>,
    pub generation: i32,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<Arc<str>>,
    /// -1 on disk when absent.
    pub current_state_timestamp: Option<WallMs>,
    pub members: Vec<MemberMetadata>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberMetadata {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// -1 (value version 0) = the session timeout.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The metadata of the group's chosen protocol.
    pub subscription: Bytes,
    pub assignment: Bytes,
}
