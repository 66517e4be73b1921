//! ListOffsets by time: the first record at or after a timestamp, and the one with the largest.

use bytes::Bytes;
use strom_records::{Batch, BatchIter, find_timestamp, offset_of_max_timestamp};
use strom_types::Offset;

use super::{Log, LogState, Phase};
use crate::error::ReadError;
use crate::index::{INDEX_BYTES_MAX, TimeEntry, parse_times};
use crate::segment::{SEAL_BYTES_MAX, Seal, Segment, SegmentFile};
use crate::storage::read_file;

const READ_BYTES: usize = 1 << 20;

impl Log {
    /// The first record below `bound` with a timestamp of at least `timestamp`: (its timestamp, its offset).
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        bound: Offset,
    ) -> Result<Option<(i64, Offset)>, ReadError> {
        let (mut from, log_start) = {
            let mut state = self.opened()?;
            (self.first_candidate(&mut state, timestamp), state.log_start)
        };
        from = from.max(log_start);
        self.find_batch(from, bound, |batch| {
            let found = find_timestamp(batch, timestamp, log_start);
            found.map(|found| {
                found
                    .filter(|(offset, _)| *offset < bound)
                    .map(|(offset, at)| (at, offset))
            })
        })
    }

    /// The first record that has the largest timestamp below `bound`: (the timestamp, its offset).
    pub fn max_timestamp_offset(&self, bound: Offset) -> Result<Option<(i64, Offset)>, ReadError> {
        let ((from, target), log_start) = {
            let mut state = self.opened()?;
            (self.max_candidate(&mut state, bound), state.log_start)
        };
        let mut best: Option<Batch> = None;
        self.find_batch(from.max(log_start), bound, |batch| {
            let newest = batch.header.max_timestamp;
            if newest >= 0
                && best
                    .as_ref()
                    .is_none_or(|best| newest > best.header.max_timestamp)
            {
                best = Some(batch.clone());
            }
            Ok(target
                .filter(|target| newest >= *target)
                .map(|target| (target, batch.header.base_offset)))
        })?;
        let Some(best) = best else { return Ok(None) };
        let offset = offset_of_max_timestamp(&best)
            .map_err(|error| self.corrupt(best.header.base_offset, error.to_string()))?;
        Ok(Some((
            best.header.max_timestamp,
            offset.unwrap_or(best.header.base_offset),
        )))
    }

    /// The first batch for which `pick` gives something.
    fn find_batch(
        &self,
        mut from: Offset,
        bound: Offset,
        mut pick: impl FnMut(&Batch) -> Result<Option<(i64, Offset)>, strom_records::RecordError>,
    ) -> Result<Option<(i64, Offset)>, ReadError> {
        loop {
            let chunk = match self.read(from, READ_BYTES, bound, true) {
                // Deleted meanwhile.
                Err(ReadError::OffsetOutOfRange { log_start, .. }) if from < log_start => {
                    from = log_start;
                    continue;
                }
                other => other?,
            };
            if chunk.records.is_empty() {
                return Ok(None);
            }
            from = chunk.next_offset;
            let records: Bytes = chunk.records;
            for batch in BatchIter::new(records) {
                let batch = batch.map_err(|error| self.corrupt(from, error.to_string()))?;
                let found = pick(&batch)
                    .map_err(|error| self.corrupt(batch.header.base_offset, error.to_string()))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
    }

    /// An offset before which every record is older than `timestamp`.
    fn first_candidate(&self, state: &mut LogState, timestamp: i64) -> Offset {
        debug_assert!(matches!(state.phase, Phase::Open));
        for at in 0..state.segments.len() {
            let end = state
                .segments
                .get(at + 1)
                .map_or(Offset::MAX, |next| next.base_offset);
            let Some(segment) = state.segments.get(at) else {
                break;
            };
            match &segment.index {
                Some(index) if index.max_timestamp >= timestamp || end == Offset::MAX => {
                    return index
                        .find_time(timestamp)
                        .map_or(segment.base_offset, |entry| entry.offset);
                }
                Some(_) => {}
                None => match self.times_of(segment, end) {
                    Some(times) if times.last().is_none_or(|last| last.timestamp < timestamp) => {}
                    times => {
                        let times = times.unwrap_or_default();
                        let before = times.partition_point(|entry| entry.timestamp < timestamp);
                        let entry = before.checked_sub(1).and_then(|at| times.get(at));
                        return entry.map_or(segment.base_offset, |entry| entry.offset);
                    }
                },
            }
        }
        state.log_end
    }

    /// The batch with the largest timestamp below `bound`: its offset and timestamp; or, where no index tells, an offset
    /// from which to look at everything.
    fn max_candidate(&self, state: &mut LogState, bound: Offset) -> (Offset, Option<i64>) {
        let mut best: Option<(i64, Offset)> = None;
        for at in 0..state.segments.len() {
            let end = state
                .segments
                .get(at + 1)
                .map_or(Offset::MAX, |next| next.base_offset);
            let Some(segment) = state
                .segments
                .get(at)
                .filter(|segment| segment.base_offset < bound)
            else {
                break;
            };
            let last = match &segment.index {
                Some(index) => Some((index.max_timestamp, index.max_timestamp_offset)),
                None => self
                    .times_of(segment, end)
                    .and_then(|times| times.last().map(|last| (last.timestamp, last.offset))),
            };
            match last.filter(|(_, offset)| *offset < bound) {
                None => return (best.map_or(segment.base_offset, |(_, offset)| offset), None),
                Some(last) if best.is_none_or(|best| last.0 > best.0) => best = Some(last),
                Some(_) => {}
            }
        }
        match best {
            Some((timestamp, offset)) if timestamp >= 0 => (offset, Some(timestamp)),
            _ => (state.log_start, None),
        }
    }

    /// `None` when the file is missing or damaged.
    fn times_of(&self, segment: &Segment, end: Offset) -> Option<Vec<TimeEntry>> {
        let seal = self.read_seal(segment.base_offset)?;
        let path = SegmentFile::TimeIndex.path(&self.path, segment.base_offset);
        let bytes = read_file(&*self.dir.storage, &path, INDEX_BYTES_MAX).ok()??;
        if crc32c::crc32c(&bytes) != seal.times_crc || bytes.is_empty() {
            return None;
        }
        parse_times(&bytes, segment.base_offset, end)
    }

    pub(super) fn read_seal(&self, base: Offset) -> Option<Seal> {
        let path = SegmentFile::Seal.path(&self.path, base);
        read_file(&*self.dir.storage, &path, SEAL_BYTES_MAX)
            .ok()?
            .and_then(|bytes| Seal::decode(&bytes))
    }
}
