//! One partition's replica on this broker: the pure state machine, the log, and who waits for either.
//!
//! Everything that changes the replica runs under its lock: append and ISR check, effects, acknowledgements. The lock is
//! held for microseconds but for changes of role, which write the epoch cache.

mod effects;
mod log_view;
mod offsets;
mod produce;
mod read;
mod replicate;
mod waiters;

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use strom_config::TopicConfig;
use strom_log::Log;
use strom_replication::{Event, FetchAnswer, FetchBounds, Moment, Replica, ReplicaConfig};
use strom_runtime::Clock;
use strom_types::{ErrorCode, LeaderEpoch, Offset, TopicIdPartition};

pub(crate) use produce::{CheckedBatch, ProduceError, ProduceTerms};
pub(crate) use read::{ReadPart, ReadTerms};
pub(crate) use replicate::{Marks, Pushable};
pub(crate) use waiters::{Ack, AckSink, Acknowledged, Wake};

use crate::shared::Shared;
use log_view::View;
use replicate::{Arrived, Pushes};
use waiters::{AckWaiters, FetchWaiters};

/// Shared by everyone who serves the partition.
pub(crate) struct Partition {
    key: TopicIdPartition,
    topic: Arc<str>,
    log: Arc<Log>,
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
}

/// When a long poll is to be woken.
#[derive(Clone, Copy)]
pub(crate) struct WakeAt<'a> {
    /// As soon as a record at this offset is readable.
    pub offset: Offset,
    /// Also by records behind those that are readable already.
    pub always: bool,
    pub wake: &'a Arc<dyn Wake>,
}

struct Inner {
    replica: Replica,
    config: Arc<TopicConfig>,
    acks: AckWaiters,
    fetches: FetchWaiters,
    pushes: Pushes,
    /// A leadership whose start could not be made durable yet, for want of disk space.
    epoch_start_due: Option<LeaderEpoch>,
    /// The answer to the position that a follower's step was for.
    answer: Option<FetchAnswer>,
    /// The records of the reply that a step is for.
    arrived: Option<Arrived>,
}

impl Partition {
    pub(crate) fn new(
        config: ReplicaConfig,
        topic: Arc<str>,
        topic_config: Arc<TopicConfig>,
        log: Arc<Log>,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let key = config.partition;
        let checkpointed = shared.high_watermark_checkpoint(key);
        let replica = Replica::new(config, &View(&log), checkpointed);
        let inner = Inner {
            replica,
            config: topic_config,
            acks: AckWaiters::default(),
            fetches: FetchWaiters::default(),
            pushes: Pushes::default(),
            epoch_start_due: None,
            answer: None,
            arrived: None,
        };
        Arc::new(Partition {
            key,
            topic,
            log,
            shared,
            inner: Mutex::new(inner),
        })
    }

    pub(crate) fn key(&self) -> TopicIdPartition {
        self.key
    }

    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.shared.clock()
    }

    /// Takes one event and carries its effects out.
    pub(crate) fn step(&self, event: Event) {
        let mut inner = self.inner.lock();
        self.step_locked(&mut inner, event);
    }

    /// Takes a metadata event. A leadership that begins with it comes back by its epoch: its start must be made durable
    /// and [`Event::EpochStartPersisted`] stepped, before it serves.
    pub(crate) fn step_metadata(&self, event: Event) -> Option<LeaderEpoch> {
        let mut inner = self.inner.lock();
        self.step_leaving_epoch_start(&mut inner, event)
    }

    /// The log wrote or flushed more.
    pub(crate) fn log_advanced(&self) {
        let mut inner = self.inner.lock();
        self.step_locked(&mut inner, Event::LogAdvanced);
        // acks=1 does not hang on the high watermark.
        self.settle(&mut inner);
    }

    /// The disk is full, and what was appended last waits in memory until there is room. Its producers are told at once,
    /// and that the outcome is open: followers may have these records, and a later write may bring them here.
    pub(crate) fn log_stalled(&self) {
        let mut inner = self.inner.lock();
        let written = self.log.written_offset();
        inner
            .acks
            .fail_from(written, ErrorCode::NotEnoughReplicasAfterAppend);
    }

    pub(crate) fn set_config(&self, config: Arc<TopicConfig>) {
        self.inner.lock().config = config;
    }

    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        self.inner.lock().config.clone()
    }

    #[cfg(test)]
    pub(crate) fn role(&self) -> strom_replication::RoleKind {
        self.inner.lock().replica.role()
    }

    /// Leader and epoch as last applied: KIP-951's hint.
    pub(crate) fn leader(&self) -> (Option<strom_types::BrokerId>, LeaderEpoch) {
        self.inner.lock().replica.leader()
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        self.inner.lock().replica.high_watermark()
    }

    pub(crate) fn with_replica<R>(&self, look: impl FnOnce(&Replica) -> R) -> R {
        look(&self.inner.lock().replica)
    }

    /// The bounds of a consumer's read, and the registration of its wake-up: both under one lock, so that no advance is
    /// missed.
    pub(crate) fn admit_read(
        &self,
        epoch: Option<LeaderEpoch>,
        wake: Option<WakeAt<'_>>,
    ) -> Result<FetchBounds, ErrorCode> {
        let mut inner = self.inner.lock();
        let bounds = inner.replica.admit_fetch(self.shared.moment(), epoch)?;
        match wake {
            Some(at) if at.always || at.offset >= bounds.high_watermark => {
                inner
                    .fetches
                    .push(at.offset.max(bounds.high_watermark), at.wake.clone());
            }
            _ => {}
        }
        Ok(bounds)
    }

    fn moment(&self) -> Moment {
        self.shared.moment()
    }

    fn settle(&self, inner: &mut MutexGuard<'_, Inner>) {
        let inner = &mut **inner;
        if !inner.acks.is_empty() {
            let at = self.shared.moment();
            inner.acks.settle(|wait| inner.replica.acks_state(at, wait));
        }
    }
}
