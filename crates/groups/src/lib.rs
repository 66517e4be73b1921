//! The classic consumer-group coordinator of one `__consumer_offsets` partition: a pure state machine.
//!
//! [`Coordinator::step`] takes an [`Event`] (a client's request, the outcome of an append, a tick) and pushes
//! [`Effect`]s (answers, records to write). The shell around it owns the log, the clock and the sockets.
//! Follows Kafka's `GroupMetadataManager`, `ClassicGroup` and `OffsetMetadataManager`; see `OVERVIEW.md`.

mod appends;
mod census;
mod config;
mod context;
mod coordinator;
mod deletion;
mod describe;
mod effect;
mod event;
mod expiry;
mod group;
mod heartbeat;
mod join;
mod leave;
mod member;
mod offsets;
mod rebalance;
mod record;
mod replay;
mod state;
mod static_join;
mod subscription;
mod sync;
mod timers;
mod views;

pub use census::Census;
pub use config::{Config, Limits};
pub use coordinator::Coordinator;
pub use describe::{GroupDescription, GroupFilter, GroupMemberDescription, ListedGroup};
pub use effect::{
    Effect, JoinGroupReply, JoinedMember, LeaveGroupReply, LeavingMemberReply, OffsetDeleteReply, Reply,
    SyncGroupReply,
};
pub use event::{
    AppendToken, Event, Heartbeat, JoinGroup, LeaveGroup, LeavingMember, MemberAssignment, OffsetCommit,
    OffsetCommitPartition, OffsetDelete, Protocol, RequestId, SyncGroup, TopicPartition,
};
pub use offsets::FetchedOffset;
pub use record::{GroupMetadataValue, MemberMetadata, OffsetCommitValue, OffsetKey, Record};
pub use state::GroupState;
pub use subscription::{SubscriptionError, parse_subscribed_topics};
