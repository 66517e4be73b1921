//! Carries out what the replica core wants done.

use std::time::Duration;

use strom_replication::{Alarm, Effect, Event, FetchPosition, FollowerFetch};
use strom_types::{BrokerEpoch, BrokerId, GROUP_METADATA_TOPIC, LeaderEpoch, TopicIdPartition};

use super::life::IsrChange;
use super::{BrokerNode, broker_index};
use crate::env::Env;
use crate::message::{Addr, Body};

impl BrokerNode {
    /// Carries one effect out; returns the event that tells the replica of its outcome.
    pub(super) fn carry_out(
        &mut self,
        env: &mut Env,
        key: TopicIdPartition,
        effect: Effect,
    ) -> Option<Event> {
        match effect {
            Effect::AssignEpochStart { epoch, offset } => {
                if let Some(log) = self.disk.logs.get_mut(&key) {
                    log.assign_epoch(epoch, offset);
                }
                return Some(Event::EpochStartPersisted { epoch });
            }
            Effect::Recover { epoch } => return Some(Event::RecoveryDone { epoch }),
            Effect::LeaderReady { epoch } => self.on_leader(env, key, epoch),
            Effect::FailWaiters { error } => {
                self.fail_waiters(env, key, error);
                self.end_coordinator(env, key);
            }
            Effect::HighWatermarkAdvanced { .. } => self.settle(env, key),
            Effect::AlterPartition {
                leader_epoch,
                partition_epoch,
                attempt,
                new_isr,
                recovery_state,
            } => self.propose_isr(IsrChange {
                key,
                leader_epoch,
                partition_epoch,
                attempt,
                new_isr,
                recovery_state,
            }),
            Effect::AnswerFetch { answer, .. } => {
                if let Some(partition) = self.life.as_mut().and_then(|life| life.partitions.get_mut(&key)) {
                    partition.answer = Some(answer);
                }
            }
            Effect::SendPosition {
                leader,
                position,
                restart,
            } => self.send_position(env, key, leader, position, restart),
            Effect::RetryFetch { .. } => {
                let at = env.mono(self.addr()) + Duration::from_millis(env.rng.range(5, 60));
                if let Some(partition) = self.life.as_mut().and_then(|life| life.partitions.get_mut(&key)) {
                    partition.retry_at = Some(at);
                }
            }
            Effect::Quarantine {
                alarm: Alarm::LogFailed,
            } if self.is_rotten(key) => {
                if let Some(life) = &mut self.life
                    && let Some(partition) = life.partitions.get(&key)
                {
                    life.damaged.insert(key, partition.replica.leader().1);
                }
            }
            Effect::Quarantine { alarm } | Effect::Raise { alarm } => {
                env.judge
                    .fail(format!("alarm of broker {}, {key}: {alarm}", self.index));
            }
            other => return self.change_log(env, key, &other),
        }
        None
    }

    fn change_log(&mut self, env: &mut Env, key: TopicIdPartition, effect: &Effect) -> Option<Event> {
        let partition = self.life.as_mut()?.partitions.get_mut(&key)?;
        let log = self.disk.logs.get_mut(&key)?;
        match effect {
            Effect::AppendRecords { .. } => {
                for entry in std::mem::take(&mut partition.arrived) {
                    log.append(entry);
                }
                self.begin_flush(env, key);
                Some(Event::LogMutated)
            }
            Effect::TruncateTo { to } => {
                env.trace.line(
                    env.now,
                    format_args!("broker {} truncates {key} from {} to {to}", self.index, log.end()),
                );
                log.truncate(*to);
                Some(Event::LogMutated)
            }
            Effect::RestartAt { start } => {
                log.restart(*start);
                Some(Event::LogMutated)
            }
            Effect::AdvanceLogStart { to } => {
                log.advance_start(*to);
                Some(Event::LogAdvanced)
            }
            // Files stay until the process has let go of them; nothing reads them again.
            _ => None,
        }
    }

    fn on_leader(&mut self, env: &mut Env, key: TopicIdPartition, epoch: LeaderEpoch) {
        let id = self.id();
        env.trace
            .line(env.now, format_args!("broker {id} leads {key} in epoch {epoch}"));
        let Some(log) = self.disk.logs.get(&key) else {
            return;
        };
        let verdict = env.judge.facts(key).lead(id, epoch, log);
        env.judge.take(format_args!("broker {id}, {key}"), verdict);
        let topic = self.life.as_ref().and_then(|life| life.partitions.get(&key));
        if topic.is_some_and(|partition| *partition.topic == *GROUP_METADATA_TOPIC) {
            let end = log.end();
            self.begin_coordinator(key, epoch, end);
        }
    }

    pub(super) fn send_position(
        &mut self,
        env: &mut Env,
        key: TopicIdPartition,
        leader: BrokerId,
        position: FetchPosition,
        restart: bool,
    ) {
        let epoch = self.life.as_ref().and_then(|life| life.epoch);
        let fetch = FollowerFetch {
            topic_id: key.topic_id,
            follower: self.id(),
            broker_epoch: epoch.unwrap_or(BrokerEpoch::NONE),
            position,
        };
        let body = Body::Position {
            partition: key.partition,
            fetch,
            restart,
        };
        env.send(self.addr(), Addr::Broker(broker_index(leader)), body);
    }
}
