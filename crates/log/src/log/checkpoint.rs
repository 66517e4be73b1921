//! What a checkpoint writes of one log: index tails, epochs, a producer snapshot, and the entry of the directory's file.

use strom_types::Offset;

use super::start::Staged;
use super::{Log, LogState, Phase};
use crate::dir::checkpoint_file::CheckpointEntry;
use crate::error::LogError;
use crate::producers::encode_snapshot;
use crate::segment::snapshot_path;
use crate::storage::{remove_file_if_exists, replace_file};

/// Bytes of batches after which a new snapshot pays: less is replayed faster than it is written.
const SNAPSHOT_EVERY_BYTES: u64 = 8 << 20;
/// The same at a clean stop, when the next start would wait.
const SNAPSHOT_CLOSING_BYTES: u64 = 64 << 10;
/// Snapshots kept inside the active segment, beside those at segments' starts.
const EXTRA_SNAPSHOTS: usize = 2;

impl Log {
    /// `None` when nothing changed since the last checkpoint, or there is nothing on disk. At a clean stop (`closing`)
    /// everything is written that makes the next start free of scans. The caller syncs the file system, publishes what
    /// is staged, and syncs again before the entry may reach the disk.
    pub(crate) fn checkpoint(&self, closing: bool) -> Result<Option<(CheckpointEntry, Staged)>, LogError> {
        let _io = self.io.lock();
        let entry = self.checkpoint_files(closing);
        if entry.is_err() {
            self.state.lock().checkpoint_dirty = true;
        }
        entry
    }

    fn checkpoint_files(&self, closing: bool) -> Result<Option<(CheckpointEntry, Staged)>, LogError> {
        let active = {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Open) || !state.dir_exists || !state.checkpoint_dirty {
                return Ok(None);
            }
            state.checkpoint_dirty = false;
            state
                .segments
                .iter()
                .filter(|s| s.base_offset <= state.written.segment_base)
                .filter(|s| {
                    let complete = s.base_offset < state.written.segment_base;
                    s.index
                        .as_ref()
                        .is_some_and(|index| complete || index.has_unpersisted())
                })
                .map(|s| s.base_offset)
                .collect::<Vec<_>>()
        };
        for base in active {
            self.persist_index(base)?;
            self.seal_if_complete(base)?;
        }
        let mut state = self.state.lock();
        let staged = self.stage_state_file(&state)?;
        let due = state.bytes_since_snapshot
            >= if closing {
                SNAPSHOT_CLOSING_BYTES
            } else {
                SNAPSHOT_EVERY_BYTES
            };
        let settled = state.written.offset == state.log_end || !closing;
        if due && settled {
            self.write_snapshot(&mut state)?;
        }
        // Page-cache mode has no flush of its own: with one per checkpoint there never is much to recover.
        if state.written.offset > state.durable.offset {
            self.queue_flush(&mut state);
        }
        Ok(Some((self.entry(&state), staged)))
    }

    fn entry(&self, state: &LogState) -> CheckpointEntry {
        CheckpointEntry {
            topic: self.topic.clone(),
            log_start: state.log_start,
            recovery: state.durable,
            latest_epoch: state.epochs.latest(),
            journal_seq: state.journal_seq,
            size_bytes: state.segments.iter().map(|segment| segment.size).sum(),
        }
    }

    /// A snapshot at the log's end. If a crash loses the batches before it, recovery ignores it and takes an older one.
    fn write_snapshot(&self, state: &mut LogState) -> Result<(), LogError> {
        let offset = state.log_end;
        let path = snapshot_path(&self.path, offset);
        let aborted = state.segments.last().map_or(0, |active| active.aborted.len());
        replace_file(
            &*self.dir.storage,
            &path,
            &encode_snapshot(&state.producers, aborted),
            false,
        )
        .map_err(|error| LogError::io("write", &path, error))?;
        state.snapshots.retain(|snapshot| *snapshot != offset);
        state.snapshots.push(offset);
        state.bytes_since_snapshot = 0;
        let bases: Vec<Offset> = state.segments.iter().map(|segment| segment.base_offset).collect();
        let mut extra: Vec<Offset> = state
            .snapshots
            .iter()
            .copied()
            .filter(|s| !bases.contains(s))
            .collect();
        extra.sort_unstable();
        let surplus = extra.len().saturating_sub(EXTRA_SNAPSHOTS);
        for snapshot in extra.into_iter().take(surplus) {
            self.remove_snapshot(state, snapshot)?;
        }
        Ok(())
    }

    pub(super) fn remove_snapshot(&self, state: &mut LogState, offset: Offset) -> Result<(), LogError> {
        let path = snapshot_path(&self.path, offset);
        remove_file_if_exists(&*self.dir.storage, &path)
            .map_err(|error| LogError::io("remove", &path, error))?;
        state.snapshots.retain(|snapshot| *snapshot != offset);
        Ok(())
    }
}
