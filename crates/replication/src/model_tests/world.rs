//! One run: three brokers, a controller, a client and a schedule of faults, all from one seed.

use std::collections::VecDeque;

use strom_types::{BrokerEpoch, BrokerId, Mono, Offset};

use super::SESSION;
use super::checks::{Checks, Verdict, logs_match};
use super::controller::{AlterRequest, Controller};
use super::net::{Envelope, MS, Message, Net, Peer};
use super::node::{LogWork, Node, TOPIC};
use super::rng::Rng;
use crate::toy_log::ToyRecord;
use crate::*;

fn trace() -> bool {
    std::env::var("TRACE").is_ok()
}
const CONTROLLER_LIFE: BrokerEpoch = BrokerEpoch(-7);

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: Mono,
    rules: Rules,
    pub(super) nodes: Vec<Node>,
    pub(super) controller: Controller,
    pub(super) net: Net,
    pub(super) checks: Checks,
    pub(super) faults: bool,
    pub(super) load: bool,
    turns: u64,
    next_value: u64,
}

impl World {
    pub(super) fn new(seed: u64, rules: Rules) -> Self {
        World {
            rng: Rng::new(seed),
            now: Mono(0),
            rules,
            nodes: (0..3).map(|id| Node::new(BrokerId(id), rules)).collect(),
            controller: Controller::new(3, 2),
            net: Net::new(),
            checks: Checks::default(),
            faults: true,
            load: true,
            turns: 0,
            next_value: 1,
        }
    }

    pub(super) fn turn(&mut self) -> Verdict {
        self.now = Mono(self.now.0 + self.rng.range(1, 8) * MS);
        self.turns += 1;
        // A quarter of the time is quiet, so that recovery is seen too.
        if self.faults && self.turns % 200 < 150 {
            self.inject();
        }
        self.controller.fence_silent(self.now);
        for envelope in self.net.take_due(self.now) {
            self.deliver(envelope)?;
        }
        for i in 0..self.nodes.len() {
            self.turn_node(i)?;
        }
        if self.rng.one_in(16) {
            logs_match(&self.nodes)?;
        }
        Ok(())
    }

    fn inject(&mut self) {
        let i = self.rng.index(self.nodes.len());
        let id = self.nodes[i].id;
        if self.rng.one_in(50) {
            self.controller.move_leader(&mut self.rng);
        }
        if self.rng.one_in(110) && self.nodes[i].replica.is_some() {
            let up_at = Mono(self.now.0 + self.rng.range(5, 250) * MS);
            self.nodes[i].crash(&mut self.rng, up_at);
            if trace() {
                println!(
                    "{} n{i} crash log {}..{} {:?}",
                    self.now.0 / 1000000,
                    self.nodes[i].log.start,
                    self.nodes[i].log.end(),
                    self.nodes[i].log.epochs
                );
            }
            let others = self.controller.candidates().iter().any(|other| *other != id);
            if self.rng.one_in(6) && others && !self.nodes.iter().any(|node| node.wiped) {
                self.nodes[i].wipe();
                if trace() {
                    println!("wiped n{i}");
                }
            }
        }
        if self.rng.one_in(140) {
            self.nodes[i].paused_until = Mono(self.now.0 + self.rng.range(5, 600) * MS);
        }
        if self.rng.one_in(90) {
            let peers = [
                Peer::Broker(BrokerId(0)),
                Peer::Broker(BrokerId(1)),
                Peer::Broker(BrokerId(2)),
                Peer::Controller,
            ];
            let (a, b) = (peers[self.rng.index(4)], peers[self.rng.index(4)]);
            self.net.cuts.push((a, b));
            if self.rng.one_in(2) {
                self.net.cuts.push((b, a));
            }
        }
        if self.rng.one_in(25) {
            self.net.cuts.clear();
        }
    }

    pub(super) fn heal(&mut self) {
        self.faults = false;
        self.net.lossy = false;
        self.net.cuts.clear();
        for node in &mut self.nodes {
            node.paused_until = self.now;
        }
    }

