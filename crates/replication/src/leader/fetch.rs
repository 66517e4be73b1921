//! A follower's fetch, as the leader checks it: the order of the checks is the protocol's (reliability 2.4).

use strom_types::{BrokerEpoch, ErrorCode, LeaderEpoch};

use super::Leader;
use crate::divergence::{Prefix, check_prefix};
use crate::effect::{Effect, FetchAnswer};
use crate::event::{FetchPosition, FollowerFetch};
use crate::replica::{Context, Core};

/// [+] All the follower holds lies below the log start, in an epoch of which nothing is left here: its records may be
/// of another history than those that were deleted. It must drop them, or could show them, as leader too.
fn is_unverifiable(core: &Core, cx: &Context<'_>, position: &FetchPosition) -> bool {
    position.log_start < position.fetch_offset
        && position.fetch_offset == core.log.start
        && position.last_fetched_epoch < core.log.latest_epoch
        && cx
            .log
            .end_offset_for_epoch(position.last_fetched_epoch)
            .is_some_and(|end| end.end_offset <= core.log.start)
}

impl Leader {
    pub(crate) fn on_follower_fetch(
        &mut self,
        core: &mut Core,
        cx: &Context<'_>,
        fetch: &FollowerFetch,
        effects: &mut Vec<Effect>,
    ) {
        let answer = match self.check(core, cx, fetch) {
            Ok(()) => FetchAnswer::Serve {
                from: fetch.position.fetch_offset,
                high_watermark: core.high_watermark,
                log_start: core.log.start,
            },
            Err(refusal) => {
                effects.push(Effect::AnswerFetch {
                    follower: fetch.follower,
                    answer: refusal,
                });
                return;
            }
        };
        effects.push(Effect::AnswerFetch {
            follower: fetch.follower,
            answer,
        });
        let (now, log_end) = (cx.at.now, core.log.end);
        if let Some(follower) = self.followers.iter_mut().find(|known| known.id == fetch.follower) {
            follower.update(core, fetch, now, log_end);
        }
        self.maybe_propose(core, cx, effects);
        self.maybe_advance_high_watermark(core, cx, effects);
    }

    fn check(&self, core: &Core, cx: &Context<'_>, fetch: &FollowerFetch) -> Result<(), FetchAnswer> {
        let position = &fetch.position;
        let refuse = |error| FetchAnswer::Refuse {
            fetch_offset: position.fetch_offset,
            error,
            log_start: core.log.start,
        };
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
            if core.rules.refuse_unverifiable && is_unverifiable(core, cx, position) {
                return Err(refuse(ErrorCode::OffsetOutOfRange));
            }
            return match check_prefix(cx.log, position.last_fetched_epoch, position.fetch_offset) {
                Prefix::Shared => Ok(()),
                Prefix::Unknown => Err(refuse(ErrorCode::OffsetOutOfRange)),
                Prefix::Diverges(end) => Err(FetchAnswer::Diverging {
                    fetch_offset: position.fetch_offset,
                    last_fetched_epoch: position.last_fetched_epoch,
                    end,
                }),
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
