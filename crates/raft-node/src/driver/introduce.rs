//! Who may take part: a voter first makes every other voter remember its storage, so that an emptied disk, which
//! comes back with another storage id, is refused by all of them and cannot vote a second time.

use std::collections::{BTreeMap, BTreeSet};

use strom_proto::v1::raft_hello::Kind;
use strom_proto::v1::{RaftEnvelope, RaftHello};

use super::{Driver, DriverError};
use crate::identity::{RaftId, StorageId};
use crate::state_machine::StateMachine;
use crate::store::{Header, Store, Transaction};
use crate::transport::check::Garbage;

/// Ticks between two introductions to a peer that has not answered.
const REPEAT_TICKS: u64 = 4;

/// The peers' storages as we know them, and which peers know ours.
#[derive(Debug)]
pub(super) struct Introductions {
    storage: StorageId,
    voters: Vec<u64>,
    peers: BTreeSet<RaftId>,
    pins: BTreeMap<RaftId, StorageId>,
    remembered_by: BTreeSet<RaftId>,
    done: bool,
}

impl Introductions {
    pub(super) fn new(me: RaftId, storage: StorageId, voters: &BTreeSet<RaftId>, header: &Header) -> Self {
        let peers: BTreeSet<RaftId> = voters.iter().copied().filter(|id| *id != me).collect();
        Introductions {
            storage,
            voters: voters.iter().map(|id| id.get()).collect(),
            done: header.introduced || peers.is_empty(),
            peers,
            pins: header.pins.clone(),
            remembered_by: BTreeSet::new(),
        }
    }

    pub(super) fn done(&self) -> bool {
        self.done
    }

    pub(super) fn missing(&self) -> impl Iterator<Item = RaftId> {
        let missing = if self.done {
            None
        } else {
            Some(self.peers.difference(&self.remembered_by))
        };
        missing.into_iter().flatten().copied()
    }
}

impl<S: StateMachine, St: Store> Driver<S, St> {
    /// An envelope to `to`, addressed from storage to storage.
    pub(super) fn envelope(&self, to: RaftId) -> RaftEnvelope {
        let pin = self.introductions.pins.get(&to);
        RaftEnvelope {
            cluster_id: self.setup.cluster_id.clone(),
            from: self.id.get(),
            to: to.get(),
            from_storage: self.introductions.storage.as_bytes().to_vec().into(),
            to_storage: pin
                .map(|storage| storage.as_bytes().to_vec())
                .unwrap_or_default()
                .into(),
            ..RaftEnvelope::default()
        }
    }

    fn hello(&mut self, to: RaftId, kind: Kind) {
        let mut envelope = self.envelope(to);
        if kind == Kind::Refused {
            // It goes to a storage that is not the one we know.
            envelope.to_storage = Default::default();
        }
        envelope.hello = Some(RaftHello {
            voters: self.introductions.voters.clone(),
            kind: kind.into(),
        });
        self.mail.push((to, envelope));
    }

    /// Repeats our introduction to every peer that has not confirmed it.
    pub(super) fn introduce(&mut self) {
        if self.now % REPEAT_TICKS != 1 {
            return;
        }
        let missing: Vec<RaftId> = self.introductions.missing().collect();
        if self.now % (REPEAT_TICKS * 25) == 1 {
            tracing::info!(node = %self.setup.node_id, waiting_for = ?missing, "waiting for the other first voters");
        }
        for peer in missing {
            self.hello(peer, Kind::Introduce);
        }
    }

    /// Checks an envelope's addresses and handles its greeting. Returns the sender when its messages may be stepped.
    pub(super) fn receive(&mut self, envelope: &RaftEnvelope) -> Result<Option<RaftId>, DriverError> {
        let from = match self.check_addresses(envelope) {
            Ok(from) => from,
            Err(garbage) => {
                self.drop_garbage(garbage);
                return Ok(None);
            }
        };
        if !self.remember(from, envelope)? {
            return Ok(None);
        }
        if let Some(hello) = &envelope.hello {
            self.on_hello(from, envelope, hello)?;
        }
        if !self.introductions.done {
            if !envelope.messages.is_empty() {
                self.drop_garbage(Garbage::NotIntroduced);
            }
            return Ok(None);
        }
        Ok(Some(from))
    }

    fn check_addresses(&self, envelope: &RaftEnvelope) -> Result<RaftId, Garbage> {
        if envelope.cluster_id != self.setup.cluster_id {
            return Err(Garbage::OtherCluster);
        }
        if envelope.to != self.id.get() {
            return Err(Garbage::NotForMe);
        }
        let own = self.introductions.storage.as_bytes();
        if !envelope.to_storage.is_empty() && envelope.to_storage != own.as_slice() {
            return Err(Garbage::ForMyFormerStorage);
        }
        RaftId::from_raft(envelope.from)
            .filter(|from| self.introductions.peers.contains(from))
            .ok_or(Garbage::UnknownSender)
    }

    /// Durably remembers a peer's storage at first sight, and refuses every other one afterwards.
    fn remember(&mut self, from: RaftId, envelope: &RaftEnvelope) -> Result<bool, DriverError> {
        let Some(storage) = StorageId::from_slice(&envelope.from_storage) else {
            self.drop_garbage(Garbage::NoStorage);
            return Ok(false);
        };
        let same_voters = envelope
            .hello
            .as_ref()
            .is_none_or(|hello| hello.voters == self.introductions.voters);
        match self.introductions.pins.get(&from) {
            Some(pinned) if *pinned == storage => Ok(true),
            None if same_voters => {
                self.raw
                    .mut_store()
                    .commit(Transaction::new().pin(from, storage).synced(true))?;
                self.introductions.pins.insert(from, storage);
                Ok(true)
            }
            _ => {
                let garbage = if same_voters {
                    Garbage::OtherStorage
                } else {
                    Garbage::OtherVoters
                };
                self.drop_garbage(garbage);
                if envelope
                    .hello
                    .as_ref()
                    .is_some_and(|hello| hello.kind() == Kind::Introduce)
                {
                    self.hello(from, Kind::Refused);
                }
                Ok(false)
            }
        }
    }

    fn on_hello(
        &mut self,
        from: RaftId,
        envelope: &RaftEnvelope,
        hello: &RaftHello,
    ) -> Result<(), DriverError> {
        match hello.kind() {
            Kind::Introduce if hello.voters == self.introductions.voters => {
                self.hello(from, Kind::Remembered);
            }
            Kind::Introduce => {
                self.drop_garbage(Garbage::OtherVoters);
                self.hello(from, Kind::Refused);
            }
            Kind::Remembered if envelope.to_storage.is_empty() => self.drop_garbage(Garbage::NoStorage),
            Kind::Remembered => {
                self.introductions.remembered_by.insert(from);
                if !self.introductions.done && self.introductions.missing().next().is_none() {
                    self.raw
                        .mut_store()
                        .commit(Transaction::new().introduced().synced(true))?;
                    self.introductions.done = true;
                    tracing::info!(node = %self.setup.node_id, "known to all first voters, taking part");
                }
            }
            Kind::Refused => {
                tracing::error!(
                    node = %self.setup.node_id, peer = ?from,
                    "a voter knows this node with another storage or other voters: this one cannot take part"
                );
                self.drop_garbage(Garbage::RefusedByPeer);
            }
        }
        Ok(())
    }
}