    fn turn_node(&mut self, i: usize) -> Verdict {
        let now = self.now;
        if self.nodes[i].replica.is_none() {
            self.turn_dead_node(i);
            return Ok(());
        }
        if !self.nodes[i].is_running(now) {
            return Ok(());
        }
        self.apply_metadata(i)?;
        if self.rng.one_in(3) {
            self.do_log_work(i)?;
        }
        if self.rng.one_in(6) && self.nodes[i].log.durable < self.nodes[i].log.end() {
            self.nodes[i].log.flush();
            self.feed(i, Event::LogAdvanced, &[])?;
        }
        if self.rng.one_in(4) {
            let (life, applied) = (self.nodes[i].life, self.nodes[i].applied);
            let message = Message::Heartbeat {
                life,
                sent_at: now,
                applied,
            };
            self.send(i, Peer::Controller, message);
            if let Some((leader, position)) = self.nodes[i].replica.as_ref().and_then(Replica::fetch_position)
            {
                self.send_position(i, leader, position);
            }
            self.nodes[i].write_checkpoint();
        }
        let due = self.nodes[i].replica.as_ref().and_then(Replica::next_tick);
        if due.is_some_and(|due| due <= now) || self.rng.one_in(10) {
            self.feed(i, Event::Tick, &[])?;
        }
        self.produce(i)?;
        self.read(i)?;
        self.complete(i)
    }

    /// A dead process shows at once (fast death) or by its session; it registers when it is back.
    fn turn_dead_node(&mut self, i: usize) {
        let id = self.nodes[i].id;
        if self.rng.one_in(20) {
            self.controller.fence(id);
        }
        if self.now >= self.nodes[i].up_at {
            let life = self.controller.register(id, self.nodes[i].wiped, self.now);
            // A watch may begin with an image of before the registration.
            let applied = usize::try_from(life.get())
                .unwrap()
                .saturating_sub(self.rng.index(3));
            self.nodes[i].start(life, applied, self.rules);
        }
    }

    fn apply_metadata(&mut self, i: usize) -> Verdict {
        let node = &self.nodes[i];
        let known = self.controller.log.len();
        let cut = self.net.cuts.contains(&(Peer::Controller, Peer::Broker(node.id)));
        if node.applied >= known || cut || self.rng.one_in(3) {
            return Ok(());
        }
        // One entry, or (as an image after a reconnect) several at once.
        let next = if self.rng.one_in(4) {
            known - 1
        } else {
            node.applied
        };
        self.nodes[i].applied = next + 1;
        let entry = self.controller.log[next].clone();
        let event = Event::MetadataApplied {
            partition: entry.partition,
            brokers: entry.brokers,
        };
        if trace() {
            println!("{} n{i} applies {:?}", self.now.0 / 1000000, event);
        }
        self.feed(i, event, &[])
    }

    fn do_log_work(&mut self, i: usize) -> Verdict {
        let node = &mut self.nodes[i];
        let event = match node.work.take() {
            None => return Ok(()),
            Some(LogWork::Append(records)) => {
                for record in records {
                    node.log.append(record.epoch, record.value);
                }
                Event::LogMutated
            }
            Some(LogWork::Truncate(to)) => {
                node.log.truncate(to);
                node.log.flush();
                Event::LogMutated
            }
            Some(LogWork::Restart(start)) => {
                node.log.restart(start);
                Event::LogMutated
            }
            Some(LogWork::EpochStart(epoch, offset)) => {
                node.log.assign_epoch(epoch, offset);
                Event::EpochStartPersisted { epoch }
            }
        };
        self.feed(i, event, &[])
    }

    fn produce(&mut self, i: usize) -> Verdict {
        let now = self.now;
        let acks = if self.rng.one_in(4) {
            Acks::Leader
        } else {
            Acks::All
        };
        let busy = self.rng.one_in(3);
        let node = &mut self.nodes[i];
        let Some(Ok(epoch)) = node
            .replica
            .as_ref()
            .map(|r| r.admit_produce(node.moment(now), acks, None))
        else {
            return Ok(());
        };
        if !busy || !self.load {
            return Ok(());
        }
        let value = self.next_value;
        self.next_value += 1;
        node.log.append(epoch, value);
        let wait = AckWait {
            acks,
            leader_epoch: epoch,
            last_offset: node.log.end() - 1,
        };
        node.waiters.push((wait, value));
        self.feed(i, Event::LogAdvanced, &[])?;
        let hw = self.nodes[i].seen_hw;
        if self.rng.one_in(60) && hw > self.nodes[i].log.start {
            // DeleteRecords.
            self.nodes[i].log.advance_start(hw);
            self.feed(i, Event::LogAdvanced, &[])?;
        }
        Ok(())
    }

    fn read(&mut self, i: usize) -> Verdict {
        let node = &self.nodes[i];
        let Some(replica) = &node.replica else {
            return Ok(());
        };
        let at = node.moment(self.now);
        if replica.admit_follower_read(at, None).is_ok() && self.controller.is_fenced(node.id) {
            return Err(format!("StaleRead: {} serves after its session", node.id));
        }
        if let Ok(latest) = replica.latest_offset(at, None) {
            self.checks.on_latest(replica.leader().1, latest)?;
        }
        Ok(())
    }

