//! One atomic write: everything a Ready (or a snapshot, or an introduction) changes, as plain data.

use raft::eraftpb::{ConfState, Entry, HardState};

use crate::identity::{Identity, RaftId, StorageId};
use crate::snapshot::SnapshotMeta;

/// Which snapshot becomes the current one, and what that does to the log.
#[derive(Clone, Debug)]
pub(crate) enum Switch {
    /// A leader's snapshot replaces the whole log.
    Installed {
        meta: SnapshotMeta,
        conf_state: ConfState,
    },
    /// Our own snapshot; the log is cut up to and including (index, term).
    Own { meta: SnapshotMeta, cut: (u64, u64) },
}

/// Nothing is stored until [`crate::store::Store::commit`] takes it. Applied in this order: snapshot switch, entries
/// (with the stale tail they overwrite), hard state.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is stored until `Store::commit`"]
pub struct Transaction {
    pub(crate) identity: Option<Identity>,
    pub(crate) pin: Option<(RaftId, StorageId)>,
    pub(crate) introduced: bool,
    pub(crate) switch: Option<Switch>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) sync: bool,
}

impl Transaction {
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the storage. The first write to it.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Starts a new group: snapshot `meta` at index 1 term 1, an empty log above it, commit 1.
    pub fn bootstrap(mut self, meta: SnapshotMeta, conf_state: ConfState) -> Self {
        self.switch = Some(Switch::Installed { meta, conf_state });
        self.hard_state = Some(HardState {
            term: meta.term,
            commit: meta.index,
            ..HardState::default()
        });
        self.sync = true;
        self
    }

    /// Remembers the storage of a peer.
    pub fn pin(mut self, peer: RaftId, storage: StorageId) -> Self {
        self.pin = Some((peer, storage));
        self
    }

    /// Every voter has remembered our storage.
    pub fn introduced(mut self) -> Self {
        self.introduced = true;
        self
    }

    pub fn install_snapshot(mut self, meta: SnapshotMeta, conf_state: ConfState) -> Self {
        self.switch = Some(Switch::Installed { meta, conf_state });
        self
    }

    pub fn own_snapshot(mut self, meta: SnapshotMeta, cut: (u64, u64)) -> Self {
        self.switch = Some(Switch::Own { meta, cut });
        self
    }

    pub fn append(mut self, entries: Vec<Entry>) -> Self {
        self.entries = entries;
        self
    }

    pub fn hard_state(mut self, hard_state: Option<HardState>) -> Self {
        self.hard_state = hard_state.or(self.hard_state);
        self
    }

    /// Waits for the disk.
    pub fn synced(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    pub fn is_empty(&self) -> bool {
        !self.introduced
            && self.identity.is_none()
            && self.pin.is_none()
            && self.switch.is_none()
            && self.entries.is_empty()
            && self.hard_state.is_none()
    }
}
