//! UnregisterBroker (key 64): forgets a broker that will not come back.

use strom_client::Effect;
use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use strom_proto::v1;

use super::admin::{ADMIN_TIMEOUT, Deadline, change};
use super::call::unary;
use super::{Call, Start};

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    let deadline = Deadline::after(ADMIN_TIMEOUT);
    let request = v1::UnregisterBrokerRequest {
        broker_id: request.broker_id,
    };
    let changed = change(
        &call,
        deadline,
        Effect::Once,
        request,
        |mut stub, request| async move { stub.unregister_broker(request).await },
    );
    let verdict = changed
        .await
        .map_or_else(|failed| failed, |changed| changed.verdict(None));
    UnregisterBrokerResponse {
        error_code: verdict.code(),
        error_message: verdict.message,
        ..Default::default()
    }
}
