//! One partition's log: state, invariants and plain accessors; each operation has a file of its own below this one.

mod append;
mod checkpoint;
mod flush;
mod open;
mod page_cache;
mod read;
mod replay;
mod scan;
mod start;
mod state;
mod timestamps;
mod truncate;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use strom_types::{LeaderEpoch, Offset, TopicIdPartition};

use crate::config::LogConfig;
use crate::dir::DirShared;
use crate::dir::checkpoint_file::CheckpointEntry;
use crate::dir::epoch_journal::EpochStart;
use crate::error::LogError;
use crate::producers::{AbortedTransaction, ProducerState};
use crate::tail::Tail;

pub(crate) use flush::FlushTicket;
pub(crate) use open::wall_now;
pub(crate) use state::{Amendment, LogState, Phase};
pub(crate) use write::Written;

/// The right to change a log's files, until dropped.
pub(crate) type IoTurn<'a> = MutexGuard<'a, ()>;

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

impl Log {
    /// `entry` is what a clean stop left; without one the log is new, or to be recovered by `recover`.
    pub(crate) fn new(
        id: TopicIdPartition,
        topic: &str,
        dir: Arc<DirShared>,
        config: LogConfig,
        entry: Option<CheckpointEntry>,
        journaled: Vec<EpochStart>,
    ) -> Arc<Self> {
        let state = LogState::new(config, entry, journaled);
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
        let mut state = self.state.lock();
        state.config = config;
        // What was left to the page cache until now.
        if config.durable && state.written.offset > state.durable.offset {
            self.queue_flush(&mut state);
        }
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

    pub(crate) fn io_turn(&self) -> IoTurn<'_> {
        self.io.lock()
    }

    /// Refuses everything from now on and moves the files to `trash`, in one rename.
    pub(crate) fn delete(&self, trash: &Path) -> Result<(), LogError> {
        let _io = self.io.lock();
        let mut state = self.state.lock();
        self.forget_wal(&mut state)?;
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

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
