//! What comes out of the coordinator: answers, records to write, and notes for logs and metrics.

use std::sync::Arc;

use bytes::Bytes;
use strom_types::ErrorCode;

use crate::event::{AppendToken, RequestId};
use crate::record::Record;
use crate::state::GroupState;

#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    Reply {
        request: RequestId,
        reply: Reply,
    },
    /// Write the records, in the order of the tokens, and answer with [`crate::Event::Appended`] once all are
    /// committed. They may be split over several batches.
    Append {
        token: AppendToken,
        records: Arc<[Record]>,
    },
    /// A group changed its state: for logs and metrics.
    Transition {
        group: Arc<str>,
        from: GroupState,
        to: GroupState,
        generation: i32,
        reason: String,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    JoinGroup(JoinGroupReply),
    SyncGroup(SyncGroupReply),
    Heartbeat(ErrorCode),
    LeaveGroup(LeaveGroupReply),
    /// One error per partition of the request, in its order. GROUP_ID_NOT_FOUND is for OffsetCommit v9 and later;
    /// older versions get ILLEGAL_GENERATION in its place.
    OffsetCommit(Vec<ErrorCode>),
    OffsetDelete(OffsetDeleteReply),
    /// One error per group of the request, in its order.
    DeleteGroups(Vec<ErrorCode>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinGroupReply {
    pub error: ErrorCode,
    /// -1 on an error.
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    /// Empty on an error.
    pub leader: Arc<str>,
    pub member_id: Arc<str>,
    /// Filled for the leader only.
    pub members: Vec<JoinedMember>,
    /// KIP-814: a leader that restarted under its instance id must not assign anew.
    pub skip_assignment: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub metadata: Bytes,
}

impl JoinGroupReply {
    pub(crate) fn failed(error: ErrorCode, member_id: &str) -> Reply {
        Reply::JoinGroup(JoinGroupReply {
            error,
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: Arc::from(""),
            member_id: Arc::from(member_id),
            members: Vec::new(),
            skip_assignment: false,
        })
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncGroupReply {
    pub error: ErrorCode,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub assignment: Bytes,
}

impl SyncGroupReply {
    pub(crate) fn failed(error: ErrorCode) -> Reply {
        Reply::SyncGroup(SyncGroupReply {
            error,
            protocol_type: None,
            protocol_name: None,
            assignment: Bytes::new(),
        })
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveGroupReply {
    pub error: ErrorCode,
    pub members: Vec<LeavingMemberReply>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeavingMemberReply {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub error: ErrorCode,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetDeleteReply {
    pub error: ErrorCode,
    /// In the request's order; empty when `error` is set.
    pub partition_errors: Vec<ErrorCode>,
}
