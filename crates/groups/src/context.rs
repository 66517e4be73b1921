//! What a group's handlers need beside the group: time, timers, appends, effects.

use std::sync::Arc;
use std::time::Duration;

use strom_types::{Mono, WallMs};

use crate::appends::{Appends, Waiter};
use crate::config::Config;
use crate::effect::{Effect, Reply};
use crate::event::{AppendToken, RequestId};
use crate::record::Record;
use crate::timers::{Timer, Timers};

/// The moment of one step, and where its effects go.
pub(crate) struct Step<'a> {
    pub(crate) now: Mono,
    pub(crate) wall: WallMs,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Step<'_> {
    pub(crate) fn reply(&mut self, request: RequestId, reply: Reply) {
        self.effects.push(Effect::Reply { request, reply });
    }
}

/// What all groups of the coordinator hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) members: usize,
    pub(crate) bytes: usize,
}

impl Usage {
    /// This, with one group's part of it changed from `before` to `after`.
    pub(crate) fn replace(self, before: Usage, after: Usage) -> Usage {
        Usage {
            members: (self.members + after.members).saturating_sub(before.members),
            bytes: (self.bytes + after.bytes).saturating_sub(before.bytes),
        }
    }
}

/// The coordinator as one group sees it.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) timers: &'a mut Timers,
    pub(crate) appends: &'a mut Appends,
    /// As it was when the step began.
    pub(crate) usage: Usage,
    pub(crate) now: Mono,
    pub(crate) wall: WallMs,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    pub(crate) fn reply(&mut self, request: RequestId, reply: Reply) {
        self.effects.push(Effect::Reply { request, reply });
    }

    /// At least a millisecond ahead, so that a tick cannot go round for ever.
    pub(crate) fn schedule(&mut self, timer: Timer, delay_ms: impl Into<i64>) {
        let delay = u64::try_from(delay_ms.into().max(1)).unwrap_or(1);
        self.timers
            .schedule(timer, self.now + Duration::from_millis(delay));
    }

    pub(crate) fn append(&mut self, records: Vec<Record>, waiter: Waiter) -> AppendToken {
        let records: Arc<[Record]> = records.into();
        let timed = !matches!(waiter, Waiter::Nobody);
        let token = self.appends.push(Arc::clone(&records), waiter);
        if timed {
            self.schedule(Timer::Append(token), self.config.offsets_commit_timeout_ms);
        }
        self.effects.push(Effect::Append { token, records });
        token
    }
}
