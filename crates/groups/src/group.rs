//! One classic group: its members, who is awaited, what all support (Kafka's `ClassicGroup`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use strom_types::{ErrorCode, WallMs};

use crate::context::{Context, Usage};
use crate::effect::{Effect, JoinGroupReply, SyncGroupReply};
use crate::event::{AppendToken, Protocol, RequestId};
use crate::member::Member;
use crate::offsets::Offsets;
use crate::state::GroupState;
use crate::timers::Timer;

/// The first rebalance of an empty group waits for more members, in steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InitialDelay {
    pub(crate) delay_ms: i32,
    pub(crate) remaining_ms: i32,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    pub(crate) state: GroupState,
    pub(crate) state_since: Option<WallMs>,
    pub(crate) generation: i32,
    /// None = a simple group: offsets without members.
    pub(crate) protocol_type: Option<Arc<str>>,
    pub(crate) protocol: Option<Arc<str>>,
    pub(crate) leader: Option<Arc<str>>,
    pub(crate) members: BTreeMap<Arc<str>, Member>,
    /// Instance id to member id.
    pub(crate) static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids given out by MEMBER_ID_REQUIRED and not used yet.
    pub(crate) pending_join: BTreeSet<Arc<str>>,
    /// Members of this generation that have not sent SyncGroup yet.
    pub(crate) pending_sync: BTreeSet<Arc<str>>,
    /// Set while the rebalance that left Empty waits for more members.
    pub(crate) initial_delay: Option<InitialDelay>,
    pub(crate) new_member_added: bool,
    /// The append of this generation's assignment.
    pub(crate) assignment_append: Option<AppendToken>,
    pub(crate) offsets: Offsets,
    /// Protocol name to the number of members that support it.
    supported: BTreeMap<String, usize>,
    joins_parked: usize,
    bytes: usize,
}

impl Group {
    pub(crate) fn new(id: Arc<str>) -> Group {
        Group {
            id,
            state: GroupState::Empty,
            state_since: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            initial_delay: None,
            new_member_added: false,
            assignment_append: None,
            offsets: Offsets::default(),
            supported: BTreeMap::new(),
            joins_parked: 0,
            bytes: 0,
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            members: self.members.len() + self.pending_join.len(),
            bytes: self.bytes,
        }
    }

    /// Nothing in it is worth keeping.
    pub(crate) fn is_pristine(&self) -> bool {
        self.state == GroupState::Empty
            && self.generation == 0
            && self.protocol_type.is_none()
            && self.pending_join.is_empty()
            && self.offsets.is_empty()
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(crate) fn joins_parked(&self) -> usize {
        self.joins_parked
    }

    pub(crate) fn all_members_joined(&self) -> bool {
        self.joins_parked == self.members.len() && self.pending_join.is_empty()
    }

    /// The longest of the members'.
    pub(crate) fn rebalance_timeout_ms(&self) -> i32 {
        self.members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
            .max(0)
    }

    pub(crate) fn transition(&mut self, cx: &mut Context<'_>, to: GroupState, reason: &str) {
        let from = std::mem::replace(&mut self.state, to);
        self.state_since = Some(cx.wall);
        if to != GroupState::CompletingRebalance {
            self.assignment_append = None;
        }
        cx.effects.push(Effect::Transition {
            group: Arc::clone(&self.id),
            from,
            to,
            generation: self.generation,
            reason: reason.to_owned(),
        });
    }

    pub(crate) fn add(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(Arc::clone(instance_id), Arc::clone(&member.id));
        }
        if self.leader.is_none() {
            self.leader = Some(Arc::clone(&member.id));
        }
        self.pending_join.remove(&member.id);
        self.count_protocols(&member.protocols);
        self.bytes += member.bytes();
        self.joins_parked += usize::from(member.join_request.is_some());
        self.members.insert(Arc::clone(&member.id), member);
    }

