//! Reading whole batches: from the tail in memory, else from the page cache without holding the lock.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use strom_records::{BatchHeader, HEADER_LEN};
use strom_types::Offset;

use super::{Log, LogState, Phase};
use crate::config::{ReadChunk, TailChunk};
use crate::error::{LogError, ReadError};
use crate::index::{OffsetEntry, find_in_file};
use crate::segment::{LogPosition, SegmentFile};
use crate::storage::StorageFile;
use crate::walk::{Selection, Stop, Wanted, select};

/// Largest single read, whatever was asked for.
const READ_BYTES_MAX: usize = 64 << 20;

/// A read from a file, to be done without the lock.
struct Plan {
    file: Arc<dyn StorageFile>,
    segment_base: Offset,
    position: u64,
    /// Where the written bytes of the segment end.
    end: u64,
    /// The position is a batch boundary right before the wanted one.
    exact: bool,
    /// What an index said lies at `position`, to be checked.
    hint: Option<OffsetEntry>,
    wanted: Wanted,
    generation: u64,
    /// The pages are left in the page cache.
    keep: bool,
}

/// What a plan found.
enum Found {
    Chunk(Bytes, Selection, u64),
    Nothing,
    /// Not in this segment: the next one.
    Beyond,
    Damaged(String),
    /// The index was wrong: without it.
    BadIndex,
}

impl Log {
    /// Whole batches from the one that contains `from`, none reaching `bound`, up to `max_bytes` in all; at least one
    /// when `min_one` is set and `bound` allows it, however large. May stop short at a segment's end.
    ///
    /// `from` at the log's end gives an empty chunk; outside the log it is an error.
    pub fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        bound: Offset,
        min_one: bool,
    ) -> Result<ReadChunk, ReadError> {
        let mut from_segment = None;
        let mut use_index = true;
        loop {
            let (plan, log_start, log_end) = {
                let mut state = self.opened()?;
                let wanted = state.wanted(from, max_bytes, bound, min_one)?;
                let (log_start, log_end) = (state.log_start, state.log_end);
                if let Some(picked) = state.tail.pick(wanted) {
                    let (base_offset, next_offset) = (picked.base_offset, picked.next_offset);
                    let records = picked.concat();
                    return Ok(ReadChunk {
                        records,
                        base_offset,
                        next_offset,
                        log_start,
                        log_end,
                    });
                }
                let plan = self.plan(&mut state, wanted, from_segment, use_index)?;
                (plan, log_start, log_end)
            };
            let nothing = ReadChunk {
                records: Bytes::new(),
                base_offset: from,
                next_offset: from,
                log_start,
                log_end,
            };
            let Some(plan) = plan else { return Ok(nothing) };
            let found = self.carry_out(&plan)?;
            let mut state = self.state.lock();
            if state.generation != plan.generation {
                (from_segment, use_index) = (None, true);
                continue;
            }
            match found {
                Found::Nothing => return Ok(nothing),
                Found::Beyond => from_segment = Some(plan.segment_base),
                Found::BadIndex => use_index = false,
                Found::Damaged(what) => {
                    let error = self.corrupt(from, what);
                    return Err(self.quarantine(&mut state, error).into());
                }
                Found::Chunk(records, selection, end) => {
                    state.hint(selection.next_offset, plan.segment_base, end);
                    state.file_reads.done(selection.next_offset);
                    return Ok(ReadChunk {
                        records,
                        base_offset: selection.base_offset,
                        next_offset: selection.next_offset,
                        log_start,
                        log_end,
                    });
                }
            }
        }
    }

    /// The same from memory and without a copy; `None` when `from` is no longer (or not yet) in the tail cache.
    pub fn read_tail(
        &self,
        from: Offset,
        max_bytes: usize,
        bound: Offset,
        min_one: bool,
    ) -> Result<Option<TailChunk>, ReadError> {
        let state = self.opened()?;
        let wanted = state.wanted(from, max_bytes, bound, min_one)?;
        Ok(state.tail.pick(wanted).map(|picked| TailChunk {
            pieces: picked.pieces,
            size_bytes: picked.size_bytes,
            base_offset: picked.base_offset,
            next_offset: picked.next_offset,
            log_start: state.log_start,
            log_end: state.log_end,
        }))
    }

    /// Where in which file to begin; `None` when there is nothing to read below the bound.
    fn plan(
        &self,
        state: &mut LogState,
        wanted: Wanted,
        after_segment: Option<Offset>,
        use_index: bool,
    ) -> Result<Option<Plan>, LogError> {
        let wanted = Wanted {
            bound: wanted.bound.min(state.written.offset),
            ..wanted
        };
        if wanted.from >= wanted.bound {
            return Ok(None);
        }
        let at = match after_segment {
            Some(base) => state
                .segments
                .partition_point(|segment| segment.base_offset <= base),
            None => state
                .segments
                .partition_point(|segment| segment.base_offset <= wanted.from)
                .saturating_sub(1),
        };
        let written = state.written;
        let hint = state
            .read_hints
            .iter()
            .find(|hint| hint.offset == wanted.from && hint.position > 0)
            .copied();
        let generation = state.generation;
        let Some(segment) = state.segments.get_mut(at) else {
            return Ok(None);
        };
        let base = segment.base_offset;
        let end = if base == written.segment_base {
            written.position
        } else {
            segment.size
        };
        if base > written.segment_base {
            return Ok(None);
        }
        let file = self.segment_file(segment)?;
        let (mut position, mut exact, mut entry) = (0, wanted.from <= base, None);
        if let Some(hint) = hint.filter(|hint| hint.segment_base == base) {
            (position, exact) = (hint.position, true);
        } else if use_index && !exact {
            entry = match &segment.index {
                Some(index) => index.find(wanted.from),
                None => self.find_in_sealed(base, wanted.from),
            };
            position = entry.map_or(0, |entry| entry.position);
        }
        Ok(Some(Plan {
            file,
            segment_base: base,
            position,
            end,
            exact,
            hint: entry,
            wanted,
            generation,
            keep: state.file_reads.begin(Instant::now(), wanted.from),
        }))
    }

    fn find_in_sealed(&self, base: Offset, target: Offset) -> Option<OffsetEntry> {
        let file = self
            .dir
            .storage
            .open(&SegmentFile::OffsetIndex.path(&self.path, base), false)
            .ok()?;
        find_in_file(&*file, base, target).ok().flatten()
    }

    pub(super) fn segment_file(
        &self,
        segment: &mut crate::segment::Segment,
    ) -> Result<Arc<dyn StorageFile>, LogError> {
        if let Some(file) = &segment.file {
            return Ok(file.clone());
        }
        let path = SegmentFile::Log.path(&self.path, segment.base_offset);
        let file = self
            .dir
            .storage
            .open(&path, false)
            .map_err(|error| LogError::io("open", &path, error))?;
        segment.file = Some(file.clone());
        self.dir.files.opened(&self.me, segment.base_offset);
        Ok(file)
    }

    /// Reads on until the wanted batch is found or the segment ends. The common case is one read.
    fn carry_out(&self, plan: &Plan) -> Result<Found, LogError> {
        let slack = if plan.exact { 0 } else { 2 * HEADER_LEN + 4_096 };
        let mut want = plan.wanted.bytes_max.clamp(HEADER_LEN, READ_BYTES_MAX) + slack;
        let mut position = plan.position;
        let mut hint = plan.hint;
        loop {
            let left = usize::try_from(plan.end.saturating_sub(position)).unwrap_or(usize::MAX);
            if left == 0 {
                return Ok(Found::Beyond);
            }
            let buffer = plan
                .file
                .read_at(position, want.min(left))
                .map_err(|error| self.io_error("read", plan.segment_base, error))?;
            if buffer.len() < want.min(left) {
                return Ok(Found::Damaged(format!("file ends before byte {}", plan.end)));
            }
            if let Some(entry) = hint.take()
                && !BatchHeader::parse(&buffer).is_ok_and(|header| header.last_offset() == entry.offset)
            {
                return Ok(Found::BadIndex);
            }
            let chosen = select(&buffer, plan.wanted);
            if !chosen.range.is_empty() && chosen.base_offset > plan.wanted.from {
                return Ok(bad(
                    plan,
                    format!("offsets before {} are missing", chosen.base_offset),
                ));
            }
            if !chosen.range.is_empty() {
                let end = position + chosen.range.end as u64;
                plan.read_up_to(end, want);
                let records = Bytes::from(buffer).slice(chosen.range.clone());
                return Ok(Found::Chunk(records, chosen, end));
            }
            position += chosen.range.end as u64;
            match chosen.stop {
                Stop::End => {}
                Stop::Bound | Stop::Full => return Ok(Found::Nothing),
                Stop::Bad(error) => return Ok(bad(plan, error.to_string())),
                Stop::Cut { need, .. } if position + need as u64 > plan.end => {
                    return Ok(bad(
                        plan,
                        format!("batch at byte {position} reaches past byte {}", plan.end),
                    ));
                }
                Stop::Cut {
                    need,
                    last_offset: Some(last),
                } if last < plan.wanted.from => {
                    position += need as u64;
                }
                Stop::Cut { need, .. } => want = want.max(need),
            }
        }
    }
}

