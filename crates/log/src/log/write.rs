//! The writer's part: from the tail into the page cache, one vectored write per segment touched.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use strom_types::Offset;

use super::{IoTurn, Log, LogState, Phase};
use crate::aborted;
use crate::dir::create_partition;
use crate::error::LogError;
use crate::segment::{LogPosition, Seal, SegmentFile, snapshot_path};
use crate::storage::{StorageFile, replace_file, write_all_at, write_chunks_at};

/// What a round wrote of one log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) offset: Offset,
    pub(crate) bytes: usize,
    /// Whether it is to be made durable now: always in durable mode, else when a segment is complete.
    pub(crate) flush: bool,
    /// A segment is complete: its files are to be synced themselves.
    pub(crate) rolled: bool,
}

/// The unwritten bytes of one segment.
struct Portion {
    segment_base: Offset,
    position: u64,
    chunks: Vec<Bytes>,
    bytes: usize,
    end: LogPosition,
}

impl Log {
    /// Writes everything that waits. After an error what was not written still waits, and may be tried again when the
    /// disk was merely full: a write at the same place is repeatable, unlike a sync.
    pub(crate) fn write_pending(&self, _io: &IoTurn<'_>) -> Result<Option<Written>, LogError> {
        let portions = {
            let mut state = self.state.lock();
            state.in_write_queue = false;
            if !matches!(state.phase, Phase::Open) {
                Vec::new()
            } else {
                state.unwritten()
            }
        };
        let mut done: Option<Written> = None;
        for portion in portions {
            let rolled = self.seal_before(portion.segment_base)?;
            let file = self.file_to_write(portion.segment_base)?;
            write_chunks_at(&*file, &portion.chunks, portion.position)
                .map_err(|error| self.io_error("write", portion.segment_base, error))?;
            self.write_aborted(portion.segment_base)?;
            let mut state = self.state.lock();
            state.written = portion.end;
            state.note_unsynced(file);
            state.assert_order();
            let durable = state.config.durable;
            drop(state);
            self.dir.release(portion.bytes);
            let before = done.map_or((0, false), |done| (done.bytes, done.rolled));
            let rolled = before.1 || rolled;
            done = Some(Written {
                offset: portion.end.offset,
                bytes: before.0 + portion.bytes,
                flush: durable || rolled,
                rolled,
            });
        }
        Ok(done)
    }

    /// Completes the segment before `segment_base`, when that one is about to begin: index files and the snapshot.
    fn seal_before(&self, segment_base: Offset) -> Result<bool, LogError> {
        let (snapshot, previous) = {
            let state = self.state.lock();
            let Some((base, snapshot)) = state.rolls.front() else {
                return Ok(false);
            };
            if *base != segment_base {
                return Ok(false);
            }
            let previous = state
                .segments
                .iter()
                .rev()
                .find(|segment| segment.base_offset < segment_base);
            (snapshot.clone(), previous.map(|segment| segment.base_offset))
        };
        if let Some(previous) = previous {
            self.persist_index(previous)?;
            self.seal_if_complete(previous)?;
        }
        replace_file(
            &*self.dir.storage,
            &snapshot_path(&self.path, segment_base),
            &snapshot,
            false,
        )
        .map_err(|error| self.io_error("write snapshot of", segment_base, error))?;
        let mut state = self.state.lock();
        state.rolls.pop_front();
        state.snapshots.push(segment_base);
        state.bytes_since_snapshot = 0;
        Ok(true)
    }

    /// Vouches for the index files of a segment that gets no more batches, and takes the index out of memory.
    pub(super) fn seal_if_complete(&self, base: Offset) -> Result<(), LogError> {
        let seal = {
            let state = self.state.lock();
            let complete = state.written.segment_base > base
                || state
                    .rolls
                    .front()
                    .is_some_and(|(next, _)| *next == state.written.offset);
            let segment = state.segments.iter().find(|segment| segment.base_offset == base);
            match segment.and_then(|segment| Some((segment, segment.index.as_ref()?))) {
                Some((segment, index)) if complete => {
                    Seal::of(&index.all_times(), &aborted::encode(&segment.aborted))
                }
                _ => return Ok(()),
            }
        };
        let path = SegmentFile::Seal.path(&self.path, base);
        replace_file(&*self.dir.storage, &path, &seal.encode(), false)
            .map_err(|error| LogError::io("write", &path, error))?;
        if let Some(segment) = self
            .state
            .lock()
            .segments
            .iter_mut()
            .find(|s| s.base_offset == base)
        {
            segment.index = None;
            segment.file = None;
        }
        Ok(())
    }

