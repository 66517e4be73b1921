//! What a leader knows of each follower, all of it learnt in its own leader epoch.

use strom_types::{BrokerEpoch, BrokerId, Mono, Offset};

use super::Leader;
use crate::event::FollowerFetch;
use crate::metadata::Durability;
use crate::replica::Core;

/// An offset nobody has reached yet.
const UNSEEN: Offset = -1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Progress {
    pub(crate) id: BrokerId,
    fetched: Offset,
    durable: Offset,
    pub(crate) log_start: Offset,
    /// The process life that was seen to fetch.
    pub(crate) broker_epoch: BrokerEpoch,
    /// Latest time at which it is known to have had everything; `None` = never in this epoch.
    caught_up_at: Option<Mono>,
    /// A past log end and its time: reaching it proves having been caught up then. Kafka compares with the log end at
    /// the fetch before; with a stream of positions, most of which are sent before the newest push has arrived, that
    /// would never hold under a steady load.
    milestone: Option<(Mono, Offset)>,
}

impl Progress {
    /// Members of the ISR start as caught up: they have a whole lag time to show themselves.
    pub(crate) fn unseen(id: BrokerId, caught_up_at: Option<Mono>) -> Self {
        Progress {
            id,
            fetched: UNSEEN,
            durable: UNSEEN,
            log_start: UNSEEN,
            broker_epoch: BrokerEpoch::NONE,
            caught_up_at,
            milestone: None,
        }
    }

    fn reached(&self, core: &Core) -> Offset {
        if core.config.durability == Durability::Durable && core.rules.count_durable_only {
            self.durable
        } else {
            self.fetched
        }
    }

    /// What the follower counts for: nothing unless its registered life has fetched in this epoch (KIP-903).
    pub(crate) fn counted(&self, core: &Core) -> Option<Offset> {
        let present = core.registered_epoch(self.id) == Some(self.broker_epoch);
        let seen = self.fetched != UNSEEN;
        (seen && (present || !core.rules.fetch_broker_epoch)).then(|| self.reached(core))
    }

    /// Check 8: takes in a position that passed the checks. `log_end` is the leader's, from before any read for it.
    pub(crate) fn update(&mut self, core: &Core, fetch: &FollowerFetch, now: Mono, log_end: Offset) {
        if fetch.broker_epoch != self.broker_epoch {
            // Another life: what the former one reached proves nothing.
            self.milestone = None;
            self.broker_epoch = fetch.broker_epoch;
        }
        self.fetched = fetch.position.fetch_offset;
        self.durable = fetch.position.durable_offset.min(self.fetched);
        self.log_start = fetch.position.log_start;
        let reached = self.reached(core);
        if let Some((at, end)) = self.milestone
            && reached >= end
        {
            self.caught_up_at = self.caught_up_at.max(Some(at));
            self.milestone = None;
        }
        if reached >= log_end {
            self.caught_up_at = Some(now);
        }
        if self.milestone.is_none() {
            self.milestone = Some((now, log_end));
        }
    }

    /// The leader's log grew at `now` from `end_before`: whoever had all of it was caught up until now. Without this a
    /// long idle follower would look long lagging at the first append.
    fn note_append(&mut self, core: &Core, end_before: Offset, now: Mono) {
        if self.reached(core) >= end_before {
            self.caught_up_at = self.caught_up_at.max(Some(now));
        }
    }

    /// When it will have lagged for too long; `None` while it has everything.
    pub(crate) fn lags_from(&self, core: &Core) -> Option<Mono> {
        if self.counted(core).is_some_and(|reached| reached >= core.log.end) {
            return None;
        }
        Some(self.caught_up_at.unwrap_or_default() + core.config.lag_time_max)
    }
}

impl Leader {
    pub(crate) fn follower(&self, id: BrokerId) -> Option<&Progress> {
        self.followers.iter().find(|follower| follower.id == id)
    }

    pub(crate) fn note_append(&mut self, core: &Core, end_before: Offset, now: Mono) {
        for follower in &mut self.followers {
            follower.note_append(core, end_before, now);
        }
    }

    /// The lowest log start over the leader and the followers that have been seen.
    pub(crate) fn low_watermark(&self, core: &Core) -> Offset {
        let followers = self.followers.iter().map(|follower| follower.log_start);
        followers
            .filter(|start| *start != UNSEEN)
            .fold(core.log.start, Offset::min)
    }
}
