//! Everything a log keeps in memory, and the order of its offsets.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;
use strom_types::Offset;

use super::page_cache::FileReads;
use crate::config::LogConfig;
use crate::dir::checkpoint_file::CheckpointEntry;
use crate::dir::epoch_journal::EpochStart;
use crate::epoch_cache::EpochCache;
use crate::error::LogError;
use crate::producers::Producers;
use crate::segment::{LogPosition, Segment};
use crate::storage::StorageFile;
use crate::tail::Tail;

#[derive(Debug)]
pub(crate) enum Phase {
    /// Known from the checkpoint of a clean stop; its files have not been looked at.
    Closed(CheckpointEntry),
    Open,
    /// Damaged below the point that was fsynced: nothing is read, appended or changed any more.
    Quarantined(LogError),
    Deleted,
}

/// The order of offsets, checked after every change: `log start ≤ log end`, `durable ≤ written ≤ log end`, and every
/// offset at or after `written` is held by `tail`. `log start` may pass `durable` only when DeleteRecords is faster than
/// the disk.
pub(crate) struct LogState {
    pub(crate) phase: Phase,
    pub(crate) config: LogConfig,
    pub(crate) log_start: Offset,
    /// Everything before it is fsynced.
    pub(crate) durable: LogPosition,
    /// Everything before it is in the page cache.
    pub(crate) written: LogPosition,
    pub(crate) log_end: Offset,
    pub(crate) epochs: EpochCache,
    /// The epoch cache has entries that its file lacks.
    pub(crate) epochs_dirty: bool,
    /// Its entries in the directory's journal of epoch starts that its state file lacks, oldest first.
    pub(crate) journaled: Vec<EpochStart>,
    /// The journal up to here is included in `epochs`.
    pub(crate) journal_seq: u64,
    /// Counts rewrites of the state file.
    pub(crate) state_file_version: u64,
    pub(crate) producers: Producers,
    /// Oldest first; the last is the active one. Empty until the first append.
    pub(crate) segments: Vec<Segment>,
    pub(crate) tail: Tail,
    /// One per segment boundary in the unwritten tail: the boundary, and the producer snapshot to write there.
    pub(crate) rolls: VecDeque<(Offset, Vec<u8>)>,
    pub(crate) unsynced: SmallVec<[Arc<dyn StorageFile>; 1]>,
    pub(crate) dir_exists: bool,
    /// The directory's own name is known to be on the disk.
    pub(crate) dir_durable: bool,
    /// Names in the partition's directory changed since the last flush.
    pub(crate) dir_dirty: bool,
    pub(crate) in_write_queue: bool,
    pub(crate) in_flush_queue: bool,
    /// Something a checkpoint holds has changed since the last one.
    pub(crate) checkpoint_dirty: bool,
    pub(crate) snapshots: Vec<Offset>,
    pub(crate) bytes_since_snapshot: u64,
    /// Changes that the next checkpoint will include: see `StateFile`.
    pub(crate) amendment: Amendment,
    /// Of its newest entry in the write-ahead log; 0 = none.
    pub(crate) wal_seq: u64,
    /// Counts truncations: whoever worked without the lock looks whether it still is the same.
    pub(crate) generation: u64,
    pub(crate) file_reads: FileReads,
    pub(crate) read_hints: [LogPosition; 4],
    pub(crate) next_hint: u8,
}

/// What happened to a log since the checkpoint `seq`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Amendment {
    pub(crate) seq: u64,
    pub(crate) recovery_cap: Option<Offset>,
    pub(crate) log_start: Option<Offset>,
    pub(crate) reset_at: Option<Offset>,
}

impl LogState {
    /// `entry` is what a clean stop left of the log.
    pub(super) fn new(config: LogConfig, entry: Option<CheckpointEntry>, journaled: Vec<EpochStart>) -> Self {
        let entry = entry.map(|mut entry| {
            if let Some(start) = journaled.last().filter(|start| start.seq > entry.journal_seq) {
                entry.latest_epoch = entry.latest_epoch.max(start.epoch);
            }
            entry
        });
        let end = entry.as_ref().map(|entry| entry.recovery).unwrap_or_default();
        LogState {
            config,
            log_start: entry.as_ref().map_or(0, |entry| entry.log_start),
            durable: end,
            written: end,
            log_end: end.offset,
            dir_exists: entry.is_some(),
            dir_durable: entry.is_some(),
            phase: entry.map_or(Phase::Open, Phase::Closed),
            epochs: EpochCache::default(),
            epochs_dirty: false,
            state_file_version: 0,
            journaled,
            journal_seq: 0,
            producers: Producers::default(),
            segments: Vec::new(),
            tail: Tail::default(),
            rolls: VecDeque::new(),
            unsynced: SmallVec::new(),
            dir_dirty: false,
            in_write_queue: false,
            in_flush_queue: false,
            checkpoint_dirty: false,
            snapshots: Vec::new(),
            bytes_since_snapshot: 0,
            amendment: Amendment::default(),
            wal_seq: 0,
            generation: 0,
            file_reads: FileReads::default(),
            read_hints: [LogPosition::default(); 4],
            next_hint: 0,
        }
    }

    pub(crate) fn assert_order(&self) {
        debug_assert!(
            self.log_start <= self.log_end,
            "start {} end {}",
            self.log_start,
            self.log_end
        );
        debug_assert!(
            self.durable.offset <= self.written.offset,
            "{:?} {:?}",
            self.durable,
            self.written
        );
        debug_assert!(
            self.written.offset <= self.log_end,
            "{:?} {}",
            self.written,
            self.log_end
        );
        debug_assert!(self.written.offset == self.log_end || self.tail.covers(self.written.offset));
    }

    /// The next flush syncs this file.
    pub(crate) fn note_unsynced(&mut self, file: Arc<dyn StorageFile>) {
        if !self.unsynced.iter().any(|known| Arc::ptr_eq(known, &file)) {
            self.unsynced.push(file);
        }
    }

    pub(crate) fn latest_snapshot_at_most(&self, offset: Offset) -> Option<Offset> {
        self.snapshots
            .iter()
            .copied()
            .filter(|snapshot| *snapshot <= offset)
            .max()
    }
}
