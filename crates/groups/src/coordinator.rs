//! The coordinator itself: its groups, and the dispatch of events to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use strom_types::{ErrorCode, Mono, WallMs};

use crate::appends::{Appends, Waiter, client_error};
use crate::config::Config;
use crate::context::{Context, Step, Usage};
use crate::effect::{Effect, OffsetDeleteReply, Reply};
use crate::event::{AppendToken, Event, RequestId};
use crate::group::Group;
use crate::record::Record;
use crate::timers::{Timer, Timers};

/// The coordinator of the groups of one `__consumer_offsets` partition. Life: [`Coordinator::new`],
/// [`Coordinator::replay`] of the whole log, [`Coordinator::loaded`], then [`Coordinator::step`] for every event
/// until [`Coordinator::unload`]. Requests before `loaded` are the shell's to refuse (COORDINATOR_LOAD_IN_PROGRESS).
#[derive(Debug)]
pub struct Coordinator {
    config: Config,
    groups: BTreeMap<Arc<str>, Group>,
    timers: Timers,
    appends: Appends,
    deletes: BTreeMap<RequestId, DeleteProgress>,
    usage: Usage,
    expired_sessions: u64,
}

/// A DeleteGroups request of which some groups' tombstones are still on their way.
#[derive(Debug)]
pub(crate) struct DeleteProgress {
    pub(crate) errors: Vec<ErrorCode>,
    pub(crate) outstanding: usize,
}

impl Coordinator {
    pub fn new(config: Config) -> Coordinator {
        Coordinator {
            config,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            appends: Appends::default(),
            deletes: BTreeMap::new(),
            usage: Usage::default(),
            expired_sessions: 0,
        }
    }

    /// Takes one event; the effects are to be carried out in their order.
    pub fn step(&mut self, now: Mono, wall: WallMs, event: Event, effects: &mut Vec<Effect>) {
        let step = &mut Step { now, wall, effects };
        match event {
            Event::JoinGroup(request, join) => self.on_join_group(step, request, join),
            Event::SyncGroup(request, sync) => self.on_sync_group(step, request, sync),
            Event::Heartbeat(request, heartbeat) => self.on_heartbeat(step, request, &heartbeat),
            Event::LeaveGroup(request, leave) => self.on_leave_group(step, request, leave),
            Event::OffsetCommit(request, commit) => self.on_offset_commit(step, request, commit),
            Event::OffsetDelete(request, delete) => self.on_offset_delete(step, request, &delete),
            Event::DeleteGroups(request, group_ids) => self.on_delete_groups(step, request, &group_ids),
            Event::Appended { token } => self.on_appended(step, token),
            Event::AppendFailed { token, error } => self.on_append_failed(step, token, error),
            Event::TopicsDeleted(topics) => self.on_topics_deleted(step, &topics),
            Event::Tick => self.on_tick(step),
        }
    }

