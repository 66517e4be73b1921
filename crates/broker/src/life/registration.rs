//! Registration: names this life of the broker to the controllers, and learns its epoch.

use std::time::Duration;

use bytes::Bytes;
use strom_client::{CallError, ControllerClient, Effect};
use strom_proto::v1;
use strom_types::{BrokerEpoch, ErrorCode};
use tokio::time::sleep;
use tracing::{info, warn};
use uuid::Uuid;

use crate::config::BrokerConfig;
use crate::error::BrokerError;

const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What the controllers know of this life.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub epoch: BrokerEpoch,
    pub cluster_id: String,
}

/// Registers, for as long as it takes to reach the controllers. `Err` = they refuse this broker for good.
pub(crate) async fn register(
    controller: &ControllerClient,
    config: &BrokerConfig,
    directory_id: Uuid,
    clean_epoch: Option<BrokerEpoch>,
) -> Result<Registration, BrokerError> {
    let bytes = |id: Uuid| Bytes::copy_from_slice(id.as_bytes());
    let request = v1::RegisterBrokerRequest {
        cluster_id: config.cluster_id.clone().unwrap_or_default(),
        broker_id: config.broker_id.get(),
        incarnation: bytes(Uuid::new_v4()),
        rack: config.rack.clone().unwrap_or_default(),
        endpoint: config.endpoint.clone(),
        directories: vec![v1::LogDirectory {
            directory_id: bytes(directory_id),
            online: true,
        }],
        previous_clean_epoch: clean_epoch.map_or(-1, BrokerEpoch::get),
    };
    let mut told = false;
    loop {
        // The incarnation makes a repeated registration the same one.
        let call = controller.call(
            CALL_TIMEOUT,
            Effect::Idempotent,
            request.clone(),
            |mut stub, request| async move { stub.register_broker(request).await },
        );
        match call.await {
            Ok(reply) => {
                info!(
                    broker = config.broker_id.get(),
                    epoch = reply.broker_epoch,
                    "registered with the controllers"
                );
                return Ok(Registration {
                    epoch: BrokerEpoch(reply.broker_epoch),
                    cluster_id: reply.cluster_id,
                });
            }
            Err(error @ CallError::Refused(_)) if is_final(error.code()) => {
                return Err(BrokerError::Registration(error));
            }
            Err(error) => {
                if !told {
                    warn!(%error, "not registered yet; trying again");
                    told = true;
                }
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Whether trying again cannot help. A duplicate registration ends with the other's session.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::InconsistentClusterId
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::InvalidRequest
            | ErrorCode::InvalidRegistration
    )
}
