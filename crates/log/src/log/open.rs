//! Looking at a log's files: cheap after a clean stop, with a scan of the tail after a crash.
//!
//! The directory's checkpoint gives the recovery point, from which batches are looked at; the notes of flush rounds say
//! up to where they were fsynced. Damage below that quarantines the log and changes nothing on disk; above it, the first
//! bad batch ends the log and what follows is cut.

use std::time::{SystemTime, UNIX_EPOCH};

use strom_types::{Offset, WallMs};

use super::{Amendment, Log, LogState, Phase};
use crate::aborted;
use crate::dir::checkpoint_file::CheckpointEntry;
use crate::epoch_cache::{EpochCache, STATE_FILE, STATE_FILE_BYTES_MAX, StateFile};
use crate::error::LogError;
use crate::index::{ActiveIndex, INDEX_BYTES_MAX, OffsetEntry};
use crate::segment::{LogPosition, Segment, SegmentFile, offset_of_name, snapshot_path};
use crate::storage::{read_file, remove_file_if_exists};

impl Log {
    /// Opens after a crash (or without a checkpoint), so that the log's end is known. A damaged log is quarantined.
    pub(crate) fn recover(&self, entry: Option<&CheckpointEntry>) -> Result<(), LogError> {
        let mut state = self.state.lock();
        self.load(&mut state, entry)
    }

    /// On damage the log is quarantined and stays so; other errors leave it as it was, to be tried again.
    pub(super) fn load(&self, state: &mut LogState, entry: Option<&CheckpointEntry>) -> Result<(), LogError> {
        match self.load_files(state, entry) {
            Err(error @ LogError::Corrupt { .. }) => Err(self.quarantine(state, error)),
            other => other,
        }
    }

    fn load_files(&self, state: &mut LogState, entry: Option<&CheckpointEntry>) -> Result<(), LogError> {
        let (bases, snapshots) = self.list_files()?;
        state.dir_exists = true;
        state.dir_durable = entry.is_some();
        state.snapshots = snapshots;
        let path = self.path.join(STATE_FILE);
        let bytes = read_file(&*self.dir.storage, &path, STATE_FILE_BYTES_MAX)
            .map_err(|error| LogError::io("read", &path, error))?;
        let file = bytes.as_deref().map(StateFile::decode);
        let epochs_lost = !matches!(file, Some(Some(_)));
        let file = file.flatten().unwrap_or_default();
        let current = !epochs_lost && file.checkpoint_seq >= self.dir.loaded_seq();
        let amendment = if current {
            file.amendment()
        } else {
            Amendment::default()
        };
        state.epochs = file.epochs;
        state.journal_seq = file.journal_seq;
        state
            .journaled
            .retain(|journaled| journaled.seq > file.journal_seq);
        for journaled in &state.journaled {
            state.epochs.assign(journaled.epoch, journaled.start);
            state.journal_seq = journaled.seq;
        }
        state.amendment = Amendment {
            seq: self.dir.seq(),
            ..amendment
        };
        let bases = self.finish_reset(bases, amendment.reset_at)?;
        let first_base = bases.first().copied();
        let known_start = entry
            .map(|entry| entry.log_start)
            .into_iter()
            .chain(amendment.log_start)
            .max();
        state.log_start = known_start.or(first_base).unwrap_or(0);
        state.segments = self.stat_segments(&bases)?;
        let recovery = match (entry, amendment.reset_at) {
            (Some(entry), None) => Some(entry.recovery),
            _ => None,
        };
        // The point's own segment may have been deleted since: then all of the next one is above the point.
        let lowest = state.log_start_of_segments();
        let recovery = recovery.filter(|point| point.segment_base >= lowest || point.offset > lowest);
        let trusted = match (recovery, amendment.recovery_cap) {
            (Some(point), cap) => point.offset.min(cap.unwrap_or(point.offset)),
            (None, _) => lowest,
        };
        let fsynced = self.dir.flushed_ends.end_of(self.id).unwrap_or(0).max(trusted);
        let point = recovery.filter(|point| point.offset == trusted);
        self.scan(state, point, (trusted, fsynced))?;
        if state.log_end < state.log_start {
            // Records were deleted that then were lost too: the log is empty where its start is.
            for segment in state.segments.drain(..) {
                self.remove_segment_files(segment.base_offset)?;
            }
            state.dir_dirty = true;
            let start = state.log_start;
            state.end_at(LogPosition {
                offset: start,
                segment_base: start,
                position: 0,
            });
        }
        self.settle(state, epochs_lost)
    }

