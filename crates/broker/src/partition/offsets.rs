//! Questions about offsets: ListOffsets, OffsetsForLeaderEpoch, DeleteRecords.

use strom_replication::{EpochEnd, Event};
use strom_types::{ErrorCode, LeaderEpoch, Offset};

use super::Partition;
use super::log_view::View;

/// Kafka's special timestamps (`ListOffsetsRequest`).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// An offset and the timestamp and epoch that go with it; `-1` where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ListedOffset {
    pub offset: Offset,
    pub timestamp: i64,
    pub leader_epoch: LeaderEpoch,
}

impl ListedOffset {
    const NOTHING: ListedOffset = ListedOffset {
        offset: -1,
        timestamp: -1,
        leader_epoch: LeaderEpoch::NONE,
    };
}

impl Partition {
    /// May read from disk.
    pub(crate) fn list_offset(
        &self,
        timestamp: i64,
        epoch: Option<LeaderEpoch>,
        read_committed: bool,
    ) -> Result<ListedOffset, ErrorCode> {
        let bounds = self
            .inner
            .lock()
            .replica
            .admit_fetch(self.shared.moment(), epoch)?;
        let plain = |offset| {
            Ok(ListedOffset {
                offset,
                timestamp: -1,
                leader_epoch: self.epoch_at(offset),
            })
        };
        match timestamp {
            EARLIEST | EARLIEST_LOCAL => plain(bounds.log_start),
            // Nothing is tiered, so nothing is there, and nothing waits for upload.
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(ListedOffset::NOTHING),
            LATEST => {
                let latest = self.latest(epoch, read_committed)?;
                Ok(ListedOffset {
                    offset: latest,
                    timestamp: -1,
                    leader_epoch: self.log.latest_epoch(),
                })
            }
            MAX_TIMESTAMP => {
                let latest = self.latest(epoch, read_committed)?;
                let found = self.log.max_timestamp_offset(latest).map_err(|e| e.code())?;
                Ok(self.found(found))
            }
            time if time >= 0 => {
                // The answer does not change once the bound is a stable one, which it is only after this leadership's
                // start is committed (KIP-207).
                let latest = self.latest(epoch, read_committed)?;
                let found = self
                    .log
                    .offset_for_timestamp(time, latest)
                    .map_err(|e| e.code())?;
                Ok(self.found(found))
            }
            _ => Err(ErrorCode::UnsupportedVersion),
        }
    }

    fn latest(&self, epoch: Option<LeaderEpoch>, read_committed: bool) -> Result<Offset, ErrorCode> {
        let latest = self
            .inner
            .lock()
            .replica
            .latest_offset(self.shared.moment(), epoch)?;
        if read_committed {
            self.last_stable_offset(latest)
        } else {
            Ok(latest)
        }
    }

    fn found(&self, found: Option<(i64, Offset)>) -> ListedOffset {
        found.map_or(ListedOffset::NOTHING, |(timestamp, offset)| ListedOffset {
            offset,
            timestamp,
            leader_epoch: self.epoch_at(offset),
        })
    }

    /// The leader epoch of the record at `offset`.
    fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let entries = self.log.epoch_entries().unwrap_or_default();
        entries
            .iter()
            .rev()
            .find(|(_, start)| *start <= offset)
            .map_or(LeaderEpoch::NONE, |(epoch, _)| *epoch)
    }

    pub(crate) fn end_offset_for_epoch(
        &self,
        current: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<Option<EpochEnd>, ErrorCode> {
        let inner = self.inner.lock();
        inner
            .replica
            .end_offset_for_epoch(self.shared.moment(), &View(&self.log), current, epoch)
    }

    /// Moves the log start up to `offset` (`-1` = the high watermark); the low watermark over all replicas comes back.
    pub(crate) fn delete_records(&self, offset: Offset) -> Result<Offset, ErrorCode> {
        let mut inner = self.inner.lock();
        inner.replica.admit_fetch(self.shared.moment(), None)?;
        // Of a compacted log only compaction removes records (Kafka's `deleteRecordsOnLeader`).
        if !inner.config.cleanup_policy.delete {
            return Err(ErrorCode::PolicyViolation);
        }
        let high_watermark = inner.replica.deletable_end();
        let offset = if offset == -1 { high_watermark } else { offset };
        if offset < 0 || offset > high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        if offset > self.log.log_start_offset() {
            self.log.set_log_start_offset(offset).map_err(|e| e.code())?;
            self.step_locked(&mut inner, Event::LogAdvanced);
        }
        Ok(inner.replica.low_watermark())
    }
}
