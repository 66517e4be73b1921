//! JoinGroup: who may join, new and known members (KIP-62, KIP-345, KIP-394).

use std::collections::BTreeSet;
use std::sync::Arc;

use strom_types::ErrorCode;

use crate::config::Config;
use crate::context::{Context, Step};
use crate::coordinator::Coordinator;
use crate::effect::{JoinGroupReply, Reply};
use crate::event::{JoinGroup, RequestId};
use crate::group::Group;
use crate::member::{Member, protocols_bytes};
use crate::state::GroupState;
use crate::timers::Timer;

impl Coordinator {
    pub(crate) fn on_join_group(&mut self, step: &mut Step<'_>, request: RequestId, mut join: JoinGroup) {
        if let Err(error) = check_request(self.config(), &join) {
            return step.reply(request, JoinGroupReply::failed(error, &join.member_id));
        }
        if join.rebalance_timeout_ms < 0 {
            join.rebalance_timeout_ms = join.session_timeout_ms;
        }
        // Kafka's collection of protocols is keyed by name: the first of equals counts.
        let mut names = BTreeSet::new();
        join.protocols
            .retain(|protocol| names.insert(protocol.name.clone()));

        let group_id = join.group_id.clone();
        if !self.has_group(&group_id) {
            if !join.member_id.is_empty() {
                return step.reply(
                    request,
                    JoinGroupReply::failed(ErrorCode::UnknownMemberId, &join.member_id),
                );
            }
            if self.is_full() {
                return step.reply(
                    request,
                    JoinGroupReply::failed(ErrorCode::GroupMaxSizeReached, ""),
                );
            }
            self.group_or_new(&Arc::from(group_id.as_str()));
        }
        self.with_group(step, &group_id, |group, cx| group.on_join(cx, request, join));
        self.drop_if_pristine(&group_id);
    }
}

