//! The raft thread's bounded inbox: peers before clients, and everything that came meanwhile as one batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use strom_proto::v1::RaftEnvelope;
use strom_types::NodeId;
use tokio::sync::oneshot;

use crate::driver::IncomingSnapshot;
use crate::handle::{ProposeError, QuorumDescription, ReadError, TransferError};
use crate::identity::RaftId;

/// From the network and the transport.
pub(crate) enum PeerEvent {
    Envelope(RaftEnvelope),
    Snapshot(IncomingSnapshot),
    Unreachable(RaftId),
    SnapshotReport { peer: RaftId, delivered: bool },
}

/// From this process.
pub(crate) enum Request {
    Propose(Bytes, oneshot::Sender<Result<u64, ProposeError>>),
    ReadIndex(oneshot::Sender<Result<u64, ReadError>>),
    Describe(oneshot::Sender<QuorumDescription>),
    Transfer(NodeId, oneshot::Sender<Result<(), TransferError>>),
}

/// Envelopes waiting to be stepped; raft repeats what is dropped.
const ENVELOPES_MAX: usize = 1024;
const ENVELOPE_BYTES_MAX: usize = 32 << 20;
const REQUESTS_MAX: usize = 8192;
/// How much one turn takes on, so that its disk write is shared but not endless.
const BATCH_MAX: usize = 1024;

#[derive(Default)]
struct Queues {
    peers: VecDeque<PeerEvent>,
    envelopes: usize,
    envelope_bytes: usize,
    requests: VecDeque<Request>,
    closed: bool,
}

/// What the raft thread takes at once.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) peers: Vec<PeerEvent>,
    pub(crate) requests: Vec<Request>,
    pub(crate) closed: bool,
}

#[derive(Default)]
pub(crate) struct Inbox {
    queues: Mutex<Queues>,
    filled: Condvar,
}

/// Why something was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    Full,
    Closed,
}

fn weight(envelope: &RaftEnvelope) -> usize {
    envelope.messages.iter().map(Bytes::len).sum()
}

impl Inbox {
    pub(crate) fn push_envelope(&self, envelope: RaftEnvelope) -> Result<(), Refused> {
        let bytes = weight(&envelope);
        let mut queues = self.queues.lock();
        if queues.closed {
            return Err(Refused::Closed);
        }
        if queues.envelopes >= ENVELOPES_MAX || queues.envelope_bytes + bytes > ENVELOPE_BYTES_MAX {
            return Err(Refused::Full);
        }
        queues.envelopes += 1;
        queues.envelope_bytes += bytes;
        queues.peers.push_back(PeerEvent::Envelope(envelope));
        self.filled.notify_one();
        Ok(())
    }

    /// One at a time: the second snapshot of two is refused.
    pub(crate) fn push_snapshot(&self, snapshot: IncomingSnapshot) -> Result<(), Refused> {
        let mut queues = self.queues.lock();
        if queues.closed {
            return Err(Refused::Closed);
        }
        if queues
            .peers
            .iter()
            .any(|event| matches!(event, PeerEvent::Snapshot(_)))
        {
            return Err(Refused::Full);
        }
        queues.peers.push_back(PeerEvent::Snapshot(snapshot));
        self.filled.notify_one();
        Ok(())
    }

    /// Reports are few (one per failure) and must not be lost.
    fn push_report(&self, report: PeerEvent) {
        let mut queues = self.queues.lock();
        if !queues.closed {
            queues.peers.push_back(report);
            self.filled.notify_one();
        }
    }

    pub(crate) fn push_request(&self, request: Request) -> Result<(), Refused> {
        let mut queues = self.queues.lock();
        if queues.closed {
            return Err(Refused::Closed);
        }
        if queues.requests.len() >= REQUESTS_MAX {
            return Err(Refused::Full);
        }
        queues.requests.push_back(request);
        self.filled.notify_one();
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.queues.lock().closed = true;
        self.filled.notify_all();
    }

    /// Waits until something is there or `until` has come. A snapshot ends the peers' part of a batch: it is stepped
    /// alone in its turn.
    pub(crate) fn take(&self, until: Instant) -> Batch {
        let mut queues = self.queues.lock();
        while queues.peers.is_empty() && queues.requests.is_empty() && !queues.closed {
            if self.filled.wait_until(&mut queues, until).timed_out() {
                break;
            }
        }
        let mut batch = Batch {
            closed: queues.closed,
            ..Batch::default()
        };
        while batch.peers.len() < BATCH_MAX
            && let Some(event) = queues.peers.pop_front()
        {
            let snapshot = matches!(event, PeerEvent::Snapshot(_));
            if let PeerEvent::Envelope(envelope) = &event {
                queues.envelopes -= 1;
                queues.envelope_bytes -= weight(envelope);
            }
            batch.peers.push(event);
            if snapshot {
                break;
            }
        }
        let take = queues.requests.len().min(BATCH_MAX);
        batch.requests.extend(queues.requests.drain(..take));
        batch
    }
}

/// How a transport tells raft what became of what it sent.
#[derive(Clone)]
pub struct Reports {
    inbox: Arc<Inbox>,
}

impl Reports {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Reports { inbox }
    }

    /// The connection broke: what was sent on it may be lost.
    pub fn unreachable(&self, peer: RaftId) {
        self.inbox.push_report(PeerEvent::Unreachable(peer));
    }

    pub(crate) fn snapshot(&self, peer: RaftId, delivered: bool) {
        self.inbox
            .push_report(PeerEvent::SnapshotReport { peer, delivered });
    }
}

#[cfg(test)]
mod tests;
