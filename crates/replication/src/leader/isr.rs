//! Changes of the ISR: proposed to the controller, committed only by its record (KIP-497, KIP-903; reliability 2.7).

use strom_types::{BrokerEpoch, BrokerId, ErrorCode, Mono, PartitionEpoch};

use super::Leader;
use super::progress::Progress;
use crate::effect::Effect;
use crate::event::AlterPartitionResult;
use crate::metadata::{IsrMember, RecoveryState};
use crate::replica::{Context, Core};

/// The one change that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PendingIsr {
    pub(crate) members: Vec<IsrMember>,
    recovery_state: RecoveryState,
    /// The record it changes.
    partition_epoch: PartitionEpoch,
    flight: Flight,
    /// Attempts without an answer, with their send times: each may still reach the controller.
    unanswered: Vec<(u32, Mono)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flight {
    Sent {
        at: Mono,
    },
    BackOff {
        until: Mono,
    },
    /// Accepted; the record follows (E1: only that commits).
    Accepted,
}

impl PendingIsr {
    /// What was sent so long ago reaches nobody any more.
    fn forget_expired(&mut self, now: Mono, core: &Core) {
        self.unanswered
            .retain(|(_, sent)| now < *sent + core.config.alter_expiry);
    }
}

impl Leader {
    /// Proposes the one change that is due, if any: RECOVERED, else a shrink, else a join.
    pub(crate) fn maybe_propose(&mut self, core: &Core, cx: &Context<'_>, effects: &mut Vec<Effect>) {
        let resting = self.refused_until.is_some_and(|until| cx.at.now < until);
        if self.pending.is_some() || resting || !self.is_serving() {
            return;
        }
        self.refused_until = None;
        let isr = &core.partition.isr;
        if core.partition.recovery_state == RecoveryState::Recovering {
            let own = [core.config.broker];
            self.propose(core, cx, own.to_vec(), effects);
            return;
        }
        let in_time = |id: &BrokerId| *id == core.config.broker || !self.lags(core, *id, cx.at.now);
        let mut members: Vec<BrokerId> = isr.iter().copied().filter(in_time).collect();
        if members.len() == isr.len() {
            let joiner = self
                .followers
                .iter()
                .find(|one| !isr.contains(&one.id) && in_time(&one.id) && self.may_join(core, one));
            match joiner {
                Some(joiner) => members.push(joiner.id),
                None => return,
            }
        }
        self.propose(core, cx, members, effects);
    }

    fn lags(&self, core: &Core, id: BrokerId, now: Mono) -> bool {
        self.follower(id)
            .and_then(|follower| follower.lags_from(core))
            .is_some_and(|from| now >= from)
    }

    /// A follower joins with everything committed and everything this leadership began with, in the form that counts
    /// ([+] in durable mode fsynced: after its crash it stays eligible), in the life that is registered.
    fn may_join(&self, core: &Core, follower: &Progress) -> bool {
        let eligible = core
            .broker(follower.id)
            .is_some_and(|broker| !broker.fenced && !broker.shutting_down);
        let enough = follower.counted(core).is_some_and(|reached| {
            reached >= core.high_watermark
                && (reached >= self.start_offset() || !core.rules.join_needs_epoch_start)
        });
        enough && (eligible || !core.rules.propose_only_eligible)
    }

    fn propose(&mut self, core: &Core, cx: &Context<'_>, members: Vec<BrokerId>, effects: &mut Vec<Effect>) {
        // Members of the committed ISR are in it by their registered life: another registration removes them.
        let named = |broker| IsrMember {
            broker,
            epoch: if broker == core.config.broker {
                core.config.broker_epoch
            } else {
                core.registered_epoch(broker).unwrap_or(BrokerEpoch::NONE)
            },
        };
        self.pending = Some(PendingIsr {
            members: members.into_iter().map(named).collect(),
            recovery_state: RecoveryState::Recovered,
            partition_epoch: core.partition.partition_epoch,
            flight: Flight::BackOff { until: cx.at.now },
            unanswered: Vec::new(),
        });
        self.retry_proposal(core, cx, effects);
    }

