//! What the rest of the process holds: propose, read, watch, describe; and the door for peers' messages.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strom_proto::v1::RaftEnvelope;
use strom_types::NodeId;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use crate::driver::IncomingSnapshot;
use crate::identity::RaftId;
use crate::inbox::{Inbox, Refused, Request};

/// Why a proposal was not acknowledged. All but `Indeterminate` are definite: nothing was written.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ProposeError {
    #[error("not the leader")]
    NotLeader { leader: Option<NodeId> },
    /// Leadership or the process was lost while the entry was on its way: it may be applied, now or later, or never.
    #[error("it is not known whether the entry was committed")]
    Indeterminate,
    #[error("too many or too large proposals are pending")]
    Overloaded,
    #[error("the proposal is over {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("shutting down")]
    ShuttingDown,
}

/// Why a read index could not be had. A read has no effect, so it may always be tried again.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReadError {
    #[error("no quorum confirmed the read in time")]
    Unavailable,
    #[error("too many reads are pending")]
    Overloaded,
    #[error("shutting down")]
    ShuttingDown,
}

/// Why the leadership cannot be handed over.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TransferError {
    #[error("not the leader")]
    NotLeader { leader: Option<NodeId> },
    #[error("node {0} is not a voter")]
    NotAVoter(NodeId),
    #[error("shutting down")]
    ShuttingDown,
}

/// Why a peer's message was not taken.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StepError {
    #[error("the message is for another cluster than {0}")]
    OtherCluster(String),
    #[error("the message is for another member than this one, node {0}")]
    NotForMe(NodeId),
    #[error("too many messages are pending")]
    Overloaded,
    #[error("shutting down")]
    ShuttingDown,
}

/// The raft thread has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the raft node has stopped")]
pub struct Stopped;

/// A member's part in the quorum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RaftRole {
    Follower,
    Candidate,
    Leader,
}

/// What a member believes now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaftStatus {
    pub role: RaftRole,
    pub term: u64,
    pub leader: Option<NodeId>,
    pub commit: u64,
    pub applied: u64,
    /// Leader, and has applied an entry of its own term, so its state machine holds everything acknowledged before.
    pub ready_to_lead: bool,
}

/// One member as the described one sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub node: NodeId,
    pub raft_id: RaftId,
    /// The last index known to be on its disk; known to the leader only, and of oneself.
    pub matched: Option<u64>,
    /// Time since its last message, in whole ticks.
    pub last_contact: Option<Duration>,
}

/// The quorum as one member sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumDescription {
    pub status: RaftStatus,
    pub voters: Vec<Member>,
    pub learners: Vec<Member>,
    pub log_end: u64,
    pub snapshot: u64,
    /// First voters that have not yet confirmed to know this member's storage; it takes part once this is empty.
    pub not_introduced: Vec<NodeId>,
    /// Dropped messages by reason.
    pub dropped: Vec<(&'static str, u64)>,
}

/// Cheap to clone; every call fails with `ShuttingDown` (or [`Stopped`]) once the node has ended.
#[derive(Clone)]
pub struct RaftHandle {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) status: watch::Receiver<RaftStatus>,
    pub(crate) id: RaftId,
    pub(crate) node_id: NodeId,
    pub(crate) cluster_id: Arc<str>,
    pub(crate) snapshot_bytes_max: u64,
}

impl fmt::Debug for RaftHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftHandle")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl RaftHandle {
    /// Commits `data` and returns the index it was applied at, on this member. Empty data is a barrier: it commits,
    /// but the state machine does not see it. Dropping the future does not take the proposal back.
    pub async fn propose(&self, data: Bytes) -> Result<u64, ProposeError> {
        let (reply, outcome) = oneshot::channel();
        self.inbox
            .push_request(Request::Propose(data, reply))
            .map_err(|refused| match refused {
                Refused::Full => ProposeError::Overloaded,
                Refused::Closed => ProposeError::ShuttingDown,
            })?;
        outcome.await.unwrap_or(Err(ProposeError::Indeterminate))
    }

    /// An index, already applied here, that covers every proposal acknowledged anywhere before this call.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        let (reply, outcome) = oneshot::channel();
        self.inbox
            .push_request(Request::ReadIndex(reply))
            .map_err(|refused| match refused {
                Refused::Full => ReadError::Overloaded,
                Refused::Closed => ReadError::ShuttingDown,
            })?;
        outcome.await.unwrap_or(Err(ReadError::ShuttingDown))
    }

    pub fn status(&self) -> watch::Receiver<RaftStatus> {
        self.status.clone()
    }

    pub async fn describe(&self) -> Result<QuorumDescription, Stopped> {
        let (reply, description) = oneshot::channel();
        self.inbox
            .push_request(Request::Describe(reply))
            .map_err(|_| Stopped)?;
        description.await.map_err(|_| Stopped)
    }

    /// Starts handing the leadership to `node`. Done when the status says so.
    pub async fn transfer_leadership(&self, node: NodeId) -> Result<(), TransferError> {
        let (reply, outcome) = oneshot::channel();
        self.inbox
            .push_request(Request::Transfer(node, reply))
            .map_err(|_| TransferError::ShuttingDown)?;
        outcome.await.unwrap_or(Err(TransferError::ShuttingDown))
    }

    /// Takes a peer's envelope. Its contents are checked on the raft thread; garbage is dropped and counted there.
    pub fn step(&self, envelope: RaftEnvelope) -> Result<(), StepError> {
        self.check_addresses(&envelope.cluster_id, envelope.to)?;
        self.inbox.push_envelope(envelope).map_err(refused)
    }

    /// Takes a snapshot whose chunks are complete and checked.
    pub fn install_snapshot(&self, snapshot: IncomingSnapshot) -> Result<(), StepError> {
        self.check_addresses(&snapshot.envelope.cluster_id, snapshot.envelope.to)?;
        self.inbox.push_snapshot(snapshot).map_err(refused)
    }

    pub(crate) fn check_addresses(&self, cluster_id: &str, to: u64) -> Result<(), StepError> {
        if cluster_id != &*self.cluster_id {
            return Err(StepError::OtherCluster(self.cluster_id.to_string()));
        }
        if to != self.id.get() {
            return Err(StepError::NotForMe(self.node_id));
        }
        Ok(())
    }
}

fn refused(refused: Refused) -> StepError {
    match refused {
        Refused::Full => StepError::Overloaded,
        Refused::Closed => StepError::ShuttingDown,
    }
}
