//! What the logs of a directory share: storage, queues, bounds, and whether the directory still lives.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::caches::{FileCache, TailCache};
use super::flushed_ends::FlushedEnds;
use super::wal::Wal;
use super::work_queue::WorkQueue;
use crate::config::LogDirConfig;
use crate::error::{AppendError, LogError};
use crate::listener::LogListener;
use crate::storage::Storage;

pub(crate) struct DirShared {
    pub(crate) path: PathBuf,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) config: LogDirConfig,
    pub(crate) listener: Arc<dyn LogListener>,
    pub(crate) write_queue: WorkQueue,
    pub(crate) flush_queue: WorkQueue,
    pub(crate) wal: Wal,
    pub(crate) files: FileCache,
    pub(crate) tail_cache: TailCache,
    pub(crate) flushed_ends: FlushedEnds,
    queued_bytes: AtomicUsize,
    appended_bytes: AtomicU64,
    disk_reserve: AtomicU64,
    full: AtomicBool,
    closing: AtomicBool,
    root_dirty: AtomicBool,
    /// A partition's directory was renamed, and the disk may not know.
    renamed: AtomicBool,
    failed: OnceLock<LogError>,
    /// Of the checkpoint read at the start; 0 = none.
    loaded_seq: u64,
    checkpoint_lost: bool,
    /// Of the newest checkpoint begun, and of the newest on the disk.
    seq: AtomicU64,
    durable_seq: AtomicU64,
}

impl DirShared {
    pub(crate) fn new(
        path: PathBuf,
        storage: Arc<dyn Storage>,
        config: LogDirConfig,
        listener: Arc<dyn LogListener>,
        loaded: (u64, bool),
        flushed_ends: FlushedEnds,
    ) -> Self {
        let (loaded_seq, checkpoint_lost) = loaded;
        let wal = Wal::new(
            &path,
            storage.clone(),
            config.wal_bytes_max,
            config.wal_file_bytes,
        );
        DirShared {
            path,
            storage,
            wal,
            listener,
            write_queue: WorkQueue::default(),
            flush_queue: WorkQueue::default(),
            files: FileCache::new(config.open_files_max),
            tail_cache: TailCache::new(
                config.tail_cache_bytes_max,
                Duration::from_millis(config.tail_cache_ms_max),
            ),
            disk_reserve: AtomicU64::new(config.disk_reserve_bytes),
            config,
            flushed_ends,
            queued_bytes: AtomicUsize::new(0),
            appended_bytes: AtomicU64::new(0),
            full: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            root_dirty: AtomicBool::new(false),
            renamed: AtomicBool::new(false),
            failed: OnceLock::new(),
            loaded_seq,
            checkpoint_lost,
            seq: AtomicU64::new(loaded_seq),
            durable_seq: AtomicU64::new(loaded_seq),
        }
    }

    /// Whether `bytes` more may be appended now.
    pub(crate) fn admit(&self, bytes: usize) -> Result<(), AppendError> {
        self.check_alive()?;
        if self.full.load(Ordering::Relaxed) {
            return Err(AppendError::DiskFull);
        }
        let queued = self.queued_bytes.load(Ordering::Relaxed);
        // A batch larger than the whole bound passes when nothing else waits.
        if queued > 0 && queued.saturating_add(bytes) > self.config.queue_bytes_max {
            return Err(AppendError::Overloaded);
        }
        Ok(())
    }

    pub(crate) fn check_alive(&self) -> Result<(), LogError> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(LogError::DirFailed {
                path: self.path.clone(),
                reason: "it is closed".to_owned(),
            });
        }
        match self.failed.get() {
            None => Ok(()),
            Some(error) => Err(LogError::DirFailed {
                path: self.path.clone(),
                reason: error.to_string(),
            }),
        }
    }

    /// The first failure is reported; the directory then is dead for this process's life.
    pub(crate) fn fail(&self, error: &LogError) {
        if self.failed.set(error.clone()).is_ok() {
            tracing::error!(dir = %self.path.display(), %error, "log directory failed");
            self.listener.failed(error);
        }
    }

    /// Makes everything in the directory durable; a failure kills it.
    pub(crate) fn sync_all(&self) -> Result<(), LogError> {
        self.storage.sync_all().map_err(|error| {
            let error = LogError::io("sync", &self.path, error);
            self.fail(&error);
            error
        })
    }

    pub(crate) fn failure(&self) -> Option<&LogError> {
        self.failed.get()
    }

    pub(crate) fn queued(&self, bytes: usize) {
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.appended_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Since this directory was opened.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn disk_reserve(&self) -> u64 {
        self.disk_reserve.load(Ordering::Relaxed)
    }

    pub(crate) fn set_disk_reserve(&self, bytes: u64) {
        self.disk_reserve.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(crate) fn set_full(&self, full: bool) {
        if self.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::warn!(dir = %self.path.display(), "disk is full up to its reserve: appends are refused");
            } else {
                tracing::info!(dir = %self.path.display(), "disk has space again");
            }
        }
    }

    pub(crate) fn begin_closing(&self) -> bool {
        !self.closing.swap(true, Ordering::Relaxed)
    }

    /// A partition's directory was made, renamed or removed.
    pub(crate) fn root_dirty(&self) {
        self.root_dirty.store(true, Ordering::Relaxed);
    }

    /// A partition's directory was renamed away.
    pub(crate) fn renamed(&self) {
        self.root_dirty();
        self.renamed.store(true, Ordering::Release);
    }

    /// Before a directory is made: none of its name may come back after a crash.
    pub(crate) fn settle_renames(&self) -> Result<(), LogError> {
        if self.renamed.swap(false, Ordering::AcqRel) {
            self.storage.sync_dir(&self.path).map_err(|error| {
                let error = LogError::io("sync", &self.path, error);
                self.fail(&error);
                error
            })?;
        }
        Ok(())
    }

    pub(crate) fn take_root_dirty(&self) -> bool {
        self.root_dirty.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn loaded_seq(&self) -> u64 {
        self.loaded_seq
    }

    pub(crate) fn checkpoint_lost(&self) -> bool {
        self.checkpoint_lost
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    pub(crate) fn durable_seq(&self) -> u64 {
        self.durable_seq.load(Ordering::Acquire)
    }

    /// Before the first log is looked at for a checkpoint.
    pub(crate) fn begin_checkpoint(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(crate) fn checkpoint_is_durable(&self, seq: u64) {
        self.durable_seq.store(seq, Ordering::Release);
    }
}
