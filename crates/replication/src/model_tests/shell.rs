//! The toy shell round the replicas: messages in, effects out.

use std::collections::VecDeque;

use strom_types::{BrokerEpoch, BrokerId, Offset};

use super::SESSION;
use super::checks::Verdict;
use super::controller::AlterRequest;
use super::net::{Envelope, Message, Peer};
use super::node::{LogWork, TOPIC};
use super::world::World;
use crate::toy_log::ToyRecord;
use crate::*;

const CONTROLLER_LIFE: BrokerEpoch = BrokerEpoch(-7);

impl World {
    pub(super) fn deliver(&mut self, mut envelope: Envelope) -> Verdict {
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
        // Lost answers of accepted changes are what the roll-back rule is about: more of them.
        let mute = self.faults && matches!(envelope.message, Message::Alter(_)) && self.rng.one_in(3);
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
        if mute {
            return;
        }
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

    pub(super) fn send(&mut self, i: usize, to: Peer, message: Message) {
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

    pub(super) fn send_position(&mut self, i: usize, leader: BrokerId, position: FetchPosition) {
        let fetch = FollowerFetch {
            topic_id: TOPIC,
            follower: self.nodes[i].id,
            broker_epoch: self.nodes[i].life,
            position,
        };
        self.send(i, Peer::Broker(leader), Message::Fetch(fetch));
    }

    /// One event, its effects, and the events these make at once; `records` come with a reply.
    pub(super) fn feed(&mut self, i: usize, event: Event, records: &[ToyRecord]) -> Verdict {
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
                node.work = Some(LogWork::EpochStart(epoch, offset));
            }
            Effect::AppendRecords { .. } => {
                node.work = Some(LogWork::Append(std::mem::take(&mut node.incoming)));
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