    /// When the next [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.next()
    }

    fn on_tick(&mut self, step: &mut Step<'_>) {
        while let Some(timer) = self.timers.pop_due(step.now) {
            match timer {
                Timer::OffsetExpiry => self.on_expiry_timer(step),
                Timer::Append(token) => self.on_append_timeout(step, token),
                Timer::Join(group) => {
                    self.with_group(step, &group, Group::on_join_timer);
                }
                Timer::Sync(group) => {
                    self.with_group(step, &group, Group::on_sync_timer);
                }
                Timer::Session(group, member) => {
                    let expired =
                        self.with_group(step, &group, |group, cx| group.on_session_timer(cx, &member));
                    self.expired_sessions += u64::from(expired == Some(true));
                }
            }
        }
    }

    fn on_appended(&mut self, step: &mut Step<'_>, token: AppendToken) {
        self.appends.mark_appended(token);
        while let Some((token, pending)) = self.appends.pop_appended() {
            self.timers.cancel(&Timer::Append(token));
            for record in pending.records.iter() {
                self.apply(record);
            }
            self.resolve_waiter(step, token, pending.waiter, None);
        }
    }

    fn on_append_failed(&mut self, step: &mut Step<'_>, token: AppendToken, error: ErrorCode) {
        let Some(pending) = self.appends.remove(token) else {
            return;
        };
        self.timers.cancel(&Timer::Append(token));
        for record in pending.records.iter() {
            if let Record::GroupTombstone { group } = record {
                self.with_group(step, group, Group::exhume);
            }
        }
        self.resolve_waiter(step, token, pending.waiter, Some(error));
        // Appends behind it may have been waiting for its answer.
        self.on_appended(step, token);
    }

    /// The clients are told to retry; whether the records get in is still open.
    fn on_append_timeout(&mut self, step: &mut Step<'_>, token: AppendToken) {
        if let Some(waiter) = self.appends.give_up(token) {
            self.resolve_waiter(step, token, waiter, Some(ErrorCode::RequestTimedOut));
        }
    }

    fn resolve_waiter(
        &mut self,
        step: &mut Step<'_>,
        token: AppendToken,
        waiter: Waiter,
        error: Option<ErrorCode>,
    ) {
        match waiter {
            Waiter::Assignment { group, assignments } => {
                self.with_group(step, &group, |group, cx| {
                    group.assignments_stored(cx, token, assignments, error);
                });
            }
            Waiter::StaticJoin { group, join } => {
                self.with_group(step, &group, |group, cx| {
                    group.static_join_stored(cx, *join, error);
                });
            }
            Waiter::OffsetCommit { request, errors } if error.is_none() => {
                step.reply(request, Reply::OffsetCommit(errors));
            }
            Waiter::OffsetDelete {
                request,
                partition_errors,
            } if error.is_none() => {
                let error = ErrorCode::None;
                let reply = OffsetDeleteReply {
                    error,
                    partition_errors,
                };
                step.reply(request, Reply::OffsetDelete(reply));
            }
            Waiter::DeleteGroup { request, index } if error.is_none() => {
                self.group_delete_answered(step, request, index, ErrorCode::None);
            }
            waiter => {
                let error = client_error(error.unwrap_or(ErrorCode::UnknownServerError));
                self.refuse_waiter(step, waiter, error);
            }
        }
    }

    /// Sends away a request that waits for nothing but the log; parked joins and syncs are their group's.
    pub(crate) fn refuse_waiter(&mut self, step: &mut Step<'_>, waiter: Waiter, error: ErrorCode) {
        match waiter {
            Waiter::OffsetCommit { request, errors } => {
                // A partition refused for its own fault stays so.
                let errors = errors
                    .into_iter()
                    .map(|own| if own.is_none() { error } else { own });
                step.reply(request, Reply::OffsetCommit(errors.collect()));
            }
            Waiter::OffsetDelete { request, .. } => {
                let reply = OffsetDeleteReply {
                    error,
                    partition_errors: Vec::new(),
                };
                step.reply(request, Reply::OffsetDelete(reply));
            }
            Waiter::DeleteGroup { request, index } => {
                self.group_delete_answered(step, request, index, error);
            }
            Waiter::Nobody | Waiter::Assignment { .. } | Waiter::StaticJoin { .. } => {}
        }
    }

    pub(crate) fn context<'a>(&'a mut self, step: &'a mut Step<'_>) -> Context<'a> {
        Context {
            config: &self.config,
            timers: &mut self.timers,
            appends: &mut self.appends,
            usage: self.usage,
            now: step.now,
            wall: step.wall,
            effects: step.effects,
        }
    }

    /// Lets `act` work on the group, if it exists, and keeps count of what all groups hold.
    pub(crate) fn with_group<R>(
        &mut self,
        step: &mut Step<'_>,
        group_id: &str,
        act: impl FnOnce(&mut Group, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(group_id)?;
        let before = group.usage();
        let mut cx = Context {
            config: &self.config,
            timers: &mut self.timers,
            appends: &mut self.appends,
            usage: self.usage,
            now: step.now,
            wall: step.wall,
            effects: step.effects,
        };
        let result = act(group, &mut cx);
        self.usage = self.usage.replace(before, group.usage());
        Some(result)
    }

    pub(crate) fn expired_sessions(&self) -> u64 {
        self.expired_sessions
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn group(&self, group_id: &str) -> Option<&Group> {
        self.groups.get(group_id)
    }

    pub(crate) fn group_mut(&mut self, group_id: &str) -> Option<&mut Group> {
        self.groups.get_mut(group_id)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub(crate) fn has_group(&self, group_id: &str) -> bool {
        self.groups.contains_key(group_id)
    }

    /// Whether there are as many groups as are allowed.
    pub(crate) fn is_full(&self) -> bool {
        self.groups.len() >= self.config.limits.groups_max
    }

    /// The group, made when it does not exist: what the log says is never refused.
    pub(crate) fn group_or_new(&mut self, group_id: &Arc<str>) -> &mut Group {
        self.groups
            .entry(Arc::clone(group_id))
            .or_insert_with(|| Group::new(Arc::clone(group_id)))
    }

    /// Drops a group that was made for a request and not needed after all.
    pub(crate) fn drop_if_pristine(&mut self, group_id: &str) {
        if self.group(group_id).is_some_and(Group::is_pristine) {
            self.groups.remove(group_id);
        }
    }

    /// Removes a group as its tombstone does; offsets that outlive it make it a simple group.
    pub(crate) fn remove_group(&mut self, group_id: &Arc<str>) {
        if let Some(group) = self.groups.remove(group_id) {
            self.usage = self.usage.replace(group.usage(), Usage::default());
            if !group.offsets.is_empty() {
                self.group_or_new(group_id).offsets = group.offsets;
            }
        }
    }

    pub(crate) fn drop_pristine_and_recount(&mut self) {
        self.groups.retain(|_, group| !group.is_pristine());
        self.usage = self.groups.values().fold(Usage::default(), |sum, group| {
            sum.replace(Usage::default(), group.usage())
        });
    }

    pub(crate) fn deletes_mut(&mut self) -> &mut BTreeMap<RequestId, DeleteProgress> {
        &mut self.deletes
    }

    pub(crate) fn drain_appends(&mut self) -> Vec<Waiter> {
        self.appends.drain()
    }

    pub(crate) fn forget_everything(&mut self) {
        self.groups.clear();
        self.timers.clear();
        self.usage = Usage::default();
    }
}
