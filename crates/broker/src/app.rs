//! Wires a broker and takes it through its life: open the directory, register, follow the metadata, serve, hand over,
//! close.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use strom_client::{ControllerClient, MetadataCache, MetadataChange, MetadataWatcher, Peers};
use strom_log::{LogDir, LogDirConfig};
use strom_proto::splice::SplicedServer;
use strom_proto::v1::broker_control_server::BrokerControlServer;
use strom_proto::v1::group_coordinator_server::GroupCoordinatorServer;
use strom_replication::Event;
use strom_runtime::{Clock, Health, Shutdown};
use strom_types::{BrokerEpoch, MetadataOffset};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::service::Routes;
use tracing::{error, info, warn};

use crate::broker::{Broker, Parts};
use crate::config::BrokerConfig;
use crate::data::BrokerData;
use crate::error::BrokerError;
use crate::grpc::{Control, Groups};
use crate::life::{AlterPartitions, Heartbeat, IsrChange, Standing, register};
use crate::log_events::LogEvents;
use crate::metrics::Metrics;
use crate::partitions::Partitions;
use crate::replication::{self, Replication};
use crate::shared::{Note, Shared};
use crate::write_room::WriteRoom;

const COMPONENT: &str = "broker";
/// Replicas look at the time at least this often.
const TICK: Duration = Duration::from_millis(100);
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
        let dir = Arc::new(LogDir::open(
            &config.data_dir,
            log_dir_config(&config),
            events.clone(),
        )?);
        let registration = register(
            &controller,
            &config,
            dir.directory_id(),
            dir.clean_shutdown_epoch(),
        )
        .await?;
        dir.set_cluster_id(&registration.cluster_id)?;
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
        let (watcher, metadata) =
            MetadataWatcher::new(controller.clone(), format!("broker {}", config.broker_id));
        let (watcher, changes) = watcher.with_changes();
        let write_room = WriteRoom::new(dir.clone(), write_room, config.write_queue_bytes_max);
        let replication = Replication::new(replication::Parts {
            id: config.broker_id,
            epoch: registration.epoch,
            images: {
                let metadata = metadata.clone();
                Arc::new(move || metadata.image())
            },
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
        let stop = Shutdown::new();
        let (applied, applied_rx) = watch::channel(MetadataOffset(0));
        let (standing, standing_rx) = watch::channel(Standing::default());
        let (want_shutdown, want_shutdown_rx) = watch::channel(false);
        let (isr_changes, isr_receiver) = mpsc::unbounded_channel();
        let heartbeat = Heartbeat {
            broker: broker.clone(),
            controller: controller.clone(),
            applied: applied_rx,
            want_shutdown: want_shutdown_rx,
            standing,
        };
        let alter = AlterPartitions {
            broker: broker.clone(),
            controller,
            changes: isr_receiver,
        };
        let tasks = async {
            tokio::join!(
                watcher.run(stop.clone()),
                apply_metadata(
                    partitions.clone(),
                    broker.metadata().clone(),
                    changes,
                    applied,
                    stop.clone()
                ),
                take_notes(broker.clone(), notes, isr_changes, stop.clone()),
                alter.run(stop.clone()),
                replication.run(stop.clone()),
                tick(broker.clone(), stop.clone()),
                checkpoint(broker.clone(), stop.clone()),
                report_health(health, standing_rx.clone(), stop.clone()),
            );
        };
        let ending = async {
            shutdown.cancelled().await;
            hand_over(&broker, want_shutdown, standing_rx.clone()).await;
            stop.trigger("the broker stops");
        };
        let outcome = async {
            let ended = tokio::select! {
                ended = heartbeat.run(stop.clone()) => ended,
                () = async { tokio::join!(tasks, ending); } => Ok(()),
            };
            if let Err(error) = &ended {
                error!(%error, "the broker stops at once");
                stop.trigger("ended by the controllers");
            }
            ended
        };
        let outcome = outcome.await;
        close(&broker, &partitions, dir).await?;
        outcome
    }
}

fn log_dir_config(config: &BrokerConfig) -> LogDirConfig {
    LogDirConfig {
        cluster_id: config.cluster_id.clone(),
        node_id: config.broker_id.get(),
        disk_reserve_bytes: config.disk_reserve_bytes,
        queue_bytes_max: config.write_queue_bytes_max * 2,
        tail_cache_bytes_max: config.tail_cache_bytes_max,
        ..LogDirConfig::default()
    }
}

