//! The active controller's loop, as the controller service has it, without its channels.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use strom_metadata::{
    Answer, Command, ControllerCore, ControllerSettings, CoreConfig, RequestId, unconfirmed_heartbeat,
};
use strom_proto::convert::{error_code, service_error};
use strom_proto::v1;
use strom_raft_node::{ProposalId, ProposeError, RaftRole, RaftStatus, ReadId};
use strom_types::{ErrorCode, MetadataOffset, Mono};

use super::{CLUSTER, HANDOVER_GRACE, Raft};
use crate::env::Env;
use crate::message::{Addr, Body, Control, Controlled, Death};

pub(crate) const SESSION: Duration = Duration::from_millis(900);
const REFUSAL_PAUSE: Duration = Duration::from_millis(20);
/// A turn that comes this late means that the process did not run.
const PAUSE_MIN: Duration = Duration::from_millis(300);

pub(super) struct Active {
    index: usize,
    core: ControllerCore,
    waiting: BTreeMap<RequestId, (Addr, u64)>,
    last_request: u64,
    /// The term this node leads in; leads again only in a higher one.
    term: u64,
    proposal: Option<ProposalId>,
    /// Answers without an entry of their own, until it is sure that this node still led when they were made.
    confirmations: BTreeMap<ReadId, Vec<Answer>>,
    /// The same for heartbeats.
    heartbeats: BTreeMap<ReadId, ((Addr, u64), v1::BrokerHeartbeatReply)>,
    pause_until: Mono,
    last_turn: Mono,
}

impl Active {
    pub(super) fn new(index: usize, now: Mono) -> Self {
        let config = CoreConfig {
            settings: ControllerSettings::default(),
            session_timeout: SESSION,
            handover_grace: HANDOVER_GRACE,
            gateway_grace: Duration::from_secs(2),
            rebalance_interval: Some(Duration::from_secs(4)),
            ..CoreConfig::default()
        };
        Active {
            index,
            core: ControllerCore::new(config),
            waiting: BTreeMap::new(),
            last_request: 0,
            term: 0,
            proposal: None,
            confirmations: BTreeMap::new(),
            heartbeats: BTreeMap::new(),
            pause_until: Mono(0),
            last_turn: now,
        }
    }

    pub(super) fn is_leading(&self) -> bool {
        self.core.is_leading()
    }

    pub(super) fn broker_died(&mut self, death: Death) {
        self.core.broker_died(death.broker, death.epoch);
    }

    fn addr(&self) -> Addr {
        Addr::Controller(self.index)
    }

    pub(super) fn take(
        &mut self,
        env: &mut Env,
        raft: &mut Raft,
        (from, call): (Addr, u64),
        request: Control,
    ) {
        let command = match request {
            Control::Heartbeat(heartbeat) => {
                let now = env.mono(self.addr());
                self.notice_pause(now);
                let reply = self.core.heartbeat(&heartbeat, now);
                return self.confirm_heartbeat(env, raft, (from, call), reply);
            }
            Control::Watch { applied } => {
                if let Some(reply) = raft.machine().following(applied) {
                    self.reply(env, (from, call), reply);
                }
                return;
            }
            Control::Register(request) => Command::RegisterBroker(request),
            Control::AlterPartition(request) => Command::AlterPartition(request),
            Control::AllocateProducerIds(request) => Command::AllocateProducerIds(request),
            Control::CreateTopics(request) => Command::CreateTopics(request),
            Control::ElectLeaders(request) => Command::ElectLeaders(request),
        };
        self.last_request += 1;
        let id = RequestId(self.last_request);
        match self.core.enqueue(command, id) {
            Ok(()) => drop(self.waiting.insert(id, (from, call))),
            Err(error) => self.reply(env, (from, call), Controlled::Refused(error_code(error.code))),
        }
    }

    /// A heartbeat counts if this node still leads.
    fn confirm_heartbeat(
        &mut self,
        env: &mut Env,
        raft: &mut Raft,
        to: (Addr, u64),
        reply: v1::BrokerHeartbeatReply,
    ) {
        if reply.error != 0 {
            return self.reply(env, to, Controlled::Heartbeat(reply));
        }
        match raft.read_index() {
            Ok(id) => drop(self.heartbeats.insert(id, (to, reply))),
            Err(_) => self.reply(env, to, Controlled::Heartbeat(unconfirmed_heartbeat(&reply))),
        }
    }

    fn reply(&self, env: &mut Env, (to, call): (Addr, u64), reply: Controlled) {
        env.send(self.addr(), to, Body::Controlled { call, reply });
    }

