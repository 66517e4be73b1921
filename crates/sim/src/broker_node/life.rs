//! A broker's dealings with the controllers: registration, heartbeats and lease, ISR changes, producer ids, the watch.

use std::time::Duration;

use bytes::Bytes;
use strom_metadata::Reply;
use strom_proto::convert::{error_code, topic_id_bytes};
use strom_proto::v1;
use strom_replication::{AlterPartitionResult, Event, IsrMember, RecoveryState};
use strom_types::{BrokerEpoch, ErrorCode, LeaderEpoch, Mono, PartitionEpoch, TopicIdPartition};

use super::BrokerNode;
use crate::controller_node::CLUSTER;
use crate::env::Env;
use crate::message::{Addr, Answer, Body, Control, Controlled};

const REGISTER_AGAIN: Duration = Duration::from_millis(120);
const FIRST_INTERVAL: Duration = Duration::from_millis(40);
const PER_SESSION: u32 = 6;
const ANSWER_MAX: Duration = Duration::from_millis(300);
const WATCH_AGAIN: Duration = Duration::from_millis(25);
const WATCH_QUIET_MAX: Duration = Duration::from_millis(500);
/// An AlterPartition without an answer for so long counts as timed out.
pub(super) const ALTER_TIMEOUT: Duration = Duration::from_millis(250);

#[derive(Clone, Debug)]
pub(super) struct IsrChange {
    pub(super) key: TopicIdPartition,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) partition_epoch: PartitionEpoch,
    pub(super) attempt: u32,
    pub(super) new_isr: Vec<IsrMember>,
    pub(super) recovery_state: RecoveryState,
}

/// Changes sent together, of which one request at a time is under way.
struct Alter {
    call: u64,
    changes: Vec<IsrChange>,
    deadline: Mono,
}

pub(super) struct Dealings {
    controllers: usize,
    /// The controller that is taken for the leader.
    target: usize,
    /// The one whose metadata is watched.
    watched: usize,
    next_register: Mono,
    next_beat: Mono,
    beat_every: Duration,
    last_answer: Mono,
    next_watch: Mono,
    last_news: Mono,
    queue: Vec<IsrChange>,
    alter: Option<Alter>,
    /// The rest of the block of producer ids.
    ids: std::ops::Range<i64>,
    ids_asked: Option<(u64, Mono)>,
    wanting_ids: Vec<(Addr, u64)>,
}

impl Dealings {
    pub(super) fn new(env: &mut Env, now: Mono, controllers: usize) -> Self {
        Dealings {
            controllers,
            target: env.rng.index(controllers),
            watched: env.rng.index(controllers),
            next_register: now,
            next_beat: now,
            beat_every: FIRST_INTERVAL,
            last_answer: now,
            next_watch: now,
            last_news: now,
            queue: Vec::new(),
            alter: None,
            ids: 0..0,
            ids_asked: None,
            wanting_ids: Vec::new(),
        }
    }

    fn turn(&mut self) {
        self.target = (self.target + 1) % self.controllers.max(1);
    }
}

impl BrokerNode {
    /// Does what is due.
    pub(super) fn deal(&mut self, env: &mut Env) {
        let now = env.mono(self.addr());
        let Some(life) = &self.life else { return };
        if life.epoch.is_none() {
            return self.register(env, now);
        }
        self.beat(env, now);
        self.watch(env, now);
        self.send_alter(env, now);
        self.ask_for_ids(env, now);
    }

    fn control(&self, env: &mut Env, to: usize, request: Control) -> u64 {
        let call = env.number();
        env.send(self.addr(), Addr::Controller(to), Body::Control { call, request });
        call
    }

    fn register(&mut self, env: &mut Env, now: Mono) {
        let id = self.index;
        let disk = Bytes::copy_from_slice(self.disk.id.as_bytes());
        let Some(life) = &mut self.life else { return };
        if now < life.dealings.next_register {
            return;
        }
        life.dealings.next_register = now + REGISTER_AGAIN;
        life.dealings.turn();
        let target = life.dealings.target;
        let request = v1::RegisterBrokerRequest {
            cluster_id: CLUSTER.into(),
            broker_id: i32::try_from(id).unwrap_or(i32::MAX),
            incarnation: Bytes::copy_from_slice(life.incarnation.as_bytes()),
            rack: String::new(),
            endpoint: format!("b{id}:1"),
            directories: vec![v1::LogDirectory {
                directory_id: disk,
                online: true,
            }],
            previous_clean_epoch: life.clean.map_or(-1, BrokerEpoch::get),
        };
        self.control(env, target, Control::Register(request));
    }