    /// Takes the member out; its timers and parked requests are the caller's.
    pub(crate) fn take(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id);
        if let Some(member) = &member {
            self.discount_protocols(&member.protocols);
            self.bytes = self.bytes.saturating_sub(member.bytes());
            self.joins_parked -= usize::from(member.join_request.is_some());
            if let Some(instance_id) = &member.instance_id {
                self.static_members.remove(instance_id);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        member
    }

    /// Removes a member for good: its session timer goes, its parked requests get UNKNOWN_MEMBER_ID, so that a
    /// client that is still there starts again.
    pub(crate) fn evict(&mut self, cx: &mut Context<'_>, member_id: &str) {
        cx.timers
            .cancel(&Timer::Session(Arc::clone(&self.id), Arc::from(member_id)));
        if let Some(member) = self.take(member_id) {
            refuse_parked(cx, &member, ErrorCode::UnknownMemberId, "");
        }
    }

    pub(crate) fn update_protocols(&mut self, member_id: &str, protocols: Vec<Protocol>) {
        self.count_protocols(&protocols);
        let Some(member) = self.members.get_mut(member_id) else {
            return self.discount_protocols(&protocols);
        };
        self.bytes = self.bytes.saturating_sub(member.bytes());
        let old = std::mem::replace(&mut member.protocols, protocols);
        self.bytes += member.bytes();
        self.discount_protocols(&old);
    }

    pub(crate) fn set_assignment(&mut self, member_id: &str, assignment: Bytes) {
        if let Some(member) = self.members.get_mut(member_id) {
            self.bytes = self.bytes.saturating_sub(member.assignment.len()) + assignment.len();
            member.assignment = assignment;
        }
    }

    /// Parks a JoinGroup. One already parked is the same client's, which has given it up.
    pub(crate) fn park_join(&mut self, cx: &mut Context<'_>, member_id: &str, request: RequestId) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        match member.join_request.replace(request) {
            Some(old) => cx.reply(
                old,
                JoinGroupReply::failed(ErrorCode::RebalanceInProgress, member_id),
            ),
            None => self.joins_parked += 1,
        }
    }

    pub(crate) fn take_join(&mut self, member_id: &str) -> Option<RequestId> {
        let request = self.members.get_mut(member_id)?.join_request.take()?;
        self.joins_parked -= 1;
        Some(request)
    }

    pub(crate) fn take_sync(&mut self, member_id: &str) -> Option<RequestId> {
        self.members.get_mut(member_id)?.sync_request.take()
    }

    /// (Re)starts the member's session.
    pub(crate) fn renew_session(&self, cx: &mut Context<'_>, member_id: &str) {
        if let Some(member) = self.members.get(member_id) {
            let timer = Timer::Session(Arc::clone(&self.id), Arc::clone(&member.id));
            cx.schedule(timer, member.session_timeout_ms);
        }
    }

    /// That the member is of this group and, if static, the one its instance id belongs to now.
    pub(crate) fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if &**holder != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    /// Whether a member with these protocols may join.
    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| {
                self.supported.get(&protocol.name).copied().unwrap_or(0) == self.members.len()
            })
    }

    /// The protocol with the most votes among those that all members support; the first by name of equals.
    pub(crate) fn select_protocol(&self) -> Option<Arc<str>> {
        let size = self.members.len();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self
            .members
            .values()
            .filter_map(|member| member.vote(&self.supported, size))
        {
            *votes.entry(name).or_default() += 1;
        }
        votes
            .into_iter()
            .max_by(|(a_name, a), (b_name, b)| a.cmp(b).then_with(|| b_name.cmp(a_name)))
            .map(|(name, _)| Arc::from(name))
    }

    fn count_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            *self.supported.entry(protocol.name.clone()).or_default() += 1;
        }
    }

    fn discount_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.supported.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(&protocol.name);
                }
            }
        }
    }
}

/// Answers what a member that is no longer in its group has parked.
pub(crate) fn refuse_parked(cx: &mut Context<'_>, member: &Member, error: ErrorCode, join_member_id: &str) {
    if let Some(request) = member.join_request {
        cx.reply(request, JoinGroupReply::failed(error, join_member_id));
    }
    if let Some(request) = member.sync_request {
        cx.reply(request, SyncGroupReply::failed(error));
    }
}
