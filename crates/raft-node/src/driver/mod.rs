//! The deterministic core: one `RawNode`, its state machine and its store, driven by ticks, messages and proposals.
//!
//! No clock, no thread, no socket: the production shell (`node.rs`) and the simulator run this same code.

mod introduce;
mod outbox;
mod proposals;
mod reads;
mod ready;
mod setup;
mod view;

use std::collections::BTreeMap;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfState, Message, MessageType};
use raft::{RawNode, SnapshotStatus, StateRole};
use strom_proto::v1::RaftEnvelope;
use strom_types::NodeId;
use thiserror::Error;

use crate::config::{ConfigError, raft_config, voter_ids};
use crate::handle::{ProposeError, ReadError, TransferError};
use crate::identity::{Identity, IdentityError, RaftId};
use crate::snapshot::read_all;
use crate::state_machine::{RestoreError, StateMachine};
use crate::store::{Store, StoreError};
use crate::transport::check::{self, Garbage, View};

use introduce::Introductions;
pub use outbox::{Outbox, OutgoingSnapshot};
pub use proposals::ProposalId;
use proposals::Proposals;
pub use reads::ReadId;
use reads::Reads;
pub use setup::Setup;
use setup::{ElectionTimeouts, bootstrap};

/// A node that cannot be started as configured on this storage.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
    #[error(
        "the quorum's voters are {stored:?}, configured are {configured:?}; membership changes are not supported yet"
    )]
    VotersChanged { stored: Vec<u64>, configured: Vec<u64> },
}

/// The node cannot go on; nothing of it is worth retrying without a restart.
#[derive(Debug, Error)]
pub enum DriverError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
    #[error("entry {0} changes the membership, which this version cannot apply")]
    MembershipChange(u64),
    #[error("raft accepted a snapshot at {0} whose chunks are not there")]
    SnapshotLost(u64),
}

/// A whole snapshot from the leader: the envelope holds exactly one message, the `MsgSnapshot` without data.
#[derive(Clone, Debug)]
pub struct IncomingSnapshot {
    pub envelope: RaftEnvelope,
    pub chunks: Vec<Bytes>,
}

/// See the module's description.
pub struct Driver<S, St: Store> {
    raw: RawNode<St>,
    machine: S,
    setup: Setup,
    id: RaftId,
    introductions: Introductions,
    proposals: Proposals,
    reads: Reads,
    timeouts: ElectionTimeouts,
    /// Envelopes that are no raft messages; leave with the next turn.
    mail: Vec<(RaftId, RaftEnvelope)>,
    incoming: Option<(u64, Vec<Bytes>)>,
    last_contact: BTreeMap<RaftId, u64>,
    dropped: BTreeMap<Garbage, u64>,
    now: u64,
    applied: u64,
    applied_term: u64,
    applied_bytes: u64,
}

impl<S: StateMachine, St: Store> Driver<S, St> {
    /// Bootstraps a new storage or recovers an old one: restores the latest snapshot; the log above it is replayed
    /// by the turns that follow.
    pub fn open(setup: Setup, mut store: St, mut machine: S) -> Result<Self, OpenError> {
        if setup.cluster_id.is_empty() {
            return Err(ConfigError::NoClusterId.into());
        }
        let voters = voter_ids(setup.node_id, &setup.voters)?;
        let id = RaftId::first(setup.node_id).ok_or(ConfigError::NegativeNodeId(setup.node_id))?;
        let identity = bootstrap(&setup, &voters, &mut store, &machine)?;
        let meta = store.header().snapshot.unwrap_or_default();
        let source = store
            .snapshot_source()
            .ok_or(StoreError::NoSnapshot(meta.index))?;
        machine.restore(meta.index, read_all(source.as_ref())?)?;
        let introductions = Introductions::new(id, identity.storage, &voters, store.header());
        let config = raft_config(id, meta.index, &setup.tuning)?;
        let raw = RawNode::new(&config, store, &slog::Logger::root(slog::Discard, slog::o!()))?;
        let mut driver = Driver {
            raw,
            machine,
            id,
            introductions,
            proposals: Proposals::default(),
            reads: Reads::new(id, &setup),
            timeouts: ElectionTimeouts::new(&setup),
            setup,
            mail: Vec::new(),
            incoming: None,
            last_contact: BTreeMap::new(),
            dropped: BTreeMap::new(),
            now: 0,
            applied: meta.index,
            applied_term: 0,
            applied_bytes: 0,
        };
        if voters.len() == 1 {
            // Alone: no peers to be introduced to, and no reason to wait for an election timeout.
            driver.raw.campaign()?;
        }
        driver.settle_timeout();
        Ok(driver)
    }

    /// One tick of time. Missed ticks are not made up for: a burst after a pause would start elections.
    pub fn tick(&mut self) -> Result<(), DriverError> {
        self.now += 1;
        self.reads.tick(self.now);
        if !self.introductions.done() {
            self.introduce();
            return Ok(());
        }
        self.raw.tick();
        self.settle_timeout();
        Ok(())
    }

    /// Takes an envelope from a peer. What fails a check is dropped and counted.
    pub fn step(&mut self, envelope: &RaftEnvelope) -> Result<(), DriverError> {
        let Some(from) = self.receive(envelope)? else {
            return Ok(());
        };
        for encoded in &envelope.messages {
            match Message::parse_from_carllerche_bytes(encoded) {
                Ok(message) if message.get_msg_type() == MessageType::MsgSnapshot => {
                    self.drop_garbage(Garbage::SnapshotWithoutChunks);
                }
                Ok(message) => self.step_message(from, message),
                Err(_) => self.drop_garbage(Garbage::Undecodable),
            }
        }
        Ok(())
    }