    fn complete(&mut self, i: usize) -> Verdict {
        let now = self.now;
        let waiters = std::mem::take(&mut self.nodes[i].waiters);
        for (wait, value) in waiters {
            let node = &mut self.nodes[i];
            let at = node.moment(now);
            let Some(replica) = &node.replica else {
                continue;
            };
            match replica.acks_state(at, &wait) {
                AcksState::Pending => node.waiters.push((wait, value)),
                AcksState::Failed(_) => {}
                AcksState::Done if self.controller.is_fenced(node.id) => {
                    return Err(format!("ZombieAck: {} acknowledges after its session", node.id));
                }
                AcksState::Done if wait.acks == Acks::All => self.checks.on_ack(wait.last_offset, value)?,
                AcksState::Done => {}
            }
        }
        Ok(())
    }

    fn deliver(&mut self, mut envelope: Envelope) -> Verdict {
        match envelope.to {
            Peer::Controller => {
                self.serve_controller(envelope);
                Ok(())
            }
            Peer::Broker(id) => {
                let i = usize::try_from(id.get()).unwrap();
                let node = &self.nodes[i];
                if node.replica.is_none() || node.life != envelope.to_life {
                    return Ok(());
                }
                if !node.is_running(self.now) {
                    envelope.due = node.paused_until;
                    self.net.queue.push(envelope);
                    return Ok(());
                }
                self.take(i, envelope.message)
            }
        }
    }

    fn take(&mut self, i: usize, message: Message) -> Verdict {
        match message {
            Message::Fetch(fetch) => self.feed(i, Event::FollowerFetch(fetch), &[]),
            Message::Reply(reply, records) => self.feed(i, Event::FetchReply(reply), &records),
            Message::Altered(result) => self.feed(i, Event::AlterPartitionResult(result), &[]),
            Message::HeartbeatAck { sent_at, renewed } => {
                if renewed {
                    self.nodes[i].lease.renewed(sent_at, SESSION);
                } else {
                    self.nodes[i].lease.revoked();
                }
                Ok(())
            }
            Message::Dead => {
                self.nodes[i].crash(&mut self.rng, self.now);
                Ok(())
            }
            Message::Alter(_) | Message::Heartbeat { .. } => Ok(()),
        }
    }

    fn serve_controller(&mut self, envelope: Envelope) {
        let Peer::Broker(from) = envelope.from else {
            return;
        };
        let answer = match envelope.message {
            Message::Alter(request) => Message::Altered(AlterPartitionResult {
                leader_epoch: request.leader_epoch,
                partition_epoch: request.partition_epoch,
                attempt: request.attempt,
                error: self.controller.alter(&request),
            }),
            Message::Heartbeat {
                life,
                sent_at,
                applied,
            } => match self.controller.heartbeat(from, life, applied, self.now) {
                Some(renewed) => Message::HeartbeatAck { sent_at, renewed },
                None => Message::Dead,
            },
            _ => return,
        };
        let i = usize::try_from(from.get()).unwrap();
        let envelope = Envelope {
            due: self.now,
            from: Peer::Controller,
            to: Peer::Broker(from),
            to_life: self.nodes[i].life,
            message: answer,
        };
        self.net.send(&mut self.rng, self.now, envelope);
    }

    fn send(&mut self, i: usize, to: Peer, message: Message) {
        let to_life = match to {
            Peer::Broker(id) => self.nodes[usize::try_from(id.get()).unwrap()].life,
            Peer::Controller => CONTROLLER_LIFE,
        };
        let envelope = Envelope {
            due: self.now,
            from: Peer::Broker(self.nodes[i].id),
            to,
            to_life,
            message,
        };
        self.net.send(&mut self.rng, self.now, envelope);
    }

    fn send_position(&mut self, i: usize, leader: BrokerId, position: FetchPosition) {
        let fetch = FollowerFetch {
            topic_id: TOPIC,
            follower: self.nodes[i].id,
            broker_epoch: self.nodes[i].life,
            position,
        };
        self.send(i, Peer::Broker(leader), Message::Fetch(fetch));
    }

