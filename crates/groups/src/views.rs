//! How a group shows: to its leader, to its members, in the log, and which topics it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use strom_types::ErrorCode;

use crate::effect::{JoinGroupReply, JoinedMember, Reply, SyncGroupReply};
use crate::group::Group;
use crate::member::Member;
use crate::record::{GroupMetadataValue, MemberMetadata, Record};
use crate::subscription::parse_subscribed_topics;

/// The protocol type of consumers, the only one whose subscriptions the coordinator can read.
const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

impl Group {
    pub(crate) fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// The members as the leader is told of them.
    pub(crate) fn roster(&self) -> Vec<JoinedMember> {
        self.members
            .values()
            .map(|member| JoinedMember {
                member_id: Arc::clone(&member.id),
                group_instance_id: member.instance_id.clone(),
                metadata: self.subscription_of(member),
            })
            .collect()
    }

    pub(crate) fn join_reply(&self, member_id: &str, members: Vec<JoinedMember>) -> JoinGroupReply {
        JoinGroupReply {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| Arc::from("")),
            member_id: Arc::from(member_id),
            members,
            skip_assignment: false,
        }
    }

    pub(crate) fn sync_reply(&self, assignment: Bytes) -> Reply {
        Reply::SyncGroup(SyncGroupReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment,
        })
    }

    /// The group as it is written to the log, with these assignments in place of the members' own.
    pub(crate) fn metadata_record(&self, assignments: Option<&BTreeMap<Arc<str>, Bytes>>) -> Record {
        let members = self.members.values().map(|member| MemberMetadata {
            member_id: Arc::clone(&member.id),
            group_instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: self.subscription_of(member),
            assignment: match assignments {
                None => member.assignment.clone(),
                Some(assignments) => assignments.get(&member.id).cloned().unwrap_or_default(),
            },
        });
        Record::GroupMetadata {
            group: Arc::clone(&self.id),
            value: GroupMetadataValue {
                protocol_type: self.protocol_type.clone().unwrap_or_else(|| Arc::from("")),
                generation: self.generation,
                protocol: self.protocol.clone(),
                leader: self.leader.clone(),
                current_state_timestamp: self.state_since,
                members: members.collect(),
            },
        }
    }

    /// The topics that members consume; `None` when the coordinator cannot know.
    pub(crate) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumer_group() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.extend(parse_subscribed_topics(member.metadata(protocol)?).ok()?);
        }
        Some(all)
    }

    /// Whether the group is, or may be, subscribed to the topic; `subscribed` is [`Group::subscribed_topics`].
    pub(crate) fn is_subscribed(&self, subscribed: Option<&BTreeSet<String>>, topic: &str) -> bool {
        match subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer_group(),
        }
    }

    fn subscription_of(&self, member: &Member) -> Bytes {
        self.protocol
            .as_deref()
            .and_then(|protocol| member.metadata(protocol).cloned())
            .unwrap_or_default()
    }
}
