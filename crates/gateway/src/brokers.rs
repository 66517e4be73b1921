//! The brokers as the gateway reaches them: one produce lane, one fetch lane and control stubs per broker life.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use strom_client::{CallError, FetchLane, LaneLimits, Peers, ProduceLane, Transport};
use strom_metadata::Image;
use strom_proto::status::from_status;
use strom_proto::v1::broker_control_client::BrokerControlClient;
use strom_proto::v1::group_coordinator_client::GroupCoordinatorClient;
use strom_types::{BrokerEpoch, BrokerId, ErrorCode};
use tonic::{Code, Response, Status};

const CONTROL_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The way to one broker; cheap to clone.
#[derive(Clone)]
pub(crate) struct Broker {
    pub id: BrokerId,
    epoch: BrokerEpoch,
    endpoint: Arc<str>,
    peers: Peers,
    produce: ProduceLane,
    fetch: FetchLane,
}

/// All brokers that have been spoken to.
pub(crate) struct Brokers {
    peers: Peers,
    limits: LaneLimits,
    known: RwLock<BTreeMap<BrokerId, Broker>>,
}

impl Brokers {
    pub(crate) fn new(peers: Peers, limits: LaneLimits) -> Self {
        Brokers {
            peers,
            limits,
            known: RwLock::default(),
        }
    }

    /// The broker `id` in its present life; `None` when the image does not know it.
    pub(crate) fn get(&self, image: &Image, id: BrokerId) -> Option<Broker> {
        let registered = image.broker(id)?;
        if let Some(known) = self.known.read().get(&id)
            && known.epoch == registered.epoch
        {
            return Some(known.clone());
        }
        let endpoint = registered.endpoint.clone();
        let broker = Broker {
            id,
            epoch: registered.epoch,
            endpoint: endpoint.as_str().into(),
            peers: self.peers.clone(),
            produce: ProduceLane::new(self.peers.clone(), endpoint.clone(), self.limits),
            fetch: FetchLane::new(self.peers.clone(), endpoint, self.limits),
        };
        let mut known = self.known.write();
        let slot = known.entry(id).or_insert_with(|| broker.clone());
        if slot.epoch < broker.epoch {
            *slot = broker;
        }
        Some(slot.clone())
    }
}

impl Broker {
    pub(crate) fn produce(&self) -> &ProduceLane {
        &self.produce
    }

    pub(crate) fn fetch(&self) -> &FetchLane {
        &self.fetch
    }

    /// One unary call on the broker's control service.
    pub(crate) async fn control<A, F, R>(&self, limit: Duration, call: F) -> Result<A, CallError>
    where
        F: FnOnce(BrokerControlClient<Transport>) -> R,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        let stub = BrokerControlClient::new(self.peers.control(&self.endpoint)?)
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        self.within(limit, call(stub)).await
    }

    /// One unary call on the broker's group coordinator.
    pub(crate) async fn groups<A, F, R>(&self, limit: Duration, call: F) -> Result<A, CallError>
    where
        F: FnOnce(GroupCoordinatorClient<Transport>) -> R,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        let stub = GroupCoordinatorClient::new(self.peers.control(&self.endpoint)?)
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        self.within(limit, call(stub)).await
    }

    async fn within<A>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<A>, Status>>,
    ) -> Result<A, CallError> {
        let target = || format!("broker {}", self.id);
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if !status.details().is_empty() || status.code() == Code::PermissionDenied => {
                Err(CallError::Refused(from_status(&status)))
            }
            Ok(Err(status)) if status.code() == Code::Unimplemented => Err(CallError::Refused(
                strom_proto::convert::service_error(ErrorCode::UnsupportedVersion, status.message()),
            )),
            Ok(Err(status)) => Err(CallError::Indeterminate {
                target: target(),
                reason: status.message().to_owned(),
            }),
            Err(_) => Err(CallError::Indeterminate {
                target: target(),
                reason: "timed out".into(),
            }),
        }
    }
}
