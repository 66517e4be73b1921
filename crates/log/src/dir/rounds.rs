//! The directory's work, a round at a time: writing, flushing, housekeeping. The threads only repeat these.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use strom_types::{Offset, TopicIdPartition};

use super::shared::DirShared;
use super::sync_policy::{SyncPolicy, SyncWay};
use crate::error::LogError;
use crate::log::{FlushTicket, IoTurn, Log, Written};
use crate::storage::Storage;

/// How long disk space is believed without asking.
const SPACE_CHECK_EVERY: Duration = Duration::from_millis(100);
/// Rounds with more than this are worth a sync of the segments themselves: it costs less than writing them twice.
const WAL_ENTRY_BYTES_MAX: usize = 512 * 1024;

/// What was free above the reserve when it was looked at, less what has been written since.
#[derive(Clone, Copy)]
struct Space {
    seen_at: Instant,
    room: u64,
}

/// The writer's memory between rounds.
pub(crate) struct Writer {
    dir: Arc<DirShared>,
    space: Mutex<Option<Space>>,
    /// Logs that met a full disk; they hold what could not be written.
    stalled: Mutex<Vec<Arc<Log>>>,
}

impl Writer {
    pub(crate) fn new(dir: Arc<DirShared>) -> Self {
        Writer {
            dir,
            space: Mutex::new(None),
            stalled: Mutex::default(),
        }
    }

