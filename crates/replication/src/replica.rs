//! The replica of one partition on one broker: its state and the dispatch of events to its present role.

use strom_types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};

use crate::effect::{Alarm, Effect};
use crate::event::{Event, Removal};
use crate::invariants;
use crate::leader::Progress;
use crate::lease::Moment;
use crate::log_view::{LogPosition, LogView};
use crate::metadata::{BrokerState, Durability, PartitionState, ReplicaConfig};
use crate::role::{Role, StopReason};
use crate::rules::Rules;

/// What every step is given beside its event.
pub(crate) struct Context<'a> {
    pub(crate) at: Moment,
    pub(crate) log: &'a dyn LogView,
}

/// A change of the log that was asked for and is not yet reported done. While one is under way no role begins and no
/// reply is taken (E3: wait for the in-flight append).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogMutation {
    /// With the leader's high watermark, which holds once the records are in.
    Append {
        leader_epoch: LeaderEpoch,
        leader_hw: Offset,
    },
    Truncate,
    Restart,
    /// Also waited for: an epoch's start that is noted after another role has begun would belie that role's log.
    EpochStart {
        epoch: LeaderEpoch,
    },
}

/// The state that outlives roles.
pub(crate) struct Core {
    pub(crate) config: ReplicaConfig,
    pub(crate) rules: Rules,
    pub(crate) partition: PartitionState,
    /// Registrations of the replicas, as last applied.
    pub(crate) brokers: Vec<BrokerState>,
    pub(crate) high_watermark: Offset,
    pub(crate) log: LogPosition,
    pub(crate) mutation: Option<LogMutation>,
    /// Follower state of an earlier leadership; always empty unless a mutant keeps it.
    pub(crate) kept_progress: Vec<Progress>,
}

impl Core {
    pub(crate) fn broker(&self, id: BrokerId) -> Option<&BrokerState> {
        self.brokers.iter().find(|broker| broker.id == id)
    }

    /// The epoch of the broker's present registration.
    pub(crate) fn registered_epoch(&self, id: BrokerId) -> Option<BrokerEpoch> {
        self.broker(id)
            .map(|broker| broker.epoch)
            .filter(|epoch| *epoch != BrokerEpoch::NONE)
    }

    /// What this replica's own log counts for.
    pub(crate) fn counted_end(&self) -> Offset {
        if self.config.durability == Durability::Durable && self.rules.count_durable_only {
            self.log.durable
        } else {
            self.log.end
        }
    }

    pub(crate) fn raise_high_watermark(&mut self, to: Offset, effects: &mut Vec<Effect>) {
        if to > self.high_watermark {
            self.high_watermark = to;
            effects.push(Effect::HighWatermarkAdvanced { high_watermark: to });
        }
    }
}

/// A partition's replica on this broker. Each step runs under the partition's lock, as do appends and truncations;
/// the `&self` queries (`query.rs`) are cheap enough for the hot path.
pub struct Replica {
    pub(crate) core: Core,
    pub(crate) role: Role,
}

impl Replica {
    /// A replica whose log has been recovered. `checkpointed_hw` may lag (0 when unknown).
    pub fn new(config: ReplicaConfig, log: &dyn LogView, checkpointed_hw: Offset) -> Self {
        Self::build(config, log, checkpointed_hw, Rules::default())
    }

    /// A replica that breaks the rules which are off: for the simulator's mutants.
    #[cfg(any(test, feature = "mutants"))]
    pub fn with_rules(
        config: ReplicaConfig,
        log: &dyn LogView,
        checkpointed_hw: Offset,
        rules: Rules,
    ) -> Self {
        Self::build(config, log, checkpointed_hw, rules)
    }

    fn build(config: ReplicaConfig, log: &dyn LogView, checkpointed_hw: Offset, rules: Rules) -> Self {
        let log = LogPosition::of(log);
        Replica {
            core: Core {
                config,
                rules,
                partition: PartitionState::unknown(),
                brokers: Vec::new(),
                high_watermark: checkpointed_hw.min(log.end).max(log.start),
                log,
                mutation: None,
                kept_progress: Vec::new(),
            },
            role: Role::Idle,
        }
    }

    /// Takes one event. `effects` is appended to and is to be carried out in order before the next step.
    pub fn step(&mut self, at: Moment, log: &dyn LogView, event: Event, effects: &mut Vec<Effect>) {
        let cx = Context { at, log };
        let hw_before = self.core.high_watermark;
        self.observe_log(&cx);
        match event {
            Event::MetadataApplied { partition, brokers } => {
                self.apply_metadata(&cx, partition, brokers, effects);
            }
            Event::BrokerChanged(broker) => self.apply_broker(&cx, broker, effects),
            Event::Removed(removal) => self.remove(removal, effects),
            Event::LogMutated => self.finish_mutation(&cx, effects),
            Event::EpochStartPersisted { epoch } => self.finish_epoch_start(&cx, epoch, effects),
            Event::LogFailed => self.quarantine(Alarm::LogFailed, effects),
            Event::Shutdown => self.shut_down(effects),
            other => self.step_in_role(&cx, &other, effects),
        }
        self.assert_invariants(hw_before);
    }

