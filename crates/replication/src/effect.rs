//! What a replica wants done: the outputs of [`crate::Replica::step`], to be carried out in order.

use strom_types::{BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionEpoch};

use crate::event::{FetchPosition, Removal};
use crate::log_view::EpochEnd;
use crate::metadata::{IsrMember, RecoveryState};

/// A leader's answer to a follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchAnswer {
    /// Send records from `from` up to the log end (which may be nothing).
    Serve {
        from: Offset,
        high_watermark: Offset,
        log_start: Offset,
    },
    /// Send this alone: no records, no high watermark.
    Diverging {
        fetch_offset: Offset,
        last_fetched_epoch: LeaderEpoch,
        end: EpochEnd,
    },
    Refuse {
        fetch_offset: Offset,
        error: ErrorCode,
        log_start: Offset,
    },
}

/// Something an operator must hear of; it never happens while the rules and the disks hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Alarm {
    #[error("the leader {leader} sent damaged records {times} times in a row: its copy is suspect")]
    LeaderSuspect { leader: BrokerId, times: u32 },
    #[error("records of epoch {epoch} follow a log of epoch {latest} under leader epoch {leader_epoch}")]
    EpochOutOfOrder {
        epoch: LeaderEpoch,
        latest: LeaderEpoch,
        leader_epoch: LeaderEpoch,
    },
    #[error("truncation to {to} would cut committed records below {high_watermark}")]
    TruncationBelowHighWatermark { to: Offset, high_watermark: Offset },
    #[error("the leader knows nothing of this log's end {log_end}, its own starts at {leader_log_start}")]
    LogUnknownToLeader {
        log_end: Offset,
        leader_log_start: Offset,
    },
    #[error("the log can no longer be written")]
    LogFailed,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Leader: persist (epoch, offset) in the epoch cache with fsync, then [`crate::Event::EpochStartPersisted`].
    AssignEpochStart { epoch: LeaderEpoch, offset: Offset },
    /// Leader after an unclean election: abort or expire the open transactions as they are known, then
    /// [`crate::Event::RecoveryDone`].
    Recover { epoch: LeaderEpoch },
    /// Leader: appends are admitted from now on, with this epoch in their batches.
    LeaderReady { epoch: LeaderEpoch },
    /// Fail everything that waits for an acknowledgement or for data of an earlier leadership. Indefinite: their
    /// records may or may not survive.
    FailWaiters { error: ErrorCode },
    /// The high watermark (of a leader or a follower) moved: complete waiters, wake fetchers, checkpoint at leisure.
    HighWatermarkAdvanced { high_watermark: Offset },
    /// Leader: answer this follower. A follower that is being pushed to needs no `Serve`.
    AnswerFetch { follower: BrokerId, answer: FetchAnswer },
    /// Leader: ask the controller; answer with [`crate::Event::AlterPartitionResult`].
    AlterPartition {
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        attempt: u32,
        new_isr: Vec<IsrMember>,
        recovery_state: RecoveryState,
    },

    /// Follower: tell the leader. `restart` = it must (re)start pushing from `fetch_offset`.
    SendPosition {
        leader: BrokerId,
        position: FetchPosition,
        restart: bool,
    },
    /// Follower: append the records of the reply that was just handed in, then [`crate::Event::LogMutated`]. If the log
    /// refuses them (a full disk), the same event: only what the log then holds counts. The shell asks again later.
    AppendRecords { base_offset: Offset },
    /// Follower: cut log and epoch cache (each entry that starts at or above `to`, also when the log is no longer
    /// than `to`), fsync both, reset the producer state to `to`; then [`crate::Event::LogMutated`].
    TruncateTo { to: Offset },
    /// Follower: drop the whole log and epoch cache, begin an empty log at `start`, fsync; then
    /// [`crate::Event::LogMutated`].
    RestartAt { start: Offset },
    /// Follower: the leader's log begins later now; drop what lies below.
    AdvanceLogStart { to: Offset },
    /// Follower: the leader refused or sent what cannot be used. Send [`crate::Replica::fetch_position`] again, with
    /// restart, after a back-off, unless the role changes first.
    RetryFetch { error: ErrorCode },
    /// Stop asking the leader for this partition.
    StopFetching,

    /// This replica serves nothing any more in this process life; its bytes are kept. Report it to the controller.
    Quarantine { alarm: Alarm },
    /// Log and count; the replica goes on.
    Raise { alarm: Alarm },
    /// Delete the partition's files.
    DeleteLog { removal: Removal },
    /// Controlled shutdown: nothing will be appended any more; flush and close.
    CloseLog,
}
