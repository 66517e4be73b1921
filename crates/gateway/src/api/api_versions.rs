//! ApiVersions (key 18): what is served, derived from the handler table.

use std::sync::Arc;

use strom_kafka_codec::messages::api_versions_response::ApiVersion;
use strom_kafka_codec::messages::{ApiVersionsRequest, ApiVersionsResponse};
use strom_kafka_codec::{Decoder, encode_response_frame};
use strom_types::ErrorCode;

use super::call::unary;
use super::{Call, Reply, ReplyFuture, Start};
use crate::codes::kafka;
use crate::gateway::Gateway;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let named = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
    };
    let valid = |text: &str| {
        named(text)
            && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && text.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
    };
    // Kafka's ApiVersionsRequest.isValid: from v3 clients must name their software.
    if call.version >= 3 && !(valid(&request.client_software_name) && valid(&request.client_software_version))
    {
        return ApiVersionsResponse {
            error_code: kafka(ErrorCode::InvalidRequest),
            ..Default::default()
        };
    }
    ApiVersionsResponse {
        api_keys: served(&call.gateway),
        ..Default::default()
    }
}

fn served(gateway: &Gateway) -> Vec<ApiVersion> {
    let range = |api: &super::Api| ApiVersion {
        api_key: api.key.as_i16(),
        min_version: api.advertised_min,
        max_version: api.versions.max,
    };
    gateway.apis().iter().map(range).collect()
}

/// The answer to a version that is not known: version 0, with the versions that are (KIP-511).
pub(super) fn unsupported_version(gateway: &Arc<Gateway>, correlation_id: i32) -> ReplyFuture {
    let response = ApiVersionsResponse {
        error_code: kafka(ErrorCode::UnsupportedVersion),
        api_keys: served(gateway),
        ..Default::default()
    };
    gateway.metrics().answered(&response);
    let reply = encode_response_frame(correlation_id, 0, &response)
        .map(Reply::Frame)
        .map_err(Into::into);
    Box::pin(std::future::ready(reply))
}
