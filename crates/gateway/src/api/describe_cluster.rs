//! DescribeCluster (key 60): the brokers, the cluster's id and who takes changes.

use strom_kafka_codec::messages::describe_cluster_response::DescribeClusterBroker;
use strom_kafka_codec::messages::{DescribeClusterRequest, DescribeClusterResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_types::ErrorCode;

use super::call::unary;
use super::nodes::{CLUSTER_OPERATIONS, Node, controller_id, operations, text};
use super::{Call, Start};
use crate::codes::kafka;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let refuse = |code, message| DescribeClusterResponse {
        error_code: kafka(code),
        error_message: Some(ByteStr::from_static(message)),
        ..Default::default()
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            return refuse(
                ErrorCode::MismatchedEndpointType,
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
            );
        }
        _ => return refuse(ErrorCode::UnsupportedEndpointType, "Unsupported endpoint type."),
    }
    let image = call.gateway.metadata().image();
    let brokers = image
        .brokers()
        .filter(|broker| request.include_fenced_brokers || !broker.fenced)
        .map(|broker| Node::of(&call, broker))
        .map(|node| DescribeClusterBroker {
            broker_id: node.id,
            host: node.host,
            port: node.port,
            rack: node.rack,
            is_fenced: node.fenced,
        });
    DescribeClusterResponse {
        cluster_id: text(image.cluster_id()),
        controller_id: controller_id(&call, &image),
        brokers: brokers.collect(),
        cluster_authorized_operations: operations(
            request.include_cluster_authorized_operations,
            CLUSTER_OPERATIONS,
        ),
        ..Default::default()
    }
}
