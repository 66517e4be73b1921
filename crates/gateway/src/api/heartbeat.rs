//! Heartbeat (key 12): a member lives, and learns of rebalances.

use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::{HeartbeatRequest, HeartbeatResponse};
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::ErrorCode;

use super::call::unary;
use super::coordinators::{COORDINATOR_TIMEOUT, coordinator};
use super::{Call, Start};
use crate::codes::{coordinator_call_code, coordinator_code, kafka};

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let code = beat(&call, request).await.unwrap_or_else(|code| code);
    HeartbeatResponse {
        error_code: kafka(code),
        ..Default::default()
    }
}

async fn beat(call: &Call, request: HeartbeatRequest) -> Result<ErrorCode, ErrorCode> {
    let image = call.gateway.metadata().image();
    let broker = coordinator(call, &image, &request.group_id)?;
    let request = v1::GroupHeartbeatRequest {
        group_id: String::from(request.group_id),
        member_id: String::from(request.member_id),
        group_instance_id: request.group_instance_id.map(String::from),
        generation: request.generation_id,
    };
    let reply = broker.groups(COORDINATOR_TIMEOUT, |mut stub| async move {
        stub.heartbeat(request).await
    });
    match reply.await {
        Ok(reply) => Ok(coordinator_code(error_code(reply.error))),
        Err(error) => Err(coordinator_call_code(&error)),
    }
}
