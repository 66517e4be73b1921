//! A data directory: its lock and identity, the logs in it, and the threads that write, flush and keep house.

mod caches;
pub(crate) mod checkpoint_file;
mod closing;
mod contents;
pub(crate) mod epoch_journal;
mod flushed_ends;
mod housekeeping;
mod meta;
mod removal;
mod rounds;
mod shared;
mod sync_policy;
mod threads;
pub(crate) mod wal;
mod work_queue;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use strom_types::{BrokerEpoch, LeaderEpoch, Offset, TopicIdPartition};
use uuid::Uuid;

use crate::config::{LogConfig, LogDirConfig};
use crate::error::{AppendError, LogError};
use crate::listener::LogListener;
use crate::log::Log;
use crate::storage::{DiskStorage, Storage, StorageLock, read_file, replace_file};
use checkpoint_file::{
    CHECKPOINT_BYTES_MAX, Checkpoint, HIGH_WATERMARK_FILE, decode_high_watermarks, encode_high_watermarks,
};
use contents::{Contents, Partitions, list_partitions, read_checkpoint};
use epoch_journal::EpochJournal;
use flushed_ends::FlushedEnds;
use housekeeping::Housekeeper;
use meta::Meta;
use rounds::{Flusher, Writer};

pub(crate) use contents::create_partition;
pub(crate) use shared::DirShared;

pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
const LOCK_FILE: &str = ".lock";
const TRASH_SUFFIX: &str = ".deleted";
/// Kafka's.
const STRAY_SUFFIX: &str = "-stray";
/// Locks that keep one log from being opened twice at once.
const OPENING_STRIPES: usize = 32;

/// One data directory. All of it is synchronous; calls on one log do not wait for another's.
pub struct LogDir {
    shared: Arc<DirShared>,
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    meta: Mutex<Meta>,
    clean_epoch: Option<BrokerEpoch>,
    opening: [Mutex<()>; OPENING_STRIPES],
    /// Given back when the directory is closed or dropped.
    lock: Mutex<Option<StorageLock>>,
}

/// What the threads share with the handle.
struct Inner {
    writer: Writer,
    flusher: Flusher,
    housekeeper: Housekeeper,
    logs: RwLock<HashMap<TopicIdPartition, Arc<Log>>>,
    /// What the last checkpoint says; also of logs that were not opened since.
    checkpoint: Mutex<Checkpoint>,
    /// Held while the file is replaced, so that an older state never comes after a newer one.
    checkpoint_file: Mutex<()>,
    on_disk: Mutex<Partitions>,
    trash_names: AtomicU64,
    journal: Mutex<EpochJournal>,
    /// The checkpoint in memory has something that the file lacks.
    checkpoint_stale: AtomicBool,
}

impl LogDir {
    /// Locks the directory, checks whose it is, and learns what is in it. Logs are opened by [`log`](Self::log).
    pub fn open(path: &Path, config: LogDirConfig, listener: Arc<dyn LogListener>) -> Result<Self, LogError> {
        let storage = DiskStorage::open(path).map_err(|error| LogError::io("open", path, error))?;
        Self::open_on(Arc::new(storage), path, config, listener)
    }

    /// The same on any storage, such as [`crate::FaultStorage`].
    pub fn open_on(
        storage: Arc<dyn Storage>,
        path: &Path,
        config: LogDirConfig,
        listener: Arc<dyn LogListener>,
    ) -> Result<Self, LogError> {
        storage
            .create_dir(path)
            .map_err(|error| LogError::io("create", path, error))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = storage
            .try_lock(&lock_path)
            .map_err(|error| LogError::io("lock", &lock_path, error))?
            .ok_or_else(|| LogError::Locked {
                path: path.to_owned(),
            })?;
        wal::replay(&*storage, path)?;
        let meta = Meta::open(&*storage, path, config.cluster_id.as_deref(), config.node_id)?;
        let marker = meta::take_clean_marker(&*storage, path)?;
        let Contents {
            partitions: on_disk,
            trash,
            strays,
        } = list_partitions(&*storage, path)?;
        let journal = EpochJournal::read(&*storage, path)?;
        let (checkpoint, lost) = read_checkpoint(&*storage, path, !on_disk.is_empty())?;
        let clean_epoch = marker
            .filter(|(_, seq)| *seq == checkpoint.seq && !lost)
            .map(|(epoch, _)| epoch);
        let flushed_ends = FlushedEnds::open(&*storage, path, &on_disk)?;
        let threads = config.threads;
        let shared = Arc::new(DirShared::new(
            path.to_owned(),
            storage,
            config,
            listener,
            (checkpoint.seq, lost),
            flushed_ends,
        ));
        let inner = Arc::new(Inner {
            writer: Writer::new(shared.clone()),
            flusher: Flusher::new(shared.clone()),
            housekeeper: Housekeeper::new(shared.clone(), trash, strays),
            logs: RwLock::default(),
            checkpoint: Mutex::new(checkpoint),
            checkpoint_file: Mutex::default(),
            on_disk: Mutex::new(on_disk),
            trash_names: AtomicU64::new(0),
            journal: Mutex::new(journal),
            checkpoint_stale: AtomicBool::new(false),
        });
        inner.writer.check_space(false);
        let dir = LogDir {
            shared,
            inner,
            threads: Mutex::default(),
            meta: Mutex::new(meta),
            clean_epoch,
            opening: [const { Mutex::new(()) }; OPENING_STRIPES],
            lock: Mutex::new(Some(lock)),
        };
        if threads {
            dir.spawn_threads()?;
        }
        Ok(dir)
    }

