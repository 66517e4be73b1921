//! FindCoordinator (key 10): which node keeps a group.
//!
//! Transactions are not served yet, so a transactional id has no coordinator. It is answered with
//! TRANSACTIONAL_ID_AUTHORIZATION_FAILED: the one code that makes both Java and librdkafka give up at once, with the
//! reason in the message, instead of asking for ever.

use strom_kafka_codec::messages::find_coordinator_response::Coordinator;
use strom_kafka_codec::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_metadata::Image;
use strom_types::{ErrorCode, GROUP_METADATA_TOPIC};

use super::call::unary;
use super::coordinators::coordinator_id;
use super::nodes::Node;
use super::topic_creation::create_missing;
use super::{Call, Start};
use crate::codes::kafka;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// Many keys in one request.
const BATCHES_SINCE_VERSION: i16 = 4;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let keyed = if call.version < BATCHES_SINCE_VERSION {
        vec![request.key]
    } else {
        request.coordinator_keys
    };
    if request.key_type == GROUP && !keyed.is_empty() {
        create_offsets_topic(&call).await;
    }
    let image = call.gateway.metadata().image();
    let found = keyed
        .into_iter()
        .map(|key| answer(&call, &image, request.key_type, key));
    if call.version >= BATCHES_SINCE_VERSION {
        return FindCoordinatorResponse {
            coordinators: found.collect(),
            ..Default::default()
        };
    }
    let only = found.into_iter().next().unwrap_or_default();
    FindCoordinatorResponse {
        error_code: only.error_code,
        error_message: only.error_message,
        node_id: only.node_id,
        host: only.host,
        port: only.port,
        ..Default::default()
    }
}

/// The first group of the cluster brings the topic into being.
async fn create_offsets_topic(call: &Call) {
    if call
        .gateway
        .metadata()
        .peek()
        .topic_by_name(GROUP_METADATA_TOPIC)
        .is_none()
    {
        // What is refused shows as a coordinator that is not available.
        create_missing(call, &[GROUP_METADATA_TOPIC]).await;
    }
}

fn answer(call: &Call, image: &Image, key_type: i8, key: ByteStr) -> Coordinator {
    let found = match key_type {
        GROUP => coordinator_id(image, &key)
            .and_then(|id| image.broker(id).ok_or(ErrorCode::CoordinatorNotAvailable))
            .map(|broker| Node::of(call, broker))
            .map_err(|code| (code, "The coordinator is not available.")),
        TRANSACTION => Err((
            ErrorCode::TransactionalIdAuthorizationFailed,
            "Transactions are not supported yet.",
        )),
        _ => Err((ErrorCode::InvalidRequest, "There is no coordinator of this type.")),
    };
    let (node, error, message) = match found {
        Ok(node) => (node, ErrorCode::None, None),
        Err((code, message)) => (Node::none(), code, Some(ByteStr::from_static(message))),
    };
    Coordinator {
        key,
        node_id: node.id,
        host: node.host,
        port: node.port,
        error_code: kafka(error),
        error_message: message,
    }
}
