//! Recovery's scan: every batch above the recovery point is checked, and the log ends at the first one that is not right.

use bytes::Bytes;
use strom_records::{BatchHeader, HEADER_LEN, verify_crc};
use strom_types::{LeaderEpoch, Offset};

use super::{Log, LogState};
use crate::error::LogError;
use crate::index::{ActiveIndex, OffsetEntry};
use crate::segment::LogPosition;
use crate::storage::StorageFile;

const BUFFER_BYTES: usize = 1 << 20;

/// Where a scan is.
struct Scan {
    at: LogPosition,
    epoch: LeaderEpoch,
    file_size: u64,
}

impl Log {
    /// Finds the log's end and sets all offsets. `point` is the recovery point where it is known to the byte; the scan
    /// begins at `trusted`, and damage below `fsynced` is an error.
    pub(super) fn scan(
        &self,
        state: &mut LogState,
        point: Option<LogPosition>,
        (trusted, fsynced): (Offset, Offset),
    ) -> Result<(), LogError> {
        if state.segments.is_empty() {
            if fsynced > state.log_start {
                return Err(self.corrupt(state.log_start, "all segments are missing"));
            }
            let end = LogPosition {
                offset: state.log_start,
                segment_base: state.log_start,
                position: 0,
            };
            state.end_at(end);
            return Ok(());
        }
        let lowest = state.log_start_of_segments();
        if lowest > state.log_start {
            return Err(self.corrupt(state.log_start, format!("the first segment begins at {lowest}")));
        }
        let (mut at, start) = self.scan_start(state, point, trusted)?;
        let mut scan = Scan {
            at: start,
            epoch: LeaderEpoch::NONE,
            file_size: 0,
        };
        let cut = loop {
            if let Some(what) = self.scan_segment(state, at, &mut scan)? {
                break Some(what);
            }
            match state.segments.get(at + 1).map(|next| next.base_offset) {
                None => break None,
                Some(base) if base == scan.at.offset => {
                    at += 1;
                    scan.at = LogPosition {
                        offset: base,
                        segment_base: base,
                        position: 0,
                    };
                    if let Some(segment) = state.segments.get_mut(at) {
                        segment.index = Some(Box::new(ActiveIndex::new(base)));
                    }
                }
                Some(base) => break Some(format!("the next segment begins at {base}")),
            }
        };
        if scan.at.offset < fsynced {
            return Err(self.corrupt(
                scan.at.offset,
                cut.unwrap_or_else(|| "the log ends too early".to_owned()),
            ));
        }
        let later_segments = state.segments.len() > at + 1;
        if let Some(what) = cut {
            // Without a checkpoint nothing tells a torn tail from damage, but only the last segment can be torn.
            if self.dir.checkpoint_lost() && later_segments {
                return Err(self.corrupt(scan.at.offset, what));
            }
            self.cut(state, at, scan.at, &what)?;
        }
        if let Some(segment) = state.segments.get_mut(at) {
            segment.size = scan.at.position;
        }
        state.end_at(scan.at);
        // What was scanned may lie in the page cache alone: it is durable after the next flush.
        let durable = point.unwrap_or(start);
        if scan.at.offset > durable.offset {
            state.durable = durable;
            self.keep_unsynced(state, at)?;
        }
        Ok(())
    }

    /// The segment and place to begin at: at or below the recovery point, where the index is complete.
    fn scan_start(
        &self,
        state: &mut LogState,
        point: Option<LogPosition>,
        trusted: Offset,
    ) -> Result<(usize, LogPosition), LogError> {
        let at = match point {
            Some(point) => state
                .segments
                .iter()
                .position(|s| s.base_offset == point.segment_base),
            None => Some(
                state
                    .segments
                    .partition_point(|s| s.base_offset <= trusted)
                    .saturating_sub(1),
            ),
        };
        let Some((at, segment)) = at.and_then(|at| Some((at, state.segments.get_mut(at)?))) else {
            return Err(self.corrupt(trusted, "the segment of the recovery point is missing"));
        };
        let base = segment.base_offset;
        if let Some(point) = point.filter(|point| segment.size < point.position) {
            let what = format!(
                "segment {base} has {} bytes, {} were fsynced",
                segment.size, point.position
            );
            return Err(self.corrupt(base, what));
        }
        let position = point.map_or(u64::MAX, |point| point.position);
        let end = OffsetEntry {
            offset: trusted,
            position,
        };
        let file = self.segment_file(segment)?;
        let mut index = self.load_index(base, end);
        let mut start = LogPosition {
            offset: base,
            segment_base: base,
            position: 0,
        };
        if let Some(entry) = index.last() {
            let head = file
                .read_at(entry.position, HEADER_LEN)
                .map_err(|error| self.io_error("read", base, error))?;
            match BatchHeader::parse(&head) {
                Ok(header) if header.last_offset() == entry.offset => {
                    start = LogPosition {
                        offset: header.base_offset,
                        segment_base: base,
                        position: entry.position,
                    };
                }
                _ => tracing::warn!(partition = %self.id, segment = base, "rebuilding a damaged index"),
            }
        }
        // The batch at the entry is noted again.
        index.truncate(start.offset);
        let head = file
            .read_at(0, HEADER_LEN)
            .map_err(|error| self.io_error("read", base, error))?;
        segment.first_timestamp = BatchHeader::parse(&head).ok().map(|header| header.max_timestamp);
        segment.index = Some(Box::new(index));
        Ok((at, start))
    }

