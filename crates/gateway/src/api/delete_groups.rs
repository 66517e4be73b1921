//! DeleteGroups (key 42): empty groups, each at its coordinator.

use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::delete_groups_response::DeletableGroupResult;
use strom_kafka_codec::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use strom_proto::convert::error_code;
use strom_proto::v1;

use super::call::unary;
use super::coordinators::{COORDINATOR_TIMEOUT, coordinator};
use super::scatter::scatter;
use super::{Call, Start};
use crate::codes::{coordinator_call_code, coordinator_code, kafka};

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let image = call.gateway.metadata().image();
    let wants = request
        .groups_names
        .iter()
        .map(|group| coordinator(&call, &image, group).map(|broker| (broker, group.to_string())))
        .collect();
    let send = |broker: crate::brokers::Broker, group_ids| async move {
        let request = v1::DeleteGroupsRequest { group_ids };
        let reply = broker.groups(COORDINATOR_TIMEOUT, |mut stub| async move {
            stub.delete_groups(request).await
        });
        Ok(reply.await?.errors)
    };
    let answers = scatter(wants, coordinator_call_code, send).await;
    let results = request
        .groups_names
        .into_iter()
        .zip(answers)
        .map(|(group_id, answer)| DeletableGroupResult {
            group_id,
            error_code: kafka(answer.map_or_else(|code| code, |code| coordinator_code(error_code(code)))),
        });
    DeleteGroupsResponse {
        results: results.collect(),
        ..Default::default()
    }
}
