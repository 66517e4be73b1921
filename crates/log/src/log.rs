//! One partition's log: state, invariants and plain accessors; each operation has a file of its own below this one.

mod append;
mod checkpoint;
mod flush;
mod open;
mod read;
mod replay;
mod scan;
mod start;
mod timestamps;
mod truncate;
mod write;

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use strom_types::{LeaderEpoch, Offset, TopicIdPartition};

use crate::config::LogConfig;
use crate::dir::DirShared;
use crate::dir::checkpoint_file::CheckpointEntry;
use crate::epoch_cache::EpochCache;
use crate::error::LogError;
use crate::producers::{AbortedTransaction, ProducerState, Producers};
use crate::segment::{LogPosition, Segment};
use crate::storage::StorageFile;
use crate::tail::Tail;

pub(crate) use flush::FlushTicket;

/// A handle to one partition's log. Two locks: `io` serializes what changes files (the writer's round, truncation,
/// deletion) and is taken first; `state` guards everything in memory and is held for microseconds.
pub struct Log {
    id: TopicIdPartition,
    topic: Arc<str>,
    path: PathBuf,
    dir: Arc<DirShared>,
    io: Mutex<()>,
    state: Mutex<LogState>,
    me: Weak<Log>,
}

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
    /// Counts truncations: whoever worked without the lock looks whether it still is the same.
    pub(crate) generation: u64,
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

impl Log {
    /// `entry` is what a clean stop left; without one the log is new, or to be recovered by `recover`.
    pub(crate) fn new(
        id: TopicIdPartition,
        topic: &str,
        dir: Arc<DirShared>,
        config: LogConfig,
        entry: Option<CheckpointEntry>,
    ) -> Arc<Self> {
        let end = entry.as_ref().map(|entry| entry.recovery).unwrap_or_default();
        let state = LogState {
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
            generation: 0,
            read_hints: [LogPosition::default(); 4],
            next_hint: 0,
        };
        let path = dir.path.join(id.to_string());
        Arc::new_cyclic(|me| Log {
            id,
            topic: topic.into(),
            path,
            dir,
            io: Mutex::new(()),
            state: Mutex::new(state),
            me: me.clone(),
        })
    }

    pub fn id(&self) -> TopicIdPartition {
        self.id
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub fn config(&self) -> LogConfig {
        self.state.lock().config
    }

    pub fn set_config(&self, config: LogConfig) {
        self.state.lock().config = config;
    }

    pub fn log_start_offset(&self) -> Offset {
        self.state.lock().log_start
    }

    /// LEO: the offset that the next record will get.
    pub fn log_end_offset(&self) -> Offset {
        self.state.lock().log_end
    }

    /// Everything before it is in the page cache.
    pub fn written_offset(&self) -> Offset {
        self.state.lock().written.offset
    }

    /// Everything before it is fsynced.
    pub fn durable_offset(&self) -> Offset {
        self.state.lock().durable.offset
    }

    /// Bytes of all segments, those still in memory included.
    pub fn size_bytes(&self) -> u64 {
        let state = self.state.lock();
        match &state.phase {
            Phase::Closed(entry) => entry.size_bytes,
            _ => state.segments.iter().map(|segment| segment.size).sum(),
        }
    }

    /// The epoch of the newest batch, or the newest one assigned; [`LeaderEpoch::NONE`] when there is none.
    pub fn latest_epoch(&self) -> LeaderEpoch {
        let state = self.state.lock();
        match &state.phase {
            Phase::Closed(entry) => entry.latest_epoch,
            _ => state.epochs.latest(),
        }
    }

    /// The damage that stopped this log, if any.
    pub fn quarantined(&self) -> Option<LogError> {
        match &self.state.lock().phase {
            Phase::Quarantined(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// KIP-101 (`EpochEndOffset`): the largest epoch at most `epoch`, and where it ends. `None` for an epoch that this
    /// log does not know yet.
    pub fn end_offset_for_epoch(
        &self,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, LogError> {
        let state = self.opened()?;
        Ok(state.epochs.end_offset_for(epoch, state.log_end))
    }

    /// (epoch, first offset), oldest first.
    pub fn epoch_entries(&self) -> Result<Vec<(LeaderEpoch, Offset)>, LogError> {
        Ok(self.opened()?.epochs.entries().to_vec())
    }

    /// All idempotent and transactional producers, by id.
    pub fn producer_states(&self) -> Result<Vec<ProducerState>, LogError> {
        Ok(self.opened()?.producers.states())
    }

    /// The first offset that a transaction still decides upon: the last stable offset is the smaller of it and the high
    /// watermark.
    pub fn last_stable_offset_bound(&self, high_watermark: Offset) -> Result<Option<Offset>, LogError> {
        Ok(self.opened()?.producers.first_unstable(high_watermark))
    }

    /// Aborted transactions with a record or their marker in `from..to`, by their markers' offsets.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, LogError> {
        let state = self.opened()?;
        let first = state
            .segments
            .partition_point(|segment| segment.base_offset <= from)
            .saturating_sub(1);
        let candidates = state
            .segments
            .iter()
            .skip(first)
            .flat_map(|segment| &segment.aborted);
        Ok(candidates
            .filter(|txn| txn.last_offset >= from && txn.first_offset < to)
            .copied()
            .collect())
    }

    /// Refuses everything from now on and moves the files to `trash`, in one rename.
    pub(crate) fn delete(&self, trash: &Path) -> Result<(), LogError> {
        let _io = self.io.lock();
        let mut state = self.state.lock();
        let waiting: usize = state
            .tail
            .from(state.written.offset)
            .map(crate::tail::Run::len)
            .sum();
        self.dir.release(waiting);
        state.phase = Phase::Deleted;
        state.generation += 1;
        state.tail = Tail::default();
        state.rolls.clear();
        state.segments.clear();
        state.unsynced.clear();
        let exists = std::mem::take(&mut state.dir_exists);
        if exists {
            self.dir
                .storage
                .rename(&self.path, trash)
                .map_err(|error| LogError::io("delete", &self.path, error))?;
        }
        Ok(())
    }

    /// The state, with the files looked at.
    fn opened(&self) -> Result<MutexGuard<'_, LogState>, LogError> {
        let mut state = self.state.lock();
        self.ensure_open(&mut state)?;
        Ok(state)
    }

    fn ensure_open(&self, state: &mut LogState) -> Result<(), LogError> {
        match &state.phase {
            Phase::Open => Ok(()),
            Phase::Quarantined(error) => Err(error.clone()),
            Phase::Deleted => Err(LogError::Deleted(self.id)),
            Phase::Closed(entry) => {
                let entry = entry.clone();
                self.load(state, Some(&entry))
            }
        }
    }

    pub(crate) fn quarantine(&self, state: &mut LogState, error: LogError) -> LogError {
        tracing::error!(partition = %self.id, topic = %self.topic, %error, "log quarantined");
        state.phase = Phase::Quarantined(error.clone());
        error
    }

    fn corrupt(&self, offset: Offset, what: impl Into<String>) -> LogError {
        LogError::Corrupt {
            partition: self.id,
            offset,
            what: what.into(),
        }
    }
}

impl LogState {
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

    pub(crate) fn latest_snapshot_at_most(&self, offset: Offset) -> Option<Offset> {
        self.snapshots
            .iter()
            .copied()
            .filter(|snapshot| *snapshot <= offset)
            .max()
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