    fn step_in_role(&mut self, cx: &Context<'_>, event: &Event, effects: &mut Vec<Effect>) {
        let core = &mut self.core;
        match &mut self.role {
            Role::Leader(leader) => match event {
                Event::LogAdvanced => leader.maybe_advance_high_watermark(core, cx, effects),
                Event::RecoveryDone { epoch } => leader.on_recovery_done(core, cx, *epoch, effects),
                Event::FollowerFetch(fetch) => {
                    if let Some(alarm) = leader.on_follower_fetch(core, cx, fetch, effects) {
                        self.quarantine(alarm, effects);
                    }
                }
                Event::AlterPartitionResult(result) => leader.on_alter_result(core, cx, result, effects),
                Event::Tick => leader.on_tick(core, cx, effects),
                _ => {}
            },
            Role::Follower(follower) => match event {
                Event::LogAdvanced => follower.on_log_advanced(core, effects),
                Event::FollowerFetch(fetch) => self.refuse_fetch(fetch, effects),
                Event::FetchReply(reply) => {
                    if let Some(alarm) = follower.on_reply(core, cx, reply, effects) {
                        self.quarantine(alarm, effects);
                    }
                }
                _ => {}
            },
            Role::Idle | Role::Stopped(_) => {
                if let Event::FollowerFetch(fetch) = event {
                    self.refuse_fetch(fetch, effects);
                }
            }
        }
    }

    fn observe_log(&mut self, cx: &Context<'_>) {
        let before = self.core.log.end;
        self.core.log = LogPosition::of(cx.log);
        if let Role::Leader(leader) = &mut self.role
            && self.core.log.end > before
        {
            leader.note_append(&self.core, before, cx.at.now);
        }
    }

    fn finish_mutation(&mut self, cx: &Context<'_>, effects: &mut Vec<Effect>) {
        let Some(mutation) = self.core.mutation else {
            return;
        };
        match mutation {
            LogMutation::Append { .. } | LogMutation::Truncate => {}
            LogMutation::Restart => self.core.raise_high_watermark(self.core.log.start, effects),
            LogMutation::EpochStart { .. } => return,
        }
        self.core.mutation = None;
        // A role change that waited for this one.
        self.assume_role(cx, effects);
        if let Role::Follower(follower) = &mut self.role {
            follower.on_mutated(&mut self.core, mutation, effects);
        }
    }

    fn finish_epoch_start(&mut self, cx: &Context<'_>, epoch: LeaderEpoch, effects: &mut Vec<Effect>) {
        if self.core.mutation != Some(LogMutation::EpochStart { epoch }) {
            return;
        }
        self.core.mutation = None;
        self.assume_role(cx, effects);
        if let Role::Leader(leader) = &mut self.role {
            leader.on_epoch_start_persisted(&mut self.core, cx, epoch, effects);
        }
    }

    pub(crate) fn quarantine(&mut self, alarm: Alarm, effects: &mut Vec<Effect>) {
        if matches!(self.role, Role::Stopped(_)) {
            return;
        }
        self.leave_role(StopReason::Quarantined.error(), effects);
        self.role = Role::Stopped(StopReason::Quarantined);
        effects.push(Effect::Quarantine { alarm });
    }

    fn remove(&mut self, removal: Removal, effects: &mut Vec<Effect>) {
        if matches!(self.role, Role::Stopped(StopReason::Removed)) {
            return;
        }
        self.leave_role(StopReason::Removed.error(), effects);
        self.role = Role::Stopped(StopReason::Removed);
        effects.push(Effect::DeleteLog { removal });
    }

    pub(crate) fn remove_unassigned(&mut self, effects: &mut Vec<Effect>) {
        self.remove(Removal::Unassigned, effects);
    }

    fn shut_down(&mut self, effects: &mut Vec<Effect>) {
        if matches!(self.role, Role::Stopped(_)) {
            return;
        }
        self.leave_role(StopReason::ShutDown.error(), effects);
        self.role = Role::Stopped(StopReason::ShutDown);
        effects.push(Effect::CloseLog);
    }

    fn assert_invariants(&self, hw_before: Offset) {
        let core = &self.core;
        // While a truncation is under way the log is shorter than the core's view of it may be.
        if core.mutation.is_some() || !core.rules_are_whole() {
            return;
        }
        debug_assert!(invariants::log_is_ordered(&core.log), "{:?}", core.log);
        debug_assert!(
            invariants::hw_is_in_the_log(core.high_watermark, &core.log),
            "high watermark {} outside {:?}",
            core.high_watermark,
            core.log
        );
        debug_assert!(
            invariants::hw_is_monotonic(hw_before, core.high_watermark, core.partition.recovery_state),
            "high watermark fell from {hw_before} to {}",
            core.high_watermark
        );
        if let Role::Leader(leader) = &self.role {
            debug_assert!(
                invariants::quorum_is_superset(&core.partition, &leader.maximal_isr(core)),
                "maximal ISR lacks a candidate of {:?}",
                core.partition
            );
        }
    }
}

impl Core {
    fn rules_are_whole(&self) -> bool {
        self.rules == Rules::default()
    }
}
