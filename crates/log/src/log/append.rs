//! Appending: checks, offsets and bookkeeping in memory; the writer thread does the rest.

use bytes::{Bytes, BytesMut};
use strom_records::{
    Batch, BatchHeader, BatchIter, ControlMarker, HEADER_LEN, TimestampType, assign_offsets, patch_in_place,
};
use strom_types::{Offset, WallMs};

use super::{Log, LogState};
use crate::config::{AppendInfo, FollowerAppend, LeaderAppend};
use crate::error::AppendError;
use crate::producers::{BatchMeta, Verdict, encode_snapshot};
use crate::segment::Segment;
use crate::tail::Run;

/// Batches up to this size are copied when they lie in a shared buffer: cheaper than a second chunk, and the buffer they
/// came in, often much larger, is let go.
const COPY_BYTES_MAX: usize = 4 << 10;

impl Log {
    /// Appends one batch that [`strom_records::validate_produce`] has passed (its CRC is not checked again). The offsets
    /// are assigned and readable when this returns; the listener tells when they are written and durable.
    ///
    /// Every error is definite. [`AppendInfo::duplicate`] answers a retried batch with its first offsets.
    pub fn append_as_leader(&self, batch: Bytes, by: LeaderAppend) -> Result<AppendInfo, AppendError> {
        let header = BatchHeader::parse(&batch).map_err(|error| AppendError::Invalid(error.to_string()))?;
        if header.total_len() != batch.len() || header.last_offset_delta < 0 {
            return Err(AppendError::Invalid(format!("{} bytes, {header:?}", batch.len())));
        }
        let marker = marker_of(&header, &batch)?;
        self.dir.check_alive()?;
        let mut state = self.opened()?;
        let latest = state.epochs.latest();
        if by.leader_epoch < latest {
            return Err(AppendError::FencedEpoch {
                epoch: by.leader_epoch,
                latest,
            });
        }
        let max = usize::try_from(state.config.segment_bytes).unwrap_or(usize::MAX);
        if batch.len() > max {
            return Err(AppendError::BatchTooLarge {
                len: batch.len(),
                max,
            });
        }
        let expiration_ms = state.config.producer_id_expiration_ms;
        if let Verdict::Duplicate(meta) =
            state
                .producers
                .check(&header, marker.as_ref(), by.now, expiration_ms)?
        {
            return Ok(duplicate(&meta, by, state.log_start));
        }
        // Not before: what is in the log is not to be called refused.
        self.dir.admit(batch.len())?;
        let stamped = if by.log_append_time {
            header.with_max_timestamp(TimestampType::LogAppendTime, by.now.0)
        } else {
            header
        };
        let stamped = stamped.at(state.log_end, by.leader_epoch);
        let (head, body) = stamp(batch, &stamped, by.log_append_time)?;
        let len = head.len() + body.len();
        state.roll_if_due(&stamped, len, by.now);
        let run = state.run(stamped.base_offset, stamped.last_offset(), head, body);
        state.take_in(&stamped, marker.as_ref(), by.now);
        self.enqueue(&mut state, run);
        Ok(AppendInfo {
            base_offset: stamped.base_offset,
            last_offset: stamped.last_offset(),
            duplicate: false,
            log_append_time: by.log_append_time.then_some(by.now),
            log_start: state.log_start,
        })
    }

