//! Going over batches that are in the log already: to rebuild producers' state, epochs and indexes from headers.

use bytes::Bytes;
use strom_records::{BatchHeader, HEADER_LEN};
use strom_types::{Offset, WallMs};

use super::append::marker_of;
use super::{Log, LogState};
use crate::error::LogError;
use crate::producers::{Producers, decode_snapshot};
use crate::segment::snapshot_path;
use crate::storage::read_file;

const BUFFER_BYTES: usize = 1 << 20;
/// Bound on a snapshot: a million producers.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
/// A marker's batch is below 100 bytes; a control batch above this holds none of ours.
const CONTROL_BYTES_MAX: usize = 64 << 10;

impl Log {
    /// The headers of all batches in `from..to`, in order, with their segment's base and position; control batches come
    /// with all their bytes. Damage is an error: `to` must not exceed what is known to be good.
    pub(super) fn walk(
        &self,
        state: &mut LogState,
        from: Offset,
        to: Offset,
        mut visit: impl FnMut(&mut LogState, Offset, u64, &BatchHeader, Option<&Bytes>),
    ) -> Result<(), LogError> {
        let disk_end = to.min(state.written.offset);
        let first = state
            .segments
            .partition_point(|s| s.base_offset <= from)
            .saturating_sub(1);
        for at in first..state.segments.len() {
            let Some(segment) = state.segments.get_mut(at) else {
                break;
            };
            let base = segment.base_offset;
            if base >= disk_end {
                break;
            }
            let file = self.segment_file(segment)?;
            let end = if base == state.written.segment_base {
                state.written.position
            } else {
                segment.size
            };
            let mut position = 0;
            let mut buffer = Bytes::new();
            while position < end {
                let (header, bytes) = loop {
                    let header = BatchHeader::parse(&buffer).ok();
                    let need = match &header {
                        Some(header) if header.is_control() => header.total_len().min(CONTROL_BYTES_MAX),
                        _ => HEADER_LEN,
                    };
                    match header {
                        Some(header) if buffer.len() >= need => break (header, buffer.slice(..need)),
                        _ => {}
                    }
                    let left = usize::try_from(end - position).unwrap_or(usize::MAX);
                    let read = file
                        .read_at(position, BUFFER_BYTES.min(left))
                        .map_err(|error| self.io_error("read", base, error))?;
                    if read.len() <= buffer.len() || read.len() < need {
                        return Err(self.corrupt(base, format!("no batch at byte {position}")));
                    }
                    if header.is_none() && BatchHeader::parse(&read).is_err() {
                        return Err(self.corrupt(base, format!("no batch at byte {position}")));
                    }
                    buffer = read.into();
                };
                if header.base_offset >= disk_end {
                    break;
                }
                if header.base_offset >= from {
                    visit(
                        state,
                        base,
                        position,
                        &header,
                        header.is_control().then_some(&bytes),
                    );
                }
                let len = header.total_len();
                position += len as u64;
                buffer = if len <= buffer.len() {
                    buffer.slice(len..)
                } else {
                    Bytes::new()
                };
            }
        }
        self.walk_tail(state, from.max(disk_end), to, visit)
    }

    /// The same for what is only in memory.
    fn walk_tail(
        &self,
        state: &mut LogState,
        from: Offset,
        to: Offset,
        mut visit: impl FnMut(&mut LogState, Offset, u64, &BatchHeader, Option<&Bytes>),
    ) -> Result<(), LogError> {
        let runs: Vec<_> = state
            .tail
            .from(from)
            .take_while(|run| run.base_offset < to)
            .cloned()
            .collect();
        for run in runs {
            let whole = if run.head.is_empty() {
                run.body
            } else {
                [run.head, run.body].concat().into()
            };
            let mut at = 0;
            while let Some(rest) = Some(whole.slice(at..)).filter(|rest| !rest.is_empty()) {
                let header = BatchHeader::parse(&rest)
                    .map_err(|error| self.corrupt(run.base_offset, error.to_string()))?;
                let bytes = rest.slice(..header.total_len().min(rest.len()));
                if header.base_offset >= from && header.base_offset < to {
                    let control = header.is_control().then_some(&bytes);
                    visit(
                        state,
                        run.segment_base,
                        run.position + at as u64,
                        &header,
                        control,
                    );
                }
                at += bytes.len();
            }
        }
        Ok(())
    }

    /// Producers' state at `end`, from the newest good snapshot at or below `trusted` and what follows it; aborted
    /// transactions from there on are found again too.
    pub(super) fn rebuild_producers(
        &self,
        state: &mut LogState,
        end: Offset,
        now: WallMs,
        trusted: Offset,
    ) -> Result<(), LogError> {
        let mut begin = None;
        let mut upto = end.min(trusted);
        while let Some(offset) = state.latest_snapshot_at_most(upto) {
            let path = snapshot_path(&self.path, offset);
            let bytes = read_file(&*self.dir.storage, &path, SNAPSHOT_BYTES_MAX);
            let snapshot = bytes.ok().flatten().and_then(|bytes| decode_snapshot(&bytes));
            if let Some((producers, aborted)) = snapshot
                && aborted == state.aborted_before(offset)
            {
                begin = Some((offset, producers));
                break;
            }
            tracing::warn!(partition = %self.id, path = %path.display(), "ignoring a damaged producer snapshot");
            upto = offset - 1;
        }
        let (from, producers) = begin.unwrap_or((state.log_start_of_segments(), Producers::default()));
        state.producers = producers;
        for segment in &mut state.segments {
            segment.aborted.retain(|txn| txn.last_offset < from);
            segment.aborted_persisted = segment.aborted_persisted.min(segment.aborted.len());
        }
        state.bytes_since_snapshot = 0;
        self.walk(state, from, end, |state, segment_base, _, header, control| {
            let marker = control.and_then(|bytes| marker_of(header, bytes).ok().flatten());
            state.bytes_since_snapshot += header.total_len() as u64;
            if let Some(aborted) = state.producers.apply(header, marker.as_ref(), now.0)
                && let Some(segment) = state.segments.iter_mut().find(|s| s.base_offset == segment_base)
            {
                segment.aborted.push(aborted);
            }
        })
    }
}

impl LogState {
    /// Aborted transactions known in the segment that ends at, or holds, `offset`, up to there.
    fn aborted_before(&self, offset: Offset) -> usize {
        let at = self
            .segments
            .partition_point(|segment| segment.base_offset <= offset)
            .checked_sub(1);
        let segment = at.and_then(|at| self.segments.get(at));
        segment.map_or(0, |segment| {
            segment
                .aborted
                .iter()
                .filter(|txn| txn.last_offset < offset)
                .count()
        })
    }

    pub(super) fn log_start_of_segments(&self) -> Offset {
        self.segments
            .first()
            .map_or(self.log_start, |segment| segment.base_offset)
    }
}
