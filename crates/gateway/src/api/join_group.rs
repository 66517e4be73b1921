//! JoinGroup (key 11): waits at the group's coordinator until the rebalance is done.

use std::time::Duration;

use strom_kafka_codec::messages::join_group_response::JoinGroupResponseMember;
use strom_kafka_codec::messages::{JoinGroupRequest, JoinGroupResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::ErrorCode;

use super::call::unary;
use super::coordinators::{PARKED_TIMEOUT_MAX, client_host, coordinator};
use super::{Call, Start};
use crate::codes::{coordinator_call_code, coordinator_code, kafka};

/// KIP-394.
const MEMBER_ID_FIRST_SINCE_VERSION: i16 = 4;
/// The protocol's name may be null.
const NULL_PROTOCOL_SINCE_VERSION: i16 = 7;
/// KIP-814.
const SKIP_ASSIGNMENT_SINCE_VERSION: i16 = 9;
/// What one member may bring along; the coordinator has the same bound.
const MEMBER_BYTES_MAX: usize = 256 * 1024;
/// On top of the rebalance time-out: the initial delay of a new group, and the way there and back.
const REPLY_MARGIN: Duration = Duration::from_secs(30);
/// How long a first join may wait for others whatever its time-outs are (the coordinator's own constant).
const NEW_MEMBER_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let member_id = request.member_id.clone();
    match join(&call, request).await {
        Ok(reply) => response(call.version, reply),
        Err(code) => failed(call.version, code, member_id),
    }
}

async fn join(call: &Call, request: JoinGroupRequest) -> Result<v1::JoinGroupReply, ErrorCode> {
    let brought: usize = request
        .protocols
        .iter()
        .map(|protocol| protocol.name.len() + protocol.metadata.len())
        .sum();
    if brought > MEMBER_BYTES_MAX {
        return Err(ErrorCode::InvalidRequest);
    }
    let image = call.gateway.metadata().image();
    let broker = coordinator(call, &image, &request.group_id)?;
    let limit = wait_max(&request);
    let request = v1::JoinGroupRequest {
        group_id: String::from(request.group_id),
        member_id: String::from(request.member_id),
        group_instance_id: request.group_instance_id.map(String::from),
        protocol_type: String::from(request.protocol_type),
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| v1::GroupProtocol {
                name: String::from(protocol.name),
                metadata: protocol.metadata,
            })
            .collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        client_id: call.client_id().to_owned(),
        client_host: client_host(call),
        require_known_member_id: call.version >= MEMBER_ID_FIRST_SINCE_VERSION,
        supports_skipping_assignment: call.version >= SKIP_ASSIGNMENT_SINCE_VERSION,
        reason: request.reason.map(String::from).unwrap_or_default(),
    };
    let reply = broker.groups(limit, |mut stub| async move { stub.join_group(request).await });
    reply.await.map_err(|error| coordinator_call_code(&error))
}

/// The coordinator answers within the rebalance time-out; past this it is taken for stuck.
fn wait_max(request: &JoinGroupRequest) -> Duration {
    let millis = request.rebalance_timeout_ms.max(request.session_timeout_ms);
    let asked = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    asked.clamp(NEW_MEMBER_TIMEOUT, PARKED_TIMEOUT_MAX) + REPLY_MARGIN
}

fn response(version: i16, reply: v1::JoinGroupReply) -> JoinGroupResponse {
    let code = coordinator_code(error_code(reply.error));
    let member_id = ByteStr::from(reply.member_id);
    if !code.is_none() {
        return failed(version, code, member_id);
    }
    JoinGroupResponse {
        generation_id: reply.generation,
        protocol_type: reply.protocol_type.map(ByteStr::from),
        protocol_name: protocol_name(version, reply.protocol_name.map(ByteStr::from)),
        leader: ByteStr::from(reply.leader),
        skip_assignment: reply.skip_assignment && version >= SKIP_ASSIGNMENT_SINCE_VERSION,
        member_id,
        members: reply
            .members
            .into_iter()
            .map(|member| JoinGroupResponseMember {
                member_id: ByteStr::from(member.member_id),
                group_instance_id: member.group_instance_id.map(ByteStr::from),
                metadata: member.metadata,
            })
            .collect(),
        ..Default::default()
    }
}

/// The member id goes back also with an error: MEMBER_ID_REQUIRED says which one to come with.
fn failed(version: i16, code: ErrorCode, member_id: ByteStr) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: kafka(code),
        protocol_name: protocol_name(version, None),
        member_id,
        ..Default::default()
    }
}

fn protocol_name(version: i16, name: Option<ByteStr>) -> Option<ByteStr> {
    if version < NULL_PROTOCOL_SINCE_VERSION {
        Some(name.unwrap_or_default())
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_outlasts_every_timeout_of_the_coordinator() {
        for (rebalance, session) in [
            (-1, 10_000),
            (300_000, 45_000),
            (i32::MAX, 10_000),
            (-1, i32::MIN),
        ] {
            let request = JoinGroupRequest {
                rebalance_timeout_ms: rebalance,
                session_timeout_ms: session,
                ..Default::default()
            };
            let asked = Duration::from_millis(rebalance.max(session).try_into().unwrap_or(0));
            let limit = wait_max(&request);
            assert!(limit > asked.min(PARKED_TIMEOUT_MAX));
            assert!(limit > NEW_MEMBER_TIMEOUT);
        }
    }
}
