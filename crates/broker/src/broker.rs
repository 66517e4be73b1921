//! A running broker, as its tasks and services share it.

use std::sync::Arc;
use std::thread::available_parallelism;

use strom_client::{ControllerClient, MetadataCache};
use strom_log::LogDir;
use strom_runtime::Clock;
use strom_types::{BrokerEpoch, BrokerId, MetadataOffset};
use tokio::sync::{Semaphore, watch};

use crate::config::BrokerConfig;
use crate::data::Lanes;
use crate::groups::{self, Coordinators};
use crate::log_events::LogEvents;
use crate::metrics::Metrics;
use crate::partitions::Partitions;
use crate::producer_ids::ProducerIds;
use crate::shared::Shared;
use crate::write_room::WriteRoom;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<BrokerConfig>,
    epoch: BrokerEpoch,
    dir: Arc<LogDir>,
    shared: Arc<Shared>,
    partitions: Arc<Partitions>,
    metadata: MetadataCache,
    applied: watch::Sender<MetadataOffset>,
    lanes: Lanes,
    check_permits: Arc<Semaphore>,
    producer_ids: ProducerIds,
    write_room: WriteRoom,
    coordinators: Coordinators,
    events: Arc<LogEvents>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.events.detach();
    }
}

/// What a broker is made of.
pub(crate) struct Parts {
    pub config: Arc<BrokerConfig>,
    pub epoch: BrokerEpoch,
    pub dir: Arc<LogDir>,
    pub shared: Arc<Shared>,
    pub partitions: Arc<Partitions>,
    pub metadata: MetadataCache,
    pub controller: ControllerClient,
    pub write_room: WriteRoom,
    pub events: Arc<LogEvents>,
}

impl Broker {
    pub(crate) fn new(parts: Parts) -> Self {
        let producer_ids = ProducerIds::new(parts.controller, parts.config.broker_id, parts.epoch);
        let group_metrics = parts.shared.metrics().groups().clone();
        let offsets_topic = groups::offsets_topic(parts.metadata.clone());
        let inner = Inner {
            coordinators: Coordinators::new(&parts.config.settings, group_metrics, offsets_topic),
            config: parts.config,
            epoch: parts.epoch,
            dir: parts.dir,
            shared: parts.shared,
            partitions: parts.partitions,
            metadata: parts.metadata,
            applied: watch::Sender::new(MetadataOffset(0)),
            lanes: Lanes::default(),
            check_permits: Arc::new(Semaphore::new(available_parallelism().map_or(1, |n| n.get()))),
            producer_ids,
            write_room: parts.write_room,
            events: parts.events,
        };
        Broker {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn id(&self) -> BrokerId {
        self.inner.config.broker_id
    }

    pub(crate) fn epoch(&self) -> BrokerEpoch {
        self.inner.epoch
    }

    pub(crate) fn config(&self) -> &BrokerConfig {
        &self.inner.config
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.inner.shared.clock()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.inner.shared.metrics()
    }

    pub(crate) fn dir(&self) -> &Arc<LogDir> {
        &self.inner.dir
    }

    pub(crate) fn partitions(&self) -> &Arc<Partitions> {
        &self.inner.partitions
    }

    pub(crate) fn metadata(&self) -> &MetadataCache {
        &self.inner.metadata
    }

    /// The index that the partitions have been brought to.
    pub(crate) fn applied(&self) -> &watch::Sender<MetadataOffset> {
        &self.inner.applied
    }

    pub(crate) fn lanes(&self) -> &Lanes {
        &self.inner.lanes
    }

    /// One for each long check of a produced batch that may run at a time: as many as there are cores.
    pub(crate) fn check_permits(&self) -> &Arc<Semaphore> {
        &self.inner.check_permits
    }

    pub(crate) fn producer_ids(&self) -> &ProducerIds {
        &self.inner.producer_ids
    }

    pub(crate) fn coordinators(&self) -> &Coordinators {
        &self.inner.coordinators
    }

    /// Waits while more bytes are queued for the disk than may be: producers feel the disk's pace.
    pub(crate) async fn wait_for_write_room(&self) {
        self.inner.write_room.wait().await;
    }
}
