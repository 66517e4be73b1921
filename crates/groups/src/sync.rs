//! SyncGroup: the leader's assignment is stored in the log, then everybody gets their part.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use strom_types::ErrorCode;

use crate::appends::{Waiter, client_error};
use crate::context::{Context, Step};
use crate::coordinator::Coordinator;
use crate::effect::SyncGroupReply;
use crate::event::{AppendToken, MemberAssignment, RequestId, SyncGroup};
use crate::group::Group;
use crate::state::GroupState;
use crate::timers::Timer;

impl Coordinator {
    pub(crate) fn on_sync_group(&mut self, step: &mut Step<'_>, request: RequestId, sync: SyncGroup) {
        if sync.group_id.is_empty() {
            return step.reply(request, SyncGroupReply::failed(ErrorCode::InvalidGroupId));
        }
        let group_id = sync.group_id.clone();
        let known = self.with_group(step, &group_id, |group, cx| group.on_sync(cx, request, sync));
        if known.is_none() {
            step.reply(request, SyncGroupReply::failed(ErrorCode::UnknownMemberId));
        }
    }
}

impl Group {
    fn on_sync(&mut self, cx: &mut Context<'_>, request: RequestId, sync: SyncGroup) {
        if let Err(error) = self.check_sync(cx, &sync) {
            return cx.reply(request, SyncGroupReply::failed(error));
        }
        self.pending_sync.remove(sync.member_id.as_str());
        if self.pending_sync.is_empty() {
            cx.timers.cancel(&Timer::Sync(Arc::clone(&self.id)));
        }
        if self.state == GroupState::Stable {
            let assignment = self
                .members
                .get(sync.member_id.as_str())
                .map(|member| member.assignment.clone());
            return cx.reply(request, self.sync_reply(assignment.unwrap_or_default()));
        }

        let Some(member) = self.members.get_mut(sync.member_id.as_str()) else {
            return;
        };
        if let Some(old) = member.sync_request.replace(request) {
            // The same client's, which has given it up.
            cx.reply(old, SyncGroupReply::failed(ErrorCode::RebalanceInProgress));
        }
        // Of a leader that sends twice the first assignment counts: it may be in the log already.
        if self.is_leader(&sync.member_id) && self.assignment_append.is_none() {
            self.store_assignments(cx, sync.assignments);
        }
    }

    fn check_sync(&self, cx: &Context<'_>, sync: &SyncGroup) -> Result<(), ErrorCode> {
        match self.state {
            GroupState::Dead => return Err(ErrorCode::CoordinatorNotAvailable),
            GroupState::Empty => return Err(ErrorCode::UnknownMemberId),
            _ => {}
        }
        self.check_member(&sync.member_id, sync.group_instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |named: &Option<String>, own: &Option<Arc<str>>| {
            named.is_some() && named.as_deref() != own.as_deref()
        };
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol_name, &self.protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.state == GroupState::PreparingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        let bytes_max = cx.config.limits.assignment_bytes_max;
        if sync.assignments.iter().any(|a| a.assignment.len() > bytes_max) {
            return Err(ErrorCode::InvalidRequest);
        }
        Ok(())
    }

    fn store_assignments(&mut self, cx: &mut Context<'_>, named: Vec<MemberAssignment>) {
        let mut assignments: BTreeMap<Arc<str>, Bytes> = BTreeMap::new();
        for MemberAssignment {
            member_id,
            assignment,
        } in named
        {
            if let Some((id, _)) = self.members.get_key_value(member_id.as_str()) {
                assignments.insert(Arc::clone(id), assignment);
            }
        }
        let record = self.metadata_record(Some(&assignments));
        let group = Arc::clone(&self.id);
        let token = cx.append(vec![record], Waiter::Assignment { group, assignments });
        self.assignment_append = Some(token);
    }

    /// The assignment is in the log (`None`), or not. Without effect when another rebalance has begun meanwhile.
    pub(crate) fn assignments_stored(
        &mut self,
        cx: &mut Context<'_>,
        token: AppendToken,
        mut assignments: BTreeMap<Arc<str>, Bytes>,
        error: Option<ErrorCode>,
    ) {
        if self.state != GroupState::CompletingRebalance || self.assignment_append != Some(token) {
            return;
        }
        if let Some(error) = error {
            let error = client_error(error);
            self.reset_assignments(cx, error);
            let reason = format!("storing the assignment failed: {error}");
            return self.rebalance_or_complete_join(cx, &reason);
        }
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let assignment = assignments.remove(&id).unwrap_or_default();
            self.set_assignment(&id, assignment.clone());
            if let Some(request) = self.take_sync(&id) {
                cx.reply(request, self.sync_reply(assignment));
                self.renew_session(cx, &id);
            }
        }
        self.transition(cx, GroupState::Stable, "assignment stored");
    }

    /// Members that joined this generation but never sent SyncGroup are dropped.
    pub(crate) fn on_sync_timer(&mut self, cx: &mut Context<'_>) {
        let awaiting = matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable);
        if !awaiting || self.pending_sync.is_empty() {
            return;
        }
        let silent = std::mem::take(&mut self.pending_sync);
        for member_id in &silent {
            self.evict(cx, member_id);
        }
        let reason = format!("{} members sent no sync request in time", silent.len());
        self.prepare_rebalance(cx, &reason);
    }
}
