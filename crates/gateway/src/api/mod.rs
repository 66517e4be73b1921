//! The APIs that are served: one file each, and the table that ApiVersions is derived from.

pub(crate) mod call;

mod api_versions;
mod fetch;
mod produce;

use std::sync::Arc;

use bytes::Bytes;
use strom_kafka_codec::{ApiKey, Decoder, RequestError, RequestFrame, VersionRange};

pub(crate) use call::{Call, Failure, Reply, ReplyFuture, Start};

use crate::gateway::Gateway;
use crate::net::ConnectionInfo;

/// How requests of one connection may overlap. Replies always keep the order of the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Runs to its end before the next request starts, as in Kafka.
    Serial,
    /// The next request may start while this one waits for its answer.
    Pipelined,
}

/// One served API.
pub(crate) struct Api {
    pub key: ApiKey,
    /// The versions that are served.
    pub versions: VersionRange,
    /// The oldest version that is advertised; lower than served only for Produce (KAFKA-18659).
    pub advertised_min: i16,
    pub order: Order,
    pub start: fn(Call, Decoder) -> Start,
}

impl Api {
    /// All of Kafka 4.3's stable versions.
    fn new(key: ApiKey, order: Order, start: fn(Call, Decoder) -> Start) -> Self {
        let versions = VersionRange {
            min: key.versions().min,
            max: key.latest_stable(),
        };
        Api {
            key,
            versions,
            advertised_min: versions.min,
            order,
            start,
        }
    }
}

/// Every API that this gateway serves, by key.
pub(crate) fn table() -> Vec<Api> {
    use Order::{Pipelined, Serial};
    let mut apis = vec![
        Api {
            advertised_min: 0,
            ..Api::new(ApiKey::Produce, Pipelined, produce::start)
        },
        Api::new(ApiKey::Fetch, Pipelined, fetch::start),
        Api::new(ApiKey::ApiVersions, Serial, api_versions::start),
    ];
    apis.sort_by_key(|api| api.key.as_i16());
    apis
}

/// A request that has been recognised and started.
pub(crate) struct Started {
    pub key: ApiKey,
    pub order: Order,
    pub reply: Start,
}

/// Reads a frame's header and starts its handler. An error closes the connection.
pub(crate) fn start(
    gateway: &Arc<Gateway>,
    connection: &Arc<ConnectionInfo>,
    frame: Bytes,
) -> Result<Started, Failure> {
    let RequestFrame {
        api_key,
        header,
        body,
    } = match RequestFrame::decode(frame) {
        Ok(frame) => frame,
        Err(RequestError::Unsupported {
            api_key,
            correlation_id,
            ..
        }) if api_key == ApiKey::ApiVersions.as_i16() => {
            let reply = Start::Now(api_versions::unsupported_version(gateway, correlation_id));
            return Ok(Started {
                key: ApiKey::ApiVersions,
                order: Order::Serial,
                reply,
            });
        }
        Err(RequestError::Unsupported {
            api_key, api_version, ..
        }) => {
            return Err(Failure::Unsupported { api_key, api_version });
        }
        Err(RequestError::Malformed(error)) => return Err(error.into()),
    };
    let version = header.request_api_version;
    let unsupported = Failure::Unsupported {
        api_key: api_key.as_i16(),
        api_version: version,
    };
    let api = gateway
        .api(api_key)
        .filter(|api| api.versions.contains(version))
        .ok_or(unsupported)?;
    let call = Call {
        gateway: gateway.clone(),
        connection: connection.clone(),
        version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.as_deref().map(Arc::from),
    };
    Ok(Started {
        key: api_key,
        order: api.order,
        reply: (api.start)(call, body),
    })
}
