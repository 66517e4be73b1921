//! The high watermark: what every replica that may become leader has (reliability 2.6).

use strom_types::{BrokerId, Offset};

use super::Leader;
use crate::effect::Effect;
use crate::replica::{Context, Core};

impl Leader {
    /// Moves the high watermark if it may move: a serving leader with a valid lease and enough committed ISR members.
    pub(crate) fn maybe_advance_high_watermark(
        &mut self,
        core: &mut Core,
        cx: &Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_serving() {
            return;
        }
        if core.rules.lease_fences_acks && !cx.at.lease_valid() {
            self.waits_for_lease = true;
            return;
        }
        self.waits_for_lease = false;
        if core.rules.hw_needs_min_isr && core.partition.isr.len() < core.partition.min_isr {
            return;
        }
        if let Some(reached) = self.reached_by_all(core) {
            core.raise_high_watermark(reached, effects);
        }
    }

    /// The least offset over the maximal ISR; `None` while a member does not count.
    ///
    /// A proposed member that turns out fenced or stopping goes on counting until the controller refuses it: it could
    /// still be accepted, and must then have everything that was committed meanwhile. One that is not proposed yet
    /// never holds the high watermark back (KAFKA-15021).
    fn reached_by_all(&self, core: &Core) -> Option<Offset> {
        let proposed = self.pending.as_ref().map(|pending| pending.members.as_slice());
        let is_proposed = |id: &BrokerId| proposed.is_none_or(|all| all.iter().any(|one| one.broker == *id));
        // The mutant takes its own proposals for granted.
        let maximal = core.rules.hw_over_maximal_isr;
        let committed = core.partition.isr.iter().copied();
        let committed = committed.filter(|id| maximal || is_proposed(id));
        let joining = proposed.unwrap_or_default().iter().map(|member| member.broker);
        let mut least = core.counted_end();
        for id in committed.chain(joining.filter(|_| maximal)) {
            if id != core.config.broker {
                least = least.min(self.follower(id)?.counted(core)?);
            }
        }
        Some(least)
    }

    /// Committed ∪ proposed: whoever can become leader.
    pub(crate) fn maximal_isr(&self, core: &Core) -> Vec<BrokerId> {
        let mut members = core.partition.isr.clone();
        for member in self.pending.iter().flat_map(|pending| &pending.members) {
            if !members.contains(&member.broker) {
                members.push(member.broker);
            }
        }
        members
    }
}
