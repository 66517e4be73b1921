//! One run: three brokers, a controller, a client and a schedule of faults, all from one seed.

use strom_types::{BrokerId, Mono};

use super::checks::{Checks, Verdict, logs_match};
use super::controller::Controller;
use super::net::{MS, Message, Net, Peer};
use super::node::{LogWork, Node};
use super::rng::Rng;
use crate::*;

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
    pub(super) fn new(seed: u64, rules: Rules, durability: Durability) -> Self {
        World {
            rng: Rng::new(seed),
            now: Mono(0),
            rules,
            nodes: (0..3)
                .map(|id| Node::new(BrokerId(id), rules, durability))
                .collect(),
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
            for id in self.controller.candidates() {
                let node = &self.nodes[usize::try_from(id.get()).unwrap()];
                if !node.wiped {
                    self.checks.candidate_is_complete(node)?;
                }
            }
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
            let others = self.controller.candidates().iter().any(|other| *other != id);
            if self.rng.one_in(3) && others && !self.nodes.iter().any(|node| node.wiped) {
                self.nodes[i].wipe();
            }
        }
        if self.rng.one_in(60) {
            self.nodes[i].blind_until = Mono(self.now.0 + self.rng.range(20, 250) * MS);
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
            node.blind_until = self.now;
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
        let blind = cut || self.now < node.blind_until;
        if node.applied >= known || blind || self.rng.one_in(3) {
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
}
