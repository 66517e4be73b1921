//! Read-only views of the groups: describe and list.

use std::sync::Arc;

use bytes::Bytes;
use strom_types::ErrorCode;

use crate::coordinator::Coordinator;
use crate::group::Group;
use crate::state::GroupState;

/// The only type of group here, as ListGroups v5 names it.
const GROUP_TYPE: &str = "classic";

/// One group's answer to DescribeGroups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    /// GROUP_ID_NOT_FOUND, with state Dead, for an unknown group: DescribeGroups below v6 leaves the error out.
    pub error: ErrorCode,
    pub error_message: String,
    pub group_id: String,
    pub state: GroupState,
    pub protocol_type: Arc<str>,
    /// Set in Stable only, as are the members' metadata and assignments.
    pub protocol: Arc<str>,
    pub members: Vec<GroupMemberDescription>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMemberDescription {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// Names in any case; an empty list lets everything through.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupFilter {
    pub states: Vec<String>,
    pub types: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedGroup {
    pub group_id: Arc<str>,
    /// Empty for a simple group.
    pub protocol_type: Arc<str>,
    pub state: GroupState,
    pub group_type: &'static str,
}

impl GroupFilter {
    fn lets_through(&self, group: &Group) -> bool {
        let named = |names: &[String], name: &str| {
            names.is_empty() || names.iter().any(|n| n.eq_ignore_ascii_case(name))
        };
        named(&self.states, group.state.name()) && named(&self.types, GROUP_TYPE)
    }
}

impl Coordinator {
    pub fn describe(&self, group_id: &str) -> GroupDescription {
        match self.group(group_id) {
            Some(group) if group.state != GroupState::Dead => group.describe(),
            _ => GroupDescription {
                error: ErrorCode::GroupIdNotFound,
                error_message: format!("Group {group_id} not found."),
                group_id: group_id.to_owned(),
                state: GroupState::Dead,
                protocol_type: Arc::from(""),
                protocol: Arc::from(""),
                members: Vec::new(),
            },
        }
    }

    /// In the order of the group ids.
    pub fn list(&self, filter: &GroupFilter) -> Vec<ListedGroup> {
        self.groups()
            .filter(|group| filter.lets_through(group))
            .map(|group| ListedGroup {
                group_id: Arc::clone(&group.id),
                protocol_type: group.protocol_type.clone().unwrap_or_else(|| Arc::from("")),
                state: group.state,
                group_type: GROUP_TYPE,
            })
            .collect()
    }
}

impl Group {
    fn describe(&self) -> GroupDescription {
        let stable = self.state == GroupState::Stable;
        let protocol = self.protocol.clone().filter(|_| stable);
        let members = self.members.values().map(|member| GroupMemberDescription {
            member_id: Arc::clone(&member.id),
            group_instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            metadata: protocol
                .as_deref()
                .and_then(|protocol| member.metadata(protocol).cloned())
                .unwrap_or_default(),
            assignment: if stable {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        });
        GroupDescription {
            error: ErrorCode::None,
            error_message: String::new(),
            group_id: self.id.to_string(),
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| Arc::from("")),
            members: members.collect(),
            protocol: protocol.unwrap_or_else(|| Arc::from("")),
        }
    }
}
