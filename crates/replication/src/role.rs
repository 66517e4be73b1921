//! Roles and how metadata moves a replica from one to another (E1-E4).

use strom_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch};

use crate::effect::{Effect, FetchAnswer};
use crate::event::FollowerFetch;
use crate::follower::Follower;
use crate::invariants;
use crate::leader::Leader;
use crate::metadata::{BrokerState, PartitionState};
use crate::replica::{Context, Core, Replica};

pub(crate) enum Role {
    /// Not told a role yet, no leader is elected, or a change waits for the log.
    Idle,
    Leader(Leader),
    Follower(Follower),
    /// For the rest of this process life.
    Stopped(StopReason),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StopReason {
    Quarantined,
    Removed,
    ShutDown,
}

impl StopReason {
    pub(crate) fn error(self) -> ErrorCode {
        match self {
            StopReason::Quarantined => ErrorCode::KafkaStorageError,
            StopReason::Removed => ErrorCode::UnknownTopicOrPartition,
            StopReason::ShutDown => ErrorCode::NotLeaderOrFollower,
        }
    }
}

/// The present role, for describing and routing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleKind {
    Idle,
    /// Leader by the metadata, not yet serving.
    LeaderPreparing,
    Leader,
    Follower,
    Quarantined,
    Removed,
    ShutDown,
}

/// What the metadata wants this replica to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    Nothing,
    Lead,
    Follow(BrokerId),
}

impl Role {
    /// The leader epoch the role was taken in.
    fn epoch(&self) -> Option<LeaderEpoch> {
        match self {
            Role::Leader(leader) => Some(leader.epoch()),
            Role::Follower(follower) => Some(follower.epoch()),
            Role::Idle | Role::Stopped(_) => None,
        }
    }
}

impl Core {
    fn wanted(&self) -> Wanted {
        let me = self.config.broker;
        // E2: metadata from before this life's registration may name it leader, or a leader its log has outlived. From
        // the registration on it is newer than all that the former life knew.
        let present = self.registered_epoch(me) == Some(self.config.broker_epoch);
        if !present && self.rules.act_only_when_registered {
            return Wanted::Nothing;
        }
        match self.partition.leader {
            Some(leader) if leader == me => Wanted::Lead,
            Some(leader) => Wanted::Follow(leader),
            None => Wanted::Nothing,
        }
    }
}

impl Replica {
    pub(crate) fn apply_metadata(
        &mut self,
        cx: &Context<'_>,
        partition: PartitionState,
        brokers: Vec<BrokerState>,
        effects: &mut Vec<Effect>,
    ) {
        self.core.brokers = brokers;
        let old = (
            self.core.partition.partition_epoch,
            self.core.partition.leader_epoch,
        );
        // E1: each record once, in order. A watch that starts over repeats records this replica has acted on.
        if partition.partition_epoch > old.0 && partition.leader_epoch >= old.1 {
            debug_assert!(invariants::record_is_sound(&partition), "{partition:?}");
            self.core.partition = partition;
        }
        if matches!(self.role, Role::Stopped(_)) {
            return;
        }
        if self.core.partition.partition_epoch > PartitionEpoch(-1)
            && !self.core.partition.replicas.contains(&self.core.config.broker)
        {
            self.remove_unassigned(effects);
            return;
        }
        self.assume_role(cx, effects);
        if let Role::Leader(leader) = &mut self.role {
            leader.on_partition_changed(&mut self.core, cx, effects);
        }
    }

    pub(crate) fn apply_broker(&mut self, cx: &Context<'_>, broker: BrokerState, effects: &mut Vec<Effect>) {
        match self.core.brokers.iter_mut().find(|known| known.id == broker.id) {
            Some(known) => *known = broker,
            None if self.core.partition.replicas.contains(&broker.id) => self.core.brokers.push(broker),
            None => return,
        }
        self.assume_role(cx, effects);
        if let Role::Leader(leader) = &mut self.role {
            leader.on_broker_changed(&mut self.core, cx, effects);
        }
    }

    /// Takes the role the metadata wants, unless it is held already or the log is being changed. A new leader epoch is
    /// always a new role, also with the same leader and when epochs were skipped (E4, KAFKA-7164).
    pub(crate) fn assume_role(&mut self, cx: &Context<'_>, effects: &mut Vec<Effect>) {
        if matches!(self.role, Role::Stopped(_)) {
            return;
        }
        let wanted = self.core.wanted();
        let epoch = self.core.partition.leader_epoch;
        let held = match (&self.role, wanted) {
            (Role::Idle, Wanted::Nothing) => true,
            (Role::Leader(_), Wanted::Lead) | (Role::Follower(_), Wanted::Follow(_)) => {
                self.role.epoch() == Some(epoch)
            }
            _ => false,
        };
        if held {
            return;
        }
        self.leave_role(ErrorCode::NotLeaderOrFollower, effects);
        if self.core.mutation.is_some() {
            return;
        }
        self.role = match wanted {
            Wanted::Nothing => Role::Idle,
            Wanted::Lead => Role::Leader(Leader::begin(&mut self.core, cx, effects)),
            Wanted::Follow(leader) => Role::Follower(Follower::begin(&mut self.core, leader, effects)),
        };
    }

    /// Stops what the present role does; the role becomes `Idle`.
    pub(crate) fn leave_role(&mut self, error: ErrorCode, effects: &mut Vec<Effect>) {
        match std::mem::replace(&mut self.role, Role::Idle) {
            Role::Leader(leader) => {
                if !self.core.rules.clear_follower_state {
                    self.core.kept_progress = leader.into_progress();
                }
                if self.core.rules.fail_waiters_of_old_epochs {
                    effects.push(Effect::FailWaiters { error });
                }
            }
            Role::Follower(_) => {
                effects.push(Effect::StopFetching);
                // Readers that wait at a follower (KIP-392) must look for the new leader.
                if self.core.rules.fail_waiters_of_old_epochs {
                    effects.push(Effect::FailWaiters { error });
                }
            }
            Role::Idle => {}
            stopped @ Role::Stopped(_) => self.role = stopped,
        }
    }

    /// The answer of a replica that does not lead.
    pub(crate) fn refuse_fetch(&self, fetch: &FollowerFetch, effects: &mut Vec<Effect>) {
        let error = match &self.role {
            Role::Stopped(reason) => reason.error(),
            _ if fetch.position.leader_epoch > self.core.partition.leader_epoch => {
                ErrorCode::UnknownLeaderEpoch
            }
            _ => ErrorCode::NotLeaderOrFollower,
        };
        effects.push(Effect::AnswerFetch {
            follower: fetch.follower,
            answer: FetchAnswer::Refuse {
                fetch_offset: fetch.position.fetch_offset,
                error,
                log_start: self.core.log.start,
            },
        });
    }

    /// The registration this replica acts for.
    pub fn broker_epoch(&self) -> BrokerEpoch {
        self.core.config.broker_epoch
    }
}