    /// Appends batches as the leader sent them: whole, contiguous, beginning at the log's end. Their CRCs are the caller's
    /// to check, who has to tell the replica of bad ones before it decides on an append. All are
    /// appended or none.
    pub fn append_as_follower(&self, records: &Bytes, by: FollowerAppend) -> Result<AppendInfo, AppendError> {
        self.dir.admit(records.len())?;
        let batches = checked_batches(records, by)?;
        let mut state = self.opened()?;
        let base_offset = state.log_end;
        let mut expected = base_offset;
        let mut latest = state.epochs.latest();
        let max = usize::try_from(state.config.segment_bytes).unwrap_or(usize::MAX);
        for (batch, _) in &batches {
            let header = &batch.header;
            if header.base_offset != expected {
                return Err(AppendError::UnexpectedOffset {
                    expected,
                    found: header.base_offset,
                });
            }
            if header.partition_leader_epoch < latest {
                return Err(AppendError::FencedEpoch {
                    epoch: header.partition_leader_epoch,
                    latest,
                });
            }
            if batch.bytes.len() > max.max(1 << 20) {
                return Err(AppendError::BatchTooLarge {
                    len: batch.bytes.len(),
                    max,
                });
            }
            latest = header.partition_leader_epoch;
            expected = header.next_offset();
        }
        // Neighbours in `records` become one run, unless a segment ends between them.
        let mut run: Option<(usize, Run)> = None;
        let mut position = 0;
        for (batch, marker) in batches {
            let len = batch.bytes.len();
            if state.roll_if_due(&batch.header, len, by.now)
                && let Some((_, done)) = run.take()
            {
                self.enqueue(&mut state, done);
            }
            match &mut run {
                Some((start, run)) => {
                    run.body = records.slice(*start..position + len);
                    run.last_offset = batch.header.last_offset();
                }
                None => {
                    let (base, last) = (batch.header.base_offset, batch.header.last_offset());
                    run = Some((position, state.run(base, last, Bytes::new(), batch.bytes.clone())));
                }
            }
            position += len;
            state.take_in(&batch.header, marker.as_ref(), by.now);
        }
        if let Some((_, run)) = run {
            self.enqueue(&mut state, run);
        }
        Ok(AppendInfo {
            base_offset,
            last_offset: state.log_end - 1,
            duplicate: false,
            log_append_time: None,
            log_start: state.log_start,
        })
    }

    fn enqueue(&self, state: &mut LogState, run: Run) {
        self.dir.queued(run.len());
        state.tail.push(run);
        state.checkpoint_dirty = true;
        state.assert_order();
        if !state.in_write_queue {
            state.in_write_queue = true;
            self.dir.write_queue.push(&self.me);
        }
    }
}

impl LogState {
    /// Begins a new segment when there is none, or the batch would take the active one over a limit.
    fn roll_if_due(&mut self, header: &BatchHeader, len: usize, now: WallMs) -> bool {
        let due = match self.segments.last() {
            None => true,
            Some(active) => active.size > 0 && self.is_due(active, header, len as u64, now),
        };
        if due {
            let base_offset = header.base_offset;
            if !self.segments.is_empty() {
                self.rolls
                    .push_back((base_offset, encode_snapshot(&self.producers, 0)));
            }
            if let Some(index) = self
                .segments
                .last_mut()
                .and_then(|segment| segment.index.as_mut())
            {
                index.note_max_timestamp();
            }
            self.segments.push(Segment {
                created_ms: Some(now.0),
                ..Segment::new(base_offset)
            });
        }
        due
    }

    /// Kafka's `LogSegment.shouldRoll`.
    fn is_due(&self, active: &Segment, header: &BatchHeader, len: u64, now: WallMs) -> bool {
        let waited_ms = match active.first_timestamp {
            Some(first) if first >= 0 => header.max_timestamp.saturating_sub(first),
            _ => now.0.saturating_sub(active.created_ms.unwrap_or(now.0)),
        };
        active.size + len > u64::from(self.config.segment_bytes)
            || waited_ms > self.config.segment_ms
            || active
                .index
                .as_ref()
                .is_some_and(|index| index.is_full(self.config.segment_index_bytes))
            || header.last_offset() - active.base_offset > i64::from(i32::MAX)
    }

    /// A run at the end of the active segment, before `take_in` moves that end.
    fn run(&self, base_offset: Offset, last_offset: Offset, head: Bytes, body: Bytes) -> Run {
        let (segment_base, position) = self
            .segments
            .last()
            .map_or((base_offset, 0), |active| (active.base_offset, active.size));
        Run {
            base_offset,
            last_offset,
            head,
            body,
            segment_base,
            position,
        }
    }

