//! One partition's replica in a broker process: its core, who waits for it, and the stepping of both.

use std::collections::{BTreeMap, VecDeque};

use strom_replication::{AckWait, Acks, AcksState, Effect, Event, FetchAnswer, Replica};
use strom_types::{BrokerId, ErrorCode, LeaderEpoch, Mono, Offset, TopicIdPartition};

use super::BrokerNode;
use super::push::Push;
use crate::disk::Entry;
use crate::env::Env;
use crate::message::{Addr, Answer};

/// Unanswered appends are answered as timed out after this.
const REQUEST_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(3000);
/// A follower tells its position anew after this: what a broken stream's successor does.
const TELL_AGAIN: std::time::Duration = std::time::Duration::from_millis(120);

pub(super) struct Partition {
    pub(super) topic: std::sync::Arc<str>,
    pub(super) replica: Replica,
    pub(super) acks: Vec<Waiter>,
    pub(super) pushes: BTreeMap<BrokerId, Push>,
    /// The answer to the position that a step was for.
    pub(super) answer: Option<FetchAnswer>,
    /// The records of the reply that a step is for.
    pub(super) arrived: Vec<Entry>,
    /// The high watermark as the judge saw it last.
    seen: Offset,
    told: Mono,
    pub(super) retry_at: Option<Mono>,
}

/// A producer's append on its way to be answered.
pub(super) struct Waiter {
    pub(super) wait: AckWait,
    pub(super) id: u64,
    pub(super) to: (Addr, u64),
    pub(super) since: Mono,
}

impl Partition {
    pub(super) fn new(topic: std::sync::Arc<str>, replica: Replica) -> Self {
        Partition {
            topic,
            seen: replica.high_watermark(),
            replica,
            acks: Vec::new(),
            pushes: BTreeMap::new(),
            answer: None,
            arrived: Vec::new(),
            told: Mono(0),
            retry_at: None,
        }
    }
}

impl BrokerNode {
    /// Takes one event and carries its effects out, with the steps that follow from them.
    pub(super) fn step(&mut self, env: &mut Env, key: TopicIdPartition, event: Event) {
        let mut next = self.step_once(env, key, event);
        while let Some(effect) = next.pop_front() {
            if let Some(event) = self.carry_out(env, key, effect) {
                next.extend(self.step_once(env, key, event));
            }
        }
        self.push_news(env, key);
    }

    fn step_once(&mut self, env: &mut Env, key: TopicIdPartition, event: Event) -> VecDeque<Effect> {
        let at = self.moment(env);
        let index = self.index;
        let mut effects = Vec::new();
        let partition = self.life.as_mut().and_then(|life| life.partitions.get_mut(&key));
        let (Some(partition), Some(log)) = (partition, self.disk.logs.get(&key)) else {
            return VecDeque::new();
        };
        partition.replica.step(at, log, event, &mut effects);
        let (from, to) = (partition.seen, partition.replica.high_watermark());
        partition.seen = to;
        if to > from {
            let epoch = partition.replica.leader().1;
            let verdict = env.judge.facts(key).show(log, (from, to), epoch);
            env.judge.take(format_args!("broker {index}, {key}"), verdict);
        }
        effects.into()
    }

    /// Time passes for one replica.
    pub(super) fn tick(&mut self, env: &mut Env, key: TopicIdPartition) {
        let at = self.moment(env);
        let Some(partition) = self.life.as_ref().and_then(|life| life.partitions.get(&key)) else {
            return;
        };
        let replica = &partition.replica;
        let due = replica.next_tick().is_some_and(|due| due <= at.now)
            || (replica.waits_for_lease() && at.lease_valid());
        if due {
            self.step(env, key, Event::Tick);
        }
        self.tell_again(env, key, at.now);
        self.settle(env, key);
    }

    fn tell_again(&mut self, env: &mut Env, key: TopicIdPartition, now: Mono) {
        let Some(partition) = self.life.as_mut().and_then(|life| life.partitions.get_mut(&key)) else {
            return;
        };
        let due = partition.retry_at.is_some_and(|at| at <= now) || now.since(partition.told) > TELL_AGAIN;
        if due && let Some((leader, position)) = partition.replica.fetch_position() {
            partition.retry_at = None;
            partition.told = now;
            self.send_position(env, key, leader, position, true);
        }
    }

    /// Answers the appends whose terms are met, or can no longer be.
    pub(super) fn settle(&mut self, env: &mut Env, key: TopicIdPartition) {
        let at = self.moment(env);
        let (id, addr) = (self.id(), self.addr());
        let Some(life) = &mut self.life else { return };
        let Some(partition) = life.partitions.get_mut(&key) else {
            return;
        };
        life.stirred.insert(key);
        let waiting = std::mem::take(&mut partition.acks);
        for waiter in waiting {
            match partition.replica.acks_state(at, &waiter.wait) {
                AcksState::Pending if at.now.since(waiter.since) > REQUEST_TIMEOUT => {
                    refuse(env, addr, waiter.to, ErrorCode::RequestTimedOut);
                }
                AcksState::Pending => partition.acks.push(waiter),
                AcksState::Failed(code) => refuse(env, addr, waiter.to, code),
                AcksState::Done => {
                    if env
                        .judge
                        .is_out(id, life.epoch.unwrap_or(strom_types::BrokerEpoch::NONE))
                    {
                        env.judge.fail(format!(
                            "ZombieAck: {id} acknowledges {} after its session",
                            waiter.id
                        ));
                    }
                    let offset = waiter.wait.last_offset;
                    if waiter.wait.acks == Acks::All {
                        let verdict = env.judge.facts(key).acknowledge(offset, waiter.id);
                        env.judge.take(format_args!("broker {id}, {key}"), verdict);
                    }
                    let epoch = waiter.wait.leader_epoch;
                    env.answer(addr, waiter.to, Answer::Produced { offset, epoch });
                }
            }
        }
    }

    /// Everything that waits for an acknowledgement is told that it will not come.
    pub(super) fn fail_waiters(&mut self, env: &mut Env, key: TopicIdPartition, code: ErrorCode) {
        let addr = self.addr();
        let partition = self.life.as_mut().and_then(|life| life.partitions.get_mut(&key));
        let waiting = partition.map(|partition| std::mem::take(&mut partition.acks));
        for waiter in waiting.into_iter().flatten() {
            refuse(env, addr, waiter.to, code);
        }
    }
}

pub(super) fn refuse(env: &mut Env, from: Addr, to: (Addr, u64), code: ErrorCode) {
    let epoch = LeaderEpoch::NONE;
    env.answer(from, to, Answer::Error { code, epoch });
}
