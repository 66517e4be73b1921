//! The group coordinator: one task per led partition of `__consumer_offsets` around the pure core of `strom-groups`.
//!
//! The task loads the partition's log, then takes requests, writes the core's records with the epoch of its leadership,
//! and ends with it. Requests find it through [`Coordinators`].

mod command;
mod config;
mod coordinator;
mod load;
mod metrics;
mod records;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use strom_client::MetadataCache;
use strom_groups::{Config, Coordinator as Core, Event, Reply, RequestId};
use strom_records::Compression;
use strom_runtime::Settings;
use strom_types::{
    ErrorCode, GROUP_METADATA_TOPIC, LeaderEpoch, TopicId, TopicIdPartition, coordinator_partition,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use command::Command;
use coordinator::{Leadership, run};
pub(crate) use metrics::GroupMetrics;

use crate::partition::Partition;
use crate::partitions::Partitions;
use crate::shared::Note;

/// Commands that wait for one coordinator; more callers wait for room.
const COMMANDS_MAX: usize = 1024;

/// The id and partition count of `__consumer_offsets` as this broker knows it.
pub(crate) type OffsetsTopic = Arc<dyn Fn() -> Option<(TopicId, i32)> + Send + Sync>;

/// As the metadata has it.
pub(crate) fn offsets_topic(metadata: MetadataCache) -> OffsetsTopic {
    Arc::new(move || {
        let image = metadata.peek();
        let topic = image.topic_by_name(GROUP_METADATA_TOPIC)?;
        Some((topic.id, i32::try_from(topic.partitions.len()).ok()?))
    })
}

/// All coordinators of this broker. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Coordinators {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    compression: Compression,
    metrics: GroupMetrics,
    topic: OffsetsTopic,
    led: RwLock<BTreeMap<TopicIdPartition, Led>>,
}

struct Led {
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
}

impl Coordinators {
    pub(crate) fn new(settings: &Settings, metrics: GroupMetrics, topic: OffsetsTopic) -> Self {
        let inner = Inner {
            config: config::from_settings(settings),
            compression: config::compression(settings),
            metrics,
            topic,
            led: RwLock::default(),
        };
        Coordinators {
            inner: Arc::new(inner),
        }
    }

    /// Follows the leaderships of `__consumer_offsets`; other topics' are passed over.
    pub(crate) async fn take_note(&self, partitions: &Partitions, note: Note) {
        match note {
            Note::LeaderReady { key, topic, epoch } if *topic == *GROUP_METADATA_TOPIC => {
                if let Some(partition) = partitions.get(key) {
                    self.begin(partition, epoch);
                }
            }
            Note::LeadershipEnded { key, topic } if *topic == *GROUP_METADATA_TOPIC => {
                if let Some(led) = self.inner.led.write().remove(&key) {
                    led.stop.cancel();
                }
            }
            // Committed offsets of deleted topics go, too.
            Note::TopicsRemoved { names } => self.topics_deleted(&names).await,
            _ => {}
        }
    }

    /// The coordinator of a leadership that has begun: it loads, then serves.
    fn begin(&self, partition: Arc<Partition>, epoch: LeaderEpoch) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let stop = CancellationToken::new();
        let led = Led {
            commands: sender,
            stop: stop.clone(),
        };
        if let Some(before) = self.inner.led.write().insert(partition.key(), led) {
            before.stop.cancel();
        }
        let leadership = Leadership {
            partition,
            epoch,
            commands,
            stop,
            compression: self.inner.compression,
            metrics: self.inner.metrics.clone(),
        };
        tokio::spawn(run(leadership, self.inner.config.clone()));
    }

    /// The broker stops.
    pub(crate) fn close(&self) {
        for led in std::mem::take(&mut *self.inner.led.write()).into_values() {
            led.stop.cancel();
        }
    }

    async fn topics_deleted(&self, topics: &[String]) {
        let all: Vec<_> = {
            let led = self.inner.led.read();
            led.values().map(|led| led.commands.clone()).collect()
        };
        for commands in all {
            // One that has just ended needs nothing.
            let _ = commands.send(Command::TopicsDeleted(topics.to_vec())).await;
        }
    }

    /// The partition that coordinates a group.
    pub(crate) fn partition_of(&self, group: &str) -> Result<TopicIdPartition, ErrorCode> {
        let (topic, partitions) = (self.inner.topic)().ok_or(ErrorCode::NotCoordinator)?;
        Ok(TopicIdPartition::new(
            topic,
            coordinator_partition(group, partitions),
        ))
    }

    /// The partitions that are led here.
    pub(crate) fn led(&self) -> Vec<TopicIdPartition> {
        self.inner.led.read().keys().copied().collect()
    }

    /// Puts a request to the coordinator of a partition and waits for its answer. Dropping this forgets the answer, not
    /// the request.
    pub(crate) async fn ask(
        &self,
        key: TopicIdPartition,
        make: impl FnOnce(RequestId) -> Event + Send + 'static,
    ) -> Result<Reply, ErrorCode> {
        let (command, answer) = Command::request(make);
        self.send(key, command, answer).await
    }

    /// Looks at the state of a partition's coordinator.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        key: TopicIdPartition,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let (command, answer) = Command::look(look);
        self.send(key, command, answer).await
    }

    async fn send<T>(
        &self,
        key: TopicIdPartition,
        command: Command,
        answer: oneshot::Receiver<Result<T, ErrorCode>>,
    ) -> Result<T, ErrorCode> {
        let commands = self.inner.led.read().get(&key).map(|led| led.commands.clone());
        let commands = commands.ok_or(ErrorCode::NotCoordinator)?;
        commands
            .send(command)
            .await
            .map_err(|_| ErrorCode::NotCoordinator)?;
        // A coordinator that ends drops what it has not taken.
        answer.await.unwrap_or(Err(ErrorCode::NotCoordinator))
    }
}