    fn beat(&mut self, env: &mut Env, now: Mono) {
        let id = self.id().get();
        let damaged = self.damage_report();
        let Some(life) = &mut self.life else { return };
        let dealings = &mut life.dealings;
        if now < dealings.next_beat {
            return;
        }
        dealings.next_beat = now + dealings.beat_every;
        if now.since(dealings.last_answer) > ANSWER_MAX {
            dealings.last_answer = now;
            dealings.turn();
        }
        let target = dealings.target;
        let request = v1::BrokerHeartbeatRequest {
            broker_id: id,
            broker_epoch: life.epoch.map_or(-1, BrokerEpoch::get),
            sent_at: now.0,
            metadata_offset: life.image.index.get(),
            want_fence: false,
            want_shutdown: life.stopping,
            offline_directories: Vec::new(),
            damaged,
            disk_full: false,
        };
        self.control(env, target, Control::Heartbeat(request));
    }

    fn watch(&mut self, env: &mut Env, now: Mono) {
        let Some(life) = &mut self.life else { return };
        let dealings = &mut life.dealings;
        if now < dealings.next_watch {
            return;
        }
        dealings.next_watch = now + WATCH_AGAIN;
        if now.since(dealings.last_news) > WATCH_QUIET_MAX {
            dealings.last_news = now;
            dealings.watched = env.rng.index(dealings.controllers);
        }
        let (watched, applied) = (dealings.watched, life.image.index.get());
        self.control(env, watched, Control::Watch { applied });
    }

    pub(super) fn propose_isr(&mut self, change: IsrChange) {
        if let Some(life) = &mut self.life {
            life.dealings.queue.push(change);
        }
    }

