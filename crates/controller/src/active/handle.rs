//! The way to the active controller's loop, for the gRPC adapters.

use strom_metadata::{Command, Reply};
use strom_proto::convert::service_error;
use strom_proto::v1;
use strom_types::{BrokerEpoch, BrokerId, ErrorCode};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

pub(super) type Outcome = Result<Reply, v1::ServiceError>;

/// What the loop is asked.
pub(super) enum Request {
    Command(Box<Command>, oneshot::Sender<Outcome>),
    Heartbeat(
        v1::BrokerHeartbeatRequest,
        oneshot::Sender<v1::BrokerHeartbeatReply>,
    ),
    Gateway {
        id: Uuid,
        connected: bool,
    },
    BrokerDied(BrokerId, BrokerEpoch),
}

/// Asks the loop; cheap to clone.
#[derive(Clone)]
pub(crate) struct Active {
    requests: mpsc::Sender<Request>,
}

impl Active {
    pub(super) fn new(requests: mpsc::Sender<Request>) -> Self {
        Active { requests }
    }

    /// Commits a change. NOT_CONTROLLER and the like are definite; INDETERMINATE is not.
    pub(crate) async fn submit(&self, command: Command) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let request = Request::Command(Box::new(command), reply);
        if self.requests.send(request).await.is_err() {
            return Err(stopping());
        }
        outcome.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// `None` = the loop has ended.
    pub(crate) async fn heartbeat(
        &self,
        request: v1::BrokerHeartbeatRequest,
    ) -> Option<v1::BrokerHeartbeatReply> {
        let (reply, outcome) = oneshot::channel();
        self.requests
            .send(Request::Heartbeat(request, reply))
            .await
            .ok()?;
        outcome.await.ok()
    }

    pub(crate) async fn gateway(&self, id: Uuid, connected: bool) {
        self.tell(Request::Gateway { id, connected }).await;
    }

    pub(crate) async fn broker_died(&self, id: BrokerId, epoch: BrokerEpoch) {
        self.tell(Request::BrokerDied(id, epoch)).await;
    }

    async fn tell(&self, request: Request) {
        // A loop that has ended has no use for it.
        let _ = self.requests.send(request).await;
    }
}

fn stopping() -> v1::ServiceError {
    service_error(ErrorCode::ControllerUnavailable, "the controller is stopping")
}