/// Brings the partitions in step with each metadata change, in order, on a thread of its own: it opens logs and syncs.
async fn apply_metadata(
    partitions: Arc<Partitions>,
    metadata: MetadataCache,
    mut changes: mpsc::UnboundedReceiver<MetadataChange>,
    applied: watch::Sender<MetadataOffset>,
    stop: Shutdown,
) {
    let mut seen = metadata.changes();
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => match change {
                Some(change) => Some(change),
                None => return,
            },
            // Entries without records move the index alone.
            changed = seen.changed() => match changed {
                Ok(()) => None,
                Err(_) => return,
            },
        };
        match change {
            Some(change) => {
                let index = change.image.index;
                let partitions = partitions.clone();
                let done = tokio::task::spawn_blocking(move || partitions.apply(&change)).await;
                if let Err(error) = done {
                    error!(%error, "a metadata change could not be applied");
                    std::panic::resume_unwind(error.into_panic());
                }
                applied.send_if_modified(|at| std::mem::replace(at, index.max(*at)) < index);
            }
            None if changes.is_empty() => {
                let index = metadata.applied();
                if changes.is_empty() && metadata.image().index <= *applied.borrow() {
                    applied.send_if_modified(|at| std::mem::replace(at, index.max(*at)) < index);
                }
            }
            None => {}
        }
    }
}

/// Does what partitions want done outside their locks.
async fn take_notes(
    broker: Broker,
    mut notes: mpsc::UnboundedReceiver<Note>,
    isr_changes: mpsc::UnboundedSender<IsrChange>,
    stop: Shutdown,
) {
    loop {
        let note = tokio::select! {
            () = stop.cancelled() => return broker.coordinators().close(),
            note = notes.recv() => match note {
                Some(note) => note,
                None => return,
            },
        };
        match note {
            Note::AlterPartition {
                key,
                leader_epoch,
                partition_epoch,
                attempt,
                new_isr,
                recovery_state,
            } => {
                let change = IsrChange {
                    key,
                    leader_epoch,
                    partition_epoch,
                    attempt,
                    new_isr,
                    recovery_state,
                };
                // The receiver ends with the broker.
                let _ = isr_changes.send(change);
            }
            Note::DeleteLog { key } => {
                let dir = broker.dir().clone();
                let deleted = tokio::task::spawn_blocking(move || dir.delete_log(key)).await;
                if let Ok(Err(error)) = deleted {
                    warn!(%key, %error, "cannot delete a log");
                }
            }
            note @ (Note::LeaderReady { .. } | Note::LeadershipEnded { .. } | Note::TopicsRemoved { .. }) => {
                broker.coordinators().take_note(broker.partitions(), note).await;
            }
        }
    }
}

/// Lets replicas see the time pass.
async fn tick(broker: Broker, stop: Shutdown) {
    let mut every = interval(TICK);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let moment = broker.shared().moment();
        for partition in broker.partitions().all() {
            let due = partition.with_replica(|replica| {
                replica.next_tick().is_some_and(|due| due <= moment.now)
                    || (replica.waits_for_lease() && moment.lease_valid())
            });
            if due {
                partition.step(Event::Tick);
            }
        }
    }
}

/// Writes the high watermarks down now and then, so that a restart begins near them.
async fn checkpoint(broker: Broker, stop: Shutdown) {
    let mut every = interval(broker.config().checkpoint_interval);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        if broker.shared().take_checkpoint_due() {
            let broker = broker.clone();
            // A failed write is logged there; the next one is due soon.
            let _ = tokio::task::spawn_blocking(move || checkpoint_now(&broker)).await;
        }
    }
}

fn checkpoint_now(broker: &Broker) {
    let partitions = broker.partitions().all();
    let offsets: HashMap<_, _> = partitions.iter().map(|p| (p.key(), p.high_watermark())).collect();
    if let Err(error) = broker.dir().checkpoint_high_watermarks(&offsets) {
        warn!(%error, "cannot write the high watermark checkpoint");
    }
}

async fn report_health(health: Health, mut standing: watch::Receiver<Standing>, stop: Shutdown) {
    loop {
        if standing.borrow_and_update().unfenced {
            health.set_ready(COMPONENT);
        } else {
            health.set_not_ready(COMPONENT, "fenced by the controllers");
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = standing.changed() => if changed.is_err() { break },
        }
    }
    health.set_not_ready(COMPONENT, "stopping");
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