    fn send_alter(&mut self, env: &mut Env, now: Mono) {
        let id = self.id().get();
        let Some(life) = &mut self.life else { return };
        if let Some(alter) = life.dealings.alter.take_if(|alter| now >= alter.deadline) {
            life.dealings.turn();
            return self.conclude_alter(env, alter.changes, &[ErrorCode::RequestTimedOut]);
        }
        if life.dealings.alter.is_some() || life.dealings.queue.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut life.dealings.queue);
        let request = v1::AlterPartitionRequest {
            broker_id: id,
            broker_epoch: life.epoch.map_or(-1, BrokerEpoch::get),
            partitions: changes.iter().map(to_wire).collect(),
        };
        let target = life.dealings.target;
        let call = self.control(env, target, Control::AlterPartition(request));
        if let Some(life) = &mut self.life {
            life.dealings.alter = Some(Alter {
                call,
                changes,
                deadline: now + ALTER_TIMEOUT,
            });
        }
    }

    /// One error per change; the last one holds for all that follow.
    fn conclude_alter(&mut self, env: &mut Env, changes: Vec<IsrChange>, errors: &[ErrorCode]) {
        let mut error = ErrorCode::RequestTimedOut;
        for (at, change) in changes.into_iter().enumerate() {
            error = errors.get(at).copied().unwrap_or(error);
            let result = AlterPartitionResult {
                leader_epoch: change.leader_epoch,
                partition_epoch: change.partition_epoch,
                attempt: change.attempt,
                error,
            };
            self.step(env, change.key, Event::AlterPartitionResult(result));
        }
    }

    pub(super) fn give_producer_id(&mut self, env: &mut Env, to: (Addr, u64)) {
        let addr = self.addr();
        let Some(life) = &mut self.life else { return };
        match life.dealings.ids.next() {
            Some(id) => env.answer(addr, to, Answer::ProducerId(id)),
            None => life.dealings.wanting_ids.push(to),
        }
    }

    fn ask_for_ids(&mut self, env: &mut Env, now: Mono) {
        let id = self.id().get();
        let Some(life) = &mut self.life else { return };
        let waits = life.dealings.ids_asked.is_some_and(|(_, until)| now < until);
        if waits || life.dealings.wanting_ids.is_empty() {
            return;
        }
        let request = v1::AllocateProducerIdsRequest {
            broker_id: id,
            broker_epoch: life.epoch.map_or(-1, BrokerEpoch::get),
        };
        let target = life.dealings.target;
        let call = self.control(env, target, Control::AllocateProducerIds(request));
        if let Some(life) = &mut self.life {
            life.dealings.ids_asked = Some((call, now + ANSWER_MAX));
        }
    }

    pub(super) fn take_controlled(&mut self, env: &mut Env, from: Addr, call: u64, reply: Controlled) {
        match reply {
            Controlled::Heartbeat(reply) => self.take_heartbeat(env, &reply),
            Controlled::Entries { from, entries } => self.take_entries(env, from, entries),
            Controlled::Image { index, records } => self.take_image(env, index, records),
            Controlled::Refused(code) => self.take_refusal(env, from, call, code),
            Controlled::Reply(Reply::RegisterBroker(reply)) => {
                self.take_registration(env, reply.broker_epoch);
            }
            Controlled::Reply(Reply::AlterPartition(reply)) => {
                let errors: Vec<_> = reply
                    .results
                    .iter()
                    .map(|result| error_code(result.error))
                    .collect();
                self.take_alter(env, call, &errors);
            }
            Controlled::Reply(Reply::AllocateProducerIds(reply)) => {
                let Some(life) = &mut self.life else { return };
                // Only the answer that is waited for: one block is not taken twice.
                if life
                    .dealings
                    .ids_asked
                    .take_if(|(asked, _)| *asked == call)
                    .is_some()
                {
                    life.dealings.ids = reply.first..reply.first + i64::from(reply.count.min(3));
                    for to in std::mem::take(&mut life.dealings.wanting_ids) {
                        self.give_producer_id(env, to);
                    }
                }
            }
            Controlled::Reply(_) => {}
        }
    }

    fn take_registration(&mut self, env: &mut Env, epoch: i64) {
        let now = env.mono(self.addr());
        let Some(life) = &mut self.life else { return };
        if life.epoch.is_none() {
            life.epoch = Some(BrokerEpoch(epoch));
            life.dealings.last_answer = now;
            self.disk.wiped = false;
            env.trace
                .line(env.now, format_args!("broker {} has epoch {epoch}", self.index));
        }
    }

    fn take_refusal(&mut self, env: &mut Env, from: Addr, call: u64, code: ErrorCode) {
        let Some(life) = &mut self.life else { return };
        if code == ErrorCode::NotController && from == Addr::Controller(life.dealings.target) {
            life.dealings.turn();
        }
        self.take_alter(env, call, &[code]);
    }

    fn take_alter(&mut self, env: &mut Env, call: u64, errors: &[ErrorCode]) {
        let Some(life) = &mut self.life else { return };
        if let Some(alter) = life.dealings.alter.take_if(|alter| alter.call == call) {
            self.conclude_alter(env, alter.changes, errors);
        }
    }

    fn take_heartbeat(&mut self, env: &mut Env, reply: &v1::BrokerHeartbeatReply) {
        let now = env.mono(self.addr());
        let Some(life) = &mut self.life else { return };
        let session = Duration::from_millis(reply.session_timeout_ms.max(100));
        match error_code(reply.error) {
            ErrorCode::None => life.dealings.last_answer = now,
            ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered => {
                life.lease.revoked();
                life.ended = true;
                return;
            }
            _ => {
                // Not the leader: the next one, soon.
                life.dealings.last_answer = now;
                life.dealings.next_beat = now + FIRST_INTERVAL / 2;
                return life.dealings.turn();
            }
        }
        if reply.fenced {
            life.lease.revoked();
            life.dealings.beat_every = FIRST_INTERVAL;
        } else {
            life.lease.renewed(Mono(reply.sent_at), session);
            life.dealings.beat_every = session / PER_SESSION;
        }
        if life.stopping && reply.may_shut_down {
            life.ended = true;
        }
    }

    pub(super) fn note_news(&mut self, now: Mono) {
        if let Some(life) = &mut self.life {
            life.dealings.last_news = now;
            life.dealings.next_watch = now;
        }
    }
}

fn to_wire(change: &IsrChange) -> v1::AlterPartition {
    let member = |member: &IsrMember| v1::IsrMember {
        broker_id: member.broker.get(),
        broker_epoch: member.epoch.get(),
    };
    v1::AlterPartition {
        topic_id: topic_id_bytes(change.key.topic_id),
        partition: change.key.partition,
        leader_epoch: change.leader_epoch.get(),
        partition_epoch: change.partition_epoch.get(),
        new_isr: change.new_isr.iter().map(member).collect(),
        recovery_state: match change.recovery_state {
            RecoveryState::Recovered => v1::RecoveryState::Recovered as i32,
            RecoveryState::Recovering => v1::RecoveryState::Recovering as i32,
        },
    }
}
