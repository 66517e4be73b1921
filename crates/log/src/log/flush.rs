//! The flusher's part: what to sync of one log, and what is durable afterwards.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;
use strom_types::Offset;

use super::{IoTurn, Log, LogState, Phase};
use crate::dir::wal::{Place, WalPart};
use crate::error::LogError;
use crate::segment::LogPosition;
use crate::storage::StorageFile;

/// Once all of it is synced, the log is durable up to `target`.
pub(crate) struct FlushTicket {
    pub(crate) files: SmallVec<[Arc<dyn StorageFile>; 1]>,
    pub(crate) sync_dir: bool,
    target: LogPosition,
    generation: u64,
    /// The active segment, where nobody reads it.
    unread: Option<Arc<dyn StorageFile>>,
}

impl FlushTicket {
    /// After the sync: pages that nobody reads make room for the next ones.
    pub(crate) fn uncache(&self) {
        if let Some(file) = &self.unread {
            file.uncache(0..self.target.position);
        }
    }
}

impl Log {
    /// `None` when there is nothing to sync.
    pub(crate) fn flush_ticket(&self) -> Option<FlushTicket> {
        let mut state = self.state.lock();
        state.in_flush_queue = false;
        if !matches!(state.phase, Phase::Open) || (state.unsynced.is_empty() && !state.dir_dirty) {
            return None;
        }
        Some(FlushTicket {
            files: std::mem::take(&mut state.unsynced),
            sync_dir: std::mem::take(&mut state.dir_dirty),
            target: state.written,
            generation: state.generation,
            unread: state.unread_file(Instant::now()),
        })
    }

    /// The new durable offset; `None` when the log was truncated meanwhile and stays as truncation left it.
    pub(crate) fn flushed(&self, ticket: &FlushTicket) -> Option<Offset> {
        let mut state = self.state.lock();
        state.dir_durable |= ticket.sync_dir;
        if !matches!(state.phase, Phase::Open) {
            return None;
        }
        if state.generation != ticket.generation {
            // Of the files nothing is known but that they were synced once: again, for what is in them now.
            for file in &ticket.files {
                state.note_unsynced(file.clone());
            }
            self.queue_flush(&mut state);
            return None;
        }
        // The write-ahead log may have made more durable meanwhile: of the files this is what is known.
        self.dir.flushed_ends.note(self.id, ticket.target.offset);
        if ticket.target.offset >= state.durable.offset {
            state.durable = ticket.target;
        }
        state.checkpoint_dirty = true;
        state.assert_order();
        Some(state.durable.offset)
    }

    /// Everything written that is not durable, for an entry of the write-ahead log. `None` when that is more than
    /// `bytes_max`, not in memory any more, or in more than one segment: then the files are to be synced.
    pub(crate) fn wal_part(&self, _io: &IoTurn<'_>, bytes_max: usize) -> Option<WalPart> {
        let state = self.state.lock();
        let (from, end) = (state.durable.offset, state.written.offset);
        if !matches!(state.phase, Phase::Open) || from == end || !state.tail.covers(from) {
            return None;
        }
        let mut chunks: Vec<Bytes> = Vec::new();
        let (mut place, mut len) = (None, 0);
        for run in state.tail.from(from).take_while(|run| run.base_offset < end) {
            let (segment_base, position) = *place.get_or_insert((run.segment_base, run.position));
            len += run.len();
            if len > bytes_max || run.base_offset < from || run.segment_base != segment_base {
                return None;
            }
            debug_assert_eq!(position + len as u64, run.position + run.len() as u64);
            let pieces = [&run.head, &run.body].into_iter();
            chunks.extend(pieces.filter(|piece| !piece.is_empty()).cloned());
        }
        let (segment_base, position) = place?;
        Some(WalPart {
            id: self.id,
            place: Place {
                topic: self.topic.clone(),
                segment_base,
                position,
                len: u32::try_from(len).ok()?,
            },
            chunks,
            log: self.me.clone(),
        })
    }

    /// After the entry with everything written was synced; gives the new durable offset.
    pub(crate) fn wal_synced(&self, _io: &IoTurn<'_>, seq: u64) -> Offset {
        let mut state = self.state.lock();
        state.durable = state.written;
        state.wal_seq = seq;
        state.checkpoint_dirty = true;
        state.assert_order();
        state.durable.offset
    }

