//! RegisterGateway: a gateway is in the image for as long as its stream lives, and a grace after it.

use std::convert::Infallible;

use strom_metadata::{Command, Reply};
use strom_proto::convert::service_error;
use strom_proto::v1;
use strom_raft_node::{RaftRole, RaftStatus};
use strom_runtime::{OnFailure, Shutdown};
use strom_types::ErrorCode;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::Service;

type Sender = mpsc::Sender<Result<v1::RegisterGatewayReply, Status>>;

impl Service {
    pub(super) fn gateway(
        &self,
        requests: Streaming<v1::RegisterGatewayRequest>,
    ) -> ReceiverStream<Result<v1::RegisterGatewayReply, Status>> {
        let (sender, replies) = mpsc::channel(1);
        let service = self.clone();
        self.inner.tasks.spawn(
            "gateway registration",
            OnFailure::Log,
            move |stop: Shutdown| async move {
                let mut connected = None;
                tokio::select! {
                    () = stop.cancelled() => {}
                    Err(status) = service.hold(requests, &sender, &mut connected) => {
                        // The gateway may have gone.
                        let _ = sender.send(Err(status)).await;
                    }
                    () = sender.closed() => {}
                }
                if let Some(id) = connected {
                    service.inner.active.gateway(id, false).await;
                }
                Ok::<(), Infallible>(())
            },
        );
        ReceiverStream::new(replies)
    }

    /// Registers what comes, until the stream breaks or this node no longer leads in the same term: leases are the
    /// leader's own, so the gateway has to come to the next one.
    async fn hold(
        &self,
        mut requests: Streaming<v1::RegisterGatewayRequest>,
        sender: &Sender,
        connected: &mut Option<Uuid>,
    ) -> Result<(), Status> {
        let mut status = self.inner.raft.status();
        let term = leading_term(&status).ok_or_else(|| self.not_controller())?;
        loop {
            tokio::select! {
                request = requests.message() => {
                    let Some(request) = request? else {
                        return Err(Status::cancelled("the gateway ended the stream"));
                    };
                    let reply = self.register(request, connected).await?;
                    if sender.send(Ok(reply)).await.is_err() {
                        return Err(Status::cancelled("the gateway has gone"));
                    }
                }
                ended = left(&mut status, term) => {
                    ended?;
                    return Err(self.not_controller());
                }
            }
        }
    }

    async fn register(
        &self,
        request: v1::RegisterGatewayRequest,
        connected: &mut Option<Uuid>,
    ) -> Result<v1::RegisterGatewayReply, Status> {
        let id = Uuid::from_slice(&request.gateway_id).map_err(|_| {
            self.refusal(service_error(
                ErrorCode::InvalidRequest,
                "a gateway id has 16 bytes",
            ))
        })?;
        match *connected {
            None => {
                *connected = Some(id);
                self.inner.active.gateway(id, true).await;
            }
            Some(known) if known == id => {}
            Some(_) => {
                return Err(self.refusal(service_error(
                    ErrorCode::InvalidRequest,
                    "one stream registers one gateway",
                )));
            }
        }
        match self.submit(Command::RegisterGateway(request)).await? {
            Reply::RegisterGateway(reply) => Ok(reply),
            _ => Err(Status::internal("a reply of another kind")),
        }
    }
}

fn leading_term(status: &watch::Receiver<RaftStatus>) -> Option<u64> {
    let status = status.borrow();
    (status.role == RaftRole::Leader).then_some(status.term)
}

async fn left(status: &mut watch::Receiver<RaftStatus>, term: u64) -> Result<(), Status> {
    let left = |now: &RaftStatus| now.role != RaftRole::Leader || now.term != term;
    match status.wait_for(left).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Status::unavailable("the controller is stopping")),
    }
}
