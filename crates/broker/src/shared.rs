//! What all partitions of one broker share, and the notes they leave for the broker's tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use strom_replication::{IsrMember, Lease, Moment, RecoveryState};
use strom_runtime::Clock;
use strom_types::{LeaderEpoch, Mono, Offset, PartitionEpoch, TopicIdPartition};
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::partitions::DamagedLogs;
use crate::replication::FetchDesk;

/// What a partition wants done outside its lock. Notes of one partition are taken in their order.
#[derive(Debug)]
pub(crate) enum Note {
    LeaderReady {
        key: TopicIdPartition,
        topic: Arc<str>,
        epoch: LeaderEpoch,
    },
    LeadershipEnded {
        key: TopicIdPartition,
        topic: Arc<str>,
    },
    AlterPartition {
        key: TopicIdPartition,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        attempt: u32,
        new_isr: Vec<IsrMember>,
        recovery_state: RecoveryState,
    },
    /// Topics, by their names, are gone from the metadata.
    TopicsRemoved {
        names: Vec<String>,
    },
}

pub(crate) struct Shared {
    clock: Clock,
    /// With the session timeout that it was last renewed with.
    lease: RwLock<(Lease, Duration)>,
    notes: mpsc::UnboundedSender<Note>,
    metrics: Metrics,
    fetch_desk: FetchDesk,
    damaged_logs: DamagedLogs,
    /// High watermarks as of the last checkpoint before this start.
    checkpointed: BTreeMap<TopicIdPartition, Offset>,
    /// Some high watermark has moved since the last checkpoint.
    checkpoint_due: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        clock: Clock,
        metrics: Metrics,
        checkpointed: BTreeMap<TopicIdPartition, Offset>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Note>) {
        let (notes, receiver) = mpsc::unbounded_channel();
        let shared = Shared {
            clock,
            lease: RwLock::new((Lease::NONE, Duration::ZERO)),
            notes,
            metrics,
            fetch_desk: FetchDesk::default(),
            damaged_logs: DamagedLogs::default(),
            checkpointed,
            checkpoint_due: AtomicBool::new(false),
        };
        (Arc::new(shared), receiver)
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What followers here want their leaders told.
    pub(crate) fn fetch_desk(&self) -> &FetchDesk {
        &self.fetch_desk
    }

    pub(crate) fn damaged_logs(&self) -> &DamagedLogs {
        &self.damaged_logs
    }

    /// Now, with the lease as it is now.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            now: self.clock.mono(),
            lease: self.lease.read().0,
        }
    }

    pub(crate) fn renew_lease(&self, sent_at: Mono, session_timeout: Duration) {
        let mut lease = self.lease.write();
        lease.0.renewed(sent_at, session_timeout);
        lease.1 = session_timeout;
    }

    /// It is proven that no controller led at `since` or took up the leadership before it: as good as a heartbeat sent
    /// then, if the lease has not run out meanwhile.
    pub(crate) fn extend_lease(&self, since: Mono) {
        let mut lease = self.lease.write();
        if lease.0.valid(self.clock.mono()) {
            let session = lease.1;
            lease.0.renewed(since, session);
        }
    }

    pub(crate) fn revoke_lease(&self) {
        self.lease.write().0.revoked();
    }

    pub(crate) fn note(&self, note: Note) {
        // The receiver ends with the process.
        let _ = self.notes.send(note);
    }

    pub(crate) fn high_watermark_checkpoint(&self, key: TopicIdPartition) -> Offset {
        self.checkpointed.get(&key).copied().unwrap_or(0)
    }

    pub(crate) fn high_watermark_advanced(&self) {
        self.checkpoint_due.store(true, Ordering::Relaxed);
    }

    /// Whether a checkpoint is due; asking resets it.
    pub(crate) fn take_checkpoint_due(&self) -> bool {
        self.checkpoint_due.swap(false, Ordering::Relaxed)
    }
}
