//! What goes into the coordinator: clients' requests, the outcomes of appends, the passing of time.

use std::fmt;

use bytes::Bytes;
use strom_types::{ErrorCode, LeaderEpoch, Offset, TopicId};

/// The shell's name for a request that waits for its [`crate::Reply`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Names one [`crate::Effect::Append`]; grows by one with each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppendToken(pub u64);

impl fmt::Display for AppendToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    JoinGroup(RequestId, JoinGroup),
    SyncGroup(RequestId, SyncGroup),
    Heartbeat(RequestId, Heartbeat),
    LeaveGroup(RequestId, LeaveGroup),
    OffsetCommit(RequestId, OffsetCommit),
    OffsetDelete(RequestId, OffsetDelete),
    /// Group ids, answered in their order.
    DeleteGroups(RequestId, Vec<String>),
    /// The records of this append are committed: the high watermark has passed them.
    Appended {
        token: AppendToken,
    },
    /// The records of this append are surely not in the log. An unknown outcome is no failure: leave the append
    /// unanswered (its requests time out by themselves), or unload on lost leadership.
    AppendFailed {
        token: AppendToken,
        error: ErrorCode,
    },
    /// These topics are gone: their offsets go, too.
    TopicsDeleted(Vec<String>),
    /// Time has passed; due no later than [`crate::Coordinator::next_deadline`].
    Tick,
}

/// `JoinGroup`, versions flattened by the gateway.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JoinGroup {
    pub group_id: String,
    /// Empty on a first join.
    pub member_id: String,
    /// A static member's name (KIP-345).
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    pub session_timeout_ms: i32,
    /// -1 = the session timeout (JoinGroup v0).
    pub rebalance_timeout_ms: i32,
    /// KIP-394, JoinGroup v4+: a first join of a dynamic member is answered with an id to come back with.
    pub require_known_member_id: bool,
    /// KIP-814, JoinGroup v9+.
    pub supports_skipping_assignment: bool,
    /// A fresh UUID: a new member's id is `<client id or instance id>-<suffix>`.
    pub member_id_suffix: String,
    pub reason: String,
}

/// One assignment strategy a member supports, with its opaque subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SyncGroup {
    pub group_id: String,
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// From the leader only.
    pub assignments: Vec<MemberAssignment>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberAssignment {
    pub member_id: String,
    pub assignment: Bytes,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heartbeat {
    pub group_id: String,
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub generation: i32,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaveGroup {
    pub group_id: String,
    pub members: Vec<LeavingMember>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeavingMember {
    /// Empty = whoever holds `group_instance_id` (an administrator's removal).
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub reason: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OffsetCommit {
    pub group_id: String,
    pub member_id: String,
    pub group_instance_id: Option<String>,
    /// -1 = a simple consumer or an admin client.
    pub generation: i32,
    pub partitions: Vec<OffsetCommitPartition>,
    /// -1 = the broker's retention; OffsetCommit v2 to v4 may name another.
    pub retention_ms: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetCommitPartition {
    pub topic: String,
    /// [`TopicId::ZERO`] when unknown.
    pub topic_id: TopicId,
    pub partition: i32,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OffsetDelete {
    pub group_id: String,
    pub partitions: Vec<TopicPartition>,
}

/// A partition by its topic's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}