fn check_request(config: &Config, join: &JoinGroup) -> Result<(), ErrorCode> {
    if join.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let allowed = config.group_min_session_timeout_ms..=config.group_max_session_timeout_ms;
    if !allowed.contains(&join.session_timeout_ms) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    if join.rebalance_timeout_ms < -1 || join_bytes(join) > config.limits.member_bytes_max {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(())
}

fn join_bytes(join: &JoinGroup) -> usize {
    let id = join
        .member_id
        .len()
        .max(join.client_id.len() + 1 + join.member_id_suffix.len());
    id + join.client_id.len()
        + join.client_host.len()
        + join.group_id.len()
        + join.protocol_type.len()
        + 2 * join.group_instance_id.as_ref().map_or(0, String::len)
        + protocols_bytes(&join.protocols)
}

impl Group {
    fn on_join(&mut self, cx: &mut Context<'_>, request: RequestId, join: JoinGroup) {
        let member_id = join.member_id.as_str();
        if self.state == GroupState::Dead {
            return cx.reply(
                request,
                JoinGroupReply::failed(ErrorCode::CoordinatorNotAvailable, member_id),
            );
        }
        let replaced = self.replaced_by(&join);
        if !self.is_within_size(cx, replaced) {
            self.evict(cx, member_id);
            self.maybe_complete_join(cx);
            return cx.reply(
                request,
                JoinGroupReply::failed(ErrorCode::GroupMaxSizeReached, ""),
            );
        }
        if !self.is_within_limits(cx, &join, replaced) {
            return cx.reply(
                request,
                JoinGroupReply::failed(ErrorCode::GroupMaxSizeReached, member_id),
            );
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            return cx.reply(
                request,
                JoinGroupReply::failed(ErrorCode::InconsistentGroupProtocol, member_id),
            );
        }
        if join.member_id.is_empty() {
            self.join_new(cx, request, join);
        } else {
            self.join_known(cx, request, join);
        }
    }

    /// The member whose place the joining one takes: itself, or the holder of its instance id.
    fn replaced_by(&self, join: &JoinGroup) -> Option<&Member> {
        self.members.get(join.member_id.as_str()).or_else(|| {
            let instance_id = join.group_instance_id.as_deref()?;
            self.members.get(self.static_members.get(instance_id)?)
        })
    }

    /// `group.max.size`
    fn is_within_size(&self, cx: &Context<'_>, replaced: Option<&Member>) -> bool {
        let size_max = cx.config.group_max_size;
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            // Those that have rejoined count: the last to come are the ones turned away.
            GroupState::PreparingRebalance => {
                replaced.is_some_and(|member| member.join_request.is_some()) || self.joins_parked() < size_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                replaced.is_some() || self.members.len() < size_max
            }
        }
    }

    /// The bounds of the whole coordinator.
    fn is_within_limits(&self, cx: &Context<'_>, join: &JoinGroup, replaced: Option<&Member>) -> bool {
        let limits = &cx.config.limits;
        let counted = replaced.is_some() || self.pending_join.contains(join.member_id.as_str());
        let bytes = (cx.usage.bytes + join_bytes(join)).saturating_sub(replaced.map_or(0, Member::bytes));
        (counted || cx.usage.members < limits.all_members_max) && bytes <= limits.all_members_bytes_max
    }

    fn join_new(&mut self, cx: &mut Context<'_>, request: RequestId, join: JoinGroup) {
        let stem = join.group_instance_id.as_deref().unwrap_or(&join.client_id);
        let new_id: Arc<str> = Arc::from(format!("{stem}-{}", join.member_id_suffix));
        if self.members.contains_key(&new_id) || self.pending_join.contains(&new_id) {
            // The shell's suffix was not fresh.
            return cx.reply(request, JoinGroupReply::failed(ErrorCode::UnknownServerError, ""));
        }
        if let Some(instance_id) = join.group_instance_id.as_deref() {
            return match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace_static_member(cx, request, join, (old_id, new_id)),
                None => self.join_added(cx, request, join, new_id),
            };
        }
        if !join.require_known_member_id {
            return self.join_added(cx, request, join, new_id);
        }
        self.pending_join.insert(Arc::clone(&new_id));
        let timer = Timer::Session(Arc::clone(&self.id), Arc::clone(&new_id));
        cx.schedule(timer, join.session_timeout_ms);
        cx.reply(
            request,
            JoinGroupReply::failed(ErrorCode::MemberIdRequired, &new_id),
        );
    }

    fn join_known(&mut self, cx: &mut Context<'_>, request: RequestId, join: JoinGroup) {
        let instance_id = join.group_instance_id.as_deref();
        if instance_id.is_none() && self.pending_join.contains(join.member_id.as_str()) {
            let id = Arc::from(join.member_id.as_str());
            return self.join_added(cx, request, join, id);
        }
        if let Err(error) = self.check_member(&join.member_id, instance_id) {
            return cx.reply(request, JoinGroupReply::failed(error, &join.member_id));
        }
        let unchanged = self
            .members
            .get(join.member_id.as_str())
            .is_some_and(|member| member.protocols == join.protocols);
        let leads = self.is_leader(&join.member_id);
        match self.state {
            GroupState::PreparingRebalance => self.join_updated(cx, request, join),
            // The answer to its first JoinGroup got lost: here it is again.
            GroupState::CompletingRebalance if unchanged => {
                let members = if leads { self.roster() } else { Vec::new() };
                let reply = self.join_reply(&join.member_id, members);
                cx.reply(request, Reply::JoinGroup(reply));
            }
            GroupState::CompletingRebalance => self.join_updated(cx, request, join),
            // The leader rejoins when the topics' metadata changed, which no member's own metadata shows.
            GroupState::Stable if leads || !unchanged => self.join_updated(cx, request, join),
            GroupState::Stable => {
                let reply = self.join_reply(&join.member_id, Vec::new());
                cx.reply(request, Reply::JoinGroup(reply));
            }
            GroupState::Empty | GroupState::Dead => {
                let reply = JoinGroupReply::failed(ErrorCode::UnknownMemberId, &join.member_id);
                cx.reply(request, reply);
            }
        }
    }

    fn join_added(&mut self, cx: &mut Context<'_>, request: RequestId, join: JoinGroup, id: Arc<str>) {
        let reason = format!("adding member {id}; client reason: {}", join.reason);
        if self.members.is_empty() {
            self.protocol_type = Some(Arc::from(join.protocol_type.as_str()));
        }
        if self.state == GroupState::PreparingRebalance && self.initial_delay.is_some() {
            self.new_member_added = true;
        }
        self.add(Member::from_join(Arc::clone(&id), join));
        self.park_join(cx, &id, request);
        let timer = Timer::Session(Arc::clone(&self.id), id);
        cx.schedule(timer, cx.config.new_member_join_timeout_ms);
        self.rebalance_or_complete_join(cx, &reason);
    }

    fn join_updated(&mut self, cx: &mut Context<'_>, request: RequestId, join: JoinGroup) {
        let reason = format!(
            "member {} rejoins; client reason: {}",
            join.member_id, join.reason
        );
        self.update_protocols(&join.member_id, join.protocols);
        if let Some(member) = self.members.get_mut(join.member_id.as_str()) {
            member.rebalance_timeout_ms = join.rebalance_timeout_ms;
            member.session_timeout_ms = join.session_timeout_ms;
        }
        self.park_join(cx, &join.member_id, request);
        self.rebalance_or_complete_join(cx, &reason);
    }
}
