//! The small part of the durable state, kept in memory by every store: identity, pins, hard state, snapshot pointer.

use std::collections::BTreeMap;

use raft::eraftpb::{ConfState, HardState};

use crate::identity::{Identity, RaftId, StorageId};
use crate::snapshot::SnapshotMeta;
use crate::store::transaction::{Switch, Transaction};

/// Everything but the entries and the snapshot's chunks.
#[derive(Clone, Debug, Default)]
pub struct Header {
    pub identity: Option<Identity>,
    /// The storages of the peers, as first seen.
    pub pins: BTreeMap<RaftId, StorageId>,
    /// Every voter has durably remembered our storage, so we may take part.
    pub introduced: bool,
    pub hard_state: HardState,
    pub conf_state: ConfState,
    /// (index, term) of the last entry cut from the log's front.
    pub cut: (u64, u64),
    /// The current snapshot; `None` before the group was bootstrapped.
    pub snapshot: Option<SnapshotMeta>,
}

impl Header {
    /// What `transaction` makes of the header. Commit and term never fall below a snapshot's.
    pub(crate) fn apply(&mut self, transaction: &Transaction) {
        if let Some(identity) = &transaction.identity {
            self.identity = Some(identity.clone());
        }
        if let Some((peer, storage)) = transaction.pin {
            self.pins.insert(peer, storage);
        }
        self.introduced |= transaction.introduced;
        if let Some(hard_state) = &transaction.hard_state {
            self.hard_state = hard_state.clone();
        }
        let meta = match &transaction.switch {
            None => return,
            Some(Switch::Installed { meta, conf_state }) => {
                self.cut = (meta.index, meta.term);
                self.conf_state = conf_state.clone();
                meta
            }
            Some(Switch::Own { meta, cut }) => {
                self.cut = *cut;
                meta
            }
        };
        self.snapshot = Some(*meta);
        self.hard_state.commit = self.hard_state.commit.max(meta.index);
        self.hard_state.term = self.hard_state.term.max(meta.term);
    }

    pub fn is_bootstrapped(&self) -> bool {
        self.snapshot.is_some()
    }

    pub(crate) fn raft_state(&self) -> raft::RaftState {
        raft::RaftState {
            hard_state: self.hard_state.clone(),
            conf_state: self.conf_state.clone(),
        }
    }

    /// The stored snapshot as raft-rs wants it: without data, which is streamed beside the message.
    pub(crate) fn raft_snapshot(&self) -> Option<raft::eraftpb::Snapshot> {
        let meta = self.snapshot?;
        let mut snapshot = raft::eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = meta.index;
        metadata.term = meta.term;
        metadata.set_conf_state(self.conf_state.clone());
        Some(snapshot)
    }
}
