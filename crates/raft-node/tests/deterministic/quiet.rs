//! An outbox that swallows everything.

use strom_proto::v1::RaftEnvelope;
use strom_raft_node::transport::Unsent;
use strom_raft_node::{Outbox, OutgoingSnapshot, ProposalId, ProposeError, RaftId, ReadError, ReadId};

pub(crate) struct Quiet;

impl Outbox for Quiet {
    fn send(&mut self, _to: RaftId, _envelope: RaftEnvelope) -> Result<(), Unsent> {
        Ok(())
    }
    fn send_snapshot(&mut self, _snapshot: OutgoingSnapshot) {}
    fn proposed(&mut self, _id: ProposalId, _outcome: Result<u64, ProposeError>) {}
    fn read_ready(&mut self, _id: ReadId, _outcome: Result<u64, ReadError>) {}
}
