//! The raft node of the controllers' metadata quorum: raft-rs on RocksDB behind a small, checked API. See `OVERVIEW.md`.

mod config;
mod driver;
mod handle;
mod identity;
mod inbox;
mod node;
mod snapshot;
mod state_machine;
pub mod store;
pub mod transport;

pub use config::{ConfigError, RaftConfig, Tuning};
pub use driver::{
    Driver, DriverError, IncomingSnapshot, OpenError, Outbox, OutgoingSnapshot, ProposalId, ReadId, Setup,
};
pub use handle::{
    Member, ProposeError, QuorumDescription, RaftHandle, RaftRole, RaftStatus, ReadError, StepError, Stopped,
    TransferError,
};
pub use identity::{Identity, IdentityError, RaftId, StorageId};
pub use inbox::Reports;
pub use node::{RaftNode, RunError};
pub use snapshot::{SnapshotMeta, SnapshotSource};
pub use state_machine::{RestoreError, StateMachine};
