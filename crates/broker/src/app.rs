//! Wires a broker and takes it through its life: open the directory, register, follow the metadata, serve, hand over,
//! close.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use strom_client::{ControllerClient, MetadataCache, MetadataChange, MetadataWatcher, Peers};
use strom_log::{LogDir, LogDirConfig};
use strom_metadata::Image;
use strom_proto::splice::SplicedServer;
use strom_proto::v1::broker_control_server::BrokerControlServer;
use strom_proto::v1::group_coordinator_server::GroupCoordinatorServer;
use strom_replication::Event;
use strom_runtime::{Clock, Health, OnFailure, Shutdown, TaskGroup};
use strom_types::BrokerEpoch;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;
use tonic::service::Routes;
use tracing::{error, info, warn};

use crate::broker::{Broker, Parts};
use crate::config::BrokerConfig;
use crate::data::BrokerData;
use crate::error::BrokerError;
use crate::grpc::{Control, Groups};
use crate::life::{AlterPartitions, Heartbeat, Standing, register};
use crate::log_events::LogEvents;
use crate::metrics::Metrics;
use crate::partitions::Partitions;
use crate::replication::{self, Replication};
use crate::shared::{Note, Shared};
use crate::tasks::{apply_metadata, checkpoint, checkpoint_now, report_health, take_notes, tick};
use crate::write_room::WriteRoom;

/// The gRPC services that a broker offers.
pub const SERVICES: &[&str] = &[
    "strom.v1.BrokerControl",
    "strom.v1.BrokerData",
    "strom.v1.GroupCoordinator",
    "strom.v1.Replication",
];
const COMPONENT: &str = "broker";
/// Loops end at once when told to, but for a disk operation under way.
const TASKS_STOP_MAX: Duration = Duration::from_secs(1);
const CONTROL_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a broker needs from its process.
pub struct Environment {
    pub clock: Clock,
    pub health: Health,
    pub metrics: strom_runtime::Metrics,
    pub peers: Peers,
    pub controller: ControllerClient,
}

/// A broker that has its directory and its registration, and is ready to run.
pub struct App {
    broker: Broker,
    dir: Arc<LogDir>,
    health: Health,
    controller: ControllerClient,
    watcher: MetadataWatcher,
    changes: mpsc::UnboundedReceiver<MetadataChange>,
    notes: mpsc::UnboundedReceiver<Note>,
    partitions: Arc<Partitions>,
    replication: Replication,
}

impl App {
    /// Opens the data directory and registers with the controllers, which may take as long as they are away. A
    /// directory that dies triggers `shutdown`.
    pub async fn build(
        config: BrokerConfig,
        environment: Environment,
        shutdown: Shutdown,
    ) -> Result<Self, BrokerError> {
        let Environment {
            clock,
            health,
            metrics,
            peers,
            controller,
        } = environment;
        health.set_not_ready(COMPONENT, "starting");
        let metrics = Metrics::new(&metrics);
        let write_room = Arc::new(Notify::new());
        let events = LogEvents::new(write_room.clone(), metrics.clone(), shutdown);
        let dir = LogDir::open(&config.data_dir, log_dir_config(&config), events.clone())?;
        let dir = Arc::new(dir);
        let registration = register(
            &controller,
            &config,
            dir.directory_id(),
            dir.clean_shutdown_epoch(),
        )
        .await?;
        dir.registered(&registration.cluster_id, registration.epoch)?;
        let checkpointed = dir.high_watermarks()?.into_iter().collect();
        let (shared, notes) = Shared::new(clock, metrics, checkpointed);
        let config = Arc::new(config);
        let partitions = Arc::new(Partitions::new(
            config.clone(),
            registration.epoch,
            dir.clone(),
            shared.clone(),
        ));
        events.attach(partitions.clone());
        let client = format!("broker {}", config.broker_id);
        let (watcher, metadata) = MetadataWatcher::new(controller.clone(), client);
        let (watcher, changes) = watcher.with_changes();
        let write_room = WriteRoom::new(dir.clone(), write_room, config.write_queue_bytes_max);
        let replication = Replication::new(replication::Parts {
            id: config.broker_id,
            epoch: registration.epoch,
            images: images(&metadata),
            partitions: partitions.clone(),
            shared: shared.clone(),
            room: write_room.clone(),
            peers,
        });
        let broker = Broker::new(Parts {
            config,
            epoch: registration.epoch,
            dir: dir.clone(),
            shared,
            partitions: partitions.clone(),
            metadata,
            controller: controller.clone(),
            write_room,
            events,
        });
        Ok(App {
            broker,
            dir,
            health,
            controller,
            watcher,
            changes,
            notes,
            partitions,
            replication,
        })
    }

    /// The services that other nodes call, for a gRPC server or for callers in this process.
    pub fn routes(&self) -> Routes {
        let control = BrokerControlServer::new(Control::new(self.broker.clone()))
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        let groups = GroupCoordinatorServer::new(Groups::new(self.broker.coordinators().clone()))
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        let mut routes = Routes::builder();
        routes
            .add_service(control)
            .add_service(groups)
            .add_service(SplicedServer(BrokerData::new(self.broker.clone())))
            .add_service(SplicedServer(self.replication.clone()));
        routes.routes()
    }

