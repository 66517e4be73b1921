//! Kafka's sparse indexes of a segment: offset to position (8 bytes an entry), timestamp to offset (12 bytes).
//!
//! They only hint: a reader checks the batch that it finds at an entry's position, so that a damaged index costs time and
//! never gives wrong bytes.

use std::io;

use bytes::{Buf, BufMut};
use strom_types::Offset;

use crate::storage::StorageFile;

pub(crate) const OFFSET_ENTRY_LEN: usize = 8;
pub(crate) const TIME_ENTRY_LEN: usize = 12;
pub(crate) const INDEX_BYTES_MAX: u64 = 256 << 20;

/// A batch: its last offset, and the position where it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OffsetEntry {
    pub(crate) offset: Offset,
    pub(crate) position: u64,
}

/// Up to `offset`, no record is younger than `timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: i64,
    pub(crate) offset: Offset,
}

/// The indexes of a segment that is still written to. `*_persisted` entries of each are in the files.
#[derive(Debug, Default)]
pub(crate) struct ActiveIndex {
    base_offset: Offset,
    offsets: Vec<(u32, u32)>,
    times: Vec<(i64, u32)>,
    pub(crate) offsets_persisted: usize,
    pub(crate) times_persisted: usize,
    bytes_since_entry: u64,
    pub(crate) max_timestamp: i64,
    pub(crate) max_timestamp_offset: Offset,
}

impl ActiveIndex {
    pub(crate) fn new(base_offset: Offset) -> Self {
        ActiveIndex {
            base_offset,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            ..Default::default()
        }
    }

