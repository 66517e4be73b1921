//! The replica state machine of one partition: leader epochs, in-sync replicas, high watermark, truncation, lease.
//! Pure: time, log facts and messages come in, effects go out. See `OVERVIEW.md`.

mod divergence;
mod effect;
mod event;
mod follower;
pub mod invariants;
mod leader;
mod lease;
mod log_view;
mod metadata;
mod query;
mod replica;
mod role;
mod rules;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod toy_log;

pub use divergence::{Prefix, check_prefix, end_offset_for, truncation_point};
pub use effect::{Alarm, Effect, FetchAnswer};
pub use event::{
    AlterPartitionResult, Event, FetchPosition, FetchReply, FetchedRecords, FollowerFetch, Removal, ReplyBody,
};
pub use lease::{Lease, Moment};
pub use log_view::{EpochEnd, EpochStart, LogPosition, LogUnreadable, LogView};
pub use metadata::{BrokerState, Durability, IsrMember, PartitionState, RecoveryState, ReplicaConfig};
pub use query::{AckWait, Acks, AcksState, FetchBounds};
pub use replica::Replica;
pub use role::RoleKind;
pub use rules::Rules;
