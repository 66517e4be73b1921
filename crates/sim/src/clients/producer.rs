//! A producer: idempotent with several batches under way and endless retries, or plain without retries.

use std::collections::{BTreeMap, VecDeque};

use strom_replication::Acks;
use strom_types::{ErrorCode, LeaderEpoch, Mono, TopicIdPartition};

use super::{Caller, Keys, TIMEOUT};
use crate::env::Env;
use crate::history::Op;
use crate::message::{Answer, Ask};

/// Sequences beyond the oldest one that is not acknowledged: brokers remember five.
const WINDOW: i32 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Idempotent,
    Plain(Acks),
}

struct Batch {
    sequence: i32,
    id: u64,
    /// The last attempt, if it has not been refused.
    sent: Option<(u64, Mono)>,
}

struct Lane {
    key: TopicIdPartition,
    next_sequence: i32,
    queue: VecDeque<Batch>,
    /// The highest leader epoch that has acknowledged.
    epoch: LeaderEpoch,
    pause_until: Mono,
    acked: u64,
}

pub(crate) struct Producer {
    caller: Caller,
    mode: Mode,
    lanes: Vec<Lane>,
    producer_id: Option<i64>,
    id_asked: Option<(u64, Mono)>,
    /// Every attempt: an acknowledgement counts, however late.
    attempts: BTreeMap<u64, (usize, u64)>,
    /// The connection that everything under way went over.
    connection: (u64, u64),
    pub load: bool,
}

impl Producer {
    pub(crate) fn new(env: &mut Env, index: usize, gateways: usize, mode: Mode, keys: &Keys) -> Self {
        let lane = |key: &TopicIdPartition| Lane {
            key: *key,
            next_sequence: 0,
            queue: VecDeque::new(),
            epoch: LeaderEpoch::NONE,
            pause_until: Mono(0),
            acked: 0,
        };
        Producer {
            caller: Caller::new(env, index, gateways),
            mode,
            lanes: keys.iter().map(lane).collect(),
            producer_id: None,
            id_asked: None,
            attempts: BTreeMap::new(),
            connection: (0, 0),
            load: true,
        }
    }