    /// Goes to the end of the segment, or to the first bad batch: then says what is wrong with it.
    fn scan_segment(
        &self,
        state: &mut LogState,
        at: usize,
        scan: &mut Scan,
    ) -> Result<Option<String>, LogError> {
        let interval = u64::from(state.config.index_interval_bytes);
        let Some(segment) = state.segments.get_mut(at) else {
            return Ok(None);
        };
        let file = self.segment_file(segment)?;
        let base = segment.base_offset;
        scan.file_size = file.size().map_err(|error| self.io_error("stat", base, error))?;
        segment.size = scan.at.position;
        let mut buffer = Bytes::new();
        while scan.at.position < scan.file_size {
            let batch = match self.next_batch(&*file, scan, &mut buffer)? {
                Ok(batch) => batch,
                Err(what) => return Ok(Some(what)),
            };
            let header = match self.check_batch(state, scan, &batch) {
                Ok(header) => header,
                Err(what) => return Ok(Some(what)),
            };
            let len = batch.len() as u64;
            if let Some(segment) = state.segments.get_mut(at) {
                segment.note(header.last_offset(), len, header.max_timestamp, interval);
            }
            if state
                .epochs
                .observe(header.partition_leader_epoch, header.base_offset)
            {
                state.epochs_dirty = true;
            }
            scan.epoch = header.partition_leader_epoch;
            scan.at.offset = header.next_offset();
            scan.at.position += len;
        }
        Ok(None)
    }

    /// One whole batch by its length; the inner error says why there is none.
    fn next_batch(
        &self,
        file: &dyn StorageFile,
        scan: &Scan,
        buffer: &mut Bytes,
    ) -> Result<Result<Bytes, String>, LogError> {
        let left = usize::try_from(scan.file_size - scan.at.position).unwrap_or(usize::MAX);
        let mut need = HEADER_LEN;
        loop {
            if let Ok(header) = BatchHeader::parse(buffer) {
                need = header.total_len();
            } else if buffer.len() >= HEADER_LEN {
                return Ok(Err("no batch header".to_owned()));
            }
            if need > left {
                return Ok(Err(format!("{left} bytes of a batch of {need}")));
            }
            if buffer.len() >= need {
                return Ok(Ok(buffer.split_to(need)));
            }
            let want = need.max(BUFFER_BYTES).min(left);
            let read = file
                .read_at(scan.at.position, want)
                .map_err(|error| self.io_error("read", scan.at.segment_base, error))?;
            if read.len() < want {
                return Ok(Err("the file became shorter".to_owned()));
            }
            *buffer = read.into();
        }
    }

    fn check_batch(&self, state: &LogState, scan: &Scan, batch: &Bytes) -> Result<BatchHeader, String> {
        let header = BatchHeader::parse(batch).map_err(|error| error.to_string())?;
        if header.base_offset != scan.at.offset || header.last_offset_delta < 0 {
            return Err(format!("batch of offset {}", header.base_offset));
        }
        let known = state.epochs.epoch_at(header.base_offset);
        let epoch = header.partition_leader_epoch;
        if epoch < scan.epoch || epoch < known {
            return Err(format!("leader epoch falls to {epoch}"));
        }
        verify_crc(batch).map_err(|error| error.to_string())?;
        Ok(header)
    }

    /// Ends the log at `end`, which lies in segment `at`.
    fn cut(&self, state: &mut LogState, at: usize, end: LogPosition, what: &str) -> Result<(), LogError> {
        let later: Vec<_> = state
            .segments
            .drain(at + 1..)
            .map(|segment| segment.base_offset)
            .collect();
        let Some(segment) = state.segments.get_mut(at) else {
            return Ok(());
        };
        tracing::info!(
            partition = %self.id, offset = end.offset, segments = later.len(),
            bytes = segment.size.max(end.position) - end.position, what, "cutting a torn tail"
        );
        let file = self.segment_file(segment)?;
        for base in later {
            self.remove_segment_files(base)?;
        }
        file.set_len(end.position)
            .map_err(|error| self.io_error("truncate", end.segment_base, error))?;
        state.dir_dirty = true;
        Ok(())
    }

    /// Puts the files from the recovery point on into the next flush, and makes their indexes complete.
    fn keep_unsynced(&self, state: &mut LogState, last: usize) -> Result<(), LogError> {
        let from = state.durable.segment_base;
        for at in 0..=last {
            let Some(segment) = state.segments.get_mut(at).filter(|s| s.base_offset >= from) else {
                continue;
            };
            let file = self.segment_file(segment)?;
            if at < last
                && let Some(index) = &mut segment.index
            {
                index.note_max_timestamp();
            }
            state.unsynced.push(file);
        }
        // The last process may have made the directory right before it died.
        let metadata = self.path.join(crate::dir::PARTITION_METADATA);
        state
            .unsynced
            .extend(self.dir.storage.open(&metadata, false).ok());
        state.dir_dirty = true;
        self.dir.root_dirty();
        self.queue_flush(state);
        Ok(())
    }
}
