//! A consumer as the coordinator sees it: what it does next, and what each answer makes of it.

use bytes::Bytes;
use strom_groups::{JoinGroupReply, MemberAssignment, RequestId};
use strom_types::ErrorCode;

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, PartialEq, Debug)]
pub enum Phase {
    Dead,
    /// Must send JoinGroup.
    Out,
    Joining(RequestId),
    /// Must send SyncGroup; the leader with everybody's part.
    Joined(Vec<MemberAssignment>),
    Syncing(RequestId),
    Settled,
}

pub struct Client {
    pub group: &'static str,
    pub name: String,
    pub instance: Option<String>,
    pub require_known_member_id: bool,
    pub member_id: String,
    pub generation: i32,
    pub topics: Vec<&'static str>,
    pub phase: Phase,
}

impl Client {
    pub fn joined(&mut self, join: &JoinGroupReply) {
        match join.error {
            ErrorCode::None => {
                self.member_id = join.member_id.to_string();
                self.generation = join.generation;
                let parts = join
                    .members
                    .iter()
                    .filter(|_| !join.skip_assignment)
                    .map(|member| {
                        let owner = member.group_instance_id.as_ref().unwrap_or(&member.member_id);
                        MemberAssignment {
                            member_id: member.member_id.to_string(),
                            assignment: Bytes::from(format!("{}/{owner}", join.generation)),
                        }
                    });
                self.phase = Phase::Joined(parts.collect());
            }
            ErrorCode::MemberIdRequired => {
                self.member_id = join.member_id.to_string();
                self.phase = Phase::Out;
            }
            error => self.obey(error),
        }
    }

    /// What an error makes a consumer do.
    pub fn obey(&mut self, error: ErrorCode) {
        match error {
            ErrorCode::None => return,
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                self.member_id.clear();
                self.generation = -1;
            }
            ErrorCode::IllegalGeneration
            | ErrorCode::RebalanceInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::UnknownServerError => {}
            error => panic!("{}: unexpected {error}", self.name),
        }
        self.phase = Phase::Out;
    }
}
