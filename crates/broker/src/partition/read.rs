//! Fetch: what one partition contributes to a consumer's read.

use bytes::Bytes;
use smallvec::SmallVec;
use strom_log::ReadError;
use strom_replication::{EpochEnd, FetchBounds, LogUnreadable, Prefix};
use strom_types::{ErrorCode, LeaderEpoch, Offset};

use super::Partition;
use super::log_view::View;

/// One partition of a fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadTerms {
    pub offset: Offset,
    /// `None` = the consumer does not say.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    pub read_committed: bool,
    pub max_bytes: usize,
    /// The whole first batch is returned, however large (KIP-74).
    pub min_one: bool,
}

/// What a read found. `pieces` are whole batches; the first holds the offset asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadPart {
    pub pieces: SmallVec<[Bytes; 1]>,
    pub len: usize,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start: Offset,
    /// (producer id, first offset).
    pub aborted: Vec<(i64, Offset)>,
    /// The consumer's log and this one part here; there are no records then.
    pub diverging: Option<EpochEnd>,
}

impl Partition {
    /// Reads within `bounds` (of [`Partition::admit_read`]). `from_memory` = only what needs no disk; then `None` tells
    /// that the disk is needed.
    pub(crate) fn read(
        &self,
        bounds: FetchBounds,
        terms: &ReadTerms,
        from_memory: bool,
    ) -> Result<Option<ReadPart>, ErrorCode> {
        let last_stable_offset = self.last_stable_offset(bounds.high_watermark)?;
        let mut part = ReadPart {
            high_watermark: bounds.high_watermark,
            last_stable_offset,
            log_start: bounds.log_start,
            ..ReadPart::default()
        };
        if let Some(epoch) = terms.last_fetched_epoch {
            match self.check_position(epoch, terms.offset)? {
                Prefix::Shared => {}
                Prefix::Diverges(end) => {
                    part.diverging = Some(end);
                    return Ok(Some(part));
                }
                Prefix::Unknown => return Err(ErrorCode::OffsetOutOfRange),
            }
        }
        if terms.offset < bounds.log_start || terms.offset > bounds.log_end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let end = if terms.read_committed {
            last_stable_offset
        } else {
            bounds.high_watermark
        };
        if terms.offset >= end {
            return Ok(Some(part));
        }
        let tail = self
            .log
            .read_tail(terms.offset, terms.max_bytes, end, terms.min_one);
        let next_offset = if let Some(tail) = tail.map_err(|e| self.read_failed(&e))? {
            part.len = tail.size_bytes;
            part.pieces = tail.pieces.into();
            tail.next_offset
        } else if from_memory {
            return Ok(None);
        } else {
            let read = self
                .log
                .read(terms.offset, terms.max_bytes, end, terms.min_one)
                .map_err(|e| self.read_failed(&e))?;
            part.len = read.records.len();
            part.pieces.push(read.records);
            read.next_offset
        };
        if terms.read_committed && part.len > 0 {
            let aborted = self
                .log
                .aborted_transactions(terms.offset, next_offset)
                .map_err(|e| e.code())?;
            part.aborted = aborted
                .iter()
                .map(|txn| (txn.producer_id.get(), txn.first_offset))
                .collect();
        }
        Ok(Some(part))
    }

    /// The end of what a read_committed reader sees: the first open transaction, at most the high watermark.
    pub(crate) fn last_stable_offset(&self, high_watermark: Offset) -> Result<Offset, ErrorCode> {
        let unstable = self
            .log
            .last_stable_offset_bound(high_watermark)
            .map_err(|e| e.code())?;
        Ok(unstable.map_or(high_watermark, |offset| offset.min(high_watermark)))
    }

    pub(super) fn read_failed(&self, error: &ReadError) -> ErrorCode {
        self.notice_damage();
        error.code()
    }

    /// Takes the replica out of service if a read has found that its log is damaged.
    pub(crate) fn notice_damage(&self) {
        if let Some(error) = self.log.quarantined() {
            let event = self.log_failed("read", &error);
            self.step(event);
        }
    }

    fn check_position(&self, epoch: LeaderEpoch, offset: Offset) -> Result<Prefix, ErrorCode> {
        let inner = self.inner.lock();
        let checked = inner
            .replica
            .check_consumer_position(&View(&self.log), epoch, offset);
        drop(inner);
        checked.map_err(|LogUnreadable| {
            self.notice_damage();
            ErrorCode::KafkaStorageError
        })
    }
}
