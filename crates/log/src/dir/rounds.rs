//! The directory's work, a round at a time: writing, flushing, housekeeping. The threads only repeat these.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use strom_types::{Offset, TopicIdPartition};

use super::shared::DirShared;
use super::sync_policy::{SyncPolicy, SyncWay};
use crate::error::LogError;
use crate::log::{FlushTicket, Log};
use crate::storage::Storage;

/// How long disk space is believed without asking.
const SPACE_CHECK_EVERY: Duration = Duration::from_millis(100);

/// The writer's memory between rounds.
pub(crate) struct Writer {
    dir: Arc<DirShared>,
    space_checked: Mutex<Option<Instant>>,
    /// Logs that met a full disk; they hold what could not be written.
    stalled: Mutex<Vec<Arc<Log>>>,
}

impl Writer {
    pub(crate) fn new(dir: Arc<DirShared>) -> Self {
        Writer {
            dir,
            space_checked: Mutex::new(None),
            stalled: Mutex::default(),
        }
    }

    /// Writes all pending bytes of `logs`, one vectored write per log and segment, and tells the listener. Returns the
    /// bytes whose logs now wait in the flusher's queue, if any do.
    pub(crate) fn round(&self, logs: Vec<Arc<Log>>) -> Option<usize> {
        let stalled = std::mem::take(&mut *self.stalled.lock());
        if (logs.is_empty() && stalled.is_empty()) || self.dir.failure().is_some() {
            return None;
        }
        let mut to_flush = None;
        self.check_space(!stalled.is_empty());
        let mut written: Vec<(TopicIdPartition, Offset)> = Vec::with_capacity(logs.len());
        let mut full: Vec<Arc<Log>> = Vec::new();
        for log in stalled.into_iter().chain(logs) {
            match log.write_pending() {
                Ok(Some(done)) => {
                    self.dir
                        .tail_cache
                        .wrote(Arc::downgrade(&log), done.offset, done.bytes);
                    if done.flush {
                        log.request_flush();
                        *to_flush.get_or_insert(0) += done.bytes;
                    }
                    written.push((log.id(), done.offset));
                }
                Ok(None) | Err(LogError::Deleted(_)) => {}
                Err(error) if error.is_disk_full() => {
                    tracing::debug!(partition = %log.id(), %error, "waiting for disk space");
                    self.dir.set_full(true);
                    // An earlier segment's part may have been written.
                    log.request_flush();
                    to_flush.get_or_insert(0);
                    full.push(log);
                }
                Err(error) => {
                    self.dir.fail(&error);
                    break;
                }
            }
        }
        if !written.is_empty() {
            self.dir.listener.written(&written);
        }
        if !full.is_empty() {
            let ids: Vec<_> = full.iter().map(|log| log.id()).collect();
            *self.stalled.lock() = full;
            self.dir.listener.stalled(&ids);
        }
        to_flush
    }

    pub(crate) fn is_stalled(&self) -> bool {
        !self.stalled.lock().is_empty()
    }

    /// Looks at the free space at most every 100 ms. While logs are stalled the disk counts as full.
    pub(crate) fn check_space(&self, stalled: bool) {
        let now = Instant::now();
        let fresh = |at: Instant| now.duration_since(at) < SPACE_CHECK_EVERY;
        if !(self.dir.config.threads && self.space_checked.lock().is_some_and(fresh)) {
            self.look_at_space(stalled);
        }
    }

    pub(crate) fn look_at_space(&self, stalled: bool) {
        *self.space_checked.lock() = Some(Instant::now());
        match self.dir.storage.available_bytes() {
            Ok(available) => self.dir.set_full(stalled || available < self.dir.disk_reserve()),
            Err(error) => tracing::warn!(dir = %self.dir.path.display(), %error, "cannot ask for free space"),
        }
    }
}

/// The flusher's memory between rounds.
pub(crate) struct Flusher {
    dir: Arc<DirShared>,
    policy: Mutex<SyncPolicy>,
    /// Held for a round: one sync is in flight per directory.
    turn: Mutex<()>,
}

impl Flusher {
    pub(crate) fn new(dir: Arc<DirShared>) -> Self {
        Flusher {
            dir,
            policy: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    /// A round over everything that waits, unless one is under way.
    pub(crate) fn try_round(&self) -> bool {
        let Some(_turn) = self.turn.try_lock() else {
            return false;
        };
        self.flush(self.dir.flush_queue.try_take());
        true
    }

    /// Makes everything written of `logs` durable: a group commit over all of them.
    pub(crate) fn round(&self, logs: Vec<Arc<Log>>) {
        let _turn = self.turn.lock();
        self.flush(logs);
    }

    fn flush(&self, logs: Vec<Arc<Log>>) {
        let tickets: Vec<(Arc<Log>, FlushTicket)> = logs
            .into_iter()
            .filter_map(|log| log.flush_ticket().map(|ticket| (log, ticket)))
            .collect();
        if tickets.is_empty() || self.dir.failure().is_some() {
            return;
        }
        let root = self.dir.take_root_dirty();
        let syncs: usize = tickets
            .iter()
            .map(|(_, t)| t.files.len() + usize::from(t.sync_dir))
            .sum::<usize>()
            + usize::from(root);
        let way = self.policy.lock().choose(self.dir.config.sync_mode, syncs);
        let started = Instant::now();
        let synced = match way {
            SyncWay::FileSystem => self
                .dir
                .storage
                .sync_all()
                .map_err(|error| LogError::io("sync", &self.dir.path, error)),
            SyncWay::EachFile => sync_each(&*self.dir.storage, &self.dir, &tickets, root),
        };
        if let Err(error) = synced {
            self.dir.fail(&error);
            return;
        }
        self.policy.lock().learn(way, syncs, started.elapsed());
        let flushed: Vec<_> = tickets
            .iter()
            .filter_map(|(log, ticket)| log.flushed(ticket).map(|offset| (log.id(), offset)))
            .collect();
        // Before anybody hears of it: after a kill it is known of everything that was acknowledged.
        self.dir.flushed_ends.write();
        if !flushed.is_empty() {
            self.dir.listener.flushed(&flushed);
        }
    }
}

fn sync_each(
    storage: &dyn Storage,
    dir: &DirShared,
    tickets: &[(Arc<Log>, FlushTicket)],
    root: bool,
) -> Result<(), LogError> {
    for (log, ticket) in tickets {
        for file in &ticket.files {
            file.sync_data()
                .map_err(|error| LogError::io("sync", log.path(), error))?;
        }
        if ticket.sync_dir {
            match storage.sync_dir(log.path()) {
                // Deleted meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.map_err(|error| LogError::io("sync", log.path(), error))?,
            }
        }
    }
    if root {
        storage
            .sync_dir(&dir.path)
            .map_err(|error| LogError::io("sync", &dir.path, error))?;
    }
    Ok(())
}
