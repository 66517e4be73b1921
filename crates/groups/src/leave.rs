//! LeaveGroup: members go by their own will, or static ones by an administrator's (KIP-345).

use std::sync::Arc;

use strom_types::ErrorCode;

use crate::context::{Context, Step};
use crate::coordinator::Coordinator;
use crate::effect::{LeaveGroupReply, LeavingMemberReply, Reply};
use crate::event::{LeaveGroup, LeavingMember, RequestId};
use crate::group::Group;
use crate::state::GroupState;

impl Coordinator {
    pub(crate) fn on_leave_group(&mut self, step: &mut Step<'_>, request: RequestId, leave: LeaveGroup) {
        let LeaveGroup { group_id, members } = leave;
        let reply = if group_id.is_empty() {
            refused(ErrorCode::InvalidGroupId)
        } else {
            self.with_group(step, &group_id, |group, cx| group.on_leave(cx, &members))
                .unwrap_or_else(|| LeaveGroupReply {
                    error: ErrorCode::None,
                    members: members
                        .iter()
                        .map(|member| answer(member, ErrorCode::UnknownMemberId))
                        .collect(),
                })
        };
        step.reply(request, Reply::LeaveGroup(reply));
    }
}

fn refused(error: ErrorCode) -> LeaveGroupReply {
    LeaveGroupReply {
        error,
        members: Vec::new(),
    }
}

fn answer(member: &LeavingMember, error: ErrorCode) -> LeavingMemberReply {
    LeavingMemberReply {
        member_id: member.member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        error,
    }
}

impl Group {
    fn on_leave(&mut self, cx: &mut Context<'_>, leaving: &[LeavingMember]) -> LeaveGroupReply {
        if self.state == GroupState::Dead {
            return refused(ErrorCode::CoordinatorNotAvailable);
        }
        let mut members = Vec::with_capacity(leaving.len());
        let mut left = Vec::new();
        let size = self.members.len();
        for member in leaving {
            let error = match self.leaving_id(member) {
                Ok(id) => {
                    self.evict(cx, &id);
                    left.push(format!("{id} ({})", member.reason));
                    ErrorCode::None
                }
                Err(error) => error,
            };
            members.push(answer(member, error));
        }
        if !left.is_empty() {
            match self.state {
                // Ids that were only promised are in nobody's generation.
                GroupState::Stable | GroupState::CompletingRebalance if self.members.len() < size => {
                    self.prepare_rebalance(cx, &format!("left: {}", left.join(", ")));
                }
                _ => self.maybe_complete_join(cx),
            }
        }
        LeaveGroupReply {
            error: ErrorCode::None,
            members,
        }
    }

    fn leaving_id(&self, member: &LeavingMember) -> Result<Arc<str>, ErrorCode> {
        let instance_id = member.group_instance_id.as_deref();
        if member.member_id.is_empty() {
            return instance_id
                .and_then(|id| self.static_members.get(id))
                .cloned()
                .ok_or(ErrorCode::UnknownMemberId);
        }
        if !self.pending_join.contains(member.member_id.as_str()) {
            self.check_member(&member.member_id, instance_id)?;
        }
        Ok(Arc::from(member.member_id.as_str()))
    }
}
