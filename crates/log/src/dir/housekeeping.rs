//! What can wait: checkpoints, deleting files, the age of the tail cache, and finding that a full disk has space again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Inner;
use super::checkpoint_file::{CHECKPOINT_FILE, Checkpoint};
use super::shared::DirShared;
use crate::error::LogError;
use crate::storage::replace_file;

/// With less appended than this a checkpoint waits for longer: a recovery has little to scan, and the sync of the whole
/// file system under a checkpoint holds up appends.
const CHECKPOINT_BYTES: u64 = 256 << 20;
const QUIET_INTERVALS: u32 = 6;
const TICK: Duration = Duration::from_millis(200);

pub(crate) struct Housekeeper {
    dir: Arc<DirShared>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopped: bool,
    trash: Vec<PathBuf>,
    /// Set aside, and due when somebody has said so.
    strays: Vec<PathBuf>,
    strays_due: Option<Instant>,
}

impl Housekeeper {
    pub(crate) fn new(dir: Arc<DirShared>, trash: Vec<PathBuf>, strays: Vec<PathBuf>) -> Self {
        Housekeeper {
            dir,
            state: Mutex::new(State {
                trash,
                strays,
                ..State::default()
            }),
            changed: Condvar::new(),
        }
    }

    /// Removes a renamed directory in the background.
    pub(crate) fn trash(&self, path: PathBuf) {
        self.state.lock().trash.push(path);
        self.changed.notify_one();
    }

    pub(crate) fn stray(&self, path: PathBuf) {
        self.state.lock().strays.push(path);
    }

    pub(crate) fn delete_strays_after(&self, delay: Duration) {
        self.state.lock().strays_due = Instant::now().checked_add(delay);
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Sleeps a tick, or less when there is something to delete; `false` when stopped.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        if !state.stopped && state.trash.is_empty() {
            self.changed.wait_for(&mut state, TICK);
        }
        !state.stopped
    }

    fn empty_trash(&self) {
        let trash = {
            let mut state = self.state.lock();
            let mut trash = std::mem::take(&mut state.trash);
            if state.strays_due.is_some_and(|due| due <= Instant::now()) {
                trash.append(&mut state.strays);
            }
            trash
        };
        for path in trash {
            if let Err(error) = self.dir.storage.remove_dir_all(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove a deleted log; the next start will");
            }
        }
    }
}

impl Inner {
    pub(super) fn run_housekeeper(&self, shared: &DirShared) {
        let every = Duration::from_millis(shared.config.checkpoint_interval_ms);
        let mut last = Instant::now();
        let mut last_bytes = shared.appended_bytes();
        while self.housekeeper.wait() {
            self.keep_house(shared);
            let bytes = shared.appended_bytes();
            let patience = if bytes - last_bytes < CHECKPOINT_BYTES {
                QUIET_INTERVALS
            } else {
                1
            };
            if last.elapsed() < every * patience {
                continue;
            }
            (last, last_bytes) = (Instant::now(), bytes);
            if let Err(error) = self.checkpoint(shared, false) {
                tracing::warn!(dir = %shared.path.display(), %error, "cannot write a log checkpoint");
            }
        }
    }

    pub(super) fn keep_house(&self, shared: &DirShared) {
        self.housekeeper.empty_trash();
        shared.tail_cache.trim();
        if shared.is_full() {
            self.writer.check_space(self.writer.is_stalled());
        }
    }

    /// Writes the recovery checkpoint if anything changed, or in any case when `closing`. Gives its sequence.
    pub(super) fn checkpoint(&self, shared: &DirShared, closing: bool) -> Result<u64, LogError> {
        if let Some(error) = shared.failure() {
            return Err(error.clone());
        }
        let seq = shared.begin_checkpoint();
        let logs: Vec<_> = self.logs.read().values().cloned().collect();
        let mut entries = Vec::new();
        let mut staged = Vec::new();
        for log in logs {
            match log.checkpoint(closing) {
                Ok(None) => {}
                Ok(Some((entry, state_file))) => {
                    entries.push((log.id(), entry));
                    staged.push((log, state_file));
                }
                Err(error) if closing => return Err(error),
                // Its older entry stays good: there only is more to recover.
                Err(error) => tracing::warn!(partition = %log.id(), %error, "cannot checkpoint a log"),
            }
        }
        let stale = self.checkpoint_stale.swap(true, Ordering::Relaxed);
        if entries.is_empty() && !stale && !closing {
            self.checkpoint_stale.store(false, Ordering::Relaxed);
            return Ok(seq);
        }
        let emptied = shared.flushed_ends.emptied();
        // Everything the checkpoint relies on must be on the disk before it.
        let release = shared.wal.everything();
        shared.sync_all()?;
        shared.flushed_ends.reuse(emptied);
        shared
            .wal
            .release(&release)
            .inspect_err(|error| shared.fail(error))?;
        if staged.iter().any(|(_, state_file)| state_file.is_some()) {
            for (log, state_file) in &staged {
                log.publish_state_file(state_file)?;
            }
            shared.sync_all()?;
        }
        self.write_checkpoint(shared, |checkpoint| {
            let on_disk = self.on_disk.lock();
            checkpoint
                .logs
                .extend(entries.into_iter().filter(|(id, _)| on_disk.contains_key(id)));
            checkpoint.seq = seq;
        })?;
        shared.checkpoint_is_durable(seq);
        self.checkpoint_stale.store(false, Ordering::Relaxed);
        Ok(seq)
    }

    /// After the logs' directories were renamed: the file does not know them any more, nor the disk under their names.
    pub(super) fn strike_from_checkpoint(&self, shared: &DirShared) -> Result<(), LogError> {
        shared.settle_renames()?;
        self.write_checkpoint(shared, |_| {})
    }

    /// Replaces the file with what there is in memory after `change`.
    fn write_checkpoint(
        &self,
        shared: &DirShared,
        change: impl FnOnce(&mut Checkpoint),
    ) -> Result<(), LogError> {
        let _turn = self.checkpoint_file.lock();
        let bytes = {
            let mut checkpoint = self.checkpoint.lock();
            change(&mut checkpoint);
            checkpoint.encode()
        };
        let path = shared.path.join(CHECKPOINT_FILE);
        replace_file(&*shared.storage, &path, &bytes, true)
            .map_err(|error| LogError::io("write", &path, error))
    }

    /// After the threads have stopped: nothing waits any more unless the disk is full or dead.
    pub(super) fn write_and_flush_rest(&self, shared: &DirShared) {
        self.writer.round(shared.write_queue.try_take());
        drop(shared.flush_queue.try_take());
        let logs = self.logs.read().values().cloned().collect();
        self.flusher.round(logs);
    }
}