    fn notice_pause(&mut self, now: Mono) {
        if now.since(self.last_turn) > PAUSE_MIN {
            self.core.was_away(now);
        }
        self.last_turn = now;
    }

    /// One turn of the loop: outcomes, leadership, confirmations, the next proposal.
    pub(super) fn go_on(
        &mut self,
        env: &mut Env,
        raft: &mut Raft,
        proposed: &[(ProposalId, Result<u64, ProposeError>)],
        read: &[(ReadId, bool)],
    ) {
        let now = env.mono(self.addr());
        self.notice_pause(now);
        for (id, outcome) in proposed {
            if self.proposal == Some(*id) {
                self.proposal = None;
                self.conclude(env, raft, outcome);
            }
        }
        self.follow(env, raft);
        for (id, confirmed) in read {
            if let Some(answers) = self.confirmations.remove(id) {
                self.answer(env, if *confirmed { answers } else { unconfirmed(answers) });
            }
            if let Some((to, reply)) = self.heartbeats.remove(id) {
                let reply = if *confirmed {
                    reply
                } else {
                    unconfirmed_heartbeat(&reply)
                };
                self.reply(env, to, Controlled::Heartbeat(reply));
            }
        }
        if self.proposal.is_none() && now >= self.pause_until {
            self.propose(env, raft);
        }
    }

    fn follow(&mut self, env: &mut Env, raft: &Raft) {
        let status: RaftStatus = raft.status();
        let leads = status.role == RaftRole::Leader && status.ready_to_lead;
        if self.core.is_leading() && (!leads || status.term != self.term) {
            env.trace
                .line(env.now, format_args!("controller {} steps down", self.index));
            self.step_down(env);
        }
        if !self.core.is_leading() && leads && status.term > self.term {
            self.term = status.term;
            env.trace.line(
                env.now,
                format_args!("controller {} is active in term {}", self.index, self.term),
            );
            let now = env.mono(self.addr());
            self.core
                .became_leader(raft.machine().image().clone(), CLUSTER, now);
        }
    }

    fn step_down(&mut self, env: &mut Env) {
        let answers = self.core.lost_leadership();
        self.answer(env, answers);
        for (_, answers) in std::mem::take(&mut self.confirmations) {
            self.answer(env, unconfirmed(answers));
        }
        for (_, (to, reply)) in std::mem::take(&mut self.heartbeats) {
            self.reply(env, to, Controlled::Heartbeat(unconfirmed_heartbeat(&reply)));
        }
        self.proposal = None;
    }

    fn propose(&mut self, env: &mut Env, raft: &mut Raft) {
        let now = env.mono(self.addr());
        let next = self.core.next_batch(now, env.wall(self.addr()));
        for event in &next.events {
            env.trace
                .line(env.now, format_args!("controller {}: {event:?}", self.index));
        }
        if !next.answers.is_empty() {
            match raft.read_index() {
                Ok(id) => drop(self.confirmations.insert(id, next.answers)),
                Err(_) => self.answer(env, unconfirmed(next.answers)),
            }
        }
        let Some(batch) = next.batch else { return };
        match raft.propose(batch.encode_to_vec().into()) {
            Ok(id) => self.proposal = Some(id),
            Err(refused) => self.conclude(env, raft, &Err(refused)),
        }
    }

    fn conclude(&mut self, env: &mut Env, raft: &Raft, outcome: &Result<u64, ProposeError>) {
        let now = env.mono(self.addr());
        match outcome {
            Ok(index) => {
                let image = raft.machine().image();
                let answers = self.core.committed(MetadataOffset(*index), image, now);
                self.answer(env, answers);
            }
            Err(ProposeError::Indeterminate) => self.step_down(env),
            Err(refused) => {
                let code = match refused {
                    ProposeError::NotLeader { .. } => ErrorCode::NotController,
                    _ => ErrorCode::Overloaded,
                };
                self.pause_until = now + REFUSAL_PAUSE;
                let answers = self.core.refused(&service_error(code, refused.to_string()));
                self.answer(env, answers);
            }
        }
    }

    fn answer(&mut self, env: &mut Env, answers: Vec<Answer>) {
        for answer in answers {
            let Some(to) = self.waiting.remove(&answer.request) else {
                continue;
            };
            let reply = match answer.reply {
                Ok(reply) => Controlled::Reply(reply),
                Err(error) => Controlled::Refused(error_code(error.code)),
            };
            self.reply(env, to, reply);
        }
    }
}

fn unconfirmed(answers: Vec<Answer>) -> Vec<Answer> {
    let refuse = |answer: Answer| Answer {
        reply: Err(service_error(ErrorCode::NotController, "not confirmed")),
        ..answer
    };
    answers.into_iter().map(refuse).collect()
}
