//! Cutting the end: a follower's truncation by epochs (KIP-101), and starting over at another offset.

use strom_records::BatchHeader;
use strom_types::Offset;

use super::open::wall_now;
use super::{Log, LogState};
use crate::error::LogError;
use crate::index::{ActiveIndex, OffsetEntry};
use crate::segment::{LogPosition, SegmentFile, snapshot_path};
use crate::storage::remove_file_if_exists;

impl Log {
    /// Removes every batch that reaches `offset` or lies after it, and every epoch that begins there or later; both are
    /// on the disk when this returns, and producers' state is what it was then. Also cleans the epochs when `offset` is
    /// at or past the log's end (KAFKA-10706). Returns the new log end.
    pub fn truncate_to(&self, offset: Offset) -> Result<Offset, LogError> {
        let _io = self.io.lock();
        let mut state = self.opened()?;
        self.dir.check_alive()?;
        if offset < state.log_start {
            return Err(self.out_of_range(&state, offset));
        }
        if offset >= state.log_end {
            if state.epochs.truncate_from_end(offset) || state.epochs_dirty {
                self.write_state_file(&mut state)?;
            }
            return Ok(state.log_end);
        }
        let end = self.position_of(&mut state, offset)?;
        state.generation += 1;
        self.lower_flushed_end(end.offset)?;
        state.epochs.truncate_from_end(end.offset);
        self.remove_snapshots(&mut state, end.offset)?;
        state.durable = if end.offset < state.durable.offset {
            end
        } else {
            state.durable
        };
        let in_files = end.offset < state.written.offset;
        if in_files {
            self.leave_wal(&mut state)?;
            // Before the files get shorter: a checkpoint may call bytes fsynced that are about to go.
            let cap = state
                .amendment
                .recovery_cap
                .map_or(end.offset, |cap| cap.min(end.offset));
            self.amend(&mut state, |amendment| amendment.recovery_cap = Some(cap));
        }
        self.write_state_file(&mut state)?;
        let dropped = state.drop_unwritten(end);
        self.dir.release(dropped);
        if in_files {
            self.truncate_files(&mut state, end)?;
        }
        state.log_end = end.offset;
        self.rebuild_producers(&mut state, end.offset, wall_now(), end.offset)?;
        state.checkpoint_dirty = true;
        state.assert_order();
        Ok(end.offset)
    }

    /// Drops everything and starts over, empty, at `offset` (the leader's log start lies past our end).
    pub fn truncate_fully_and_start_at(&self, offset: Offset) -> Result<(), LogError> {
        let _io = self.io.lock();
        let mut state = self.opened()?;
        self.dir.check_alive()?;
        state.generation += 1;
        self.lower_flushed_end(offset)?;
        state.epochs.clear();
        let bases: Vec<_> = state.segments.iter().map(|segment| segment.base_offset).collect();
        if state.dir_exists {
            self.leave_wal(&mut state)?;
            self.amend(&mut state, |amendment| {
                amendment.recovery_cap = Some(offset);
                amendment.log_start = Some(offset);
                amendment.reset_at = Some(offset);
            });
            self.write_state_file(&mut state)?;
            for base in bases {
                self.remove_segment_files(base)?;
            }
            self.remove_snapshots(&mut state, -1)?;
            self.sync_own_dir()?;
        }
        let dropped = state.drop_unwritten(LogPosition {
            offset: -1,
            ..LogPosition::default()
        });
        self.dir.release(dropped);
        state.segments.clear();
        state.unsynced.clear();
        state.producers = crate::producers::Producers::default();
        state.bytes_since_snapshot = 0;
        state.log_start = offset;
        state.end_at(LogPosition {
            offset,
            segment_base: offset,
            position: 0,
        });
        state.checkpoint_dirty = true;
        state.assert_order();
        Ok(())
    }

    fn lower_flushed_end(&self, end: Offset) -> Result<(), LogError> {
        let lowered = self.dir.flushed_ends.lower(self.id, end);
        lowered.map_err(|error| self.fail_dir_unless_full(error))
    }

    /// Where the batch that contains `offset` begins.
    fn position_of(&self, state: &mut LogState, offset: Offset) -> Result<LogPosition, LogError> {
        let from = self.scan_from(state, offset);
        let mut found: Option<LogPosition> = None;
        let end = state.log_end;
        self.walk(
            state,
            from,
            end.min(offset + 1),
            |_, segment_base, position, header: &BatchHeader, _| {
                if found.is_none() && header.last_offset() >= offset {
                    found = Some(LogPosition {
                        offset: header.base_offset,
                        segment_base,
                        position,
                    });
                }
            },
        )?;
        found.ok_or_else(|| self.corrupt(offset, "no batch holds this offset"))
    }

    /// A batch boundary at or before `offset`; `walk` skips what lies before it by headers.
    fn scan_from(&self, state: &LogState, offset: Offset) -> Offset {
        let at = state
            .segments
            .partition_point(|s| s.base_offset <= offset)
            .saturating_sub(1);
        state
            .segments
            .get(at)
            .map_or(state.log_start, |segment| segment.base_offset)
    }

