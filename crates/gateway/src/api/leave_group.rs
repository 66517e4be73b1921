//! LeaveGroup (key 13): one member, or from version 3 on several by member or instance id (KIP-345).

use strom_kafka_codec::messages::leave_group_request::MemberIdentity;
use strom_kafka_codec::messages::leave_group_response::MemberResponse;
use strom_kafka_codec::messages::{LeaveGroupRequest, LeaveGroupResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::ErrorCode;

use super::call::unary;
use super::coordinators::{COORDINATOR_TIMEOUT, coordinator};
use super::{Call, Start};
use crate::codes::{coordinator_call_code, coordinator_code, kafka};

const BATCHES_SINCE_VERSION: i16 = 3;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let version = call.version;
    let answer = leave(&call, request).await.and_then(|reply| {
        let code = coordinator_code(error_code(reply.error));
        if code.is_none() {
            Ok(reply.members)
        } else {
            Err(code)
        }
    });
    match answer {
        Ok(members) if version < BATCHES_SINCE_VERSION => {
            // The only member's error is the request's.
            let code = members
                .first()
                .map_or(ErrorCode::CoordinatorNotAvailable, |member| {
                    coordinator_code(error_code(member.error))
                });
            failed(code)
        }
        Ok(members) => LeaveGroupResponse {
            members: members.into_iter().map(member).collect(),
            ..Default::default()
        },
        Err(code) => failed(code),
    }
}

async fn leave(call: &Call, request: LeaveGroupRequest) -> Result<v1::LeaveGroupReply, ErrorCode> {
    let leaving = if call.version < BATCHES_SINCE_VERSION {
        vec![MemberIdentity {
            member_id: request.member_id,
            ..Default::default()
        }]
    } else {
        request.members
    };
    let image = call.gateway.metadata().image();
    let broker = coordinator(call, &image, &request.group_id)?;
    let request = v1::LeaveGroupRequest {
        group_id: String::from(request.group_id),
        members: leaving
            .into_iter()
            .map(|member| v1::LeavingMember {
                member_id: String::from(member.member_id),
                group_instance_id: member.group_instance_id.map(String::from),
                reason: member.reason.map(String::from).unwrap_or_default(),
            })
            .collect(),
    };
    let reply = broker.groups(COORDINATOR_TIMEOUT, |mut stub| async move {
        stub.leave_group(request).await
    });
    reply.await.map_err(|error| coordinator_call_code(&error))
}

fn member(reply: v1::LeavingMemberReply) -> MemberResponse {
    MemberResponse {
        member_id: ByteStr::from(reply.member_id),
        group_instance_id: reply.group_instance_id.map(ByteStr::from),
        error_code: kafka(coordinator_code(error_code(reply.error))),
    }
}

fn failed(code: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse {
        error_code: kafka(code),
        ..Default::default()
    }
}