    /// Notes a batch that now ends the log in everything that is derived from batches.
    pub(crate) fn take_in(&mut self, header: &BatchHeader, marker: Option<&ControlMarker>, now: WallMs) {
        if self
            .epochs
            .assign(header.partition_leader_epoch, header.base_offset)
        {
            self.epochs_dirty = true;
        }
        let aborted = self.producers.apply(header, marker, now.0);
        let interval = u64::from(self.config.index_interval_bytes);
        if let Some(active) = self.segments.last_mut() {
            active.note(
                header.last_offset(),
                header.total_len() as u64,
                header.max_timestamp,
                interval,
            );
            active.aborted.extend(aborted);
        }
        self.bytes_since_snapshot += header.total_len() as u64;
        self.log_end = header.next_offset();
    }
}

pub(super) fn marker_of(header: &BatchHeader, batch: &Bytes) -> Result<Option<ControlMarker>, AppendError> {
    if !header.is_control() {
        return Ok(None);
    }
    let batch = Batch {
        header: *header,
        bytes: batch.clone(),
    };
    ControlMarker::of(&batch)
        .map(Some)
        .map_err(|error| AppendError::Invalid(error.to_string()))
}

fn checked_batches(
    records: &Bytes,
    by: FollowerAppend,
) -> Result<Vec<(Batch, Option<ControlMarker>)>, AppendError> {
    let invalid = |error: &dyn std::fmt::Display| AppendError::Invalid(error.to_string());
    let mut batches = Vec::new();
    let mut walk = BatchIter::new(records.clone());
    for batch in &mut walk {
        let batch = batch.map_err(|error| invalid(&error))?;
        let epoch = batch.header.partition_leader_epoch;
        if epoch > by.leader_epoch {
            return Err(AppendError::FutureEpoch {
                epoch,
                leader: by.leader_epoch,
            });
        }
        if batch.header.last_offset_delta < 0 {
            return Err(AppendError::Invalid(format!("{:?}", batch.header)));
        }
        let marker = marker_of(&batch.header, &batch.bytes)?;
        batches.push((batch, marker));
    }
    if !walk.tail().is_empty() || batches.is_empty() {
        return Err(AppendError::Invalid(format!(
            "{} bytes of a cut batch",
            walk.tail().len()
        )));
    }
    Ok(batches)
}

/// The batch with `header` in front: in its own buffer where nobody shares it or it is small, else in two pieces.
fn stamp(batch: Bytes, header: &BatchHeader, whole_header: bool) -> Result<(Bytes, Bytes), AppendError> {
    let invalid = |error: strom_records::HeaderError| AppendError::Invalid(error.to_string());
    let own = match batch.try_into_mut() {
        Ok(own) => Ok(own),
        Err(shared) if shared.len() <= COPY_BYTES_MAX => Ok(BytesMut::from(&shared[..])),
        Err(shared) => Err(shared),
    };
    match own {
        Ok(mut own) => {
            if whole_header && let Some(front) = own.first_chunk_mut::<HEADER_LEN>() {
                *front = header.encode();
            }
            let bytes = patch_in_place(own, header.base_offset, header.partition_leader_epoch);
            Ok((Bytes::new(), bytes.map_err(invalid)?))
        }
        Err(shared) if whole_header => Ok((
            Bytes::copy_from_slice(&header.encode()),
            shared.slice(HEADER_LEN..),
        )),
        Err(shared) => {
            assign_offsets(&shared, header.base_offset, header.partition_leader_epoch).map_err(invalid)
        }
    }
}

fn duplicate(meta: &BatchMeta, by: LeaderAppend, log_start: Offset) -> AppendInfo {
    AppendInfo {
        base_offset: meta.base_offset(),
        last_offset: meta.last_offset,
        duplicate: true,
        log_append_time: by.log_append_time.then_some(WallMs(meta.timestamp)),
        log_start,
    }
}
