//! The follower: what it asks the leader for and how it takes the answers (F1-F6).

use strom_types::{BrokerId, ErrorCode, LeaderEpoch, Offset};

use crate::divergence::truncation_point;
use crate::effect::{Alarm, Effect};
use crate::event::{FetchPosition, FetchReply, FetchedRecords, ReplyBody};
use crate::log_view::LogUnreadable;
use crate::metadata::RecoveryState;
use crate::replica::{Context, Core, LogMutation};

/// So many damaged answers in a row make the leader's copy suspect.
const DAMAGED_REPLIES_MAX: u32 = 3;

pub(crate) struct Follower {
    leader: BrokerId,
    epoch: LeaderEpoch,
    damaged_replies: u32,
    /// What the leader was told last.
    told: Option<FetchPosition>,
}

impl Follower {
    /// E4. Truncation, if any, follows from the leader's answer to the first position, before any append.
    pub(crate) fn begin(core: &mut Core, leader: BrokerId, effects: &mut Vec<Effect>) -> Self {
        let mut follower = Follower {
            leader,
            epoch: core.partition.leader_epoch,
            damaged_replies: 0,
            told: None,
        };
        if core.rules.truncate_by_epoch {
            follower.tell(core, true, effects);
        } else {
            begin_truncation(core, core.high_watermark, effects);
        }
        follower
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub(crate) fn leader(&self) -> BrokerId {
        self.leader
    }

    pub(crate) fn position(&self, core: &Core) -> FetchPosition {
        FetchPosition {
            leader_epoch: self.epoch,
            fetch_offset: core.log.end,
            last_fetched_epoch: core.log.latest_epoch,
            durable_offset: core.log.durable,
            log_start: core.log.start,
        }
    }

    fn tell(&mut self, core: &Core, restart: bool, effects: &mut Vec<Effect>) {
        let position = self.position(core);
        if !restart && self.told == Some(position) {
            return;
        }
        self.told = Some(position);
        effects.push(Effect::SendPosition {
            leader: self.leader,
            position,
            restart,
        });
    }

    /// The fsynced end moved.
    pub(crate) fn on_log_advanced(&mut self, core: &Core, effects: &mut Vec<Effect>) {
        if core.mutation.is_none() {
            self.tell(core, false, effects);
        }
    }

    /// Takes a reply; an alarm means that this replica must stop.
    pub(crate) fn on_reply(
        &mut self,
        core: &mut Core,
        cx: &Context<'_>,
        reply: &FetchReply,
        effects: &mut Vec<Effect>,
    ) -> Option<Alarm> {
        // F1. While the log is being changed there is no state a reply could match.
        if core.mutation.is_some() || (core.rules.match_replies && !self.matches(core, reply)) {
            return None;
        }
        match reply.body {
            ReplyBody::Empty => {
                self.damaged_replies = 0;
                core.raise_high_watermark(reply.high_watermark.min(core.log.end), effects);
                advance_log_start(core, reply.log_start, effects);
                None
            }
            ReplyBody::Records(records) => {
                self.take_records(core, reply, &records, effects);
                None
            }
            ReplyBody::Corrupt => {
                self.on_damage(effects);
                None
            }
            ReplyBody::Diverging { end, .. } => {
                let to = if core.rules.floor_on_both_sides {
                    truncation_point(cx.log, end)
                } else {
                    Ok(end.end_offset.min(core.log.end).max(core.log.start))
                };
                match to {
                    Ok(to) => truncate(core, to, effects),
                    Err(LogUnreadable) => Some(Alarm::LogFailed),
                }
            }
            ReplyBody::Error(ErrorCode::OffsetOutOfRange) => on_out_of_range(core, reply.log_start, effects),
            ReplyBody::Error(error) => {
                effects.push(Effect::RetryFetch { error });
                None
            }
        }
    }

    /// F1: the reply answers the present state. For records and high watermarks epoch and log end are enough, since
    /// within one leader epoch a validated log only grows; a divergence must also be about the present last epoch.
    fn matches(&self, core: &Core, reply: &FetchReply) -> bool {
        let same_prefix = match reply.body {
            ReplyBody::Diverging {
                last_fetched_epoch, ..
            } => last_fetched_epoch == core.log.latest_epoch,
            _ => true,
        };
        reply.leader_epoch == self.epoch && reply.fetch_offset == core.log.end && same_prefix
    }

    fn take_records(
        &mut self,
        core: &mut Core,
        reply: &FetchReply,
        records: &FetchedRecords,
        effects: &mut Vec<Effect>,
    ) {
        // F3; by F1 the base offset could only differ through a leader's fault.
        if core.rules.verify_records && records.base_offset != core.log.end {
            self.on_damage(effects);
            return;
        }
        // E5.
        let in_order =
            core.log.latest_epoch <= records.first_epoch && records.first_epoch <= records.last_epoch;
        if core.rules.batch_epoch_order && !(in_order && records.last_epoch <= self.epoch) {
            effects.push(Effect::Raise {
                alarm: Alarm::EpochOutOfOrder {
                    epoch: if in_order {
                        records.last_epoch
                    } else {
                        records.first_epoch
                    },
                    latest: core.log.latest_epoch,
                    leader_epoch: self.epoch,
                },
            });
            self.on_damage(effects);
            return;
        }
        self.damaged_replies = 0;
        core.mutation = Some(LogMutation::Append {
            leader_epoch: reply.leader_epoch,
            leader_hw: reply.high_watermark,
        });
        effects.push(Effect::AppendRecords {
            base_offset: records.base_offset,
        });
        advance_log_start(core, reply.log_start, effects);
    }

    fn on_damage(&mut self, effects: &mut Vec<Effect>) {
        self.damaged_replies = self.damaged_replies.saturating_add(1);
        if self.damaged_replies >= DAMAGED_REPLIES_MAX {
            effects.push(Effect::Raise {
                alarm: Alarm::LeaderSuspect {
                    leader: self.leader,
                    times: self.damaged_replies,
                },
            });
        }
        effects.push(Effect::RetryFetch {
            error: ErrorCode::CorruptMessage,
        });
    }

    /// The append, truncation or restart is done.
    pub(crate) fn on_mutated(&mut self, core: &mut Core, mutation: LogMutation, effects: &mut Vec<Effect>) {
        match mutation {
            LogMutation::Append {
                leader_epoch,
                leader_hw,
            } => {
                // F4, unless the role changed meanwhile: then the new leader tells.
                if leader_epoch == self.epoch {
                    core.raise_high_watermark(leader_hw.min(core.log.end), effects);
                }
                self.tell(core, false, effects);
            }
            LogMutation::Truncate | LogMutation::Restart => self.tell(core, true, effects),
            LogMutation::EpochStart { .. } => {}
        }
    }
}

/// F2 with F4: below the high watermark only an unclean election may cut.
fn truncate(core: &mut Core, to: Offset, effects: &mut Vec<Effect>) -> Option<Alarm> {
    if let Some(alarm) = cuts_committed(core, to) {
        return Some(alarm);
    }
    begin_truncation(core, to, effects);
    None
}

fn begin_truncation(core: &mut Core, to: Offset, effects: &mut Vec<Effect>) {
    core.high_watermark = core.high_watermark.min(to);
    core.mutation = Some(LogMutation::Truncate);
    effects.push(Effect::TruncateTo { to });
}

fn cuts_committed(core: &Core, to: Offset) -> Option<Alarm> {
    let allowed = core.partition.recovery_state == RecoveryState::Recovering;
    (to < core.high_watermark && !allowed && core.rules.stop_truncation_below_hw).then_some(
        Alarm::TruncationBelowHighWatermark {
            to,
            high_watermark: core.high_watermark,
        },
    )
}

/// F5. A log of which the leader has nothing any more, or that holds nothing at all, begins anew at the leader's start;
/// a longer log the leader
/// cannot place is kept for the post-mortem (Kafka's "second case" would go on with it).
fn on_out_of_range(core: &mut Core, leader_log_start: Offset, effects: &mut Vec<Effect>) -> Option<Alarm> {
    if !core.rules.restart_at_log_start {
        effects.push(Effect::RetryFetch {
            error: ErrorCode::OffsetOutOfRange,
        });
        return None;
    }
    let empty = core.log.latest_epoch == LeaderEpoch::NONE;
    if leader_log_start < core.log.end && !empty {
        return Some(Alarm::LogUnknownToLeader {
            log_end: core.log.end,
            leader_log_start,
        });
    }
    if let Some(alarm) = cuts_committed(core, leader_log_start) {
        return Some(alarm);
    }
    core.high_watermark = core.high_watermark.min(leader_log_start);
    core.mutation = Some(LogMutation::Restart);
    effects.push(Effect::RestartAt {
        start: leader_log_start,
    });
    None
}

/// The leader's retention and DeleteRecords reach followers with its log start; never above the own high watermark.
fn advance_log_start(core: &Core, leader_log_start: Offset, effects: &mut Vec<Effect>) {
    let to = leader_log_start.min(core.high_watermark);
    if to > core.log.start {
        effects.push(Effect::AdvanceLogStart { to });
    }
}
