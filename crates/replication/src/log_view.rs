//! What the core may ask about the partition's log: facts, never bytes.

use strom_types::{LeaderEpoch, Offset};

/// One entry of a leader-epoch cache: `epoch` begins at `start_offset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochStart {
    pub epoch: LeaderEpoch,
    pub start_offset: Offset,
}

/// The end (exclusive) of an epoch in some log, as `OffsetsForLeaderEpoch` and diverging replies carry it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEnd {
    pub epoch: LeaderEpoch,
    pub end_offset: Offset,
}

/// The log is damaged: what it held is not known any more, which is not the same as that it held nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogUnreadable;

/// The partition's log as it stands at the moment of a step: `log_start ≤ durable_end ≤ log_end` (the durable end of
/// a log whose start has overtaken it counts as the log start).
///
/// The shell passes it while it holds the partition's lock, so that no append or truncation happens meanwhile;
/// only `durable_end` may grow behind the core's back, and a read may find the log damaged.
pub trait LogView {
    fn log_start(&self) -> Offset;
    /// LEO: the offset the next record gets.
    fn log_end(&self) -> Offset;
    /// Everything below it has been fsynced.
    fn durable_end(&self) -> Offset;
    /// The last entry of the epoch cache, [`LeaderEpoch::NONE`] when it is empty.
    fn latest_epoch(&self) -> LeaderEpoch;
    /// Exactly [`crate::end_offset_for`] over the epoch cache and the log end.
    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Result<Option<EpochEnd>, LogUnreadable>;
}

/// The log's facts as the core saw them in its last step; what `&self` queries answer from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogPosition {
    pub start: Offset,
    pub end: Offset,
    pub durable: Offset,
    pub latest_epoch: LeaderEpoch,
}

impl LogPosition {
    pub(crate) fn of(log: &dyn LogView) -> Self {
        let start = log.log_start();
        let end = log.log_end();
        LogPosition {
            start,
            end,
            durable: log.durable_end().max(start).min(end),
            latest_epoch: log.latest_epoch(),
        }
    }
}