impl Plan {
    /// The reader has what lies before `end`, and will want the next `want` bytes.
    fn read_up_to(&self, end: u64, want: usize) {
        if !self.keep {
            self.file.uncache(0..end);
        }
        self.file.prefetch(end..self.end.min(end + want as u64));
    }
}

/// Where an index was used it may be to blame.
fn bad(plan: &Plan, what: String) -> Found {
    if plan.hint.is_some() {
        Found::BadIndex
    } else {
        Found::Damaged(what)
    }
}

impl LogState {
    fn wanted(
        &self,
        from: Offset,
        max_bytes: usize,
        bound: Offset,
        min_one: bool,
    ) -> Result<Wanted, ReadError> {
        debug_assert!(matches!(self.phase, Phase::Open));
        if from < self.log_start || from > self.log_end {
            let (log_start, log_end) = (self.log_start, self.log_end);
            return Err(ReadError::OffsetOutOfRange {
                offset: from,
                log_start,
                log_end,
            });
        }
        Ok(Wanted {
            from,
            bound: bound.min(self.log_end),
            bytes_max: max_bytes,
            min_one,
        })
    }

    fn hint(&mut self, offset: Offset, segment_base: Offset, position: u64) {
        let at = usize::from(self.next_hint) % self.read_hints.len();
        if let Some(hint) = self.read_hints.get_mut(at) {
            *hint = LogPosition {
                offset,
                segment_base,
                position,
            };
        }
        self.next_hint = self.next_hint.wrapping_add(1);
    }
}