    /// Nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.queue.is_empty())
    }

    /// The fewest acknowledgements of any partition.
    pub(crate) fn acked_least(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.acked).min().unwrap_or(0)
    }

    pub(super) fn wake(&mut self, env: &mut Env) {
        let now = env.mono(self.caller.addr());
        if self.mode == Mode::Idempotent && self.producer_id.is_none() {
            if self.id_asked.is_none_or(|(_, at)| now.since(at) > TIMEOUT) {
                let call = self.caller.ask(env, Ask::ProducerId);
                self.id_asked = Some((call, now));
            }
            return;
        }
        self.give_up_late(env, now);
        let connection = self.caller.connection(env);
        if connection != self.connection {
            self.connection = connection;
            self.send_all_again();
        }
        for at in 0..self.lanes.len() {
            self.grow(env, at);
            self.send(env, at, now);
        }
    }

    /// A new batch, now and then.
    fn grow(&mut self, env: &mut Env, at: usize) {
        let Some(lane) = self.lanes.get_mut(at) else {
            return;
        };
        let room = match self.mode {
            Mode::Idempotent => lane
                .queue
                .front()
                .is_none_or(|first| lane.next_sequence - first.sequence < WINDOW),
            Mode::Plain(_) => lane.queue.is_empty(),
        };
        if !self.load || !room || !env.rng.one_in(6) {
            return;
        }
        let id = env.number();
        let sequence = lane.next_sequence;
        lane.next_sequence += 1;
        let key = lane.key;
        lane.queue.push_back(Batch {
            sequence,
            id,
            sent: None,
        });
        let op = Op::Send {
            key,
            id,
            ordered: self.mode == Mode::Idempotent,
            all: self.mode != Mode::Plain(Acks::Leader),
        };
        env.record(self.caller.index, op);
    }

    /// Sends what is not under way, in order.
    fn send(&mut self, env: &mut Env, at: usize, now: Mono) {
        let Some(lane) = self.lanes.get_mut(at) else {
            return;
        };
        if now < lane.pause_until {
            return;
        }
        let acks = match self.mode {
            Mode::Idempotent => Acks::All,
            Mode::Plain(acks) => acks,
        };
        for batch in lane.queue.iter_mut().filter(|batch| batch.sent.is_none()) {
            if self.mode == Mode::Idempotent && self.caller.connection(env) != self.connection {
                // It broke: nothing more goes out before all that was on it goes out again.
                return;
            }
            let ask = Ask::Produce {
                key: lane.key,
                acks,
                id: batch.id,
                producer: self.producer_id.map(|id| (id, batch.sequence)),
            };
            let call = self.caller.ask(env, ask);
            self.attempts.insert(call, (at, batch.id));
            batch.sent = Some((call, now));
        }
    }

    fn give_up_late(&mut self, env: &mut Env, now: Mono) {
        let late = |batch: &Batch| batch.sent.is_some_and(|(_, at)| now.since(at) > TIMEOUT);
        if !self.lanes.iter().any(|lane| lane.queue.iter().any(late)) {
            return;
        }
        self.caller.reconnect(env);
        if self.mode == Mode::Idempotent {
            return self.send_all_again();
        }
        for lane in &mut self.lanes {
            for batch in lane.queue.drain(..) {
                let op = Op::Unknown {
                    key: lane.key,
                    id: batch.id,
                };
                env.record(self.caller.index, op);
            }
        }
    }

    /// The connection is gone, with whatever was on it.
    fn send_all_again(&mut self) {
        if self.mode == Mode::Idempotent {
            let batches = self.lanes.iter_mut().flat_map(|lane| &mut lane.queue);
            batches.for_each(|batch| batch.sent = None);
        }
    }

    pub(super) fn take(&mut self, env: &mut Env, call: u64, answer: &Answer) {
        if let Some((_, _)) = self.id_asked.take_if(|(asked, _)| *asked == call) {
            if let Answer::ProducerId(id) = answer {
                env.judge.on_producer_id(self.caller.index, *id);
                env.record(self.caller.index, Op::ProducerId(*id));
                self.producer_id = Some(*id);
            }
            return;
        }
        let Some((at, id)) = self.attempts.remove(&call) else {
            return;
        };
        match answer {
            Answer::Produced { offset, epoch } => self.acked(env, at, id, (*offset, *epoch)),
            Answer::Error { code, epoch } => self.refused(env, at, (id, call), (*code, *epoch)),
            _ => {}
        }
    }

    fn acked(&mut self, env: &mut Env, at: usize, id: u64, (offset, epoch): (i64, LeaderEpoch)) {
        let Some(lane) = self.lanes.get_mut(at) else {
            return;
        };
        if lane.queue.iter().any(|batch| batch.id == id) {
            lane.queue.retain(|batch| batch.id != id);
            lane.epoch = lane.epoch.max(epoch);
            lane.acked += 1;
            let key = lane.key;
            env.record(self.caller.index, Op::Acked { key, id, offset });
        }
    }

    fn refused(
        &mut self,
        env: &mut Env,
        at: usize,
        (id, call): (u64, u64),
        (code, epoch): (ErrorCode, LeaderEpoch),
    ) {
        let now = env.mono(self.caller.addr());
        let index = self.caller.index;
        let Some(lane) = self.lanes.get_mut(at) else {
            return;
        };
        let key = lane.key;
        let Some(place) = lane.queue.iter().position(|batch| batch.id == id) else {
            return;
        };
        let current = lane
            .queue
            .get(place)
            .is_some_and(|batch| batch.sent.is_some_and(|(last, _)| last == call));
        if !current {
            return;
        }
        if let Mode::Plain(_) = self.mode {
            lane.queue.remove(place);
            // The one error of a broker that surely wrote nothing.
            let op = if code == ErrorCode::NotEnoughReplicas {
                Op::Refused { key, id }
            } else {
                Op::Unknown { key, id }
            };
            return env.record(index, op);
        }
        // A leader that has acknowledged everything before the first batch under way must know where it stands; one of
        // an older epoch need not.
        if code == ErrorCode::OutOfOrderSequenceNumber && place == 0 && epoch >= lane.epoch {
            let why = format!("{code} in epoch {epoch}, acknowledged in {}", lane.epoch);
            env.judge.fail(format!("BrokenProducer: {key}, {id}: {why}"));
            env.record(index, Op::Broken { key, id, why });
        }
        for batch in lane.queue.iter_mut().skip(place) {
            batch.sent = None;
        }
        lane.pause_until = now + std::time::Duration::from_millis(env.rng.range(10, 60));
    }
}