    /// Appends to the index files what they lack. The index stays in memory.
    pub(super) fn persist_index(&self, segment_base: Offset) -> Result<(), LogError> {
        let (offsets, times, at) = {
            let state = self.state.lock();
            let Some(index) = state.segment_index(segment_base) else {
                return Ok(());
            };
            let (offsets, times) = index.unpersisted();
            (offsets, times, (index.offsets_persisted, index.times_persisted))
        };
        let place = |kind, bytes: &[u8], at: usize| -> io::Result<()> {
            let file = self
                .dir
                .storage
                .open(&SegmentFile::path(kind, &self.path, segment_base), true)?;
            let at = at as u64;
            // Cuts what an earlier life of the segment may have left behind.
            if file.size()? != at {
                file.set_len(at)?;
            }
            write_all_at(&*file, bytes, at)
        };
        let written = place(
            SegmentFile::OffsetIndex,
            &offsets,
            at.0 * crate::index::OFFSET_ENTRY_LEN,
        )
        .and_then(|()| {
            place(
                SegmentFile::TimeIndex,
                &times,
                at.1 * crate::index::TIME_ENTRY_LEN,
            )
        });
        written.map_err(|error| self.io_error("write index of", segment_base, error))?;
        let mut state = self.state.lock();
        if let Some(index) = state.segment_index_mut(segment_base) {
            index.mark_persisted(offsets.len(), times.len());
        }
        Ok(())
    }

    fn write_aborted(&self, segment_base: Offset) -> Result<(), LogError> {
        let (bytes, at, count) = {
            let state = self.state.lock();
            let Some(segment) = state.segments.iter().find(|s| s.base_offset == segment_base) else {
                return Ok(());
            };
            let new = segment
                .aborted
                .get(segment.aborted_persisted..)
                .unwrap_or_default();
            if new.is_empty() {
                return Ok(());
            }
            (
                aborted::encode(new),
                segment.aborted_persisted,
                segment.aborted.len(),
            )
        };
        let path = SegmentFile::TxnIndex.path(&self.path, segment_base);
        let file = self
            .dir
            .storage
            .open(&path, true)
            .and_then(|file| {
                let at = (at * aborted::ENTRY_LEN) as u64;
                file.set_len(at)?;
                write_all_at(&*file, &bytes, at).map(|()| file)
            })
            .map_err(|error| LogError::io("write", &path, error))?;
        let mut state = self.state.lock();
        state.unsynced.push(file);
        state.dir_dirty = true;
        if let Some(segment) = state.segments.iter_mut().find(|s| s.base_offset == segment_base) {
            segment.aborted_persisted = count;
        }
        Ok(())
    }

    /// The segment's file; the first time, also the directory that names the topic.
    fn file_to_write(&self, segment_base: Offset) -> Result<Arc<dyn StorageFile>, LogError> {
        let mut state = self.state.lock();
        self.ensure_dir(&mut state)?;
        let path = SegmentFile::Log.path(&self.path, segment_base);
        let storage = self.dir.storage.clone();
        let Some(segment) = state
            .segments
            .iter_mut()
            .rev()
            .find(|s| s.base_offset == segment_base)
        else {
            return Err(LogError::Deleted(self.id));
        };
        if let Some(file) = &segment.file {
            return Ok(file.clone());
        }
        let file = storage
            .open(&path, true)
            .map_err(|error| LogError::io("open", &path, error))?;
        segment.file = Some(file.clone());
        state.dir_dirty = true;
        drop(state);
        self.dir.files.opened(&self.me, segment_base);
        Ok(file)
    }

    /// Makes the partition's directory unless it is there; the next flush syncs it.
    pub(super) fn ensure_dir(&self, state: &mut LogState) -> Result<(), LogError> {
        if !state.dir_exists {
            self.dir.flushed_ends.begin(self.id)?;
            self.dir.settle_renames()?;
            let metadata = create_partition(&*self.dir.storage, &self.path, self.id, &self.topic)
                .map_err(|error| LogError::io("create", &self.path, error))?;
            state.unsynced.push(metadata);
            state.dir_exists = true;
            state.dir_dirty = true;
            self.dir.root_dirty();
        }
        Ok(())
    }

    pub(super) fn io_error(&self, action: &'static str, segment_base: Offset, error: io::Error) -> LogError {
        LogError::io(action, &SegmentFile::Log.path(&self.path, segment_base), error)
    }
}

impl LogState {
    /// The unwritten tail, by segment.
    fn unwritten(&self) -> Vec<Portion> {
        let mut portions: Vec<Portion> = Vec::new();
        for run in self.tail.from(self.written.offset) {
            let end = LogPosition {
                offset: run.last_offset + 1,
                segment_base: run.segment_base,
                position: run.position + run.len() as u64,
            };
            let chunks = [&run.head, &run.body]
                .into_iter()
                .filter(|chunk| !chunk.is_empty())
                .cloned();
            match portions
                .last_mut()
                .filter(|portion| portion.segment_base == run.segment_base)
            {
                Some(portion) => {
                    debug_assert_eq!(portion.end.position, run.position);
                    portion.chunks.extend(chunks);
                    portion.bytes += run.len();
                    portion.end = end;
                }
                None => portions.push(Portion {
                    segment_base: run.segment_base,
                    position: run.position,
                    chunks: chunks.collect(),
                    bytes: run.len(),
                    end,
                }),
            }
        }
        portions
    }

    pub(super) fn segment_index(&self, base: Offset) -> Option<&crate::index::ActiveIndex> {
        self.segments
            .iter()
            .rev()
            .find(|s| s.base_offset == base)?
            .index
            .as_deref()
    }

    pub(super) fn segment_index_mut(&mut self, base: Offset) -> Option<&mut crate::index::ActiveIndex> {
        self.segments
            .iter_mut()
            .rev()
            .find(|s| s.base_offset == base)?
            .index
            .as_deref_mut()
    }
}