    /// One event, its effects, and the events these make at once; `records` come with a reply.
    fn feed(&mut self, i: usize, event: Event, records: &[ToyRecord]) -> Verdict {
        let now = self.now;
        self.nodes[i].incoming = records.to_vec();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let node = &mut self.nodes[i];
            let at = node.moment(now);
            let Some(replica) = &mut node.replica else {
                return Ok(());
            };
            let mut effects = Vec::new();
            replica.step(at, &node.log, event, &mut effects);
            for effect in effects {
                if trace()
                    && !matches!(
                        effect,
                        Effect::AnswerFetch {
                            answer: FetchAnswer::Serve { .. },
                            ..
                        } | Effect::SendPosition { restart: false, .. }
                            | Effect::RetryFetch { .. }
                    )
                {
                    println!("{} n{i} life{} {:?}", now.0 / 1000000, self.nodes[i].life, effect);
                }
                self.carry_out(i, effect, &mut events)?;
            }
            self.check_high_watermark(i)?;
        }
        Ok(())
    }

    fn check_high_watermark(&mut self, i: usize) -> Verdict {
        let node = &mut self.nodes[i];
        let Some(replica) = &node.replica else {
            return Ok(());
        };
        let (from, to) = (node.seen_hw, replica.high_watermark());
        node.seen_hw = to;
        self.checks.on_high_watermark(&self.nodes[i], from, to)
    }

    fn carry_out(&mut self, i: usize, effect: Effect, events: &mut VecDeque<Event>) -> Verdict {
        let node = &mut self.nodes[i];
        match effect {
            Effect::AssignEpochStart { epoch, offset } => {
                node.work = Some(LogWork::EpochStart(epoch, offset))
            }
            Effect::AppendRecords { .. } => {
                node.work = Some(LogWork::Append(std::mem::take(&mut node.incoming)))
            }
            Effect::TruncateTo { to } => node.work = Some(LogWork::Truncate(to)),
            Effect::RestartAt { start } => node.work = Some(LogWork::Restart(start)),
            Effect::AdvanceLogStart { to } => node.log.advance_start(to.min(node.log.end())),
            Effect::Recover { epoch } => events.push_back(Event::RecoveryDone { epoch }),
            Effect::LeaderReady { epoch } => self.checks.on_leader(&self.nodes[i], epoch)?,
            Effect::FailWaiters { .. } => node.waiters.clear(),
            Effect::AnswerFetch { follower, answer } => self.answer(i, follower, answer),
            Effect::SendPosition { leader, position, .. } => self.send_position(i, leader, position),
            Effect::AlterPartition {
                leader_epoch,
                partition_epoch,
                attempt,
                new_isr,
                ..
            } => {
                let request = AlterRequest {
                    from: node.id,
                    life: node.life,
                    leader_epoch,
                    partition_epoch,
                    attempt,
                    new_isr,
                };
                self.send(i, Peer::Controller, Message::Alter(request));
            }
            Effect::Quarantine { alarm } | Effect::Raise { alarm } => {
                return Err(format!("alarm of {}: {alarm}", node.id));
            }
            Effect::DeleteLog { .. } | Effect::CloseLog => return Err("the log was given up".to_owned()),
            Effect::HighWatermarkAdvanced { .. } | Effect::RetryFetch { .. } | Effect::StopFetching => {}
        }
        Ok(())
    }

    fn answer(&mut self, i: usize, follower: BrokerId, answer: FetchAnswer) {
        let count = self.rng.index(4);
        let node = &self.nodes[i];
        let Some(replica) = &node.replica else {
            return;
        };
        let (mut high_watermark, mut start, mut records) = (0, node.log.start, vec![]);
        let (fetch_offset, body): (Offset, _) = match answer {
            FetchAnswer::Serve {
                from,
                high_watermark: hw,
                ..
            } => {
                high_watermark = hw;
                records = node.log.read(from, count);
                let body = match (records.first(), records.last()) {
                    (Some(first), Some(last)) => ReplyBody::Records(FetchedRecords {
                        base_offset: from,
                        first_epoch: first.epoch,
                        last_epoch: last.epoch,
                    }),
                    _ => ReplyBody::Empty,
                };
                (from, body)
            }
            FetchAnswer::Diverging {
                fetch_offset,
                last_fetched_epoch,
                end,
            } => {
                start = 0;
                (
                    fetch_offset,
                    ReplyBody::Diverging {
                        last_fetched_epoch,
                        end,
                    },
                )
            }
            FetchAnswer::Refuse {
                fetch_offset, error, ..
            } => (fetch_offset, ReplyBody::Error(error)),
        };
        let reply = FetchReply {
            leader_epoch: replica.leader().1,
            fetch_offset,
            high_watermark,
            log_start: start,
            body,
        };
        self.send(i, Peer::Broker(follower), Message::Reply(reply, records));
    }
}
