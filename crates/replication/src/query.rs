//! The cheap `&self` questions of the data path: admission, acknowledgement, bounds of reads.

use strom_types::{BrokerId, ErrorCode, LeaderEpoch, Mono, Offset, PartitionEpoch, TopicIdPartition};

use crate::divergence::{Prefix, check_prefix};
use crate::event::FetchPosition;
use crate::lease::Moment;
use crate::log_view::{EpochEnd, LogPosition, LogUnreadable, LogView};
use crate::replica::Replica;
use crate::role::{Role, RoleKind, StopReason};

/// A producer's `acks`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// 0: not answered at all.
    None,
    /// 1: the leader's log has it.
    Leader,
    /// -1: the high watermark has passed it.
    All,
}

impl TryFrom<i16> for Acks {
    type Error = ErrorCode;

    fn try_from(acks: i16) -> Result<Self, ErrorCode> {
        match acks {
            0 => Ok(Acks::None),
            1 => Ok(Acks::Leader),
            -1 => Ok(Acks::All),
            _ => Err(ErrorCode::InvalidRequiredAcks),
        }
    }
}

/// One append that somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckWait {
    pub acks: Acks,
    /// The epoch [`Replica::admit_produce`] returned.
    pub leader_epoch: LeaderEpoch,
    pub last_offset: Offset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcksState {
    Pending,
    Done,
    /// Indefinite: the records are in the log and may survive.
    Failed(ErrorCode),
}

/// What a reader may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchBounds {
    pub log_start: Offset,
    /// Consumers read below it; a last stable offset beyond it counts as it.
    pub high_watermark: Offset,
    /// A fetch offset above it is OFFSET_OUT_OF_RANGE.
    pub log_end: Offset,
}