    /// Sends the pending change when its time has come; a silence of `alter_timeout` counts as a failed attempt.
    pub(crate) fn retry_proposal(&mut self, core: &Core, cx: &Context<'_>, effects: &mut Vec<Effect>) {
        let now = cx.at.now;
        let Some(pending) = &mut self.pending else {
            return;
        };
        let due = match pending.flight {
            Flight::Sent { at } => now >= at + core.config.alter_timeout,
            Flight::BackOff { until } => now >= until,
            Flight::Accepted => false,
        };
        if !due {
            return;
        }
        if !core.rules.roll_back_only_when_refused && matches!(pending.flight, Flight::Sent { .. }) {
            self.pending = None;
            return;
        }
        self.attempts = self.attempts.wrapping_add(1);
        pending.forget_expired(now, core);
        pending.unanswered.push((self.attempts, now));
        pending.flight = Flight::Sent { at: now };
        effects.push(Effect::AlterPartition {
            leader_epoch: self.epoch,
            partition_epoch: pending.partition_epoch,
            attempt: self.attempts,
            new_isr: pending.members.clone(),
            recovery_state: pending.recovery_state,
        });
    }

    /// A newer record answers the proposal either way: none that names an older partition epoch is accepted any more.
    pub(crate) fn forget_overtaken_proposal(&mut self, core: &Core) {
        if self
            .pending
            .as_ref()
            .is_some_and(|pending| pending.partition_epoch < core.partition.partition_epoch)
        {
            self.pending = None;
        }
    }

    pub(crate) fn on_alter_result(
        &mut self,
        core: &mut Core,
        cx: &Context<'_>,
        result: &AlterPartitionResult,
        effects: &mut Vec<Effect>,
    ) {
        let now = cx.at.now;
        let Some(pending) = &mut self.pending else {
            return;
        };
        if result.leader_epoch != self.epoch || result.partition_epoch != pending.partition_epoch {
            return;
        }
        let known = pending.unanswered.len();
        // A timeout leaves the attempt open: it may be carried out yet.
        let answered = !matches!(
            result.error,
            ErrorCode::RequestTimedOut | ErrorCode::Indeterminate | ErrorCode::ControllerUnavailable
        );
        if answered {
            pending
                .unanswered
                .retain(|(attempt, _)| *attempt != result.attempt);
            if pending.unanswered.len() == known {
                return;
            }
        }
        let refused = matches!(
            result.error,
            ErrorCode::IneligibleReplica | ErrorCode::OperationNotAttempted
        );
        pending.forget_expired(now, core);
        let open = !pending.unanswered.is_empty();
        if result.error.is_none() {
            pending.flight = Flight::Accepted;
            return;
        }
        if pending.flight == Flight::Accepted {
            return;
        }
        // Rolled back only when neither this attempt nor an earlier one can still be accepted; else the maximal ISR
        // stays until the metadata tells.
        if (refused && !open) || !core.rules.roll_back_only_when_refused {
            self.pending = None;
            self.refused_until = Some(now + core.config.alter_retry_backoff);
            self.maybe_advance_high_watermark(core, cx, effects);
        } else {
            pending.flight = Flight::BackOff {
                until: now + core.config.alter_retry_backoff,
            };
        }
    }

    /// A registration changed: a follower may have become eligible, or count again.
    pub(crate) fn on_broker_changed(&mut self, core: &mut Core, cx: &Context<'_>, effects: &mut Vec<Effect>) {
        self.maybe_propose(core, cx, effects);
        self.maybe_advance_high_watermark(core, cx, effects);
    }

    pub(crate) fn next_tick(&self, core: &Core) -> Option<Mono> {
        if let Some(pending) = &self.pending {
            return match pending.flight {
                Flight::Sent { at } => Some(at + core.config.alter_timeout),
                Flight::BackOff { until } => Some(until),
                Flight::Accepted => None,
            };
        }
        let in_isr = |follower: &&Progress| core.partition.isr.contains(&follower.id);
        let lagging = self.followers.iter().filter(in_isr);
        let lag = lagging.filter_map(|follower| follower.lags_from(core)).min();
        match (lag, self.refused_until) {
            (Some(lag), Some(rest)) => Some(lag.max(rest)),
            (lag, rest) => lag.or(rest),
        }
    }
}