    /// Serves until shutdown, then hands leaderships over and closes the logs. The error tells that the controllers
    /// ended this life, or that the logs could not be closed in order.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), BrokerError> {
        let App {
            broker,
            dir,
            health,
            controller,
            watcher,
            changes,
            notes,
            partitions,
            replication,
        } = self;
        let (standing, standing_rx) = watch::channel(Standing::default());
        let (want_shutdown, want_shutdown_rx) = watch::channel(false);
        let (isr_changes, isr_receiver) = mpsc::unbounded_channel();
        let heartbeat = Heartbeat {
            broker: broker.clone(),
            controller: controller.clone(),
            applied: broker.applied().subscribe(),
            want_shutdown: want_shutdown_rx,
            standing,
        };
        let alter = AlterPartitions {
            broker: broker.clone(),
            controller,
            changes: isr_receiver,
        };
        // Each loop is a task of its own: the heartbeat must not wait for another's disk.
        let failure = Shutdown::new();
        let tasks = TaskGroup::detached(COMPONENT, failure.clone());
        spawn(&tasks, "metadata watch", |stop| watcher.run(stop));
        spawn(&tasks, "metadata changes", |stop| {
            apply_metadata(broker.clone(), changes, stop)
        });
        spawn(&tasks, "partition notes", |stop| {
            take_notes(broker.clone(), notes, isr_changes, stop)
        });
        spawn(&tasks, "ISR changes", |stop| alter.run(stop));
        spawn(&tasks, "replication", |stop| replication.run(stop));
        spawn(&tasks, "replica ticks", |stop| tick(broker.clone(), stop));
        spawn(&tasks, "checkpoints", |stop| checkpoint(broker.clone(), stop));
        spawn(&tasks, "health", |stop| {
            report_health(COMPONENT, health, standing_rx.clone(), stop)
        });
        let beating = Shutdown::new();
        let mut heartbeat = tokio::spawn(heartbeat.run(beating.clone()));
        let outcome = tokio::select! {
            ended = &mut heartbeat => {
                let ended = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                if let Err(error) = &ended {
                    error!(%error, "the broker stops at once");
                }
                ended
            }
            () = failure.cancelled() => Err(BrokerError::TaskFailed(failure.reason().unwrap_or_default())),
            () = async {
                shutdown.cancelled().await;
                hand_over(&broker, want_shutdown, standing_rx.clone()).await;
            } => Ok(()),
        };
        beating.trigger("the broker stops");
        tasks.stop(TASKS_STOP_MAX).await;
        close(&broker, &partitions, dir).await?;
        outcome
    }
}

/// Spawns a loop that ends only with the broker.
fn spawn<T>(tasks: &TaskGroup, name: &str, task: impl FnOnce(Shutdown) -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    tasks.spawn(name, OnFailure::Shutdown, |stop| {
        let task = task(stop);
        async move {
            task.await;
            Ok::<(), Infallible>(())
        }
    });
}

/// The newest image, whenever it is asked for.
fn images(metadata: &MetadataCache) -> Arc<dyn Fn() -> Arc<Image> + Send + Sync> {
    let metadata = metadata.clone();
    Arc::new(move || metadata.image())
}

fn log_dir_config(config: &BrokerConfig) -> LogDirConfig {
    LogDirConfig {
        cluster_id: config.cluster_id.clone(),
        node_id: config.broker_id.get(),
        disk_reserve_bytes: config.disk_reserve_bytes,
        wal_bytes_max: config.wal_bytes_max,
        queue_bytes_max: config.write_queue_bytes_max * 2,
        tail_cache_bytes_max: config.tail_cache_bytes_max,
        ..LogDirConfig::default()
    }
}

/// Controlled shutdown: asks the controllers to move the leaderships, and waits until this broker has none.
async fn hand_over(broker: &Broker, want: watch::Sender<bool>, mut standing: watch::Receiver<Standing>) {
    want.send_replace(true);
    let limit = broker.config().controlled_shutdown_max;
    match timeout(limit, standing.wait_for(|standing| standing.may_shut_down)).await {
        Ok(Ok(_)) => info!("leaderships are handed over"),
        _ => warn!(
            limit_ms = limit.as_millis(),
            "stopping without the controllers' word that nothing is led here"
        ),
    }
}

/// Ends all replicas and closes the directory with the mark of a clean stop.
async fn close(broker: &Broker, partitions: &Arc<Partitions>, dir: Arc<LogDir>) -> Result<(), BrokerError> {
    broker.shared().revoke_lease();
    let epoch: BrokerEpoch = broker.epoch();
    let (partitions, checkpoint) = (partitions.clone(), broker.clone());
    let closed = tokio::task::spawn_blocking(move || {
        partitions
            .all()
            .iter()
            .for_each(|partition| partition.step(Event::Shutdown));
        checkpoint_now(&checkpoint);
        dir.close(epoch)
    });
    match closed.await {
        Ok(closed) => Ok(closed?),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
