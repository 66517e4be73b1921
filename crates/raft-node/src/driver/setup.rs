//! Whom a driver plays, how its storage is started, and when it stands for election.

use std::collections::BTreeSet;
use std::time::Duration;

use raft::StateRole;
use raft::eraftpb::ConfState;
use strom_types::NodeId;

use crate::config::{RaftConfig, Tuning};
use crate::driver::OpenError;
use crate::identity::{Identity, RaftId, StorageId};
use crate::state_machine::StateMachine;
use crate::store::{Store, Transaction};

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

/// Names a new storage and starts the group on it; checks an old one.
pub(super) fn bootstrap<S: StateMachine, St: Store>(
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
pub(super) struct ElectionTimeouts {
    state: u64,
    base: usize,
    drawn: Option<((u64, StateRole), usize)>,
}

impl ElectionTimeouts {
    pub(super) fn new(setup: &Setup) -> Self {
        ElectionTimeouts {
            state: setup.seed,
            base: setup.tuning.election_ticks.max(1),
            drawn: None,
        }
    }

    pub(super) fn current(&mut self, key: (u64, StateRole)) -> usize {
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
