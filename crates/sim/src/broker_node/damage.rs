//! Logs found damaged: told to the controllers, then begun anew, as in `crates/broker/src/partitions/damaged.rs`.

use strom_proto::convert::topic_id_bytes;
use strom_proto::v1;
use strom_replication::{Event, Removal};
use strom_types::{LeaderEpoch, TopicIdPartition};

use super::BrokerNode;
use crate::env::Env;

impl BrokerNode {
    /// Bytes of this log rot; whoever reads them next will find out.
    pub(crate) fn rot(&mut self, key: TopicIdPartition) {
        if let Some(log) = self.disk.logs.get_mut(&key) {
            log.rotten = true;
        }
    }

    pub(crate) fn is_rotten(&self, key: TopicIdPartition) -> bool {
        self.disk.logs.get(&key).is_some_and(|log| log.rotten)
    }

    /// Somebody reads a rotten log sooner or later, and what was found is mended when nobody counts on it any more.
    pub(super) fn look_at_damage(&mut self, env: &mut Env) {
        for key in self.partitions() {
            if self.is_rotten(key) && env.rng.one_in(3) {
                self.step(env, key, Event::LogFailed);
            }
        }
        let Some(life) = &self.life else { return };
        let image = life.image.clone();
        for (key, acted) in life.damaged.clone() {
            let state = image.partition(key);
            let ours = state.filter(|state| state.replicas.contains(&self.id()));
            match ours {
                None => self.forget_damage(key),
                Some(state) if state.may_begin_anew(self.id(), acted) => {
                    self.remove(env, key, Removal::Unassigned);
                    self.forget_damage(key);
                    self.assign(env, &image, key, state);
                }
                Some(_) => {}
            }
        }
    }

    fn forget_damage(&mut self, key: TopicIdPartition) {
        if let Some(life) = &mut self.life {
            life.damaged.remove(&key);
        }
    }

    pub(super) fn damage_report(&self) -> Vec<v1::DamagedReplica> {
        let damaged = self.life.iter().flat_map(|life| &life.damaged);
        let report = |(key, acted): (&TopicIdPartition, &LeaderEpoch)| v1::DamagedReplica {
            topic_id: topic_id_bytes(key.topic_id),
            partition: key.partition,
            leader_epoch: acted.get(),
        };
        damaged.map(report).collect()
    }
}
