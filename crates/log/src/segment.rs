//! One segment of a log: its place, its file, and its indexes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strom_types::Offset;

use crate::index::ActiveIndex;
use crate::producers::AbortedTransaction;
use crate::sealed_text::{number, seal, unseal};
use crate::storage::StorageFile;

/// What a segment's file holds, by its suffix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentFile {
    Log,
    OffsetIndex,
    TimeIndex,
    TxnIndex,
    /// CRCs of a complete segment's time and transaction index, which nothing else could check.
    Seal,
}

impl SegmentFile {
    pub(crate) const ALL: [SegmentFile; 5] = [
        SegmentFile::OffsetIndex,
        SegmentFile::TimeIndex,
        SegmentFile::TxnIndex,
        SegmentFile::Seal,
        SegmentFile::Log,
    ];

    fn suffix(self) -> &'static str {
        match self {
            SegmentFile::Log => "log",
            SegmentFile::OffsetIndex => "index",
            SegmentFile::TimeIndex => "timeindex",
            SegmentFile::TxnIndex => "txnindex",
            SegmentFile::Seal => "seal",
        }
    }

    pub(crate) fn path(self, dir: &Path, base_offset: Offset) -> PathBuf {
        dir.join(format!("{base_offset:020}.{}", self.suffix()))
    }
}

pub(crate) fn snapshot_path(dir: &Path, offset: Offset) -> PathBuf {
    dir.join(format!("{offset:020}.snapshot"))
}

/// The offset in a name like `00000000000000000042.log`.
pub(crate) fn offset_of_name(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?.strip_suffix('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// A place in the log: between two batches, in a segment, at a position of its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LogPosition {
    pub(crate) offset: Offset,
    pub(crate) segment_base: Offset,
    pub(crate) position: u64,
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: Offset,
    /// Bytes assigned, of which the file may still lack the end.
    pub(crate) size: u64,
    pub(crate) file: Option<Arc<dyn StorageFile>>,
    /// In memory until the segment is sealed, that is until its index files are complete.
    pub(crate) index: Option<Box<ActiveIndex>>,
    pub(crate) aborted: Vec<AbortedTransaction>,
    /// Entries of `aborted` that are in the file.
    pub(crate) aborted_persisted: usize,
    /// Timestamp of the first batch, from which `segment.ms` counts.
    pub(crate) first_timestamp: Option<i64>,
    /// When the segment began, by this node's clock; used where batches have no timestamps.
    pub(crate) created_ms: Option<i64>,
}

impl Segment {
    pub(crate) fn new(base_offset: Offset) -> Self {
        Segment {
            base_offset,
            size: 0,
            file: None,
            index: Some(Box::new(ActiveIndex::new(base_offset))),
            aborted: Vec::new(),
            aborted_persisted: 0,
            first_timestamp: None,
            created_ms: None,
        }
    }

    /// One that was sealed, as found on the disk.
    pub(crate) fn sealed(base_offset: Offset, size: u64) -> Self {
        Segment {
            index: None,
            size,
            ..Segment::new(base_offset)
        }
    }

    /// Takes in the next batch at the end.
    pub(crate) fn note(&mut self, last_offset: Offset, len: u64, timestamp: i64, interval: u64) {
        if self.first_timestamp.is_none() {
            self.first_timestamp = Some(timestamp);
        }
        if let Some(index) = &mut self.index {
            index.note(last_offset, self.size, len, timestamp, interval);
        }
        self.size += len;
    }
}

const SEAL_VERSION_LINE: &str = "strom-segment-seal 1";
pub(crate) const SEAL_BYTES_MAX: u64 = 1 << 10;

/// What a complete segment's index files hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seal {
    pub(crate) times_crc: u32,
    pub(crate) aborted_crc: u32,
}

impl Seal {
    pub(crate) fn of(times: &[u8], aborted: &[u8]) -> Self {
        Seal {
            times_crc: crc32c::crc32c(times),
            aborted_crc: crc32c::crc32c(aborted),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        seal(format!(
            "{SEAL_VERSION_LINE}\ntimes {}\naborted {}\n",
            self.times_crc, self.aborted_crc
        ))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = unseal(bytes)?;
        if lines.next()? != SEAL_VERSION_LINE {
            return None;
        }
        Some(Seal {
            times_crc: number(lines.next(), "times")?,
            aborted_crc: number(lines.next(), "aborted")?,
        })
    }
}
