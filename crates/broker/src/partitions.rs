//! The partitions that this broker has a replica of, kept in step with the metadata.

mod configs;
mod damaged;
mod strays;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;
use strom_client::MetadataChange;
use strom_config::{Durability as ConfigDurability, TopicConfig};
use strom_log::{Log, LogDir};
use strom_metadata::{Image, PartitionState};
use strom_replication::{BrokerState, Durability, Event, RecoveryState, Removal, ReplicaConfig};
use strom_types::{BrokerEpoch, BrokerId, LeaderEpoch, TopicId, TopicIdPartition};
use tracing::{error, warn};

use crate::config::BrokerConfig;
use crate::partition::Partition;
use crate::shared::{Note, Shared};
use configs::log_config;

pub(crate) use damaged::DamagedLogs;

/// From so many leaderships on, their starts are synced together.
const SYNC_TOGETHER_MIN: usize = 8;

pub(crate) struct Partitions {
    config: Arc<BrokerConfig>,
    broker_epoch: BrokerEpoch,
    dir: Arc<LogDir>,
    shared: Arc<Shared>,
    hosted: RwLock<HashMap<TopicIdPartition, Arc<Partition>>>,
    strays_swept: AtomicBool,
}

impl Partitions {
    pub(crate) fn new(
        config: Arc<BrokerConfig>,
        broker_epoch: BrokerEpoch,
        dir: Arc<LogDir>,
        shared: Arc<Shared>,
    ) -> Self {
        Partitions {
            config,
            broker_epoch,
            dir,
            shared,
            hosted: RwLock::default(),
            strays_swept: AtomicBool::new(false),
        }
    }

    pub(crate) fn get(&self, key: TopicIdPartition) -> Option<Arc<Partition>> {
        self.hosted.read().get(&key).cloned()
    }

    /// Looks at every partition, in no order.
    pub(crate) fn for_each(&self, mut look: impl FnMut(&Arc<Partition>)) {
        // Not under the lock: a step may take long.
        let all: Vec<_> = self.hosted.read().values().cloned().collect();
        all.iter().for_each(&mut look);
    }

