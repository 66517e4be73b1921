//! Metadata on a broker: entries in order, each once, handed to the replicas they concern.

use std::sync::Arc;
use std::time::Duration;

use strom_metadata::{Delta, Image, PartitionState};
use strom_proto::v1;
use strom_replication::{BrokerState, Event, RecoveryState, Removal, Replica, ReplicaConfig};
use strom_types::{BrokerEpoch, BrokerId, MetadataOffset, TopicIdPartition};

use super::BrokerNode;
use super::life::ALTER_TIMEOUT;
use super::partition::Partition;
use crate::env::Env;

/// Longer than any request is under way, pauses of its receiver included.
const ALTER_EXPIRY: Duration = Duration::from_secs(5);

impl BrokerNode {
    pub(super) fn take_entries(&mut self, env: &mut Env, from: u64, entries: Vec<(u64, v1::MetadataBatch)>) {
        let Some(life) = &self.life else { return };
        if life.image.index.get() != from || life.epoch.is_none() {
            return;
        }
        for (index, batch) in entries {
            let Some(life) = &mut self.life else { return };
            let mut image = life.image.clone();
            match image.apply(MetadataOffset(index), &batch) {
                Ok(delta) => self.apply(env, &image, &delta),
                Err(error) => env.judge.fail(format!("broker {}: {error}", self.index)),
            }
        }
        let now = env.mono(self.addr());
        self.note_news(now);
    }

    pub(super) fn take_image(&mut self, env: &mut Env, index: u64, records: Vec<v1::MetadataRecord>) {
        let Some(life) = &self.life else { return };
        if index <= life.image.index.get() || life.epoch.is_none() {
            return;
        }
        match Image::from_records(MetadataOffset(index), records) {
            Ok(image) => {
                let delta = Delta::between(&life.image, &image);
                self.apply(env, &image, &delta);
            }
            Err(error) => env.judge.fail(format!("broker {}: {error}", self.index)),
        }
        let now = env.mono(self.addr());
        self.note_news(now);
    }

    fn apply(&mut self, env: &mut Env, image: &Image, delta: &Delta) {
        let Some(life) = &mut self.life else { return };
        life.image = image.clone();
        for removed in &delta.removed_topics {
            for key in self.partitions() {
                if key.topic_id == removed.id {
                    self.remove(env, key, Removal::Deleted);
                }
            }
        }
        for key in &delta.partitions {
            let Some(state) = image.partition(*key) else {
                continue;
            };
            if state.replicas.contains(&self.id()) {
                self.assign(env, image, *key, state);
            } else if self.partitions().contains(key) {
                self.remove(env, *key, Removal::Unassigned);
            }
        }
        for id in &delta.brokers {
            let changed = registration(image, *id);
            for key in self.partitions() {
                if image
                    .partition(key)
                    .is_some_and(|state| state.replicas.contains(id))
                {
                    self.step(env, key, Event::BrokerChanged(changed));
                }
            }
        }
    }

    pub(super) fn remove(&mut self, env: &mut Env, key: TopicIdPartition, removal: Removal) {
        self.step(env, key, Event::Removed(removal));
        if let Some(life) = &mut self.life {
            life.partitions.remove(&key);
        }
        self.disk.logs.remove(&key);
        self.disk.checkpoints.remove(&key);
    }

    pub(super) fn assign(
        &mut self,
        env: &mut Env,
        image: &Image,
        key: TopicIdPartition,
        state: &PartitionState,
    ) {
        let event = Event::MetadataApplied {
            partition: replica_state(state),
            brokers: state.replicas.iter().map(|id| registration(image, *id)).collect(),
        };
        if !self.partitions().contains(&key) {
            let name = image
                .topic(key.topic_id)
                .map_or_else(|| Arc::from(""), |topic| topic.name.clone());
            self.host(env, key, name);
        }
        self.step(env, key, event);
    }

    fn host(&mut self, env: &Env, key: TopicIdPartition, topic: Arc<str>) {
        let id = self.id();
        let Some(life) = &mut self.life else { return };
        let config = ReplicaConfig {
            durability: self.durability,
            lag_time_max: Duration::from_millis(700),
            alter_retry_backoff: Duration::from_millis(20),
            // Longer than the shell's own, which then tells first.
            alter_timeout: ALTER_TIMEOUT + Duration::from_millis(60),
            alter_expiry: ALTER_EXPIRY,
            ..ReplicaConfig::new(key, id, life.epoch.unwrap_or(BrokerEpoch::NONE))
        };
        let log = self.disk.logs.entry(key).or_default();
        let checkpoint = self.disk.checkpoints.get(&key).copied().unwrap_or(0);
        let replica = Replica::with_rules(config, log, checkpoint, env.rules);
        life.partitions.insert(key, Partition::new(topic, replica));
    }
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
