//! Loading: the whole log of a coordinator's partition is replayed before anything is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use strom_groups::{Config, Coordinator};
use strom_log::{Log, ReadError};
use strom_records::{BatchIter, CrcError, HeaderError, MAX_DECOMPRESSED_BYTES, RecordError};
use strom_types::{LeaderEpoch, Offset};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::records;
use crate::partition::{Partition, Wake, WakeAt};

/// Bytes of one read; a batch that is larger comes whole all the same.
const READ_BYTES: usize = 1 << 20;
/// Before what failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The high watermark is looked at at least this often, should a wake-up be missed.
const COMMIT_CHECK: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Crc(#[from] CrcError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("nothing is readable at offset {0}")]
    Nothing(Offset),
    #[error("reading failed: {0}")]
    Task(#[from] JoinError),
}

/// What has been replayed so far.
struct Loading {
    coordinator: Coordinator,
    next: Offset,
    replayed: u64,
    /// Records of other kinds, and those that cannot be understood.
    skipped: u64,
}

/// Gives a coordinator that has seen every record which the log held when this leadership began. All of them are
/// committed by then: none can be lost any more by a later change of leaders. Tries until it is dropped.
pub(super) async fn load(partition: Arc<Partition>, epoch: LeaderEpoch, config: Config) -> Coordinator {
    let begun = partition.clock().mono();
    let end = partition.log().log_end_offset();
    wait_committed(&partition, epoch, end).await;
    loop {
        match replay_to(&partition, end, config.clone()).await {
            Ok(loading) => {
                info!(
                    partition = partition.key().partition,
                    %epoch,
                    records = loading.replayed,
                    skipped = loading.skipped,
                    millis = partition.clock().mono().since(begun).as_millis(),
                    "group coordinator loaded"
                );
                return loading.coordinator;
            }
            Err(error) => {
                error!(
                    partition = partition.key().partition,
                    %epoch, %error, "cannot load a group coordinator; trying again"
                );
                partition.notice_damage();
                sleep(RETRY_PAUSE * 10).await;
            }
        }
    }
}

/// Waits until everything below `end` is committed.
async fn wait_committed(partition: &Partition, epoch: LeaderEpoch, end: Offset) {
    loop {
        let woken = Arc::new(Committed::default());
        let wake: Arc<dyn Wake> = woken.clone();
        let at = WakeAt {
            offset: end - 1,
            always: false,
            wake: &wake,
        };
        match partition.admit_read(Some(epoch), Some(at)) {
            Ok(bounds) if bounds.high_watermark >= end => return,
            Ok(_) => {
                let _ = timeout(COMMIT_CHECK, woken.notify.notified()).await;
            }
            // The lease may come back; a lost leadership ends this from outside.
            Err(_) => sleep(RETRY_PAUSE).await,
        }
        woken.done.store(true, Ordering::Release);
    }
}

#[derive(Default)]
struct Committed {
    notify: Notify,
    done: AtomicBool,
}

impl Wake for Committed {
    fn wake(&self) {
        self.notify.notify_one();
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

async fn replay_to(partition: &Partition, end: Offset, config: Config) -> Result<Loading, LoadError> {
    let mut loading = Loading {
        coordinator: Coordinator::new(config),
        next: partition.log().log_start_offset(),
        replayed: 0,
        skipped: 0,
    };
    while loading.next < end {
        let log = partition.log().clone();
        // Each read leaves the blocking threads, so that an end of the leadership is noticed in between.
        loading = spawn_blocking(move || loading.read_some(&log, end)).await??;
    }
    Ok(loading)
}

impl Loading {
    fn read_some(mut self, log: &Log, end: Offset) -> Result<Self, LoadError> {
        let chunk = match log.read(self.next, READ_BYTES, end, true) {
            // The log was cut at its start meanwhile.
            Err(ReadError::OffsetOutOfRange { log_start, .. }) if log_start > self.next => {
                self.next = log_start;
                return Ok(self);
            }
            chunk => chunk?,
        };
        if chunk.next_offset <= self.next {
            return Err(LoadError::Nothing(self.next));
        }
        self.replay(chunk.records)?;
        self.next = chunk.next_offset;
        Ok(self)
    }

    fn replay(&mut self, batches: Bytes) -> Result<(), LoadError> {
        for batch in BatchIter::new(batches) {
            let batch = batch?;
            batch.verify_crc()?;
            // Markers of transactions carry no state. What they decide on, commits of transactions, is never written
            // here until there are transactions.
            if batch.header.is_control() || batch.header.is_transactional() {
                self.skipped += u64::try_from(batch.header.record_count).unwrap_or(0);
                continue;
            }
            for record in batch.records(MAX_DECOMPRESSED_BYTES)? {
                let record = record?;
                self.replay_one(record.offset, record.key.as_ref(), record.value.as_ref());
            }
        }
        Ok(())
    }

    /// One record that is not understood must not keep all groups of the partition from being served.
    fn replay_one(&mut self, offset: Offset, key: Option<&Bytes>, value: Option<&Bytes>) {
        let decoded = key.map_or(Ok(None), |key| records::decode(key, value));
        match decoded {
            Ok(Some(record)) => {
                self.coordinator.replay(&record);
                self.replayed += 1;
            }
            Ok(None) => self.skipped += 1,
            Err(error) => {
                warn!(offset, %error, "a record of the offsets topic is not understood and left out");
                self.skipped += 1;
            }
        }
    }
}
