//! ListGroups (key 16): the groups that the addressed broker keeps; on a bootstrap address, those of all brokers.

use futures::future::join_all;
use strom_kafka_codec::messages::list_groups_response::ListedGroup;
use strom_kafka_codec::messages::{ListGroupsRequest, ListGroupsResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::ErrorCode;

use super::call::unary;
use super::coordinators::COORDINATOR_TIMEOUT;
use super::nodes::addressed_brokers;
use super::{Call, Start};
use crate::brokers::Broker;
use crate::codes::{coordinator_call_code, coordinator_code, kafka};

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let names = |names: Vec<ByteStr>| names.into_iter().map(String::from).collect();
    let request = v1::ListGroupsRequest {
        states: names(request.states_filter),
        types: names(request.types_filter),
    };
    let image = call.gateway.metadata().image();
    let asked = addressed_brokers(&call, &image)
        .into_iter()
        .map(|broker| list(broker, request.clone()));
    let mut response = ListGroupsResponse::default();
    for answer in join_all(asked).await {
        match answer {
            Ok(groups) => response.groups.extend(groups.into_iter().map(listed)),
            // Kafka's clients take what there is, and come again.
            Err(code) if response.error_code == 0 => response.error_code = kafka(code),
            Err(_) => {}
        }
    }
    response
}

async fn list(broker: Broker, request: v1::ListGroupsRequest) -> Result<Vec<v1::ListedGroup>, ErrorCode> {
    let reply = broker.groups(COORDINATOR_TIMEOUT, |mut stub| async move {
        stub.list_groups(request).await
    });
    let reply = reply.await.map_err(|error| coordinator_call_code(&error))?;
    match coordinator_code(error_code(reply.error)) {
        ErrorCode::None => Ok(reply.groups),
        code => Err(code),
    }
}

fn listed(group: v1::ListedGroup) -> ListedGroup {
    ListedGroup {
        group_id: ByteStr::from(group.group_id),
        protocol_type: ByteStr::from(group.protocol_type),
        group_state: ByteStr::from(group.state),
        group_type: ByteStr::from(group.group_type),
    }
}
