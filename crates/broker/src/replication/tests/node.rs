//! One broker without controllers: a real log directory, partitions and streams.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use strom_client::{MetadataChange, Peers};
use strom_log::{FaultStorage, LogDir, LogDirConfig, Storage};
use strom_metadata::{Delta, Image};
use strom_proto::splice::SplicedServer;
use strom_replication::Event;
use strom_runtime::{Clock, Shutdown, Sources};
use strom_types::{BrokerEpoch, BrokerId};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tonic::service::Routes;

use super::cluster::{endpoint, key};
use crate::config::BrokerConfig;
use crate::log_events::LogEvents;
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::partitions::Partitions;
use crate::replication::{Parts, Replication};
use crate::shared::{Note, Shared};
use crate::write_room::WriteRoom;

const LEASE: Duration = Duration::from_secs(3600);

/// One life of a broker.
pub(super) struct Node {
    pub(super) id: BrokerId,
    pub(super) disk: FaultStorage,
    pub(super) dir: Arc<LogDir>,
    pub(super) shared: Arc<Shared>,
    pub(super) partitions: Arc<Partitions>,
    pub(super) replication: Replication,
    pub(super) peers: Peers,
    /// What this broker has been told of the metadata.
    applied: Arc<Mutex<Image>>,
    applying: Mutex<()>,
    pub(super) stop: Shutdown,
}

impl Node {
    pub(super) fn new(
        id: i32,
        epoch: i64,
        disk: FaultStorage,
        log_dir: &LogDirConfig,
    ) -> (Self, UnboundedReceiver<Note>) {
        let settings = strom_runtime::config::load(&Sources::default()).unwrap();
        let (broker, epoch) = (BrokerId(id), BrokerEpoch(epoch));
        let config = BrokerConfig {
            replica_lag_time_max: Duration::from_secs(2),
            ..BrokerConfig::from_settings(&settings, broker, endpoint(id), "/data".into())
        };
        let metrics = Metrics::default();
        let freed = Arc::new(Notify::new());
        let events = LogEvents::new(freed.clone(), metrics.clone(), Shutdown::new());
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let log_dir = LogDirConfig {
            node_id: id,
            ..log_dir.clone()
        };
        let dir = LogDir::open_on(storage, Path::new("/data"), log_dir, events.clone()).unwrap();
        let dir = Arc::new(dir);
        let checkpointed = dir.high_watermarks().unwrap().into_iter().collect();
        let (shared, notes) = Shared::new(Clock::system(), metrics, checkpointed);
        shared.renew_lease(shared.clock().mono(), LEASE);
        let room = WriteRoom::new(dir.clone(), freed, config.write_queue_bytes_max);
        let partitions = Arc::new(Partitions::new(
            Arc::new(config),
            epoch,
            dir.clone(),
            shared.clone(),
        ));
        events.attach(partitions.clone());
        let peers = Peers::new();
        let applied = Arc::new(Mutex::new(Image::empty()));
        let known = applied.clone();
        let node = Node {
            id: broker,
            disk,
            dir,
            replication: Replication::new(Parts {
                id: broker,
                epoch,
                images: Arc::new(move || Arc::new(known.lock().clone())),
                partitions: partitions.clone(),
                shared: shared.clone(),
                room,
                peers: peers.clone(),
            }),
            shared,
            partitions,
            peers,
            applied,
            applying: Mutex::default(),
            stop: Shutdown::new(),
        };
        (node, notes)
    }

    /// Ends its tasks and the threads of its log directory.
    pub(super) fn end(self: &Arc<Self>) {
        self.stop.trigger("the node ends");
        let node = self.clone();
        std::thread::spawn(move || node.dir.close(BrokerEpoch(1)));
    }

    pub(super) fn routes(&self) -> Routes {
        let mut routes = Routes::builder();
        routes.add_service(SplicedServer(self.replication.clone()));
        routes.routes()
    }

    /// As before the first metadata has come.
    pub(super) fn forget_metadata(&self) {
        *self.applied.lock() = Image::empty();
    }

    pub(super) fn catch_up(&self, newest: &Mutex<Image>) {
        let _in_order = self.applying.lock();
        let newest = newest.lock().clone();
        let delta = {
            let mut applied = self.applied.lock();
            if newest.index <= applied.index {
                return;
            }
            let delta = Arc::new(Delta::between(&applied, &newest));
            *applied = newest.clone();
            delta
        };
        self.partitions.apply(&MetadataChange {
            image: Arc::new(newest),
            delta,
        });
    }

    pub(super) fn tick(&self) {
        let moment = self.shared.moment();
        for partition in self.partitions.all() {
            partition.retry_epoch_start();
            let due = |replica: &strom_replication::Replica| {
                replica.next_tick().is_some_and(|due| due <= moment.now) || replica.waits_for_lease()
            };
            if partition.with_replica(due) {
                partition.step(Event::Tick);
            }
        }
    }

    pub(super) fn partition(&self, partition: i32) -> Arc<Partition> {
        self.partitions.get(key(partition)).unwrap()
    }
}
