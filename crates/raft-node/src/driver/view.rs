//! What a driver shows of itself and of the quorum.

use std::time::Duration;

use raft::StateRole;

use super::Driver;
use crate::handle::{Member, QuorumDescription, RaftRole, RaftStatus};
use crate::identity::RaftId;
use crate::state_machine::StateMachine;
use crate::store::Store;

impl<S: StateMachine, St: Store> Driver<S, St> {
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
}
