//! A follower's fetch, as the leader checks it: the order of the checks is the protocol's (reliability 2.4).

use strom_types::{BrokerEpoch, ErrorCode, LeaderEpoch};

use super::Leader;
use crate::divergence::{Prefix, check_prefix};
use crate::effect::{Alarm, Effect, FetchAnswer};
use crate::event::{FetchPosition, FollowerFetch};
use crate::log_view::LogUnreadable;
use crate::replica::{Context, Core};

/// Why a follower's fetch is not served.
#[derive(Clone, Copy)]
enum Unserved {
    Answer(FetchAnswer),
    /// Nothing can be told of a log that is not known: a follower would take it for another history than its own.
    LogUnreadable,
}

impl From<LogUnreadable> for Unserved {
    fn from(_: LogUnreadable) -> Self {
        Unserved::LogUnreadable
    }
}

/// [+] All the follower holds lies below the log start, in an epoch of which nothing is left here: its records may be
/// of another history than those that were deleted. It must drop them, or could show them, as leader too.
fn is_unverifiable(core: &Core, cx: &Context<'_>, position: &FetchPosition) -> Result<bool, LogUnreadable> {
    let all_below = position.log_start < position.fetch_offset
        && position.fetch_offset == core.log.start
        && position.last_fetched_epoch < core.log.latest_epoch;
    if !all_below {
        return Ok(false);
    }
    let end = cx.log.end_offset_for_epoch(position.last_fetched_epoch)?;
    Ok(end.is_some_and(|end| end.end_offset <= core.log.start))
}

fn refuse(core: &Core, fetch: &FollowerFetch, error: ErrorCode) -> FetchAnswer {
    FetchAnswer::Refuse {
        fetch_offset: fetch.position.fetch_offset,
        error,
        log_start: core.log.start,
    }
}

impl Leader {
    /// Answers a follower; an alarm means that this replica must stop.
    pub(crate) fn on_follower_fetch(
        &mut self,
        core: &mut Core,
        cx: &Context<'_>,
        fetch: &FollowerFetch,
        effects: &mut Vec<Effect>,
    ) -> Option<Alarm> {
        let checked = self.check(core, cx, fetch);
        let answer = match checked {
            Ok(()) => FetchAnswer::Serve {
                from: fetch.position.fetch_offset,
                high_watermark: core.high_watermark,
                log_start: core.log.start,
            },
            Err(Unserved::Answer(answer)) => answer,
            Err(Unserved::LogUnreadable) => refuse(core, fetch, ErrorCode::KafkaStorageError),
        };
        effects.push(Effect::AnswerFetch {
            follower: fetch.follower,
            answer,
        });
        match checked {
            Ok(()) => {}
            Err(Unserved::Answer(_)) => return None,
            Err(Unserved::LogUnreadable) => return Some(Alarm::LogFailed),
        }
        let (now, log_end) = (cx.at.now, core.log.end);
        if let Some(follower) = self.followers.iter_mut().find(|known| known.id == fetch.follower) {
            follower.update(core, fetch, now, log_end);
        }
        self.maybe_propose(core, cx, effects);
        self.maybe_advance_high_watermark(core, cx, effects);
        None
    }

    fn check(&self, core: &Core, cx: &Context<'_>, fetch: &FollowerFetch) -> Result<(), Unserved> {
        let position = &fetch.position;
        let refuse = |error| Unserved::Answer(refuse(core, fetch, error));
        // 1
        if fetch.topic_id != core.config.partition.topic_id {
            return Err(refuse(ErrorCode::InconsistentTopicId));
        }
        // 2
        if core.rules.fence_fetch_epoch {
            self.check_epoch(position.leader_epoch).map_err(refuse)?;
        }
        if !self.is_serving() {
            return Err(refuse(ErrorCode::NotLeaderOrFollower));
        }
        // 3
        if self.follower(fetch.follower).is_none() {
            return Err(refuse(ErrorCode::UnknownLeaderEpoch));
        }
        // 4. A newer life than the registered one is served; `Progress::counted` leaves it out.
        let registered = core.registered_epoch(fetch.follower).unwrap_or(BrokerEpoch::NONE);
        if core.rules.fetch_broker_epoch && fetch.broker_epoch < registered {
            return Err(refuse(ErrorCode::StaleBrokerEpoch));
        }
        // 5
        if position.fetch_offset < core.log.start {
            return Err(refuse(ErrorCode::OffsetOutOfRange));
        }
        // 6
        if core.rules.check_divergence {
            if core.rules.refuse_unverifiable && is_unverifiable(core, cx, position)? {
                return Err(refuse(ErrorCode::OffsetOutOfRange));
            }
            return match check_prefix(cx.log, position.last_fetched_epoch, position.fetch_offset)? {
                Prefix::Shared => Ok(()),
                Prefix::Unknown => Err(refuse(ErrorCode::OffsetOutOfRange)),
                Prefix::Diverges(end) => Err(Unserved::Answer(FetchAnswer::Diverging {
                    fetch_offset: position.fetch_offset,
                    last_fetched_epoch: position.last_fetched_epoch,
                    end,
                })),
            };
        }
        Ok(())
    }

    fn check_epoch(&self, given: LeaderEpoch) -> Result<(), ErrorCode> {
        match given.cmp(&self.epoch) {
            std::cmp::Ordering::Less => Err(ErrorCode::FencedLeaderEpoch),
            std::cmp::Ordering::Greater => Err(ErrorCode::UnknownLeaderEpoch),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}
