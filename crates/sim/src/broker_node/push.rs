//! Replication between brokers: what a leader pushes to a follower that it serves, and what the follower takes.

use strom_replication::{Event, FetchAnswer, FetchReply, FetchedRecords, FollowerFetch, ReplyBody, RoleKind};
use strom_types::{BrokerId, ErrorCode, LeaderEpoch, Offset, TopicIdPartition};

use super::partition::Partition;
use super::{BrokerNode, broker_index};
use crate::disk::{Entry, ModelLog};
use crate::env::Env;
use crate::message::{Addr, Body};

/// Records of one message, and messages of one turn.
const RECORDS_MAX: usize = 6;
const MESSAGES_MAX: usize = 3;

/// Where pushing to one follower stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Push {
    /// The leader epoch that the follower's position was checked in; `None` = nothing until it asks again.
    epoch: Option<LeaderEpoch>,
    next: Offset,
    /// High watermark and log start as told last.
    told: Option<(Offset, Offset)>,
}

impl Push {
    fn reads(&self, log: &ModelLog) -> bool {
        self.epoch.is_some() && self.next < log.end()
    }
}

impl BrokerNode {
    /// Leader: a follower's position.
    pub(super) fn take_position(
        &mut self,
        env: &mut Env,
        partition: i32,
        fetch: FollowerFetch,
        restart: bool,
    ) {
        let key = TopicIdPartition::new(fetch.topic_id, partition);
        let position = fetch.position;
        let Some(known) = self.life.as_mut().and_then(|life| life.partitions.get_mut(&key)) else {
            let refusal = FetchAnswer::Refuse {
                fetch_offset: position.fetch_offset,
                error: ErrorCode::UnknownTopicOrPartition,
                log_start: 0,
            };
            return self.tell_answer(env, key, &fetch, refusal);
        };
        known.answer = None;
        self.step(env, key, Event::FollowerFetch(fetch));
        let Some(known) = self.life.as_mut().and_then(|life| life.partitions.get_mut(&key)) else {
            return;
        };
        match known.answer.take() {
            Some(FetchAnswer::Serve { from, .. }) => {
                known.serve(fetch.follower, position.leader_epoch, from, restart);
                self.push_news(env, key);
            }
            Some(answer) => {
                if let Some(push) = known.pushes.get_mut(&fetch.follower) {
                    push.epoch = None;
                }
                self.tell_answer(env, key, &fetch, answer);
            }
            None => {}
        }
    }

    fn tell_answer(&self, env: &mut Env, key: TopicIdPartition, fetch: &FollowerFetch, answer: FetchAnswer) {
        let (fetch_offset, log_start, body) = match answer {
            FetchAnswer::Serve { .. } => return,
            FetchAnswer::Diverging {
                fetch_offset,
                last_fetched_epoch,
                end,
            } => {
                let body = ReplyBody::Diverging {
                    last_fetched_epoch,
                    end,
                };
                (fetch_offset, 0, body)
            }
            FetchAnswer::Refuse {
                fetch_offset,
                error,
                log_start,
            } => (fetch_offset, log_start, ReplyBody::Error(error)),
        };
        let reply = FetchReply {
            leader_epoch: fetch.position.leader_epoch,
            fetch_offset,
            high_watermark: 0,
            log_start,
            body,
        };
        let to = Addr::Broker(broker_index(fetch.follower));
        let entries = Vec::new();
        env.send(self.addr(), to, Body::Leader { key, reply, entries });
    }

    /// Sends each follower what it lacks.
    pub(super) fn push_news(&mut self, env: &mut Env, key: TopicIdPartition) {
        let addr = self.addr();
        let partition = self.life.as_mut().and_then(|life| life.partitions.get_mut(&key));
        let (Some(partition), Some(log)) = (partition, self.disk.logs.get(&key)) else {
            return;
        };
        if partition.replica.role() != RoleKind::Leader {
            partition.pushes.clear();
            return;
        }
        if log.rotten && partition.pushes.values().any(|push| push.reads(log)) {
            return self.step(env, key, Event::LogFailed);
        }
        for (follower, reply, entries) in partition.compose(log) {
            let to = Addr::Broker(broker_index(follower));
            env.send(addr, to, Body::Leader { key, reply, entries });
        }
    }

    /// Follower: a leader's reply or push.
    pub(super) fn take_reply(
        &mut self,
        env: &mut Env,
        leader: BrokerId,
        key: TopicIdPartition,
        reply: FetchReply,
        entries: Vec<Entry>,
    ) {
        let Some(partition) = self.life.as_mut().and_then(|life| life.partitions.get_mut(&key)) else {
            return;
        };
        if partition.replica.leader().0 != Some(leader) {
            return;
        }
        partition.arrived = entries;
        self.step(env, key, Event::FetchReply(reply));
        if let Some(partition) = self.life.as_mut().and_then(|life| life.partitions.get_mut(&key)) {
            partition.arrived.clear();
        }
    }
}

impl Partition {
    /// A position is served: pushing begins there, unless it goes on already.
    fn serve(&mut self, follower: BrokerId, epoch: LeaderEpoch, from: Offset, restart: bool) {
        let goes_on = self
            .pushes
            .get(&follower)
            .is_some_and(|push| push.epoch == Some(epoch) && !restart);
        if !goes_on {
            let push = Push {
                epoch: Some(epoch),
                next: from,
                told: None,
            };
            self.pushes.insert(follower, push);
        }
    }

    fn compose(&mut self, log: &ModelLog) -> Vec<(BrokerId, FetchReply, Vec<Entry>)> {
        let leads = self.replica.leader().1;
        let marks = (self.replica.high_watermark(), log.start());
        let mut messages = Vec::new();
        for (follower, push) in &mut self.pushes {
            if push.epoch != Some(leads) && push.epoch.is_some() {
                push.epoch = None;
            }
            let Some(epoch) = push.epoch else { continue };
            let reply = |fetch_offset, body| FetchReply {
                leader_epoch: epoch,
                fetch_offset,
                high_watermark: marks.0,
                log_start: marks.1,
                body,
            };
            if push.next < log.start() {
                push.epoch = None;
                let refusal = ReplyBody::Error(ErrorCode::OffsetOutOfRange);
                messages.push((*follower, reply(push.next, refusal), Vec::new()));
                continue;
            }
            for _ in 0..MESSAGES_MAX {
                let entries = log.read(push.next, log.end(), RECORDS_MAX);
                let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
                    break;
                };
                let records = FetchedRecords {
                    base_offset: push.next,
                    first_epoch: first.epoch,
                    last_epoch: last.epoch,
                };
                let message = reply(push.next, ReplyBody::Records(records));
                push.next += Offset::try_from(entries.len()).unwrap_or(0);
                push.told = Some(marks);
                messages.push((*follower, message, entries));
            }
            if push.told != Some(marks) {
                push.told = Some(marks);
                messages.push((*follower, reply(push.next, ReplyBody::Empty), Vec::new()));
            }
        }
        messages
    }
}