    /// The directory's own id: a wiped disk has another.
    pub fn directory_id(&self) -> Uuid {
        self.meta.lock().directory_id
    }

    /// The cluster that the directory belongs to, once that is known.
    pub fn cluster_id(&self) -> Option<String> {
        self.meta.lock().cluster_id.clone()
    }

    /// Notes the cluster's id and this life's broker epoch; refused when the directory belongs to another cluster.
    pub fn registered(&self, cluster_id: &str, epoch: BrokerEpoch) -> Result<(), LogError> {
        let mut meta = self.meta.lock();
        meta.set_cluster_id(&self.shared.path, Some(cluster_id))?;
        meta.set_broker_epoch(epoch);
        match meta.write(&*self.shared.storage, &self.shared.path) {
            // A full disk is no reason not to start. The next life compares with an older epoch, which is as good.
            Err(error) if error.is_disk_full() => {
                tracing::warn!(%error, "the registration is not noted");
                Ok(())
            }
            written => written,
        }
    }

    /// The broker epoch that the last process noted when it stopped cleanly; `None` after a crash or a first start.
    pub fn clean_shutdown_epoch(&self) -> Option<BrokerEpoch> {
        self.clean_epoch
    }

    /// All partitions with a directory or an open log.
    pub fn partition_ids(&self) -> Vec<TopicIdPartition> {
        let mut ids: Vec<_> = self.inner.on_disk.lock().keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// All partitions with a directory, and their topics' names (`None` where that file is damaged).
    pub fn partitions(&self) -> Vec<(TopicIdPartition, Option<Arc<str>>)> {
        let ids: Vec<_> = self
            .inner
            .on_disk
            .lock()
            .iter()
            .map(|(id, name)| (*id, name.clone()))
            .collect();
        let checkpoint = self.inner.checkpoint.lock();
        let mut partitions: Vec<_> = ids
            .into_iter()
            .map(|(id, name)| {
                let name = name
                    .or_else(|| checkpoint.logs.get(&id).map(|entry| entry.topic.clone()))
                    .or_else(|| contents::read_topic(&*self.shared.storage, &self.shared.path, id));
                (id, name)
            })
            .collect();
        partitions.sort_by_key(|(id, _)| *id);
        partitions
    }

    /// The log of one partition. A new one costs a few hundred bytes of memory and nothing on the disk until its first
    /// append; after a clean stop an old one is only looked at when used; after a crash its tail is checked here, and a
    /// damaged one comes back quarantined ([`Log::quarantined`]). An error means that its files could not be read.
    pub fn log(&self, id: TopicIdPartition, topic: &str, config: LogConfig) -> Result<Arc<Log>, LogError> {
        if let Some(log) = self.get(id) {
            return Ok(log);
        }
        let stripe = usize::try_from(id.topic_id.0.as_u128() as u64 ^ u64::from(id.partition.unsigned_abs()))
            .unwrap_or(0)
            % OPENING_STRIPES;
        let _opening = self.opening.get(stripe).map(|stripe| stripe.lock());
        if let Some(log) = self.get(id) {
            return Ok(log);
        }
        let exists = self.inner.on_disk.lock().contains_key(&id);
        let entry = self
            .inner
            .checkpoint
            .lock()
            .logs
            .get(&id)
            .cloned()
            .filter(|_| exists);
        let journaled = if exists {
            self.inner
                .journal
                .lock()
                .starts
                .get(&id)
                .cloned()
                .unwrap_or_default()
        } else {
            Vec::new()
        };
        let lazily = self.clean_epoch.is_some();
        let log = Log::new(
            id,
            topic,
            self.shared.clone(),
            config,
            entry.clone().filter(|_| lazily),
            journaled,
        );
        if exists && !(lazily && entry.is_some()) {
            match log.recover(entry.as_ref()) {
                Ok(()) | Err(LogError::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.inner
            .on_disk
            .lock()
            .entry(id)
            .or_insert_with(|| Some(topic.into()));
        self.inner.logs.write().insert(id, log.clone());
        Ok(log)
    }

    /// A log that [`log`](Self::log) has opened.
    pub fn get(&self, id: TopicIdPartition) -> Option<Arc<Log>> {
        self.inner.logs.read().get(&id).cloned()
    }

    /// [`Log::assign_epoch_start`] for many logs at the price of one: each log's start offset, or its own error.
    pub fn assign_epoch_starts(
        &self,
        logs: &[(Arc<Log>, LeaderEpoch)],
    ) -> Result<Vec<Result<Offset, AppendError>>, LogError> {
        self.shared.check_alive()?;
        // Held over the write, so that a later call's entries never reach the disk before an earlier one's.
        let mut journal = self.inner.journal.lock();
        journal.seq += 1;
        let mut starts = Vec::with_capacity(logs.len());
        for (log, epoch) in logs {
            let noted = log.note_journaled_epoch(*epoch, journal.seq);
            starts.push(noted.map(|(start, entries)| {
                if !entries.is_empty() {
                    journal.starts.insert(log.id(), entries);
                }
                start
            }));
        }
        let written = journal.write(&*self.shared.storage, &self.shared.path);
        if written.is_err() {
            logs.iter().for_each(|(log, _)| log.journal_failed());
        }
        written.map(|()| starts)
    }

    /// Replaces the checkpoint of high watermarks. Not a promise: after a crash they may be older, never newer.
    pub fn checkpoint_high_watermarks(
        &self,
        offsets: &HashMap<TopicIdPartition, Offset>,
    ) -> Result<(), LogError> {
        let path = self.shared.path.join(HIGH_WATERMARK_FILE);
        replace_file(
            &*self.shared.storage,
            &path,
            &encode_high_watermarks(offsets),
            true,
        )
        .map_err(|error| LogError::io("write", &path, error))
    }

    /// What was checkpointed last; empty when there is none or it is damaged, which is safe: high watermarks grow again.
    pub fn high_watermarks(&self) -> Result<HashMap<TopicIdPartition, Offset>, LogError> {
        let path = self.shared.path.join(HIGH_WATERMARK_FILE);
        let bytes = read_file(&*self.shared.storage, &path, CHECKPOINT_BYTES_MAX)
            .map_err(|error| LogError::io("read", &path, error))?;
        let Some(bytes) = bytes else {
            return Ok(HashMap::new());
        };
        Ok(decode_high_watermarks(&bytes).unwrap_or_else(|| {
            tracing::warn!(path = %path.display(), "ignoring a damaged high watermark checkpoint");
            HashMap::new()
        }))
    }

    /// Appended bytes that wait for the writer: the async side keeps this below `queue_bytes_max`.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued_bytes()
    }

    /// Bytes in the tail cache.
    pub fn tail_cache_bytes(&self) -> usize {
        self.shared.tail_cache.bytes()
    }

    /// Changes [`LogDirConfig::disk_reserve_bytes`], with effect when this returns.
    pub fn set_disk_reserve(&self, bytes: u64) {
        self.shared.set_disk_reserve(bytes);
        self.inner.writer.look_at_space(self.inner.writer.is_stalled());
    }

    /// Whether appends are refused for want of disk space; it ends by itself.
    pub fn is_full(&self) -> bool {
        self.shared.is_full()
    }

    /// Why the directory is dead, if it is.
    pub fn failure(&self) -> Option<LogError> {
        self.shared.failure().cloned()
    }

    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// One round of the writer thread, when `LogDirConfig::threads` is off.
    pub fn write_round(&self) {
        self.inner.writer.round(self.shared.write_queue.try_take());
    }

    /// One round of the flusher thread, when `LogDirConfig::threads` is off.
    pub fn flush_round(&self) {
        self.inner.flusher.round(self.shared.flush_queue.try_take());
        self.inner.flusher.keep_wal();
    }

    /// Checks disk space, empties the trash, ages the tail cache, and writes a checkpoint.
    pub fn housekeep(&self) -> Result<(), LogError> {
        self.inner.keep_house(&self.shared);
        self.inner.checkpoint(&self.shared, false).map(drop)
    }
}
