//! Faults that take copies away for good: they strike only where enough others are left.

use strom_replication::Durability;

use crate::broker_node::{BrokerNode, broker_index};
use crate::world::World;

impl World {
    pub(crate) fn everybody_is_in_sync(&self) -> bool {
        let image = &self.env.judge.image;
        let serves = |node: &BrokerNode| {
            let known = image.broker(node.id()).filter(|broker| !broker.fenced);
            known.is_some_and(|broker| node.registered() == Some(broker.epoch))
        };
        self.brokers.iter().all(serves)
            && image
                .partitions()
                .all(|(_, state)| state.isr.len() == state.replicas.len())
    }

    /// Loses a broker's disk, when every partition on it has others that keep theirs.
    pub(crate) fn wipe(&mut self, at: usize) {
        let free = self.scenario.durability == Durability::Durable
            && self
                .brokers
                .iter()
                .all(|node| !node.disk.wiped && !node.disk.is_rotten())
            && self.everybody_is_in_sync();
        if !free {
            return;
        }
        self.crash_broker(at, true);
        if let Some(node) = self.brokers.get_mut(at) {
            node.disk.wipe(&mut self.env.rng);
        }
    }

    /// Bytes of one log rot, when all others have theirs.
    pub(crate) fn rot(&mut self, at: usize) {
        let Some(key) = self.env.rng.pick(&self.scenario.plain) else {
            return;
        };
        let sound = self
            .brokers
            .iter()
            .all(|node| !node.disk.wiped && !node.is_rotten(key));
        let Some(state) = self.env.judge.image.partition(key).filter(|_| sound) else {
            return;
        };
        let mut others = state.replicas.iter().filter(|id| broker_index(**id) != at);
        let safe = self.scenario.durability == Durability::Durable
            && state.replicas.len() > 2
            && others.all(|id| state.isr.contains(id));
        if let Some(node) = self.brokers.get_mut(at).filter(|_| safe) {
            node.rot(key);
        }
    }
}