impl Replica {
    /// Steps 1 and 2 of a produce, under the lock under which the append follows. Every error is definite: nothing was
    /// written. The epoch goes into the batches and into [`AckWait`].
    pub fn admit_produce(
        &self,
        at: Moment,
        acks: Acks,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<LeaderEpoch, ErrorCode> {
        let epoch = self.check_leader(current_leader_epoch)?;
        if self.core.rules.lease_fences_acks && !at.lease_valid() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if acks == Acks::All && self.core.rules.min_isr_before_append && self.under_min_isr() {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        Ok(epoch)
    }

    /// Whether an append can be answered; to be asked right before the answer is written, with a fresh `at`.
    pub fn acks_state(&self, at: Moment, wait: &AckWait) -> AcksState {
        if wait.acks == Acks::None {
            return AcksState::Done;
        }
        let rules = &self.core.rules;
        let Role::Leader(leader) = &self.role else {
            if !rules.fail_waiters_of_old_epochs {
                return AcksState::Pending;
            }
            return AcksState::Failed(match &self.role {
                Role::Stopped(reason) => reason.error(),
                _ => ErrorCode::NotLeaderOrFollower,
            });
        };
        let same_epoch = leader.epoch() == wait.leader_epoch || !rules.fail_waiters_of_old_epochs;
        if !same_epoch || (rules.lease_fences_acks && !at.lease_valid()) {
            return AcksState::Failed(ErrorCode::NotLeaderOrFollower);
        }
        let reached = match wait.acks {
            Acks::All => self.core.high_watermark,
            Acks::Leader | Acks::None => self.core.counted_end(),
        };
        if reached <= wait.last_offset {
            AcksState::Pending
        } else if wait.acks == Acks::All && rules.min_isr_after_append && self.under_min_isr() {
            AcksState::Failed(ErrorCode::NotEnoughReplicasAfterAppend)
        } else {
            AcksState::Done
        }
    }

    /// The bounds of a consumer's fetch from the leader, to be taken again after each wait.
    pub fn admit_fetch(
        &self,
        at: Moment,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<FetchBounds, ErrorCode> {
        self.check_leader(current_leader_epoch)?;
        self.bounds(at)
    }

    /// The same from the leader or a follower (KIP-392), which serves up to its own high watermark.
    pub fn admit_follower_read(
        &self,
        at: Moment,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<FetchBounds, ErrorCode> {
        if matches!(self.role, Role::Follower(_)) {
            self.check_epoch(current_leader_epoch)?;
            return self.bounds(at);
        }
        self.admit_fetch(at, current_leader_epoch)
    }

    fn bounds(&self, at: Moment) -> Result<FetchBounds, ErrorCode> {
        if self.core.rules.lease_fences_reads && !at.lease_valid() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        Ok(FetchBounds {
            log_start: self.core.log.start,
            high_watermark: self.core.high_watermark,
            log_end: self.core.log.end,
        })
    }

    /// ListOffsets(latest), and the bound of every other "latest" such as the last stable offset: OFFSET_NOT_AVAILABLE
    /// until the high watermark has reached this leadership's start.
    pub fn latest_offset(
        &self,
        at: Moment,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<Offset, ErrorCode> {
        let bounds = self.admit_fetch(at, current_leader_epoch)?;
        match &self.role {
            Role::Leader(leader)
                if self.core.rules.latest_waits_for_epoch_start
                    && bounds.high_watermark < leader.start_offset() =>
            {
                Err(ErrorCode::OffsetNotAvailable)
            }
            _ => Ok(bounds.high_watermark),
        }
    }

    /// Whether a consumer's log position is on this log (KIP-320); after [`Replica::admit_fetch`].
    pub fn check_consumer_position(
        &self,
        log: &dyn LogView,
        last_fetched_epoch: LeaderEpoch,
        fetch_offset: Offset,
    ) -> Result<Prefix, LogUnreadable> {
        check_prefix(log, last_fetched_epoch, fetch_offset)
    }

    /// OffsetsForLeaderEpoch; `None` is answered as `(-1, -1)`.
    pub fn end_offset_for_epoch(
        &self,
        at: Moment,
        log: &dyn LogView,
        current_leader_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<Option<EpochEnd>, ErrorCode> {
        self.admit_fetch(at, current_leader_epoch)?;
        log.end_offset_for_epoch(epoch)
            .map_err(|LogUnreadable| ErrorCode::KafkaStorageError)
    }

    /// Up to where DeleteRecords and retention may move the log start.
    pub fn deletable_end(&self) -> Offset {
        self.core.high_watermark
    }

    /// The lowest log start over all replicas: what DeleteRecords waits for. The own one when this is not the leader.
    pub fn low_watermark(&self) -> Offset {
        match &self.role {
            Role::Leader(leader) => leader.low_watermark(&self.core),
            _ => self.core.log.start,
        }
    }

    /// What to ask the leader, when there is one to ask.
    pub fn fetch_position(&self) -> Option<(BrokerId, FetchPosition)> {
        match &self.role {
            Role::Follower(follower) if self.core.mutation.is_none() => {
                Some((follower.leader(), follower.position(&self.core)))
            }
            _ => None,
        }
    }

    /// When the next [`crate::Event::Tick`] is due; `None` while time alone changes nothing.
    pub fn next_tick(&self) -> Option<Mono> {
        match &self.role {
            Role::Leader(leader) => leader.next_tick(&self.core),
            _ => None,
        }
    }

    /// Whether an [`crate::Event::Tick`] is due as soon as the lease is valid again.
    pub fn waits_for_lease(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.waits_for_lease())
    }

    pub fn partition(&self) -> TopicIdPartition {
        self.core.config.partition
    }

    pub fn role(&self) -> RoleKind {
        match &self.role {
            Role::Idle => RoleKind::Idle,
            Role::Leader(leader) if leader.is_serving() => RoleKind::Leader,
            Role::Leader(_) => RoleKind::LeaderPreparing,
            Role::Follower(_) => RoleKind::Follower,
            Role::Stopped(StopReason::Quarantined) => RoleKind::Quarantined,
            Role::Stopped(StopReason::Removed) => RoleKind::Removed,
            Role::Stopped(StopReason::ShutDown) => RoleKind::ShutDown,
        }
    }

    /// The leader and its epoch as last applied: KIP-951's hint.
    pub fn leader(&self) -> (Option<BrokerId>, LeaderEpoch) {
        (self.core.partition.leader, self.core.partition.leader_epoch)
    }

    pub fn partition_epoch(&self) -> PartitionEpoch {
        self.core.partition.partition_epoch
    }

    pub fn high_watermark(&self) -> Offset {
        self.core.high_watermark
    }

    /// The log as the last step saw it.
    pub fn log_position(&self) -> LogPosition {
        self.core.log
    }

    /// The committed ISR.
    pub fn isr(&self) -> &[BrokerId] {
        &self.core.partition.isr
    }

    /// Committed ∪ proposed ISR of a leader (what its high watermark waits for), the committed one otherwise.
    pub fn maximal_isr(&self) -> Vec<BrokerId> {
        match &self.role {
            Role::Leader(leader) => leader.maximal_isr(&self.core),
            _ => self.core.partition.isr.clone(),
        }
    }

    /// `UnderMinIsrPartitionCount`'s condition.
    pub fn under_min_isr(&self) -> bool {
        self.core.partition.isr.len() < self.core.partition.min_isr
    }

    fn check_epoch(&self, given: Option<LeaderEpoch>) -> Result<(), ErrorCode> {
        let mine = self.core.partition.leader_epoch;
        match given {
            Some(epoch) if epoch < mine => Err(ErrorCode::FencedLeaderEpoch),
            Some(epoch) if epoch > mine => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    fn check_leader(&self, given: Option<LeaderEpoch>) -> Result<LeaderEpoch, ErrorCode> {
        if let Role::Stopped(reason) = &self.role {
            return Err(reason.error());
        }
        self.check_epoch(given)?;
        match &self.role {
            Role::Leader(leader) if leader.is_serving() => Ok(leader.epoch()),
            _ => Err(ErrorCode::NotLeaderOrFollower),
        }
    }
}
