//! What the log directory reports from its own threads, passed to the partitions.

use std::sync::Arc;

use parking_lot::RwLock;
use strom_log::{LogError, LogListener};
use strom_replication::Event;
use strom_runtime::Shutdown;
use strom_types::{Offset, TopicIdPartition};
use tokio::sync::Notify;
use tracing::error;

use crate::metrics::Metrics;
use crate::partitions::Partitions;

/// The directory is opened before the partitions exist, so they are handed in later.
pub(crate) struct LogEvents {
    partitions: RwLock<Option<Arc<Partitions>>>,
    /// Tells producers that wait for room in the write queue.
    write_room: Arc<Notify>,
    metrics: Metrics,
    /// A broker with a dead directory and no other one stops.
    shutdown: Shutdown,
}

impl LogEvents {
    pub(crate) fn new(write_room: Arc<Notify>, metrics: Metrics, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(LogEvents {
            partitions: RwLock::default(),
            write_room,
            metrics,
            shutdown,
        })
    }

    pub(crate) fn attach(&self, partitions: Arc<Partitions>) {
        *self.partitions.write() = Some(partitions);
    }

    /// Breaks the circle of partitions, directory and these events, so that a broker whose tasks are dropped gives its
    /// directory back. Waits for the directory's own threads to leave the partitions: they could not end themselves.
    pub(crate) fn detach(&self) {
        let partitions = self.partitions.write().take();
        drop(partitions);
    }

    fn advance(&self, logs: &[(TopicIdPartition, Offset)]) {
        let partitions = self.partitions.read();
        let Some(partitions) = &*partitions else {
            return;
        };
        for (key, _) in logs {
            if let Some(partition) = partitions.get(*key) {
                partition.log_advanced();
            }
        }
    }
}

impl LogListener for LogEvents {
    fn written(&self, _: &[(TopicIdPartition, Offset)]) {
        // Acknowledgements rest on the append (page cache mode) or on the flush; only room was gained.
        self.write_room.notify_waiters();
    }

    fn flushed(&self, logs: &[(TopicIdPartition, Offset)]) {
        self.metrics.flush_round();
        self.advance(logs);
    }

    fn stalled(&self, logs: &[TopicIdPartition]) {
        let partitions = self.partitions.read();
        let hosted = logs.iter().filter_map(|key| partitions.as_ref()?.get(*key));
        hosted.for_each(|partition| partition.log_stalled());
    }

    fn failed(&self, error: &LogError) {
        error!(%error, "the log directory is dead for this process's life; the broker stops");
        self.shutdown.trigger(format!("log directory failed: {error}"));
        // Whoever found it may hold a partition's lock.
        let partitions = self.partitions.read().clone();
        let told = std::thread::Builder::new()
            .name("log-failed".to_owned())
            .spawn(move || {
                for partition in partitions.iter().flat_map(|partitions| partitions.all()) {
                    partition.step(Event::LogFailed);
                }
            });
        if let Err(error) = told {
            error!(%error, "cannot tell the partitions; they end with the broker");
        }
    }
}
