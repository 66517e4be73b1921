//! Offsets that nobody uses any more expire, and empty groups without offsets with them (KIP-211).

use std::collections::BTreeSet;
use std::sync::Arc;

use strom_types::WallMs;

use crate::appends::Waiter;
use crate::context::{Context, Step};
use crate::coordinator::Coordinator;
use crate::group::Group;
use crate::offsets::tombstones;
use crate::record::{OffsetCommitValue, OffsetKey, Record};
use crate::state::GroupState;
use crate::timers::Timer;

/// Tombstones of several groups go out together, up to about this many.
const RECORDS_PER_APPEND: usize = 1_024;

/// From when on an offset's retention counts.
enum Since {
    Commit,
    /// The group became empty or, when that is later, the commit. (Kafka goes by the former alone, and so expires
    /// at once what an operator has just reset in a group that is long empty.)
    Empty,
}

impl Coordinator {
    pub(crate) fn on_expiry_timer(&mut self, step: &mut Step<'_>) {
        let mut cx = self.context(step);
        let interval_ms = cx.config.offsets_retention_check_interval_ms;
        cx.schedule(Timer::OffsetExpiry, interval_ms);
        // A group with a commit under way is in use.
        let busy = cx.appends.groups();
        let idle: Vec<Arc<str>> = self
            .groups()
            .map(|group| &group.id)
            .filter(|id| !busy.contains(*id))
            .cloned()
            .collect();

        let mut records = Vec::new();
        for id in idle {
            if let Some(expired) = self.with_group(step, &id, |group, cx| group.expire(cx)) {
                records.extend(expired);
            }
            if records.len() >= RECORDS_PER_APPEND {
                self.context(step)
                    .append(std::mem::take(&mut records), Waiter::Nobody);
            }
        }
        if !records.is_empty() {
            self.context(step).append(records, Waiter::Nobody);
        }
    }
}

impl Group {
    fn expire(&mut self, cx: &mut Context<'_>) -> Vec<Record> {
        if self.state == GroupState::Dead {
            return Vec::new();
        }
        let expired = self.expired_keys(cx);
        let all = expired.len() == self.offsets.iter().count();
        if all && self.state == GroupState::Empty && self.pending_join.is_empty() {
            return self.bury(cx, "its offsets expired");
        }
        tombstones(expired)
    }

    fn expired_keys(&self, cx: &Context<'_>) -> BTreeSet<OffsetKey> {
        let subscribed = self.subscribed_topics();
        let since = match self.state {
            _ if self.protocol_type.is_none() => Since::Commit,
            GroupState::Empty => Since::Empty,
            // Of a living group the topics it has left expire.
            GroupState::Stable if self.is_consumer_group() && subscribed.is_some() => Since::Commit,
            _ => return BTreeSet::new(),
        };
        self.offsets
            .iter()
            .filter(|(topic, _, value)| {
                !self.is_subscribed(subscribed.as_ref(), topic) && self.is_expired(cx, &since, value)
            })
            .map(|(topic, partition, _)| OffsetKey {
                group: Arc::clone(&self.id),
                topic: Arc::clone(topic),
                partition,
            })
            .collect()
    }

    fn is_expired(&self, cx: &Context<'_>, since: &Since, value: &OffsetCommitValue) -> bool {
        if let Some(expire_timestamp) = value.expire_timestamp {
            return cx.wall >= expire_timestamp;
        }
        let WallMs(base) = match since {
            Since::Commit => value.commit_timestamp,
            Since::Empty => value.commit_timestamp.max(self.state_since.unwrap_or_default()),
        };
        cx.wall.0.saturating_sub(base) >= cx.config.offsets_retention_ms()
    }
}
