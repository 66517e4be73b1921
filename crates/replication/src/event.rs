//! What happens to a replica: the inputs of [`crate::Replica::step`].

use strom_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionEpoch, TopicId};

use crate::log_view::EpochEnd;
use crate::metadata::{BrokerState, PartitionState};

/// A follower's present state of a partition: request and acknowledgement in one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchPosition {
    pub leader_epoch: LeaderEpoch,
    /// The follower's log end: it wants what comes next.
    pub fetch_offset: Offset,
    /// The last entry of its epoch cache, [`LeaderEpoch::NONE`] when it has none.
    pub last_fetched_epoch: LeaderEpoch,
    /// Its fsynced end, at most `fetch_offset`.
    pub durable_offset: Offset,
    pub log_start: Offset,
}

/// A [`FetchPosition`] as it reaches the leader. That the sender *is* this broker was checked by the transport
/// (CVE-2018-1288).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerFetch {
    pub topic_id: TopicId,
    pub follower: BrokerId,
    pub broker_epoch: BrokerEpoch,
    pub position: FetchPosition,
}

/// The records of a reply as the shell found them, before the append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchedRecords {
    pub base_offset: Offset,
    /// Lowest and highest `partitionLeaderEpoch` of the batches, which must not fall from batch to batch: the shell
    /// reports batches that do as [`ReplyBody::Corrupt`].
    pub first_epoch: LeaderEpoch,
    pub last_epoch: LeaderEpoch,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyBody {
    /// Nothing new but the high watermark and the log start.
    Empty,
    Records(FetchedRecords),
    /// Records that fail a check of their own bytes (CRC, lengths, offsets).
    Corrupt,
    /// The logs part. `last_fetched_epoch` is the one of the request this answers.
    Diverging {
        last_fetched_epoch: LeaderEpoch,
        end: EpochEnd,
    },
    Error(ErrorCode),
}

/// A leader's message to a follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchReply {
    pub leader_epoch: LeaderEpoch,
    /// The `fetch_offset` this answers; of pushed records their first offset.
    pub fetch_offset: Offset,
    pub high_watermark: Offset,
    pub log_start: Offset,
    pub body: ReplyBody,
}

/// The answer to an [`crate::Effect::AlterPartition`]; the first three fields are the request's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlterPartitionResult {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub attempt: u32,
    /// A transport failure or timeout is [`ErrorCode::RequestTimedOut`]. [`ErrorCode::OperationNotAttempted`] also
    /// when the request surely never left.
    pub error: ErrorCode,
}

/// Why a partition leaves this broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// Its topic was deleted.
    Deleted,
    /// This broker is no longer among its replicas.
    Unassigned,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// An applied metadata entry has this record of the partition; `brokers` are the registrations of its replicas
    /// (this broker's too) as of the same entry. A repeated or older record only updates the brokers.
    MetadataApplied {
        partition: PartitionState,
        brokers: Vec<BrokerState>,
    },
    /// A registration changed without the partition's record.
    BrokerChanged(BrokerState),
    /// The partition is no longer this broker's.
    Removed(Removal),

    /// Records were appended or fsynced, or the log start moved.
    LogAdvanced,
    /// The [`crate::Effect::AssignEpochStart`] of this epoch is on disk.
    EpochStartPersisted { epoch: LeaderEpoch },
    /// The append, truncation or restart that the core asked for last is done (a truncation or restart: and fsynced).
    LogMutated,
    /// The log can no longer be written (fsync or write error): its directory is dead for this process life.
    LogFailed,
    /// The [`crate::Effect::Recover`] of this epoch is done.
    RecoveryDone { epoch: LeaderEpoch },

    /// Leader: a follower's position.
    FollowerFetch(FollowerFetch),
    /// Leader: the controller's answer.
    AlterPartitionResult(AlterPartitionResult),
    /// Follower: the leader's answer or push.
    FetchReply(FetchReply),

    /// Time passed: due at [`crate::Replica::next_tick`], and once the lease is valid again for replicas that say
    /// [`crate::Replica::waits_for_lease`].
    Tick,
    /// The broker leads nothing any more and closes its logs (last step of a controlled shutdown).
    Shutdown,
}