    /// Before bytes in the files go or change their meaning: a replay of the write-ahead log must not bring them back.
    /// What it alone vouches for is synced first.
    pub(super) fn leave_wal(&self, state: &mut LogState) -> Result<(), LogError> {
        if self.dir.wal.counts(state.wal_seq) {
            self.dir.sync_all()?;
        }
        self.forget_wal(state)
    }

    /// The same for a log whose bytes nobody wants any more.
    pub(super) fn forget_wal(&self, state: &mut LogState) -> Result<(), LogError> {
        if !self.dir.wal.counts(state.wal_seq) {
            return Ok(());
        }
        let forgotten = self.dir.wal.forget(self.id);
        forgotten.map_err(|error| self.fail_dir(error))?;
        state.wal_seq = 0;
        Ok(())
    }

    /// Puts the log into the flusher's queue unless it is there.
    pub(super) fn queue_flush(&self, state: &mut LogState) {
        if !state.in_flush_queue {
            state.in_flush_queue = true;
            self.dir.flush_queue.push(&self.me);
        }
    }

    /// The same without a wake-up. The writer, who calls it, sees to the flush.
    pub(crate) fn request_flush(&self) {
        let mut state = self.state.lock();
        if !state.in_flush_queue {
            state.in_flush_queue = true;
            self.dir.flush_queue.push_quietly(&self.me);
        }
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Lets go of written bytes before `end`. Returns how many.
    pub(crate) fn evict_tail(&self, end: Offset) -> usize {
        let mut state = self.state.lock();
        let end = end.min(state.written.offset);
        state.tail.evict(end)
    }

    /// Closes a file that nobody has used for long; it is opened again when needed. `false` when the log is busy.
    pub(crate) fn close_file(&self, segment_base: Offset) -> bool {
        let Some(mut state) = self.state.try_lock() else {
            return false;
        };
        if let Some(segment) = state.segments.iter_mut().find(|s| s.base_offset == segment_base) {
            segment.file = None;
        }
        true
    }
}

impl LogState {
    fn unread_file(&self, now: Instant) -> Option<Arc<dyn StorageFile>> {
        let active = self
            .segments
            .iter()
            .rev()
            .find(|segment| segment.base_offset == self.written.segment_base)?;
        active.file.clone().filter(|_| !self.file_reads.are_recent(now))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use strom_records::{BatchBuilder, NewRecord};
    use strom_types::{LeaderEpoch, Offset, TopicId, TopicIdPartition, WallMs};

    use crate::{FaultStorage, LeaderAppend, LogConfig, LogDir, LogDirConfig, LogError, LogListener};

    struct Deaf;

    impl LogListener for Deaf {
        fn written(&self, _: &[(TopicIdPartition, Offset)]) {}
        fn flushed(&self, _: &[(TopicIdPartition, Offset)]) {}
        fn stalled(&self, _: &[TopicIdPartition]) {}
        fn failed(&self, _: &LogError) {}
    }

    #[test]
    fn a_sync_that_a_truncation_overtook_promises_nothing() {
        let config = LogDirConfig {
            threads: false,
            disk_reserve_bytes: 0,
            ..LogDirConfig::default()
        };
        let storage = Arc::new(FaultStorage::default());
        let dir = LogDir::open_on(storage, Path::new("/data"), config, Arc::new(Deaf)).unwrap();
        let id = TopicIdPartition::new(TopicId::from_bytes([1; 16]), 0);
        let log = dir.log(id, "t", LogConfig::default()).unwrap();
        let append = || {
            let mut builder = BatchBuilder::new();
            let record = NewRecord {
                timestamp: 1,
                key: None,
                value: None,
                headers: &[],
            };
            builder.push(&record).unwrap();
            let by = LeaderAppend {
                leader_epoch: LeaderEpoch(0),
                now: WallMs(1),
                log_append_time: false,
            };
            log.append_as_leader(builder.build().unwrap(), by).unwrap();
        };
        for _ in 0..3 {
            append();
        }
        dir.write_round();
        let ticket = log.flush_ticket().unwrap();
        log.truncate_to(1).unwrap();
        append();
        append();
        dir.write_round();
        assert_eq!(log.flushed(&ticket), None);
        assert!(log.durable_offset() <= 1);
        dir.flush_round();
        assert_eq!(log.durable_offset(), 3);
    }
}