    /// Writes all pending bytes of `logs`, one vectored write per log and segment, and tells the listener. Small ones
    /// become durable by an entry of the write-ahead log; returns the bytes of those whose logs now wait in the
    /// flusher's queue instead, if any do.
    pub(crate) fn round(&self, logs: Vec<Arc<Log>>) -> Option<usize> {
        let stalled = std::mem::take(&mut *self.stalled.lock());
        if (logs.is_empty() && stalled.is_empty()) || self.dir.failure().is_some() {
            return None;
        }
        self.check_space(!stalled.is_empty());
        // Twice in one round, a log would wait for its own turn.
        let more = logs
            .into_iter()
            .filter(|log| !stalled.iter().any(|known| Arc::ptr_eq(known, log)));
        let more: Vec<_> = more.collect();
        let logs = [stalled, more].concat();
        let mut written: Vec<(TopicIdPartition, Offset)> = Vec::with_capacity(logs.len());
        let mut to_flush = Vec::new();
        let mut full: Vec<Arc<Log>> = Vec::new();
        let mut failure = None;
        for log in &logs {
            let turn = log.io_turn();
            match log.write_pending(&turn) {
                Ok(Some(done)) => {
                    self.dir
                        .tail_cache
                        .wrote(Arc::downgrade(log), done.offset, done.bytes);
                    written.push((log.id(), done.offset));
                    self.wrote(done.bytes);
                    if done.flush {
                        to_flush.push(Unflushed { log, turn, done });
                    }
                }
                Ok(None) | Err(LogError::Deleted(_)) => {}
                Err(error) if error.is_disk_full() => {
                    tracing::debug!(partition = %log.id(), %error, "waiting for disk space");
                    self.dir.set_full(true);
                    // An earlier segment's part may have been written.
                    log.request_flush();
                    full.push(log.clone());
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failure {
            // Whoever hears of it may wait for a log's turn.
            drop(to_flush);
            self.dir.fail(&error);
            return None;
        }
        let left = self.flush_small(to_flush);
        if !written.is_empty() {
            self.dir.listener.written(&written);
        }
        if !full.is_empty() {
            let ids: Vec<_> = full.iter().map(|log| log.id()).collect();
            *self.stalled.lock() = full;
            self.dir.listener.stalled(&ids);
            return Some(left.unwrap_or(0));
        }
        left
    }

    /// One entry of the write-ahead log where all is small enough together; the rest is left to the flusher.
    fn flush_small(&self, unflushed: Vec<Unflushed<'_>>) -> Option<usize> {
        let small = unflushed.iter().map(|one| one.done.bytes).sum::<usize>() <= WAL_ENTRY_BYTES_MAX;
        let (mut rest, mut taken, mut parts) = (None, Vec::new(), Vec::new());
        let mut room = WAL_ENTRY_BYTES_MAX;
        for one in unflushed {
            let fit = small && !one.done.rolled;
            match fit.then(|| one.log.wal_part(&one.turn, room)).flatten() {
                Some(part) => {
                    room = room.saturating_sub(usize::try_from(part.place.len).unwrap_or(room));
                    parts.push(part);
                    taken.push(one);
                }
                None => one.leave_to_flusher(&mut rest),
            }
        }
        if parts.is_empty() || self.dir.failure().is_some() {
            return rest;
        }
        let entry = self.dir.wal.append(&parts);
        let mut flushed = Vec::with_capacity(taken.len());
        for one in taken {
            match &entry {
                Ok(Some(seq)) => flushed.push((one.log.id(), one.log.wal_synced(&one.turn, *seq))),
                Ok(None) => one.leave_to_flusher(&mut rest),
                Err(_) => {}
            }
        }
        if let Err(error) = entry {
            self.dir.fail(&error);
        }
        // The listener may come back to the logs: by now nobody's turn is held.
        if !flushed.is_empty() {
            self.dir.listener.flushed(&flushed);
        }
        rest
    }

    pub(crate) fn is_stalled(&self) -> bool {
        !self.stalled.lock().is_empty()
    }

    /// Looks at the free space every 100 ms at most, or when what was free above the reserve has been written since. While
    /// logs are stalled the disk counts as full.
    pub(crate) fn check_space(&self, stalled: bool) {
        let known = *self.space.lock();
        let fresh = |space: Space| space.seen_at.elapsed() < SPACE_CHECK_EVERY && space.room > 0;
        if !(self.dir.config.threads && known.is_some_and(fresh)) {
            self.look_at_space(stalled);
        }
    }

    fn wrote(&self, bytes: usize) {
        if let Some(space) = &mut *self.space.lock() {
            space.room = space.room.saturating_sub(bytes as u64);
        }
    }

    pub(crate) fn look_at_space(&self, stalled: bool) {
        let available = self.dir.storage.available_bytes();
        let reserve = self.dir.disk_reserve();
        *self.space.lock() = Some(Space {
            seen_at: Instant::now(),
            room: available
                .as_ref()
                .map_or(u64::MAX, |available| available.saturating_sub(reserve)),
        });
        match available {
            Ok(available) => self.dir.set_full(stalled || available < reserve),
            Err(error) => tracing::warn!(dir = %self.dir.path.display(), %error, "cannot ask for free space"),
        }
    }
}

/// A log with something written that is to become durable. While its turn is held, nothing of it is truncated.
struct Unflushed<'a> {
    log: &'a Arc<Log>,
    turn: IoTurn<'a>,
    done: Written,
}

impl Unflushed<'_> {
    fn leave_to_flusher(self, bytes: &mut Option<usize>) {
        *bytes.get_or_insert(0) += self.done.bytes;
        self.log.request_flush();
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

    /// Makes room in the write-ahead log, where there is little left.
    pub(crate) fn keep_wal(&self) {
        let wal = &self.dir.wal;
        if self.dir.failure().is_some() || !wal.needs_upkeep() {
            return;
        }
        let mut kept = Ok(());
        if let Some(release) = wal.release_due() {
            self.round(release.logs.clone());
            if self.dir.failure().is_some() {
                return;
            }
            kept = wal.release(&release);
        }
        if kept.is_ok() && !self.dir.is_full() {
            let available = self.dir.storage.available_bytes().unwrap_or(0);
            kept = wal.prepare(available.saturating_sub(self.dir.disk_reserve()));
        }
        match kept {
            Err(error) if error.is_disk_full() => {
                tracing::debug!(dir = %self.dir.path.display(), %error, "no space for the write-ahead log");
            }
            Err(error) => self.dir.fail(&error),
            Ok(()) => {}
        }
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
        tickets.iter().for_each(|(_, ticket)| ticket.uncache());
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
