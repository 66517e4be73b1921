//! A static member that restarts: its instance id gets a new member id, without a rebalance where that is possible
//! (KIP-345, KIP-814).

use std::sync::Arc;

use strom_types::ErrorCode;

use crate::appends::{StaticJoin, Waiter, client_error};
use crate::context::Context;
use crate::effect::{JoinGroupReply, Reply};
use crate::event::{JoinGroup, RequestId};
use crate::group::{Group, refuse_parked};
use crate::member::Member;
use crate::state::GroupState;
use crate::timers::Timer;

impl Group {
    /// `ids` are the old and the new member id.
    pub(crate) fn replace_static_member(
        &mut self,
        cx: &mut Context<'_>,
        request: RequestId,
        join: JoinGroup,
        ids: (Arc<str>, Arc<str>),
    ) {
        let (old_id, new_id) = ids;
        let supports_skipping_assignment = join.supports_skipping_assignment;
        let old_leader = self.leader.clone();
        let reason = format!(
            "static member {new_id} takes the place of {old_id}; client reason: {}",
            join.reason
        );
        let mut member = Member::from_join(Arc::clone(&new_id), join);
        member.is_new = false;
        let Some(old) = self.swap_member(cx, &old_id, member) else {
            return cx.reply(request, JoinGroupReply::failed(ErrorCode::UnknownMemberId, ""));
        };
        self.park_join(cx, &new_id, request);

        match self.state {
            GroupState::Stable if self.select_protocol() == self.protocol => {
                let join = Box::new(StaticJoin {
                    generation: self.generation,
                    new_id,
                    old,
                    old_leader,
                    supports_skipping_assignment,
                });
                let group = Arc::clone(&self.id);
                cx.append(
                    vec![self.metadata_record(None)],
                    Waiter::StaticJoin { group, join },
                );
            }
            // The leader may have been told the old id, so its assignment would miss the new one.
            GroupState::CompletingRebalance | GroupState::Stable => self.prepare_rebalance(cx, &reason),
            GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => {
                self.maybe_complete_join(cx);
            }
        }
    }

    /// The new member's id is in the log (`None`), or not.
    pub(crate) fn static_join_stored(
        &mut self,
        cx: &mut Context<'_>,
        join: StaticJoin,
        error: Option<ErrorCode>,
    ) {
        // Otherwise a rebalance has begun, which the parked join takes part in, or a third one took the place.
        let current = self.state == GroupState::Stable
            && self.generation == join.generation
            && self.members.contains_key(&join.new_id);
        if !current {
            return;
        }
        let Some(request) = self.take_join(&join.new_id) else {
            return;
        };
        self.renew_session(cx, &join.new_id);
        let mut reply = match error {
            None => self.join_reply(&join.new_id, Vec::new()),
            Some(error) => {
                return self.static_join_failed(cx, request, join, error);
            }
        };
        if !join.supports_skipping_assignment {
            // Before KIP-814 a returning leader is shown its old id as the leader, lest it assign anew.
            reply.leader = join.old_leader.unwrap_or_else(|| Arc::from(""));
        } else if self.is_leader(&join.new_id) {
            reply.members = self.roster();
            reply.skip_assignment = true;
        }
        cx.reply(request, Reply::JoinGroup(reply));
    }

    fn static_join_failed(
        &mut self,
        cx: &mut Context<'_>,
        request: RequestId,
        join: StaticJoin,
        error: ErrorCode,
    ) {
        // After a time-out the record may still be committed: the new id stays, the client comes back for another.
        if error != ErrorCode::RequestTimedOut {
            let old_id = Arc::clone(&join.old.id);
            self.swap_member(cx, &join.new_id, join.old);
            self.renew_session(cx, &old_id);
        }
        let mut reply = self.join_reply("", Vec::new());
        reply.error = client_error(error);
        cx.reply(request, Reply::JoinGroup(reply));
    }

    /// Puts `new` into the place of `old_id`, with its assignment and lead; who waits under the old id is fenced.
    /// Gives back the old one, without its parked requests.
    fn swap_member(&mut self, cx: &mut Context<'_>, old_id: &str, mut new: Member) -> Option<Member> {
        let led = self.is_leader(old_id);
        let synced = !self.pending_sync.contains(old_id);
        let mut old = self.take(old_id)?;
        refuse_parked(cx, &old, ErrorCode::FencedInstanceId, old_id);
        old.join_request = None;
        old.sync_request = None;
        cx.timers
            .cancel(&Timer::Session(Arc::clone(&self.id), Arc::clone(&old.id)));

        new.assignment = old.assignment.clone();
        let new_id = Arc::clone(&new.id);
        self.add(new);
        if led {
            self.leader = Some(Arc::clone(&new_id));
        }
        if !synced {
            self.pending_sync.insert(Arc::clone(&new_id));
        }
        self.renew_session(cx, &new_id);
        Some(old)
    }
}