    /// Takes in the next batch of the segment.
    pub(crate) fn note(
        &mut self,
        last_offset: Offset,
        position: u64,
        len: u64,
        timestamp: i64,
        interval: u64,
    ) {
        if timestamp > self.max_timestamp {
            self.max_timestamp = timestamp;
            self.max_timestamp_offset = last_offset;
        }
        if self.bytes_since_entry > interval {
            if let (Some(relative), Ok(position)) = (self.relative(last_offset), u32::try_from(position)) {
                self.offsets.push((relative, position));
            }
            self.note_max_timestamp();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += len;
    }

    /// Adds the youngest timestamp so far to the time index, as is done at each entry and at the end.
    pub(crate) fn note_max_timestamp(&mut self) {
        let newer = self
            .times
            .last()
            .is_none_or(|(last, _)| self.max_timestamp > *last);
        if self.max_timestamp >= 0
            && newer
            && let Some(relative) = self.relative(self.max_timestamp_offset)
        {
            self.times.push((self.max_timestamp, relative));
        }
    }

    fn relative(&self, offset: Offset) -> Option<u32> {
        u32::try_from(offset.checked_sub(self.base_offset)?)
            .ok()
            .filter(|r| *r <= i32::MAX.unsigned_abs())
    }

    /// The last entry at or below `target`.
    pub(crate) fn find(&self, target: Offset) -> Option<OffsetEntry> {
        let relative = target - self.base_offset;
        let at = self
            .offsets
            .partition_point(|(offset, _)| i64::from(*offset) <= relative);
        self.offsets
            .get(at.checked_sub(1)?)
            .map(|entry| self.entry(*entry))
    }

    pub(crate) fn last(&self) -> Option<OffsetEntry> {
        self.offsets.last().map(|entry| self.entry(*entry))
    }

    fn entry(&self, (offset, position): (u32, u32)) -> OffsetEntry {
        OffsetEntry {
            offset: self.base_offset + i64::from(offset),
            position: u64::from(position),
        }
    }

    /// The last entry older than `timestamp`.
    pub(crate) fn find_time(&self, timestamp: i64) -> Option<TimeEntry> {
        let at = self.times.partition_point(|(entry, _)| *entry < timestamp);
        let (timestamp, relative) = *self.times.get(at.checked_sub(1)?)?;
        Some(TimeEntry {
            timestamp,
            offset: self.base_offset + i64::from(relative),
        })
    }

    pub(crate) fn is_full(&self, index_bytes_max: u32) -> bool {
        let max = usize::try_from(index_bytes_max).unwrap_or(usize::MAX);
        self.offsets.len() >= (max / OFFSET_ENTRY_LEN).max(1)
            || self.times.len() >= (max / TIME_ENTRY_LEN).max(1)
    }

    /// Drops what lies at or after `offset`, which is where the segment now ends.
    pub(crate) fn truncate(&mut self, offset: Offset) {
        let relative = offset - self.base_offset;
        self.offsets.truncate(
            self.offsets
                .partition_point(|(entry, _)| i64::from(*entry) < relative),
        );
        self.times.truncate(
            self.times
                .iter()
                .take_while(|(_, entry)| i64::from(*entry) < relative)
                .count(),
        );
        self.offsets_persisted = self.offsets_persisted.min(self.offsets.len());
        self.times_persisted = self.times_persisted.min(self.times.len());
        let last = self
            .times
            .last()
            .map(|(timestamp, entry)| (*timestamp, i64::from(*entry)));
        let (timestamp, relative) = last.unwrap_or((-1, -1 - self.base_offset));
        self.max_timestamp = timestamp;
        self.max_timestamp_offset = self.base_offset + relative;
        self.bytes_since_entry = 0;
    }

    /// Entries that the files lack: (offset index, time index).
    pub(crate) fn unpersisted(&self) -> (Vec<u8>, Vec<u8>) {
        let offsets = self.offsets.get(self.offsets_persisted..).unwrap_or_default();
        let times = self.times.get(self.times_persisted..).unwrap_or_default();
        let mut offset_bytes = Vec::with_capacity(offsets.len() * OFFSET_ENTRY_LEN);
        for (offset, position) in offsets {
            offset_bytes.put_u32(*offset);
            offset_bytes.put_u32(*position);
        }
        (offset_bytes, time_bytes(times))
    }

    pub(crate) fn has_unpersisted(&self) -> bool {
        self.offsets.len() > self.offsets_persisted
    }

    /// The whole `.timeindex`.
    pub(crate) fn all_times(&self) -> Vec<u8> {
        time_bytes(&self.times)
    }

    pub(crate) fn mark_persisted(&mut self, offset_bytes: usize, time_bytes: usize) {
        self.offsets_persisted =
            (self.offsets_persisted + offset_bytes / OFFSET_ENTRY_LEN).min(self.offsets.len());
        self.times_persisted = (self.times_persisted + time_bytes / TIME_ENTRY_LEN).min(self.times.len());
    }

    /// Takes entries over from the files while they rise and stay below `end` (offset and position). Whatever follows
    /// is to be noted again by the caller.
    pub(crate) fn load(
        base_offset: Offset,
        offset_bytes: &[u8],
        time_bytes: &[u8],
        end: OffsetEntry,
    ) -> Self {
        let mut index = ActiveIndex::new(base_offset);
        let mut at = offset_bytes;
        while let (Ok(offset), Ok(position)) = (at.try_get_u32(), at.try_get_u32()) {
            let entry = index.entry((offset, position));
            let rises = index
                .offsets
                .last()
                .is_none_or(|last| last.0 < offset && last.1 < position);
            if !rises || entry.offset >= end.offset || entry.position >= end.position {
                break;
            }
            index.offsets.push((offset, position));
        }
        let mut at = time_bytes;
        while let (Ok(timestamp), Ok(offset)) = (at.try_get_i64(), at.try_get_u32()) {
            let rises = index
                .times
                .last()
                .is_none_or(|last| last.0 < timestamp && last.1 < offset);
            if !rises || timestamp < 0 || base_offset + i64::from(offset) >= end.offset {
                break;
            }
            index.times.push((timestamp, offset));
        }
        if let Some((timestamp, offset)) = index.times.last() {
            index.max_timestamp = *timestamp;
            index.max_timestamp_offset = base_offset + i64::from(*offset);
        }
        index.offsets_persisted = index.offsets.len();
        index.times_persisted = index.times.len();
        index
    }
}

fn time_bytes(times: &[(i64, u32)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(times.len() * TIME_ENTRY_LEN);
    for (timestamp, offset) in times {
        bytes.put_i64(*timestamp);
        bytes.put_u32(*offset);
    }
    bytes
}

/// The last entry at or below `target` in a sealed segment's `.index`, by binary search in the file.
pub(crate) fn find_in_file(
    file: &dyn StorageFile,
    base_offset: Offset,
    target: Offset,
) -> io::Result<Option<OffsetEntry>> {
    let read = |n: u64| -> io::Result<OffsetEntry> {
        let bytes = file.read_at(n * OFFSET_ENTRY_LEN as u64, OFFSET_ENTRY_LEN)?;
        let mut at = bytes.as_slice();
        let offset = at.try_get_u32().map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let position = at.try_get_u32().map_err(|_| io::ErrorKind::UnexpectedEof)?;
        Ok(OffsetEntry {
            offset: base_offset + i64::from(offset),
            position: u64::from(position),
        })
    };
    let (mut low, mut high) = (0, file.size()? / OFFSET_ENTRY_LEN as u64);
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = read(middle)?;
        if entry.offset <= target {
            found = Some(entry);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(found)
}

/// All entries of a sealed segment's `.timeindex`; `None` when they do not rise as they must.
pub(crate) fn parse_times(mut bytes: &[u8], base_offset: Offset, end: Offset) -> Option<Vec<TimeEntry>> {
    if !bytes.len().is_multiple_of(TIME_ENTRY_LEN) {
        return None;
    }
    let mut entries: Vec<TimeEntry> = Vec::with_capacity(bytes.len() / TIME_ENTRY_LEN);
    while !bytes.is_empty() {
        let timestamp = bytes.try_get_i64().ok()?;
        let offset = base_offset + i64::from(bytes.try_get_u32().ok()?);
        let rises = entries
            .last()
            .is_none_or(|last| last.timestamp < timestamp && last.offset < offset);
        if !rises || timestamp < 0 || offset >= end {
            return None;
        }
        entries.push(TimeEntry { timestamp, offset });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sparse_and_found() {
        let mut index = ActiveIndex::new(100);
        for i in 0..50i64 {
            index.note(100 + i, u64::try_from(i).unwrap() * 100, 100, 1_000 + i, 250);
        }
        assert_eq!(index.find(102), None);
        assert_eq!(
            index.find(103),
            Some(OffsetEntry {
                offset: 103,
                position: 300
            })
        );
        assert_eq!(
            index.find(105),
            Some(OffsetEntry {
                offset: 103,
                position: 300
            })
        );
        assert_eq!(
            index.find_time(1_004),
            Some(TimeEntry {
                timestamp: 1_003,
                offset: 103
            })
        );
        assert_eq!(index.find_time(1_003), None);
        let (offsets, times) = index.unpersisted();
        let end = OffsetEntry {
            offset: 110,
            position: 1_000,
        };
        let loaded = ActiveIndex::load(100, &offsets, &times, end);
        assert_eq!(
            loaded.last(),
            Some(OffsetEntry {
                offset: 109,
                position: 900
            })
        );
        assert_eq!(loaded.max_timestamp, 1_009);
        index.truncate(110);
        assert_eq!(index.last(), loaded.last());
        assert_eq!(index.max_timestamp, 1_009);
    }

    #[test]
    fn damaged_files_load_as_their_sane_front() {
        let end = OffsetEntry {
            offset: i64::MAX,
            position: u64::MAX,
        };
        let index = ActiveIndex::load(0, &[0; 64], &[0xff; 60], end);
        assert_eq!(index.offsets, [(0, 0)]);
        assert!(index.times.is_empty());
        assert_eq!(parse_times(&[0; 24], 0, 10), None);
        assert_eq!(parse_times(&[0; 13], 0, 10), None);
    }
}
