//! How envelopes and snapshots reach the other members.

pub mod check;
pub mod grpc;
pub mod memory;
mod service;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::Message;
use strom_proto::v1::RaftEnvelope;
use thiserror::Error;

use crate::driver::OutgoingSnapshot;
use crate::identity::RaftId;
use crate::inbox::Reports;

/// The envelope was dropped: no connection, or the peer's queue is full. raft repeats what matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the peer cannot be reached now")]
pub struct Unsent;

/// Called on the raft thread, so nothing here may block; envelopes may be lost, repeated and reordered.
pub trait Transport: Send + Sync + 'static {
    /// Called once before anything is sent; `reports` takes what is learned later.
    fn attach(&self, reports: Reports);

    fn send(&self, to: RaftId, envelope: RaftEnvelope) -> Result<(), Unsent>;

    /// Streams a snapshot in the background. Dropping the shipment reports a failure to raft.
    fn send_snapshot(&self, shipment: Shipment);
}

/// A snapshot under way; tells raft how it ended, at the latest when it is dropped. Without such a report raft would
/// never send anything to that peer again.
pub struct Shipment {
    pub snapshot: OutgoingSnapshot,
    reports: Option<Reports>,
}

impl Shipment {
    pub(crate) fn new(snapshot: OutgoingSnapshot, reports: Reports) -> Self {
        Shipment {
            snapshot,
            reports: Some(reports),
        }
    }

    /// The peer has all of it.
    pub fn delivered(mut self) {
        self.report(true);
    }

    fn report(&mut self, delivered: bool) {
        if let Some(reports) = self.reports.take() {
            reports.snapshot(self.snapshot.to, delivered);
        }
    }
}

impl Drop for Shipment {
    fn drop(&mut self) {
        self.report(false);
    }
}

/// For a quorum of one.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn attach(&self, _reports: Reports) {}

    fn send(&self, _to: RaftId, _envelope: RaftEnvelope) -> Result<(), Unsent> {
        Err(Unsent)
    }

    fn send_snapshot(&self, shipment: Shipment) {
        drop(shipment);
    }
}

/// A raft message as the opaque bytes of an envelope.
pub(crate) fn encode(message: &Message) -> Option<Bytes> {
    message.write_to_bytes().ok().map(Bytes::from)
}
