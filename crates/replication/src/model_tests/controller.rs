//! A toy controller: registrations, fencing, ISR and ELR, elections, AlterPartition (2.7-2.9), one partition.

use strom_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Mono, PartitionEpoch};

use super::SESSION;
use super::rng::Rng;
use crate::{BrokerState, IsrMember, PartitionState, RecoveryState};

/// One committed metadata entry: the whole image after it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) partition: PartitionState,
    pub(super) brokers: Vec<BrokerState>,
}

pub(super) struct AlterRequest {
    pub(super) from: BrokerId,
    pub(super) life: BrokerEpoch,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) partition_epoch: PartitionEpoch,
    pub(super) attempt: u32,
    pub(super) new_isr: Vec<IsrMember>,
}

pub(super) struct Controller {
    pub(super) partition: PartitionState,
    pub(super) brokers: Vec<BrokerState>,
    last_contact: Vec<Mono>,
    pub(super) log: Vec<Entry>,
}

fn at(id: BrokerId) -> usize {
    usize::try_from(id.get()).unwrap()
}

impl Controller {
    pub(super) fn new(brokers: i32, min_isr: usize) -> Self {
        let ids: Vec<_> = (0..brokers).map(BrokerId).collect();
        let registered = |id: &BrokerId| BrokerState {
            id: *id,
            epoch: BrokerEpoch(0),
            fenced: false,
            shutting_down: false,
        };
        let mut controller = Controller {
            brokers: ids.iter().map(registered).collect(),
            last_contact: vec![Mono(0); ids.len()],
            partition: PartitionState {
                leader: Some(BrokerId(0)),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: PartitionEpoch(-1),
                isr: ids.clone(),
                replicas: ids,
                elr: vec![],
                recovery_state: RecoveryState::Recovered,
                min_isr,
            },
            log: vec![],
        };
        controller.commit();
        controller
    }

    fn commit(&mut self) {
        let epoch = self.partition.partition_epoch.get();
        if self
            .log
            .last()
            .is_none_or(|last| last.partition != self.partition)
        {
            self.partition.partition_epoch = PartitionEpoch(epoch + 1);
        }
        self.log.push(Entry {
            partition: self.partition.clone(),
            brokers: self.brokers.clone(),
        });
    }

    pub(super) fn is_fenced(&self, id: BrokerId) -> bool {
        self.brokers[at(id)].fenced
    }

    fn live(&self, id: BrokerId) -> bool {
        !self.is_fenced(id)
    }

    /// ISR ∪ ELR: each of them must hold everything committed.
    pub(super) fn candidates(&self) -> Vec<BrokerId> {
        let p = &self.partition;
        p.isr.iter().chain(&p.elr).copied().collect()
    }

    fn set_isr(&mut self, isr: Vec<BrokerId>) {
        let mut elr = self.candidates();
        elr.retain(|id| !isr.contains(id));
        if isr.len() >= self.partition.min_isr {
            elr.clear();
        }
        self.partition.isr = isr;
        self.partition.elr = elr;
    }

    fn remove_from_isr(&mut self, id: BrokerId) {
        let isr = self
            .partition
            .isr
            .iter()
            .copied()
            .filter(|other| *other != id)
            .collect();
        self.set_isr(isr);
        if self.partition.leader == Some(id) {
            self.set_leader(None);
        }
    }

    fn set_leader(&mut self, leader: Option<BrokerId>) {
        self.partition.leader = leader;
        self.partition.leader_epoch = LeaderEpoch(self.partition.leader_epoch.get() + 1);
    }

    /// Election order (1)-(3) of 2.8; (4) stays off.
    fn elect(&mut self) {
        if self.partition.leader.is_some() {
            return;
        }
        let first = |of: &[BrokerId]| {
            self.partition
                .replicas
                .iter()
                .copied()
                .find(|id| of.contains(id) && self.live(*id))
        };
        if let Some(leader) = first(&self.partition.isr) {
            self.set_leader(Some(leader));
        } else if self.partition.isr.is_empty()
            && let Some(leader) = first(&self.partition.elr)
        {
            self.set_isr(vec![leader]);
            self.set_leader(Some(leader));
        }
    }

    /// A new process life. Durable topic: it stays eligible unless its disk is new.
    pub(super) fn register(&mut self, id: BrokerId, wiped: bool, now: Mono) -> BrokerEpoch {
        let epoch = BrokerEpoch(i64::try_from(self.log.len()).unwrap());
        let broker = &mut self.brokers[at(id)];
        broker.epoch = epoch;
        broker.fenced = true;
        self.last_contact[at(id)] = now;
        self.remove_from_isr(id);
        if wiped {
            self.partition.elr.retain(|other| *other != id);
        }
        self.elect();
        self.commit();
        epoch
    }

    pub(super) fn fence(&mut self, id: BrokerId) {
        if !self.is_fenced(id) {
            self.brokers[at(id)].fenced = true;
            self.remove_from_isr(id);
            self.elect();
            self.commit();
        }
    }

    pub(super) fn fence_silent(&mut self, now: Mono) {
        for i in 0..self.brokers.len() {
            if now.since(self.last_contact[i]) > SESSION {
                self.fence(self.brokers[i].id);
            }
        }
    }

    /// Whether the heartbeat renews the lease; `None` = another life is registered.
    pub(super) fn heartbeat(
        &mut self,
        id: BrokerId,
        life: BrokerEpoch,
        applied: usize,
        now: Mono,
    ) -> Option<bool> {
        let broker = self.brokers[at(id)];
        if broker.epoch != life {
            return None;
        }
        self.last_contact[at(id)] = now;
        if broker.fenced && applied > usize::try_from(life.get()).unwrap() {
            self.brokers[at(id)].fenced = false;
            self.elect();
            self.commit();
        }
        Some(self.live(id))
    }

    /// A preferred-leader election or a controlled hand-over: another live ISR member leads.
    pub(super) fn move_leader(&mut self, rng: &mut Rng) {
        let current = self.partition.leader;
        let others: Vec<_> = self
            .partition
            .isr
            .iter()
            .copied()
            .filter(|id| Some(*id) != current)
            .collect();
        if current.is_some() && !others.is_empty() {
            self.set_leader(Some(others[rng.index(others.len())]));
            self.commit();
        }
    }

    pub(super) fn alter(&mut self, request: &AlterRequest) -> ErrorCode {
        let p = &self.partition;
        if self.brokers[at(request.from)].epoch != request.life {
            return ErrorCode::StaleBrokerEpoch;
        }
        if request.leader_epoch < p.leader_epoch {
            return ErrorCode::FencedLeaderEpoch;
        }
        if p.leader != Some(request.from) {
            return ErrorCode::InvalidRequest;
        }
        if request.partition_epoch != p.partition_epoch {
            return ErrorCode::InvalidUpdateVersion;
        }
        let eligible = |member: &IsrMember| {
            let broker = self.brokers[at(member.broker)];
            !broker.fenced && broker.epoch == member.epoch
        };
        if !request.new_isr.iter().all(eligible) {
            return ErrorCode::IneligibleReplica;
        }
        self.set_isr(request.new_isr.iter().map(|member| member.broker).collect());
        self.commit();
        ErrorCode::None
    }
}
