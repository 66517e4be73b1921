//! InitProducerId (key 22): ids for idempotent producers, from any broker's block.
//!
//! With a transactional id it is refused, see FindCoordinator.

use std::time::Duration;

use strom_client::CallError;
use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::{InitProducerIdRequest, InitProducerIdResponse};
use strom_metadata::Image;
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::{BrokerId, ErrorCode};
use tokio::time::Instant;
use tracing::debug;

use super::call::unary;
use super::{Call, Start};
use crate::brokers::Broker;
use crate::codes::{kafka, producer_id_code};

const NONE: i16 = -1;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(6);
const TIMEOUT: Duration = Duration::from_secs(12);

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    match produce(&call, &request).await {
        Ok(given) => InitProducerIdResponse {
            producer_id: given.producer_id,
            producer_epoch: i16::try_from(given.producer_epoch).unwrap_or(0),
            ..Default::default()
        },
        Err(code) => InitProducerIdResponse {
            error_code: kafka(code),
            producer_id: i64::from(NONE),
            producer_epoch: NONE,
            ..Default::default()
        },
    }
}

async fn produce(call: &Call, request: &InitProducerIdRequest) -> Result<v1::InitProducerIdReply, ErrorCode> {
    match request.transactional_id.as_deref() {
        Some("") => return Err(ErrorCode::InvalidRequest),
        Some(_) => return Err(ErrorCode::TransactionalIdAuthorizationFailed),
        None => {}
    }
    if (request.producer_id == i64::from(NONE)) != (request.producer_epoch == NONE) {
        return Err(ErrorCode::InvalidRequest);
    }
    let image = call.gateway.metadata().image();
    let deadline = Instant::now() + TIMEOUT;
    let mut last = ErrorCode::CoordinatorLoadInProgress;
    // An id that is handed out and lost harms nobody, so the next broker may be asked.
    for broker in candidates(call, &image) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match ask(&broker, left.min(ATTEMPT_TIMEOUT)).await {
            Ok(given) => return Ok(given),
            Err(error) => {
                debug!(broker = broker.id.get(), %error, "no producer id from a broker");
                last = producer_id_code(error.code());
            }
        }
    }
    Err(last)
}

async fn ask(broker: &Broker, limit: Duration) -> Result<v1::InitProducerIdReply, CallError> {
    let request = v1::InitProducerIdRequest {
        producer_id: i64::from(NONE),
        producer_epoch: i32::from(NONE),
    };
    let reply = broker
        .control(
            limit,
            |mut stub| async move { stub.init_producer_id(request).await },
        )
        .await?;
    match &reply.error {
        Some(error) if !error_code(error.code).is_none() => Err(CallError::Refused(error.clone())),
        _ => Ok(reply),
    }
}

/// The broker whose address the client used, then the other live ones.
fn candidates(call: &Call, image: &Image) -> Vec<Broker> {
    let addressed = call.addressed_broker();
    let mut live: Vec<BrokerId> = image.live_brokers().map(|broker| broker.id).collect();
    live.sort_by_key(|id| (Some(*id) != addressed, *id));
    live.into_iter()
        .filter_map(|id| call.gateway.brokers().get(image, id))
        .collect()
}
