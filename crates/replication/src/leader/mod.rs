//! The leader of one leader epoch: from taking office (E3) to the work of its parts.

mod fetch;
mod high_watermark;
mod isr;
mod progress;

use strom_types::{LeaderEpoch, Mono, Offset};

use crate::effect::Effect;
use crate::metadata::RecoveryState;
use crate::replica::{Context, Core, LogMutation};

pub(crate) use isr::PendingIsr;
pub(crate) use progress::Progress;

/// How far a leadership has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The epoch's start is being persisted.
    PersistingEpoch,
    /// After an unclean election: open transactions are being settled.
    Recovering,
    Serving,
}

pub(crate) struct Leader {
    epoch: LeaderEpoch,
    /// LESO: the log end when this leadership began.
    start_offset: Offset,
    phase: Phase,
    followers: Vec<Progress>,
    pending: Option<PendingIsr>,
    attempts: u32,
    /// After a refusal nothing is proposed until then.
    refused_until: Option<Mono>,
    /// The high watermark could not be looked at for want of a lease.
    waits_for_lease: bool,
}

impl Leader {
    /// E3: the log is quiet; its end is where the epoch starts.
    pub(crate) fn begin(core: &mut Core, cx: &Context<'_>, effects: &mut Vec<Effect>) -> Self {
        let mut leader = Leader {
            epoch: core.partition.leader_epoch,
            start_offset: core.log.end,
            phase: Phase::PersistingEpoch,
            followers: std::mem::take(&mut core.kept_progress),
            pending: None,
            attempts: 0,
            refused_until: None,
            waits_for_lease: false,
        };
        leader.adopt_replicas(core, cx.at.now);
        if core.rules.persist_epoch_start {
            core.mutation = Some(LogMutation::EpochStart { epoch: leader.epoch });
            effects.push(Effect::AssignEpochStart {
                epoch: leader.epoch,
                offset: leader.start_offset,
            });
        } else {
            leader.on_epoch_start_persisted(core, cx, leader.epoch, effects);
        }
        leader
    }

    pub(crate) fn on_epoch_start_persisted(
        &mut self,
        core: &mut Core,
        cx: &Context<'_>,
        epoch: LeaderEpoch,
        effects: &mut Vec<Effect>,
    ) {
        if epoch != self.epoch || self.phase != Phase::PersistingEpoch {
            return;
        }
        if core.partition.recovery_state == RecoveryState::Recovering {
            self.phase = Phase::Recovering;
            effects.push(Effect::Recover { epoch });
        } else {
            self.serve(core, cx, effects);
        }
    }

    /// A RECOVERING leader has settled what it could: it serves and proposes RECOVERED.
    pub(crate) fn on_recovery_done(
        &mut self,
        core: &mut Core,
        cx: &Context<'_>,
        epoch: LeaderEpoch,
        effects: &mut Vec<Effect>,
    ) {
        if epoch == self.epoch && self.phase == Phase::Recovering {
            self.serve(core, cx, effects);
        }
    }

    fn serve(&mut self, core: &mut Core, cx: &Context<'_>, effects: &mut Vec<Effect>) {
        self.phase = Phase::Serving;
        effects.push(Effect::LeaderReady { epoch: self.epoch });
        self.maybe_propose(core, cx, effects);
        self.maybe_advance_high_watermark(core, cx, effects);
    }

    /// A newer record of the partition under the same leader epoch.
    pub(crate) fn on_partition_changed(
        &mut self,
        core: &mut Core,
        cx: &Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        self.adopt_replicas(core, cx.at.now);
        self.forget_overtaken_proposal(core);
        // In this order: whom the record removed must reach the high watermark it no longer holds back.
        self.maybe_advance_high_watermark(core, cx, effects);
        self.maybe_propose(core, cx, effects);
    }

    pub(crate) fn on_tick(&mut self, core: &mut Core, cx: &Context<'_>, effects: &mut Vec<Effect>) {
        self.retry_proposal(core, cx, effects);
        self.maybe_propose(core, cx, effects);
        self.maybe_advance_high_watermark(core, cx, effects);
    }

    /// One [`Progress`] per other replica: kept where it is known, blank where it is not.
    fn adopt_replicas(&mut self, core: &Core, now: Mono) {
        let others = |id| core.partition.replicas.contains(&id) && id != core.config.broker;
        self.followers.retain(|follower| others(follower.id));
        for &id in &core.partition.replicas {
            if others(id) && self.follower(id).is_none() {
                let in_sync = core.partition.isr.contains(&id);
                self.followers.push(Progress::unseen(id, in_sync.then_some(now)));
            }
        }
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub(crate) fn start_offset(&self) -> Offset {
        self.start_offset
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    pub(crate) fn waits_for_lease(&self) -> bool {
        self.waits_for_lease
    }

    pub(crate) fn into_progress(self) -> Vec<Progress> {
        self.followers
    }
}
