//! Who is in a group and reads what, for classic groups and those of KIP-848 alike.

use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::consumer_group_describe_response::{
    DescribedGroup as NewGroup, Member as NewMember,
};
use strom_kafka_codec::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use strom_kafka_codec::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest,
    DescribeGroupsResponse,
};
use strom_types::ErrorCode;

use crate::kafka::membership::decode_assignment;
use crate::kafka::{Client, Deadline, KafkaError, Target, TopicPartition};

/// A group as its coordinator describes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GroupView {
    pub(super) group: String,
    pub(super) state: String,
    /// `classic` or `consumer` (KIP-848).
    pub(super) kind: &'static str,
    pub(super) assignor: String,
    pub(super) members: Vec<MemberView>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct MemberView {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) host: String,
    pub(super) assignment: Vec<TopicPartition>,
}

impl GroupView {
    /// Whether a group can be changed from outside: nobody is in it.
    pub(super) fn is_idle(&self) -> bool {
        self.members.is_empty()
    }
}

/// Describes a group. One that is not there is an error with GROUP_ID_NOT_FOUND, whatever the server's version.
pub(super) async fn describe_group(client: &Client, group: &str) -> Result<GroupView, KafkaError> {
    match describe_classic(client, group).await {
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => {
            // It may be of the newer kind, which only the newer API describes.
            describe_consumer(client, group)
                .await
                .map_err(|newer| match newer {
                    KafkaError::Unsupported { .. } => error,
                    other => other,
                })
        }
        other => other,
    }
}

fn not_found(group: &str) -> KafkaError {
    KafkaError::Server {
        subject: format!("group {group}"),
        code: ErrorCode::GroupIdNotFound,
        message: None,
    }
}

async fn describe_classic(client: &Client, group: &str) -> Result<GroupView, KafkaError> {
    let subject = format!("group {group}");
    let build = |_: i16, _: Deadline| DescribeGroupsRequest {
        groups: vec![ByteStr::from(group.to_owned())],
        include_authorized_operations: false,
    };
    let failure = |response: &DescribeGroupsResponse| {
        let mut groups = response.groups.iter();
        groups.find_map(|g| KafkaError::from_code(&subject, g.error_code, g.error_message.as_deref()))
    };
    let response = client.ask(Target::Group(group), &subject, build, failure).await?;
    if let Some(error) = failure(&response) {
        return Err(error);
    }
    let described = response.groups.first().ok_or_else(|| not_found(group))?;
    // Before version 6, an unknown group is a dead one.
    if described.group_state == "Dead" && described.members.is_empty() {
        return Err(not_found(group));
    }
    Ok(classic_view(described))
}

fn classic_view(group: &DescribedGroup) -> GroupView {
    GroupView {
        group: group.group_id.as_str().to_owned(),
        state: group.group_state.as_str().to_owned(),
        kind: "classic",
        assignor: group.protocol_data.as_str().to_owned(),
        members: group.members.iter().map(classic_member).collect(),
    }
}

fn classic_member(member: &DescribedGroupMember) -> MemberView {
    MemberView {
        id: member.member_id.as_str().to_owned(),
        instance_id: member.group_instance_id.as_ref().map(|id| id.as_str().to_owned()),
        client_id: member.client_id.as_str().to_owned(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        // A member of another protocol type has an assignment of its own form.
        assignment: decode_assignment(member.member_assignment.clone()).unwrap_or_default(),
    }
}

async fn describe_consumer(client: &Client, group: &str) -> Result<GroupView, KafkaError> {
    let subject = format!("group {group}");
    let build = |_: i16, _: Deadline| ConsumerGroupDescribeRequest {
        group_ids: vec![ByteStr::from(group.to_owned())],
        include_authorized_operations: false,
    };
    let failure = |response: &ConsumerGroupDescribeResponse| {
        let mut groups = response.groups.iter();
        groups.find_map(|g| KafkaError::from_code(&subject, g.error_code, g.error_message.as_deref()))
    };
    let response = client.ask(Target::Group(group), &subject, build, failure).await?;
    if let Some(error) = failure(&response) {
        return Err(error);
    }
    response
        .groups
        .first()
        .map(consumer_view)
        .ok_or_else(|| not_found(group))
}

fn consumer_view(group: &NewGroup) -> GroupView {
    GroupView {
        group: group.group_id.as_str().to_owned(),
        state: group.group_state.as_str().to_owned(),
        kind: "consumer",
        assignor: group.assignor_name.as_str().to_owned(),
        members: group.members.iter().map(consumer_member).collect(),
    }
}

fn consumer_member(member: &NewMember) -> MemberView {
    let topics = member.assignment.topic_partitions.iter();
    MemberView {
        id: member.member_id.as_str().to_owned(),
        instance_id: member.instance_id.as_ref().map(|id| id.as_str().to_owned()),
        client_id: member.client_id.as_str().to_owned(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        assignment: topics
            .flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(|&p| TopicPartition::new(&topic.topic_name, p))
            })
            .collect(),
    }
}
