//! Where a turn's results go while it runs: messages must leave in the middle of it, around the disk write.

use std::sync::Arc;

use strom_proto::v1::RaftEnvelope;

use crate::driver::proposals::ProposalId;
use crate::driver::reads::ReadId;
use crate::handle::{ProposeError, ReadError};
use crate::identity::RaftId;
use crate::snapshot::SnapshotSource;
use crate::transport::Unsent;

/// A snapshot for `to`, to be streamed by chunks. Its fate must be reported to the driver.
pub struct OutgoingSnapshot {
    pub to: RaftId,
    /// Holds the one `MsgSnapshot`.
    pub envelope: RaftEnvelope,
    pub source: Arc<dyn SnapshotSource>,
}

/// Takes messages and answers. Nothing here may block.
pub trait Outbox {
    fn send(&mut self, to: RaftId, envelope: RaftEnvelope) -> Result<(), Unsent>;

    fn send_snapshot(&mut self, snapshot: OutgoingSnapshot);

    /// The index at which the proposal was applied here, or why its fate is unknown.
    fn proposed(&mut self, id: ProposalId, outcome: Result<u64, ProposeError>);

    fn read_ready(&mut self, id: ReadId, outcome: Result<u64, ReadError>);
}
