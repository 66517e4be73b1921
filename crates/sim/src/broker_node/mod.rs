//! A broker: the replica cores over a virtual disk, with the glue of the broker service made synchronous.

mod damage;
mod effects;
mod groups;
mod life;
mod metadata;
mod partition;
mod push;
mod serve;

use std::collections::{BTreeMap, BTreeSet};

use strom_metadata::Image;
use strom_replication::{Durability, Event, Lease, Moment, RoleKind};
use strom_types::{BrokerEpoch, BrokerId, FailedBatch, LeaderEpoch, ProducerId, TopicIdPartition};
use uuid::Uuid;

use crate::clock::MS;
use crate::disk::BrokerDisk;
use crate::env::Env;
use crate::message::{Addr, Body};

use groups::Coordinator;
use life::Dealings;
use partition::Partition;

pub(crate) struct BrokerNode {
    index: usize,
    pub disk: BrokerDisk,
    durability: Durability,
    controllers: usize,
    life: Option<Life>,
}

/// One process life.
struct Life {
    incarnation: Uuid,
    /// The life before, if it ended in order.
    clean: Option<BrokerEpoch>,
    epoch: Option<BrokerEpoch>,
    image: Image,
    lease: Lease,
    partitions: BTreeMap<TopicIdPartition, Partition>,
    coordinators: BTreeMap<TopicIdPartition, Coordinator>,
    /// Coordinators whose appends may have been answered.
    stirred: BTreeSet<TopicIdPartition>,
    dealings: Dealings,
    /// Logs that are out of service because of what lies in them, with the last leader epoch in which they acted.
    damaged: BTreeMap<TopicIdPartition, LeaderEpoch>,
    /// What gateways' idempotent producers were refused: `crates/broker/src/data/refused.rs`.
    refused: BTreeMap<(Addr, TopicIdPartition, ProducerId), FailedBatch>,
    /// A controlled shutdown is under way.
    stopping: bool,
    ended: bool,
}

impl Life {
    fn refused(&mut self, gateway: Addr, key: TopicIdPartition, id: ProducerId) -> &mut FailedBatch {
        self.refused.entry((gateway, key, id)).or_default()
    }
}

pub(crate) fn broker_id(index: usize) -> BrokerId {
    BrokerId(i32::try_from(index).unwrap_or(i32::MAX))
}

pub(crate) fn broker_index(id: BrokerId) -> usize {
    usize::try_from(id.get()).unwrap_or(usize::MAX)
}

impl BrokerNode {
    pub(crate) fn new(env: &mut Env, index: usize, durability: Durability, controllers: usize) -> Self {
        BrokerNode {
            index,
            disk: BrokerDisk::new(&mut env.rng),
            durability,
            controllers,
            life: None,
        }
    }

    pub(crate) fn addr(&self) -> Addr {
        Addr::Broker(self.index)
    }

    pub(crate) fn id(&self) -> BrokerId {
        broker_id(self.index)
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) fn start(&mut self, env: &mut Env) {
        env.start(self.addr());
        let now = env.mono(self.addr());
        self.life = Some(Life {
            incarnation: Uuid::from_bytes(env.rng.bytes16()),
            clean: self.disk.clean.take(),
            epoch: None,
            image: Image::empty(),
            lease: Lease::NONE,
            partitions: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            stirred: BTreeSet::new(),
            dealings: Dealings::new(env, now, self.controllers),
            damaged: BTreeMap::new(),
            refused: BTreeMap::new(),
            stopping: false,
            ended: false,
        });
    }

    /// The process dies at once; with the power goes what was not synced.
    pub(crate) fn crash(&mut self, env: &mut Env, power_lost: bool) {
        self.life = None;
        self.disk.crash(power_lost, &mut env.rng);
        env.stop(self.addr());
    }

    /// Asks to be let go (controlled shutdown).
    pub(crate) fn stop(&mut self) {
        if let Some(life) = &mut self.life {
            life.stopping = true;
        }
    }

    /// The end of a process that closes its logs in order.
    fn close(&mut self, env: &mut Env) {
        let keys: Vec<_> = self.partitions();
        for key in keys {
            self.step(env, key, Event::Shutdown);
        }
        self.checkpoint();
        for log in self.disk.logs.values_mut() {
            log.sync();
        }
        self.disk.clean = self.life.as_ref().and_then(|life| life.epoch);
        self.life = None;
        env.stop(self.addr());
    }

