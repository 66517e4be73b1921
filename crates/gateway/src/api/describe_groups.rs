//! DescribeGroups (key 15): state, protocol and members of groups, each from its coordinator.

use strom_kafka_codec::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use strom_kafka_codec::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::ErrorCode;

use super::call::unary;
use super::coordinators::{COORDINATOR_TIMEOUT, coordinator};
use super::nodes::{GROUP_OPERATIONS, OPERATIONS_OMITTED, operations};
use super::scatter::scatter;
use super::{Call, Start};
use crate::codes::{coordinator_call_code, coordinator_code, error_text, kafka};

/// GROUP_ID_NOT_FOUND, with a message; before, a group that does not exist is "Dead" (KIP-1043).
const NOT_FOUND_SINCE_VERSION: i16 = 6;
const DEAD: &str = "Dead";

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let image = call.gateway.metadata().image();
    let mut seen = std::collections::BTreeSet::new();
    // A group that is named again is told of once: descriptions can be large.
    let mut named = request.groups;
    named.retain(|group| seen.insert(group.clone()));
    let wants = named
        .iter()
        .map(|group| coordinator(&call, &image, group).map(|broker| (broker, group.to_string())))
        .collect();
    let send = |broker: crate::brokers::Broker, group_ids| async move {
        let request = v1::DescribeGroupsRequest { group_ids };
        let reply = broker.groups(COORDINATOR_TIMEOUT, |mut stub| async move {
            stub.describe_groups(request).await
        });
        Ok(reply.await?.groups)
    };
    let answers = scatter(wants, coordinator_call_code, send).await;
    let groups = named
        .into_iter()
        .zip(answers)
        .map(|(group_id, answer)| match answer {
            Ok(description) => described(
                call.version,
                group_id,
                description,
                request.include_authorized_operations,
            ),
            Err(code) => failed(group_id, code),
        });
    DescribeGroupsResponse {
        groups: groups.collect(),
        ..Default::default()
    }
}

fn described(
    version: i16,
    group_id: ByteStr,
    group: v1::GroupDescription,
    with_operations: bool,
) -> DescribedGroup {
    match coordinator_code(error_code(group.error)) {
        ErrorCode::None => {}
        ErrorCode::GroupIdNotFound if version < NOT_FOUND_SINCE_VERSION => {
            return DescribedGroup {
                group_id,
                group_state: ByteStr::from_static(DEAD),
                authorized_operations: operations(with_operations, GROUP_OPERATIONS),
                ..Default::default()
            };
        }
        code @ ErrorCode::GroupIdNotFound => {
            let message = match group.error_message {
                message if message.is_empty() => format!("Group {group_id} not found."),
                message => message,
            };
            return DescribedGroup {
                error_message: Some(error_text(message)),
                group_state: ByteStr::from_static(DEAD),
                ..failed(group_id, code)
            };
        }
        code => return failed(group_id, code),
    }
    DescribedGroup {
        group_id,
        group_state: ByteStr::from(group.state),
        protocol_type: ByteStr::from(group.protocol_type),
        protocol_data: ByteStr::from(group.protocol_name),
        members: group.members.into_iter().map(member).collect(),
        authorized_operations: operations(with_operations, GROUP_OPERATIONS),
        ..Default::default()
    }
}

fn failed(group_id: ByteStr, code: ErrorCode) -> DescribedGroup {
    DescribedGroup {
        error_code: kafka(code),
        group_id,
        authorized_operations: OPERATIONS_OMITTED,
        ..Default::default()
    }
}

fn member(member: v1::GroupMemberDescription) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: ByteStr::from(member.member_id),
        group_instance_id: member.group_instance_id.map(ByteStr::from),
        client_id: ByteStr::from(member.client_id),
        client_host: ByteStr::from(member.client_host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}
