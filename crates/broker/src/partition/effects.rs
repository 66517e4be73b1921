//! Carries out what the replica state machine wants done.

use std::collections::VecDeque;

use parking_lot::MutexGuard;
use strom_config::Durability;
use strom_log::AppendError;
use strom_replication::{Alarm, Effect, Event};
use strom_types::{ErrorCode, LeaderEpoch};
use tracing::{error, info, warn};

use super::log_view::View;
use super::{Inner, Partition};
use crate::shared::Note;

impl Partition {
    /// Steps the replica and carries the effects out in order, with the steps that follow from them.
    pub(super) fn step_locked(&self, inner: &mut MutexGuard<'_, Inner>, event: Event) {
        let mut next = self.step_once(inner, event);
        while let Some(effect) = next.pop_front() {
            let outcome = match effect {
                Effect::AssignEpochStart { epoch, .. } => {
                    let assigned = self.log.assign_epoch_start(epoch);
                    self.epoch_start_outcome(inner, epoch, assigned.map(drop))
                }
                effect => self.carry_out(inner, effect),
            };
            if let Some(event) = outcome {
                next.extend(self.step_once(inner, event));
            }
        }
    }

    /// The same, but the start of a leadership is left to the caller, who makes many of them durable together.
    pub(super) fn step_leaving_epoch_start(
        &self,
        inner: &mut MutexGuard<'_, Inner>,
        event: Event,
    ) -> Option<LeaderEpoch> {
        let mut next = self.step_once(inner, event);
        let mut epoch_start = None;
        while let Some(effect) = next.pop_front() {
            if let Effect::AssignEpochStart { epoch, .. } = effect {
                epoch_start = Some(epoch);
            } else if let Some(event) = self.carry_out(inner, effect) {
                next.extend(self.step_once(inner, event));
            }
        }
        epoch_start
    }

    /// The start of a leadership was made durable, or not. On a full disk it is tried again with each tick.
    pub(crate) fn epoch_start(&self, epoch: LeaderEpoch, assigned: Result<(), AppendError>) {
        let mut inner = self.inner.lock();
        if let Some(event) = self.epoch_start_outcome(&mut inner, epoch, assigned) {
            self.step_locked(&mut inner, event);
        }
    }

    fn epoch_start_outcome(
        &self,
        inner: &mut Inner,
        epoch: LeaderEpoch,
        assigned: Result<(), AppendError>,
    ) -> Option<Event> {
        inner.epoch_start_due = None;
        match assigned {
            Ok(()) => Some(Event::EpochStartPersisted { epoch }),
            Err(error) if error.is_disk_full() => {
                inner.epoch_start_due = Some(epoch);
                None
            }
            Err(error) => Some(self.log_failed("assign an epoch in", &error)),
        }
    }

    /// Tries again what a full disk has kept from being made durable.
    pub(crate) fn retry_epoch_start(&self) {
        let mut inner = self.inner.lock();
        if let Some(epoch) = inner.epoch_start_due {
            let assigned = self.log.assign_epoch_start(epoch);
            if let Some(event) = self.epoch_start_outcome(&mut inner, epoch, assigned.map(drop)) {
                self.step_locked(&mut inner, event);
            }
        }
    }

    fn step_once(&self, inner: &mut MutexGuard<'_, Inner>, event: Event) -> VecDeque<Effect> {
        let mut effects = Vec::new();
        inner
            .replica
            .step(self.moment(), &View(&self.log), event, &mut effects);
        self.wake_pushes(inner);
        effects.into()
    }

    /// Carries one effect out; returns the event that tells the replica of its outcome, if it is known at once.
    fn carry_out(&self, inner: &mut MutexGuard<'_, Inner>, effect: Effect) -> Option<Event> {
        match effect {
            // No transaction can be open: they are not served yet, and clients' transactional batches are refused.
            Effect::Recover { epoch } => return Some(Event::RecoveryDone { epoch }),
            Effect::LeaderReady { epoch } => {
                self.shared.note(Note::LeaderReady {
                    key: self.key,
                    topic: self.topic.clone(),
                    epoch,
                });
            }
            Effect::FailWaiters { error } => {
                inner.acks.fail(error);
                inner.fetches.wake_all();
                self.shared.note(Note::LeadershipEnded {
                    key: self.key,
                    topic: self.topic.clone(),
                });
            }
            Effect::HighWatermarkAdvanced { high_watermark } => {
                self.settle(inner);
                inner.fetches.advance(high_watermark);
                self.shared.high_watermark_advanced();
            }
            Effect::AlterPartition {
                leader_epoch,
                partition_epoch,
                attempt,
                new_isr,
                recovery_state,
            } => {
                self.shared.note(Note::AlterPartition {
                    key: self.key,
                    leader_epoch,
                    partition_epoch,
                    attempt,
                    new_isr,
                    recovery_state,
                });
            }
            Effect::AnswerFetch { answer, .. } => inner.answer = Some(answer),
            Effect::SendPosition {
                leader,
                position,
                restart,
            } => {
                let durable = inner.config.durability == Durability::Durable;
                let flush_follows = durable && position.durable_offset < position.fetch_offset;
                self.shared
                    .fetch_desk()
                    .position(self.key, leader, position, restart, flush_follows);
            }
            Effect::RetryFetch { error } => self.shared.fetch_desk().retry(self.key, error),
            Effect::StopFetching => self.shared.fetch_desk().stop(self.key),
            other => return self.change_log(inner, &other),
        }
        None
    }

    /// The effects that change the log or end the replica's service.
    fn change_log(&self, inner: &mut MutexGuard<'_, Inner>, effect: &Effect) -> Option<Event> {
        match effect {
            Effect::AppendRecords { .. } => Some(self.append_arrived(inner)),
            Effect::TruncateTo { to } => Some(match self.log.truncate_to(*to) {
                Ok(end) => {
                    info!(topic = %self.topic, partition = self.key.partition, to, end, "log truncated to the leader's");
                    Event::LogMutated
                }
                Err(error) => self.log_failed("truncate", &error),
            }),
            Effect::RestartAt { start } => Some(match self.log.truncate_fully_and_start_at(*start) {
                Ok(()) => Event::LogMutated,
                Err(error) => self.log_failed("restart", &error),
            }),
            Effect::AdvanceLogStart { to } => Some(match self.log.set_log_start_offset(*to) {
                Ok(_) => Event::LogAdvanced,
                Err(error) => self.log_failed("advance the start of", &error),
            }),
            Effect::Quarantine { alarm } => {
                self.raise(alarm, "replica is out of service; its bytes are kept");
                if self.log.quarantined().is_some() {
                    self.shared
                        .damaged_logs()
                        .note(self.key, inner.replica.leader().1);
                }
                inner.acks.fail(ErrorCode::KafkaStorageError);
                inner.fetches.wake_all();
                None
            }
            Effect::Raise { alarm } => {
                self.raise(alarm, "replica alarm");
                None
            }
            // Whoever removed the replica deletes its log; the directory is closed as a whole, after its last partition.
            Effect::DeleteLog { .. } | Effect::CloseLog => None,
            _ => None,
        }
    }

    fn raise(&self, alarm: &Alarm, what: &'static str) {
        self.shared.metrics().alarm();
        error!(topic = %self.topic, partition = self.key.partition, %alarm, "{what}");
    }

    pub(super) fn log_failed(&self, action: &'static str, error: &dyn std::fmt::Display) -> Event {
        warn!(topic = %self.topic, partition = self.key.partition, %error, "cannot {action} the log");
        Event::LogFailed
    }
}