    fn partitions(&self) -> Vec<TopicIdPartition> {
        let life = self.life.iter();
        life.flat_map(|life| life.partitions.keys()).copied().collect()
    }

    fn moment(&self, env: &Env) -> Moment {
        Moment {
            now: env.mono(self.addr()),
            lease: self.life.as_ref().map_or(Lease::NONE, |life| life.lease),
        }
    }

    pub(crate) fn wake(&mut self, env: &mut Env) -> u64 {
        self.deal(env);
        self.look_at_damage(env);
        for key in self.partitions() {
            self.tick(env, key);
        }
        if env.rng.one_in(40) {
            self.checkpoint();
        }
        self.run_coordinators(env, true);
        self.leave_if_ended(env);
        env.rng.range(8 * MS, 14 * MS)
    }

    pub(crate) fn receive(&mut self, env: &mut Env, from: Addr, body: Body) {
        match body {
            Body::Controlled { call, reply } => self.take_controlled(env, from, call, reply),
            Body::Position {
                partition,
                fetch,
                restart,
            } => self.take_position(env, partition, fetch, restart),
            Body::Leader { key, reply, entries } => {
                if let Addr::Broker(leader) = from {
                    self.take_reply(env, broker_id(leader), key, reply, entries);
                }
            }
            Body::Ask { call, ask } => self.serve(env, (from, call), ask),
            _ => {}
        }
        self.run_coordinators(env, false);
        self.leave_if_ended(env);
    }

    pub(crate) fn flushed(&mut self, env: &mut Env, key: TopicIdPartition) {
        if let Some(log) = self.disk.logs.get_mut(&key) {
            log.finish_flush();
        }
        self.step(env, key, Event::LogAdvanced);
        self.settle(env, key);
        self.begin_flush(env, key);
        self.run_coordinators(env, false);
    }

    fn begin_flush(&mut self, env: &mut Env, key: TopicIdPartition) {
        if self.life.is_some() && self.disk.logs.get_mut(&key).is_some_and(|log| log.begin_flush()) {
            env.flush(self.index, key);
        }
    }

    fn leave_if_ended(&mut self, env: &mut Env) {
        if self.life.as_ref().is_some_and(|life| life.ended) {
            self.close(env);
        }
    }

    fn checkpoint(&mut self) {
        let Some(life) = &self.life else { return };
        for (key, partition) in &life.partitions {
            self.disk
                .checkpoints
                .insert(*key, partition.replica.high_watermark());
        }
    }

    /// Whether this node serves as the leader of the partition in `epoch`.
    pub(crate) fn leads(&self, key: TopicIdPartition, epoch: strom_types::LeaderEpoch) -> bool {
        self.life
            .as_ref()
            .and_then(|life| life.partitions.get(&key))
            .is_some_and(|p| p.replica.role() == RoleKind::Leader && p.replica.leader().1 == epoch)
    }

    /// The leader's maximal ISR, when it leads in `epoch`.
    pub(crate) fn maximal_isr(
        &self,
        key: TopicIdPartition,
        epoch: strom_types::LeaderEpoch,
    ) -> Option<Vec<BrokerId>> {
        let life = self.life.as_ref()?;
        let partition = life.partitions.get(&key)?;
        let leads = partition.replica.role() == RoleKind::Leader && partition.replica.leader().1 == epoch;
        leads.then(|| partition.replica.maximal_isr())
    }

    pub(crate) fn registered(&self) -> Option<BrokerEpoch> {
        self.life.as_ref()?.epoch
    }

    pub(crate) fn describe(&self) -> String {
        let Some(life) = &self.life else {
            return format!("broker {} is down", self.index);
        };
        let mut text = format!(
            "broker {} epoch {:?} at index {}",
            self.index,
            life.epoch,
            life.image.index.get()
        );
        for (key, partition) in &life.partitions {
            let replica = &partition.replica;
            let log = self.disk.logs.get(key);
            let facts = log.map(|log| (log.start(), log.end(), log.durable(), log.epochs().to_vec()));
            text.push_str(&format!(
                "\n  {key}: {:?} of {:?} isr {:?} hw {} log {facts:?}",
                replica.role(),
                replica.leader(),
                replica.isr(),
                replica.high_watermark(),
            ));
        }
        text
    }
}
