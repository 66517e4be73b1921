//! From the log to the state and back to nothing: replay, the end of loading, unloading; and the records' effect once
//! they are committed, which is the same thing.

use std::sync::Arc;

use strom_types::{ErrorCode, Mono, WallMs};

use crate::context::{Context, Step};
use crate::coordinator::Coordinator;
use crate::effect::{Effect, JoinGroupReply, SyncGroupReply};
use crate::event::Protocol;
use crate::group::Group;
use crate::member::Member;
use crate::record::{GroupMetadataValue, Record};
use crate::state::GroupState;
use crate::timers::Timer;

impl Coordinator {
    /// One record of the partition, in offset order, before [`Coordinator::loaded`].
    pub fn replay(&mut self, record: &Record) {
        match record {
            Record::OffsetCommit { .. } | Record::OffsetTombstone { .. } => self.apply_offset(record),
            Record::GroupMetadata { group, value } => {
                let group = self.group_or_new(group);
                let offsets = std::mem::take(&mut group.offsets);
                *group = Group::from_record(Arc::clone(&group.id), value);
                group.offsets = offsets;
            }
            Record::GroupTombstone { group } => self.remove_group(group),
        }
    }

    /// The whole log is replayed: sessions start now, for however long the members were unheard (reliability: all
    /// timers restart at load).
    pub fn loaded(&mut self, now: Mono, wall: WallMs, effects: &mut Vec<Effect>) {
        let mut step = Step { now, wall, effects };
        self.drop_pristine_and_recount();
        let ids: Vec<Arc<str>> = self.groups().map(|group| Arc::clone(&group.id)).collect();
        for id in ids {
            self.with_group(&mut step, &id, Group::on_loaded);
        }
        let mut cx = self.context(&mut step);
        let interval_ms = cx.config.offsets_retention_check_interval_ms;
        cx.schedule(Timer::OffsetExpiry, interval_ms);
    }

    /// Leadership of the partition is lost: everybody who waits is sent away, everything is forgotten.
    pub fn unload(&mut self, effects: &mut Vec<Effect>) {
        let error = ErrorCode::NotCoordinator;
        let mut step = Step {
            now: Mono::default(),
            wall: WallMs::default(),
            effects,
        };
        for waiter in self.drain_appends() {
            self.refuse_waiter(&mut step, waiter, error);
        }
        for group in self.groups() {
            for member in group.members.values() {
                if let Some(request) = member.join_request {
                    step.reply(request, JoinGroupReply::failed(error, &member.id));
                }
                if let Some(request) = member.sync_request {
                    step.reply(request, SyncGroupReply::failed(error));
                }
            }
        }
        self.forget_everything();
    }

    /// What a committed record of our own changes. Group metadata is ahead of the log in memory already.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::OffsetCommit { .. } | Record::OffsetTombstone { .. } => self.apply_offset(record),
            Record::GroupMetadata { .. } => {}
            Record::GroupTombstone { group } => {
                if self.group(group).is_some_and(|g| g.state == GroupState::Dead) {
                    self.remove_group(group);
                }
            }
        }
    }

    fn apply_offset(&mut self, record: &Record) {
        match record {
            Record::OffsetCommit { key, value } => {
                let group = self.group_or_new(&key.group);
                group.offsets.set(&key.topic, key.partition, value.clone());
            }
            Record::OffsetTombstone { key } => {
                if let Some(group) = self.group_mut(&key.group) {
                    group.offsets.remove(&key.topic, key.partition);
                }
            }
            Record::GroupMetadata { .. } | Record::GroupTombstone { .. } => {}
        }
    }
}

impl Group {
    fn from_record(id: Arc<str>, value: &GroupMetadataValue) -> Group {
        let mut group = Group::new(id);
        group.generation = value.generation;
        group.protocol_type = Some(&value.protocol_type)
            .filter(|name| !name.is_empty())
            .cloned();
        group.protocol = value.protocol.clone();
        group.state_since = value.current_state_timestamp;
        for member in &value.members {
            group.add(Member {
                id: Arc::clone(&member.member_id),
                instance_id: member.group_instance_id.clone(),
                client_id: Arc::clone(&member.client_id),
                client_host: Arc::clone(&member.client_host),
                rebalance_timeout_ms: if member.rebalance_timeout_ms < 0 {
                    member.session_timeout_ms
                } else {
                    member.rebalance_timeout_ms
                },
                session_timeout_ms: member.session_timeout_ms,
                // The log keeps the chosen protocol only; the next JoinGroup brings the others.
                protocols: vec![Protocol {
                    name: value.protocol.as_deref().unwrap_or("").to_owned(),
                    metadata: member.subscription.clone(),
                }],
                assignment: member.assignment.clone(),
                join_request: None,
                sync_request: None,
                is_new: false,
            });
        }
        if let Some(leader) = &value.leader
            && group.members.contains_key(leader)
        {
            group.leader = Some(Arc::clone(leader));
        }
        if !group.members.is_empty() {
            group.state = GroupState::Stable;
        }
        group
    }

    fn on_loaded(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            self.renew_session(cx, id);
        }
        if ids.len() > cx.config.group_max_size {
            self.prepare_rebalance(cx, "the loaded group is larger than group.max.size");
        }
    }
}
