//! The deterministic core: one `RawNode`, its state machine and its store, driven by ticks, messages and proposals.
//!
//! No clock, no thread, no socket: the production shell (`node.rs`) and the simulator run this same code.

mod introduce;
mod outbox;
mod proposals;
mod reads;
mod ready;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfState, Message, MessageType};
use raft::{RawNode, SnapshotStatus, StateRole};
use strom_proto::v1::RaftEnvelope;
use strom_types::NodeId;
use thiserror::Error;

use crate::config::{ConfigError, RaftConfig, Tuning, raft_config, voter_ids};
use crate::handle::{
    Member, ProposeError, QuorumDescription, RaftRole, RaftStatus, ReadError, TransferError,
};
use crate::identity::{Identity, IdentityError, RaftId, StorageId};
use crate::snapshot::read_all;
use crate::state_machine::{RestoreError, StateMachine};
use crate::store::{Store, StoreError, Transaction};
use crate::transport::check::{self, Garbage, View};

use introduce::Introductions;
pub use outbox::{Outbox, OutgoingSnapshot};
pub use proposals::ProposalId;
use proposals::Proposals;
pub use reads::ReadId;
use reads::Reads;

/// Whom the driver plays. `seed` makes election timeouts repeatable; `incarnation` must differ between two lives of
/// one node, so that a read answered to the earlier one is not taken by the later.
#[derive(Clone, Debug)]
pub struct Setup {
    pub node_id: NodeId,
    pub cluster_id: String,
    pub voters: Vec<NodeId>,
    /// Used if the storage is new.
    pub new_storage: StorageId,
    pub seed: u64,
    pub incarnation: u64,
    pub tick: Duration,
    pub tuning: Tuning,
}

impl Setup {
    pub fn new(config: &RaftConfig, new_storage: StorageId, seed: u64) -> Self {
        Setup {
            node_id: config.node_id,
            cluster_id: config.cluster_id.clone(),
            voters: config.voter_ids(),
            new_storage,
            seed,
            incarnation: seed,
            tick: config.tick,
            tuning: config.tuning.clone(),
        }
    }
}

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
    pub fn step(&mut self, envelope: RaftEnvelope) -> Result<(), DriverError> {
        let Some(from) = self.receive(&envelope)? else {
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

    pub fn status(&self) -> RaftStatus {
        let raft = &self.raw.raft;
        let role = match raft.state {
            StateRole::Leader => RaftRole::Leader,
            StateRole::Follower => RaftRole::Follower,
            StateRole::Candidate | StateRole::PreCandidate => RaftRole::Candidate,
        };
        RaftStatus {
            role,
            term: raft.term,
            leader: RaftId::from_raft(raft.leader_id).and_then(RaftId::node),
            commit: raft.raft_log.committed,
            applied: self.applied,
            ready_to_lead: role == RaftRole::Leader && self.applied_term == raft.term,
        }
    }

    pub fn describe(&self) -> QuorumDescription {
        let raft = &self.raw.raft;
        let leads = raft.state == StateRole::Leader;
        let member = |id: u64| {
            let peer = RaftId::from_raft(id)?;
            let own = peer == self.id;
            let matched = match raft.prs().get(id) {
                _ if own => Some(raft.raft_log.persisted),
                Some(progress) if leads => Some(progress.matched),
                _ => None,
            };
            let silent = self
                .last_contact
                .get(&peer)
                .map(|at| self.now.saturating_sub(*at));
            let silent = silent.map(|ticks| self.setup.tick * u32::try_from(ticks).unwrap_or(u32::MAX));
            Some(Member {
                node: peer.node()?,
                raft_id: peer,
                matched,
                last_contact: if own { Some(Duration::ZERO) } else { silent },
            })
        };
        let conf = self.conf_state();
        QuorumDescription {
            status: self.status(),
            voters: conf.voters.iter().copied().filter_map(member).collect(),
            learners: conf.learners.iter().copied().filter_map(member).collect(),
            log_end: raft.raft_log.last_index(),
            snapshot: self.raw.store().header().snapshot.map_or(0, |meta| meta.index),
            not_introduced: self.introductions.missing().filter_map(RaftId::node).collect(),
            dropped: self
                .dropped
                .iter()
                .map(|(garbage, count)| (garbage.name(), *count))
                .collect(),
        }
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

/// Names a new storage and starts the group on it; checks an old one.
fn bootstrap<S: StateMachine, St: Store>(
    setup: &Setup,
    voters: &BTreeSet<RaftId>,
    store: &mut St,
    machine: &S,
) -> Result<Identity, OpenError> {
    let identity = match store.header().identity.clone() {
        Some(identity) => identity,
        None => {
            let identity = Identity {
                node_id: setup.node_id,
                cluster_id: setup.cluster_id.clone(),
                storage: setup.new_storage,
            };
            store.commit(Transaction::new().identity(identity.clone()).synced(true))?;
            identity
        }
    };
    identity.check(setup.node_id, &setup.cluster_id)?;
    let configured: Vec<u64> = voters.iter().map(|id| id.get()).collect();
    if !store.header().is_bootstrapped() {
        // Every first voter starts from the same snapshot, at index 1 of term 1.
        let meta = store.stage_snapshot(1, 1, &machine.snapshot())?;
        let mut conf_state = ConfState::default();
        conf_state.set_voters(configured.clone());
        store.commit(Transaction::new().bootstrap(meta, conf_state))?;
    }
    let mut stored = store.header().conf_state.voters.clone();
    stored.sort_unstable();
    if stored == configured {
        Ok(identity)
    } else {
        Err(OpenError::VotersChanged { stored, configured })
    }
}

/// Draws an election timeout for each (term, role), repeatably (SplitMix64).
struct ElectionTimeouts {
    state: u64,
    base: usize,
    drawn: Option<((u64, StateRole), usize)>,
}

impl ElectionTimeouts {
    fn new(setup: &Setup) -> Self {
        ElectionTimeouts {
            state: setup.seed,
            base: setup.tuning.election_ticks.max(1),
            drawn: None,
        }
    }

    fn current(&mut self, key: (u64, StateRole)) -> usize {
        if let Some((drawn_for, timeout)) = self.drawn
            && drawn_for == key
        {
            return timeout;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let base = u64::try_from(self.base).unwrap_or(u64::MAX);
        let timeout = self.base + usize::try_from(mixed % base).unwrap_or(0);
        self.drawn = Some((key, timeout));
        timeout
    }
}