    /// Shortens the files to `end`, removes later segments, and syncs both.
    fn truncate_files(&self, state: &mut LogState, end: LogPosition) -> Result<(), LogError> {
        let keep = state
            .segments
            .partition_point(|segment| segment.base_offset <= end.segment_base);
        // A truncation to the very start of a segment leaves the segment, empty.
        for segment in state.segments.drain(keep..) {
            self.remove_segment_files(segment.base_offset)?;
        }
        let Some(segment) = state.segments.last_mut() else {
            return Ok(());
        };
        let base = segment.base_offset;
        let file = self.segment_file(segment)?;
        let seal = SegmentFile::Seal.path(&self.path, base);
        remove_file_if_exists(&*self.dir.storage, &seal)
            .map_err(|error| LogError::io("remove", &seal, error))?;
        file.set_len(end.position)
            .and_then(|()| file.sync_data())
            .map_err(|error| self.fail_dir(self.io_error("truncate", base, error)))?;
        let mut index = match segment.index.take() {
            Some(index) => index,
            None => {
                let limit = OffsetEntry {
                    offset: end.offset,
                    position: end.position,
                };
                Box::new(self.load_index(base, limit))
            }
        };
        index.truncate(end.offset);
        segment.size = end.position;
        segment.aborted.retain(|txn| txn.last_offset < end.offset);
        segment.index = Some(index);
        if end.position == 0 {
            segment.index = Some(Box::new(ActiveIndex::new(base)));
            segment.first_timestamp = None;
        }
        state.written = end;
        state.note_unsynced(file);
        self.sync_own_dir()?;
        self.recover_max_timestamp(state)?;
        self.queue_flush(state);
        Ok(())
    }

    /// Batches after the last index entry count for the youngest timestamp too.
    fn recover_max_timestamp(&self, state: &mut LogState) -> Result<(), LogError> {
        let Some(segment) = state.segments.last() else {
            return Ok(());
        };
        let base = segment.base_offset;
        let from = segment
            .index
            .as_ref()
            .and_then(|index| index.last())
            .map_or(base, |entry| entry.offset);
        let mut youngest = (-1, -1);
        let end = state.written.offset;
        self.walk(state, from, end, |_, _, _, header, _| {
            if header.max_timestamp > youngest.0 {
                youngest = (header.max_timestamp, header.last_offset());
            }
        })?;
        if let Some(index) = state.segment_index_mut(base)
            && youngest.0 > index.max_timestamp
        {
            (index.max_timestamp, index.max_timestamp_offset) = youngest;
        }
        Ok(())
    }

    pub(super) fn remove_segment_files(&self, base: Offset) -> Result<(), LogError> {
        for kind in SegmentFile::ALL {
            let path = kind.path(&self.path, base);
            remove_file_if_exists(&*self.dir.storage, &path)
                .map_err(|error| LogError::io("remove", &path, error))?;
        }
        Ok(())
    }

    /// Removes snapshots of states after `offset`.
    fn remove_snapshots(&self, state: &mut LogState, offset: Offset) -> Result<(), LogError> {
        for snapshot in state.snapshots.iter().filter(|snapshot| **snapshot > offset) {
            let path = snapshot_path(&self.path, *snapshot);
            remove_file_if_exists(&*self.dir.storage, &path)
                .map_err(|error| LogError::io("remove", &path, error))?;
        }
        state.snapshots.retain(|snapshot| *snapshot <= offset);
        Ok(())
    }

    pub(super) fn sync_own_dir(&self) -> Result<(), LogError> {
        self.dir
            .storage
            .sync_dir(&self.path)
            .map_err(|error| self.fail_dir(LogError::io("sync", &self.path, error)))
    }

    /// A failed sync or a half-done truncation: nothing in this directory can be trusted to get to the disk any more.
    pub(super) fn fail_dir(&self, error: LogError) -> LogError {
        self.dir.fail(&error);
        error
    }

    /// The same for what can be tried again once there is room.
    pub(super) fn fail_dir_unless_full(&self, error: LogError) -> LogError {
        if error.is_disk_full() {
            error
        } else {
            self.fail_dir(error)
        }
    }

    pub(super) fn out_of_range(&self, state: &LogState, offset: Offset) -> LogError {
        LogError::OutOfRange {
            partition: self.id,
            offset,
            log_start: state.log_start,
            log_end: state.log_end,
        }
    }
}

impl LogState {
    /// Takes everything from `end` on out of memory; returns how many bytes of it had not been written.
    fn drop_unwritten(&mut self, end: LogPosition) -> usize {
        let written = self.written.offset;
        let waiting =
            |tail: &crate::tail::Tail| -> usize { tail.from(written).map(crate::tail::Run::len).sum() };
        let before = waiting(&self.tail);
        self.tail.truncate(end.offset.max(0));
        let dropped = before - waiting(&self.tail);
        // Segments that never were written exist in memory alone.
        while let Some((base, _)) = self.rolls.back().filter(|(base, _)| *base >= end.offset) {
            let base = *base;
            self.segments.retain(|segment| segment.base_offset != base);
            self.rolls.pop_back();
        }
        if let Some(active) = self
            .segments
            .last_mut()
            .filter(|s| s.base_offset == end.segment_base)
        {
            active.size = active.size.min(end.position);
            active.aborted.retain(|txn| txn.last_offset < end.offset);
            if let Some(index) = &mut active.index {
                index.truncate(end.offset);
            }
        }
        self.read_hints = Default::default();
        dropped
    }
}
