//! Kafka's numbers for config resources (`ConfigResource.Type`), and ListConfigResources (key 74), which lists them.

use std::collections::BTreeSet;

use strom_kafka_codec::messages::list_config_resources_response::ConfigResource as Listed;
use strom_kafka_codec::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_metadata::{ConfigResource, Image};
use strom_types::ErrorCode;

use super::call::unary;
use super::nodes::text;
use super::{Call, Start};
use crate::codes::kafka;

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;
const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
/// Version 0 was ListClientMetricsResources.
const TYPES_SINCE_VERSION: i16 = 1;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    let types = if call.version < TYPES_SINCE_VERSION {
        vec![CLIENT_METRICS]
    } else if request.resource_types.is_empty() {
        ALL.to_vec()
    } else {
        request.resource_types
    };
    if types.iter().any(|of| !ALL.contains(of)) {
        return ListConfigResourcesResponse {
            error_code: kafka(ErrorCode::UnsupportedVersion),
            ..Default::default()
        };
    }
    let image = call.gateway.metadata().image();
    let types: BTreeSet<i8> = types.into_iter().collect();
    let resources = types.into_iter().flat_map(|resource_type| {
        names(&image, resource_type)
            .into_iter()
            .map(move |resource_name| Listed {
                resource_name,
                resource_type,
            })
    });
    ListConfigResourcesResponse {
        config_resources: resources.collect(),
        ..Default::default()
    }
}

fn names(image: &Image, resource_type: i8) -> Vec<ByteStr> {
    match resource_type {
        TOPIC => image.topics().map(|topic| text(&topic.name)).collect(),
        BROKER | BROKER_LOGGER => image
            .live_brokers()
            .map(|broker| ByteStr::from(broker.id.to_string()))
            .collect(),
        _ => image
            .configs()
            .filter_map(|(resource, _)| match resource {
                ConfigResource::Group(name) if resource_type == GROUP => Some(text(name)),
                ConfigResource::ClientMetrics(name) if resource_type == CLIENT_METRICS => Some(text(name)),
                _ => None,
            })
            .collect(),
    }
}
