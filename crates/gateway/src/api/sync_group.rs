//! SyncGroup (key 14): the leader hands in the assignment, each member gets its own.

use bytes::Bytes;
use strom_kafka_codec::messages::{SyncGroupRequest, SyncGroupResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::ErrorCode;

use super::call::unary;
use super::coordinators::{PARKED_TIMEOUT_MAX, coordinator};
use super::{Call, Start};
use crate::codes::{coordinator_call_code, coordinator_code, kafka};

/// All members' assignments together, so that the call stays within what coordinators take.
const ASSIGNMENTS_BYTES_MAX: usize = 48 * 1024 * 1024;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let answer = sync(&call, request).await.and_then(|reply| {
        let code = coordinator_code(error_code(reply.error));
        if code.is_none() { Ok(reply) } else { Err(code) }
    });
    match answer {
        Ok(reply) => SyncGroupResponse {
            protocol_type: reply.protocol_type.map(ByteStr::from),
            protocol_name: reply.protocol_name.map(ByteStr::from),
            assignment: reply.assignment,
            ..Default::default()
        },
        Err(code) => SyncGroupResponse {
            error_code: kafka(code),
            assignment: Bytes::new(),
            ..Default::default()
        },
    }
}

async fn sync(call: &Call, request: SyncGroupRequest) -> Result<v1::SyncGroupReply, ErrorCode> {
    let brought: usize = request
        .assignments
        .iter()
        .map(|member| member.member_id.len() + member.assignment.len())
        .sum();
    if brought > ASSIGNMENTS_BYTES_MAX {
        return Err(ErrorCode::InvalidRequest);
    }
    let image = call.gateway.metadata().image();
    let broker = coordinator(call, &image, &request.group_id)?;
    let request = v1::SyncGroupRequest {
        group_id: String::from(request.group_id),
        member_id: String::from(request.member_id),
        group_instance_id: request.group_instance_id.map(String::from),
        generation: request.generation_id,
        protocol_type: request.protocol_type.map(String::from),
        protocol_name: request.protocol_name.map(String::from),
        assignments: request
            .assignments
            .into_iter()
            .map(|member| v1::MemberAssignment {
                member_id: String::from(member.member_id),
                assignment: member.assignment,
            })
            .collect(),
    };
    // Followers wait for the leader, at most for the group's rebalance time-out, which only the coordinator knows.
    let reply = broker.groups(PARKED_TIMEOUT_MAX, |mut stub| async move {
        stub.sync_group(request).await
    });
    reply.await.map_err(|error| coordinator_call_code(&error))
}
