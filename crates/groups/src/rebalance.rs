//! The join phase: how a rebalance starts, is waited for, and ends in a new generation.

use std::sync::Arc;

use bytes::Bytes;
use strom_types::ErrorCode;

use crate::appends::Waiter;
use crate::context::Context;
use crate::effect::{Reply, SyncGroupReply};
use crate::group::{Group, InitialDelay};
use crate::state::GroupState;
use crate::timers::Timer;

impl Group {
    pub(crate) fn rebalance_or_complete_join(&mut self, cx: &mut Context<'_>, reason: &str) {
        if self.state.can_rebalance() {
            self.prepare_rebalance(cx, reason);
        } else {
            self.maybe_complete_join(cx);
        }
    }

    pub(crate) fn prepare_rebalance(&mut self, cx: &mut Context<'_>, reason: &str) {
        if self.state == GroupState::CompletingRebalance {
            self.reset_assignments(cx, ErrorCode::RebalanceInProgress);
        }
        self.pending_sync.clear();
        cx.timers.cancel(&Timer::Sync(Arc::clone(&self.id)));

        let initial = self.state == GroupState::Empty;
        self.transition(cx, GroupState::PreparingRebalance, reason);
        if initial {
            let delay_ms = cx.config.group_initial_rebalance_delay_ms;
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
            self.initial_delay = Some(InitialDelay {
                delay_ms,
                remaining_ms,
            });
            self.new_member_added = false;
            cx.schedule(Timer::Join(Arc::clone(&self.id)), delay_ms);
        } else if self.all_members_joined() {
            self.complete_join(cx);
        } else {
            let timer = Timer::Join(Arc::clone(&self.id));
            cx.schedule(timer, self.rebalance_timeout_ms());
        }
    }

    /// Ends the join phase once everybody is here; the first rebalance of an empty group runs its time.
    pub(crate) fn maybe_complete_join(&mut self, cx: &mut Context<'_>) {
        if self.state == GroupState::PreparingRebalance
            && self.initial_delay.is_none()
            && self.all_members_joined()
        {
            self.complete_join(cx);
        }
    }

    pub(crate) fn on_join_timer(&mut self, cx: &mut Context<'_>) {
        if self.state != GroupState::PreparingRebalance {
            return;
        }
        match self.initial_delay {
            Some(delay) if self.new_member_added && delay.remaining_ms > 0 => {
                self.new_member_added = false;
                let delay_ms = cx.config.group_initial_rebalance_delay_ms.min(delay.remaining_ms);
                let remaining_ms = delay.remaining_ms.saturating_sub(delay.delay_ms).max(0);
                self.initial_delay = Some(InitialDelay {
                    delay_ms,
                    remaining_ms,
                });
                cx.schedule(Timer::Join(Arc::clone(&self.id)), delay_ms);
            }
            _ => self.complete_join(cx),
        }
    }

    /// Drops dynamic members that have not rejoined, and starts the next generation with the others.
    pub(crate) fn complete_join(&mut self, cx: &mut Context<'_>) {
        cx.timers.cancel(&Timer::Join(Arc::clone(&self.id)));
        let lost: Vec<Arc<str>> = self
            .members
            .values()
            .filter(|member| member.join_request.is_none() && !member.is_static())
            .map(|member| Arc::clone(&member.id))
            .collect();
        for member_id in &lost {
            self.evict(cx, member_id);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members, none of them back: wait until their sessions end.
            let timer = Timer::Join(Arc::clone(&self.id));
            return cx.schedule(timer, self.rebalance_timeout_ms());
        }
        self.initial_delay = None;
        self.new_member_added = false;
        self.pending_sync.clear();
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.transition(cx, GroupState::Empty, "no members left");
            // Nobody waits for it: when it is lost, the old generation comes back at a failover and expires.
            cx.append(vec![self.metadata_record(None)], Waiter::Nobody);
            return;
        }
        self.protocol = self.select_protocol();
        let reason = format!("all joined; {} did not rejoin", lost.len());
        self.transition(cx, GroupState::CompletingRebalance, &reason);
        self.answer_joins(cx);
        let timer = Timer::Sync(Arc::clone(&self.id));
        cx.schedule(timer, self.rebalance_timeout_ms());
    }

    fn answer_joins(&mut self, cx: &mut Context<'_>) {
        let roster = self.roster();
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(request) = self.take_join(&id) {
                let members = if self.is_leader(&id) {
                    roster.clone()
                } else {
                    Vec::new()
                };
                let reply = self.join_reply(&id, members);
                cx.reply(request, Reply::JoinGroup(reply));
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.renew_session(cx, &id);
            self.pending_sync.insert(id);
        }
    }

    /// Keeps a leader that has rejoined, else takes the first that has. False when nobody has.
    fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = self.leader.as_ref().and_then(|id| self.members.get(id)) else {
            return false;
        };
        if leader.join_request.is_some() {
            return true;
        }
        let joined = self.members.values().find(|m| m.join_request.is_some());
        match joined.map(|member| Arc::clone(&member.id)) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Forgets the assignments under way and answers every parked SyncGroup with `error`.
    pub(crate) fn reset_assignments(&mut self, cx: &mut Context<'_>, error: ErrorCode) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            self.set_assignment(&id, Bytes::new());
            if let Some(request) = self.take_sync(&id) {
                cx.reply(request, SyncGroupReply::failed(error));
                self.renew_session(cx, &id);
            }
        }
    }
}