    /// Takes a snapshot whose chunks have all arrived. At most one per turn.
    pub fn install_snapshot(&mut self, snapshot: IncomingSnapshot) -> Result<(), DriverError> {
        let Some(from) = self.receive(&snapshot.envelope)? else {
            return Ok(());
        };
        let message = match snapshot.envelope.messages.as_slice() {
            [only] => Message::parse_from_carllerche_bytes(only).ok(),
            _ => None,
        };
        match message {
            Some(message)
                if message.get_msg_type() == MessageType::MsgSnapshot && self.incoming.is_none() =>
            {
                self.incoming = Some((message.get_snapshot().get_metadata().index, snapshot.chunks));
                self.step_message(from, message);
            }
            _ => self.drop_garbage(Garbage::Undecodable),
        }
        Ok(())
    }

    fn step_message(&mut self, from: RaftId, message: Message) {
        let view = View {
            me: self.id.get(),
            peer: from.get(),
            term: self.raw.raft.term,
            leader: self.raw.raft.leader_id,
            is_leader: self.raw.raft.state == StateRole::Leader,
            committed: self.raw.raft.raft_log.committed,
            last_index: self.raw.raft.raft_log.last_index(),
            conf_state: (message.get_msg_type() == MessageType::MsgSnapshot).then(|| self.conf_state()),
        };
        match check::check(&message, &view) {
            Ok(()) => {
                self.last_contact.insert(from, self.now);
                // What is left to refuse (stale responses, unknown peers) is refused without a trace.
                let _ = self.raw.step(message);
                self.settle_timeout();
            }
            Err(garbage) => self.drop_garbage(garbage),
        }
    }

    fn conf_state(&self) -> ConfState {
        self.raw.raft.prs().conf().to_conf_state()
    }

    fn drop_garbage(&mut self, garbage: Garbage) {
        let count = self.dropped.entry(garbage).or_default();
        *count += 1;
        if *count == 1 {
            tracing::warn!(node = %self.setup.node_id, reason = garbage.name(), "dropped a raft message");
        }
    }

    /// Proposes an entry. The outcome comes through [`Outbox::proposed`]; an error here means nothing was written.
    pub fn propose(&mut self, data: Bytes) -> Result<ProposalId, ProposeError> {
        if data.len() > self.setup.tuning.proposal_bytes_max {
            return Err(ProposeError::TooLarge {
                bytes_max: self.setup.tuning.proposal_bytes_max,
            });
        }
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader || raft.lead_transferee.is_some() {
            let leader = RaftId::from_raft(raft.leader_id).filter(|leader| *leader != self.id);
            return Err(ProposeError::NotLeader {
                leader: leader.and_then(RaftId::node),
            });
        }
        if self.proposals.len() >= self.setup.tuning.proposals_pending_max {
            return Err(ProposeError::Overloaded);
        }
        match self.raw.propose(Vec::new(), data.into()) {
            Ok(()) => Ok(self
                .proposals
                .add(self.raw.raft.raft_log.last_index(), self.raw.raft.term)),
            Err(_) => Err(ProposeError::Overloaded),
        }
    }

    /// Asks for an index that reads everything acknowledged before now, on any member. Answered through
    /// [`Outbox::read_ready`] once applied here.
    pub fn read_index(&mut self) -> Result<ReadId, ReadError> {
        self.reads.ask(self.now)
    }

    pub fn report_unreachable(&mut self, peer: RaftId) {
        self.raw.report_unreachable(peer.get());
    }

    /// Must follow every snapshot handed to the outbox, else that peer is never sent anything again.
    pub fn report_snapshot(&mut self, peer: RaftId, delivered: bool) {
        let status = if delivered {
            SnapshotStatus::Finish
        } else {
            SnapshotStatus::Failure
        };
        self.raw.report_snapshot(peer.get(), status);
    }

    /// Starts handing the leadership to `node`; it is dropped if that takes longer than an election timeout.
    pub fn transfer_leadership(&mut self, node: NodeId) -> Result<(), TransferError> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            let leader = RaftId::from_raft(raft.leader_id).and_then(RaftId::node);
            return Err(TransferError::NotLeader { leader });
        }
        let voters = self.conf_state().voters;
        let target = voters
            .into_iter()
            .find(|id| RaftId::from_raft(*id).and_then(RaftId::node) == Some(node));
        let target = target.ok_or(TransferError::NotAVoter(node))?;
        if target != self.id.get() {
            self.raw.transfer_leader(target);
        }
        Ok(())
    }

    pub fn machine(&self) -> &S {
        &self.machine
    }

    pub fn id(&self) -> RaftId {
        self.id
    }

    /// What the storage was made for.
    pub fn identity(&self) -> Option<&Identity> {
        self.raw.store().header().identity.as_ref()
    }

    /// Gives up everything that waits, as at a shutdown: proposals already in the log are indeterminate.
    pub fn abandon(&mut self, out: &mut impl Outbox) {
        self.proposals.abandon(out);
        self.reads.abandon(out);
    }

    /// Puts our own election timeout over raft-rs's, which it draws from the thread's random generator.
    fn settle_timeout(&mut self) {
        let key = (self.raw.raft.term, self.raw.raft.state);
        let timeout = self.timeouts.current(key);
        self.raw.raft.set_randomized_election_timeout(timeout);
    }
}