    /// By key.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        let mut all: Vec<_> = self.hosted.read().values().cloned().collect();
        all.sort_by_key(|partition| partition.key());
        all
    }

    /// Brings replicas in step with one metadata change. Changes must come in order, none left out.
    pub(crate) fn apply(&self, change: &MetadataChange) {
        let MetadataChange { image, delta } = change;
        for removed in &delta.removed_topics {
            self.remove_topic(removed.id);
        }
        let mut configs: HashMap<TopicId, Arc<TopicConfig>> = HashMap::new();
        let mut leaderships = Vec::new();
        for &key in &delta.partitions {
            let Some(state) = image.partition(key) else {
                continue;
            };
            if state.replicas.contains(&self.config.broker_id) {
                let config = configs
                    .entry(key.topic_id)
                    .or_insert_with(|| self.topic_config(image, key.topic_id));
                leaderships.extend(self.assign(image, key, state, config));
            } else {
                self.remove(key, Removal::Unassigned);
            }
        }
        self.begin_leaderships(&leaderships);
        if !delta.brokers.is_empty() {
            self.brokers_changed(image, &delta.brokers);
        }
        self.configs_changed(image, &delta.configs);
        self.mend_damaged(image);
        self.sweep_strays(image);
        if !delta.removed_topics.is_empty() {
            let names = delta.removed_topics.iter().map(|topic| topic.name.to_string());
            self.shared.note(Note::TopicsRemoved {
                names: names.collect(),
            });
        }
    }

    fn remove_topic(&self, topic: TopicId) {
        let hosted = self.hosted.read();
        let keys: Vec<_> = hosted
            .keys()
            .filter(|key| key.topic_id == topic)
            .copied()
            .collect();
        drop(hosted);
        for key in keys {
            self.remove(key, Removal::Deleted);
        }
    }

    /// Ends a replica and deletes its log, here and now: left for later, a partition that comes back meanwhile would
    /// lose its new log.
    fn remove(&self, key: TopicIdPartition, removal: Removal) {
        let Some(partition) = self.hosted.write().remove(&key) else {
            return;
        };
        partition.step(Event::Removed(removal));
        if let Err(error) = self.dir.delete_log(key) {
            warn!(topic = %partition.topic(), partition = key.partition, %error, "cannot delete a log");
        }
    }

    /// Makes the starts of leaderships durable, many at the price of a few syncs, and lets them begin.
    fn begin_leaderships(&self, leaderships: &[(Arc<Partition>, LeaderEpoch)]) {
        if leaderships.len() < SYNC_TOGETHER_MIN {
            for (partition, epoch) in leaderships {
                partition.epoch_start(*epoch, partition.log().assign_epoch_start(*epoch).map(drop));
            }
            return;
        }
        let logs: Vec<_> = leaderships
            .iter()
            .map(|(partition, epoch)| (partition.log().clone(), *epoch))
            .collect();
        match self.dir.assign_epoch_starts(&logs) {
            Ok(starts) => {
                for ((partition, epoch), start) in leaderships.iter().zip(starts) {
                    partition.epoch_start(*epoch, start.map(drop));
                }
            }
            Err(error) => leaderships
                .iter()
                .for_each(|(partition, epoch)| partition.epoch_start(*epoch, Err(error.clone().into()))),
        }
    }

    /// Creates or updates a replica; a leadership that begins comes back.
    fn assign(
        &self,
        image: &Image,
        key: TopicIdPartition,
        state: &PartitionState,
        config: &Arc<TopicConfig>,
    ) -> Option<(Arc<Partition>, LeaderEpoch)> {
        let event = Event::MetadataApplied {
            partition: replica_state(state),
            brokers: registrations(image, state),
        };
        if let Some(partition) = self.get(key) {
            return partition.step_metadata(event).map(|epoch| (partition, epoch));
        }
        let topic = image
            .topic(key.topic_id)
            .map_or_else(|| Arc::from(""), |topic| topic.name.clone());
        let log = match self.dir.log(key, &topic, log_config(config, &self.config)) {
            Ok(log) => log,
            Err(error) => {
                error!(%topic, partition = key.partition, %error, "cannot open a log; its replica stays out of service");
                return None;
            }
        };
        let partition = self.new_partition(key, topic, config.clone(), log);
        self.hosted.write().insert(key, partition.clone());
        if let Some(error) = partition.log().quarantined() {
            partition.step(log_failed(&partition, &error));
        }
        partition.step_metadata(event).map(|epoch| (partition, epoch))
    }

    fn new_partition(
        &self,
        key: TopicIdPartition,
        topic: Arc<str>,
        config: Arc<TopicConfig>,
        log: Arc<Log>,
    ) -> Arc<Partition> {
        let replica = ReplicaConfig {
            durability: match config.durability {
                ConfigDurability::Durable => Durability::Durable,
                ConfigDurability::PageCache => Durability::PageCache,
            },
            lag_time_max: self.config.replica_lag_time_max,
            ..ReplicaConfig::new(key, self.config.broker_id, self.broker_epoch)
        };
        Partition::new(replica, topic, config, log, self.shared.clone())
    }

    fn brokers_changed(&self, image: &Image, brokers: &[BrokerId]) {
        let changed: Vec<BrokerState> = brokers.iter().map(|id| registration(image, *id)).collect();
        for partition in self.all() {
            let Some(state) = image.partition(partition.key()) else {
                continue;
            };
            for broker in changed
                .iter()
                .filter(|broker| state.replicas.contains(&broker.id))
            {
                partition.step(Event::BrokerChanged(*broker));
            }
        }
    }
}

fn log_failed(partition: &Partition, error: &dyn std::fmt::Display) -> Event {
    let key = partition.key();
    error!(topic = %partition.topic(), partition = key.partition, %error, "a log cannot be used");
    Event::LogFailed
}

fn replica_state(state: &PartitionState) -> strom_replication::PartitionState {
    strom_replication::PartitionState {
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        replicas: state.replicas.clone(),
        isr: state.isr.clone(),
        elr: state.elr.clone(),
        recovery_state: if state.recovering {
            RecoveryState::Recovering
        } else {
            RecoveryState::Recovered
        },
        min_isr: usize::try_from(state.min_isr).unwrap_or(1).max(1),
    }
}

fn registrations(image: &Image, state: &PartitionState) -> Vec<BrokerState> {
    state.replicas.iter().map(|id| registration(image, *id)).collect()
}

fn registration(image: &Image, id: BrokerId) -> BrokerState {
    match image.broker(id) {
        Some(broker) => BrokerState {
            id,
            epoch: broker.epoch,
            fenced: broker.fenced,
            shutting_down: broker.in_controlled_shutdown,
        },
        None => BrokerState {
            id,
            epoch: BrokerEpoch::NONE,
            fenced: true,
            shutting_down: false,
        },
    }
}