    /// What is derived from batches, once the log's end is known.
    fn settle(&self, state: &mut LogState, epochs_lost: bool) -> Result<(), LogError> {
        let now = wall_now();
        let end = state.log_end;
        if epochs_lost {
            let mut epochs = EpochCache::default();
            let from = state.log_start_of_segments();
            self.walk(state, from, end, |_, _, _, header, _| {
                epochs.assign(header.partition_leader_epoch, header.base_offset);
            })?;
            // What the journal told last is newer than the newest batch, or known from it.
            if let Some((epoch, start)) = state.epochs.entries().last() {
                epochs.assign(*epoch, *start);
            }
            state.epochs_dirty = true;
            state.epochs = epochs;
        }
        // An epoch that begins right at the end was assigned before its first record: it stays. One beyond goes, from the
        // file as well, lest it contradict what will be appended there.
        if state.epochs.truncate_from_end(end + 1) {
            self.write_state_file(state)?;
        }
        state.epochs.truncate_from_start(state.log_start);
        for snapshot in state.snapshots.iter().filter(|snapshot| **snapshot > end) {
            let path = snapshot_path(&self.path, *snapshot);
            remove_file_if_exists(&*self.dir.storage, &path)
                .map_err(|error| LogError::io("remove", &path, error))?;
            state.dir_dirty = true;
        }
        state.snapshots.retain(|snapshot| *snapshot <= end);
        self.load_aborted(state)?;
        self.rebuild_producers(state, end, now, state.durable.offset)?;
        state.phase = Phase::Open;
        state.checkpoint_dirty = true;
        state.assert_order();
        Ok(())
    }

    fn list_files(&self) -> Result<(Vec<Offset>, Vec<Offset>), LogError> {
        let entries = self
            .dir
            .storage
            .list(&self.path)
            .map_err(|error| LogError::io("list", &self.path, error))?;
        let offsets = |suffix: &str| {
            let mut offsets: Vec<_> = entries
                .iter()
                .filter_map(|entry| offset_of_name(&entry.name, suffix))
                .collect();
            offsets.sort_unstable();
            offsets
        };
        Ok((offsets("log"), offsets("snapshot")))
    }

    /// A crash may have come in the middle of `truncate_fully_and_start_at`: its removals are done again.
    fn finish_reset(&self, bases: Vec<Offset>, reset_at: Option<Offset>) -> Result<Vec<Offset>, LogError> {
        let Some(reset_at) = reset_at else {
            return Ok(bases);
        };
        let (old, rest): (Vec<_>, Vec<_>) = bases.into_iter().partition(|base| *base < reset_at);
        for base in old {
            self.remove_segment_files(base)?;
        }
        Ok(rest)
    }

    fn stat_segments(&self, bases: &[Offset]) -> Result<Vec<Segment>, LogError> {
        bases
            .iter()
            .map(|base| {
                let path = SegmentFile::Log.path(&self.path, *base);
                let size = self.dir.storage.open(&path, false).and_then(|file| file.size());
                Ok(Segment::sealed(
                    *base,
                    size.map_err(|error| LogError::io("open", &path, error))?,
                ))
            })
            .collect()
    }

    /// Entries before the newest snapshot come from the `.txnindex` files; the rest is found by replay. A damaged file
    /// means that everything is.
    fn load_aborted(&self, state: &mut LogState) -> Result<(), LogError> {
        let mut damaged = false;
        for at in 0..state.segments.len() {
            let end = state
                .segments
                .get(at + 1)
                .map_or(state.log_end, |next| next.base_offset);
            let Some(segment) = state.segments.get_mut(at) else {
                break;
            };
            let path = SegmentFile::TxnIndex.path(&self.path, segment.base_offset);
            let bytes = read_file(&*self.dir.storage, &path, aborted::TXN_INDEX_BYTES_MAX)
                .map_err(|error| LogError::io("read", &path, error))?
                .unwrap_or_default();
            let sealed = segment.index.is_none();
            let vouched = !sealed
                || self
                    .read_seal(segment.base_offset)
                    .is_some_and(|s| s.aborted_crc == crc32c::crc32c(&bytes));
            // The file may run ahead of a log that was cut: what lies past its end goes.
            match aborted::decode(&bytes, segment.base_offset, Offset::MAX).filter(|_| vouched) {
                Some(entries) => {
                    segment.aborted = entries.into_iter().filter(|txn| txn.last_offset < end).collect();
                    segment.aborted_persisted = segment.aborted.len();
                }
                None => damaged = true,
            }
        }
        if damaged {
            tracing::warn!(partition = %self.id, "rebuilding a damaged index of aborted transactions");
            state.snapshots.clear();
        }
        Ok(())
    }

    /// The index of the segment up to `end`, from its files; what lies past the returned entry is to be noted again.
    pub(super) fn load_index(&self, base: Offset, end: OffsetEntry) -> ActiveIndex {
        let read = |kind: SegmentFile| {
            let path = kind.path(&self.path, base);
            read_file(&*self.dir.storage, &path, INDEX_BYTES_MAX)
                .ok()
                .flatten()
                .unwrap_or_default()
        };
        ActiveIndex::load(
            base,
            &read(SegmentFile::OffsetIndex),
            &read(SegmentFile::TimeIndex),
            end,
        )
    }
}

impl LogState {
    /// Sets all ends to `end`, as they are when everything lies in files.
    pub(super) fn end_at(&mut self, end: LogPosition) {
        self.written = end;
        self.durable = end;
        self.log_end = end.offset;
    }
}

pub(crate) fn wall_now() -> WallMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
