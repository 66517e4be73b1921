//! Heartbeat, and what happens to a member that stops sending it.

use strom_types::ErrorCode;

use crate::context::{Context, Step};
use crate::coordinator::Coordinator;
use crate::effect::Reply;
use crate::event::{Heartbeat, RequestId};
use crate::group::Group;
use crate::state::GroupState;

impl Coordinator {
    pub(crate) fn on_heartbeat(&mut self, step: &mut Step<'_>, request: RequestId, heartbeat: &Heartbeat) {
        let error = if heartbeat.group_id.is_empty() {
            ErrorCode::InvalidGroupId
        } else {
            self.with_group(step, &heartbeat.group_id, |group, cx| {
                group.on_heartbeat(cx, heartbeat)
            })
            .unwrap_or(ErrorCode::UnknownMemberId)
        };
        step.reply(request, Reply::Heartbeat(error));
    }
}

impl Group {
    fn on_heartbeat(&mut self, cx: &mut Context<'_>, heartbeat: &Heartbeat) -> ErrorCode {
        if self.state == GroupState::Dead {
            return ErrorCode::CoordinatorNotAvailable;
        }
        if let Err(error) = self.check_member(&heartbeat.member_id, heartbeat.group_instance_id.as_deref()) {
            return error;
        }
        if heartbeat.generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.renew_session(cx, &heartbeat.member_id);
        match self.state {
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            _ => ErrorCode::None,
        }
    }

    /// Whether a member has been dropped for its silence.
    pub(crate) fn on_session_timer(&mut self, cx: &mut Context<'_>, member_id: &str) -> bool {
        let is_member = match self.members.get(member_id) {
            // Its session starts anew when it is answered.
            Some(member) if member.outlives_its_session() => return false,
            Some(_) => true,
            None => false,
        };
        self.evict(cx, member_id);
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance if is_member => {
                let reason = format!("the session of member {member_id} expired");
                self.prepare_rebalance(cx, &reason);
            }
            GroupState::PreparingRebalance if self.all_members_joined() => self.complete_join(cx),
            _ => {}
        }
        is_member
    }
}
