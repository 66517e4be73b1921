//! BrokerHeartbeat: one stream per broker life. Its break, with a refused address, tells of a dead process.

use std::convert::Infallible;

use strom_proto::v1;
use strom_raft_node::RaftRole;
use strom_runtime::{Caller, OnFailure, Shutdown};
use strom_types::{BrokerEpoch, BrokerId, ErrorCode};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::debug;

use super::{Inner, Service};
use crate::fast_death::is_dead;

const REPLIES_AHEAD: usize = 4;

type Sender = mpsc::Sender<Result<v1::BrokerHeartbeatReply, Status>>;

impl Service {
    pub(super) fn heartbeats(
        &self,
        caller: Caller,
        requests: Streaming<v1::BrokerHeartbeatRequest>,
    ) -> ReceiverStream<Result<v1::BrokerHeartbeatReply, Status>> {
        let (sender, replies) = mpsc::channel(REPLIES_AHEAD);
        let inner = self.inner.clone();
        self.inner.tasks.spawn(
            "broker heartbeats",
            OnFailure::Log,
            move |stop: Shutdown| async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = async {
                        if let Some((id, epoch)) = answer(&inner, &caller, requests, sender).await {
                            look_after(&inner, id, epoch).await;
                        }
                    } => {}
                }
                Ok::<(), Infallible>(())
            },
        );
        ReceiverStream::new(replies)
    }
}

/// Answers until the stream breaks; then tells whose it was, if its last heartbeat counted.
async fn answer(
    inner: &Inner,
    caller: &Caller,
    mut requests: Streaming<v1::BrokerHeartbeatRequest>,
    sender: Sender,
) -> Option<(BrokerId, BrokerEpoch)> {
    let mut broker = None;
    loop {
        match requests.message().await {
            Ok(Some(request)) => {
                let sent_by = (BrokerId(request.broker_id), BrokerEpoch(request.broker_epoch));
                if let Err(status) = caller.check_broker(sent_by.0, "BrokerHeartbeat") {
                    // It may be gone.
                    let _ = sender.send(Err(status)).await;
                    return broker;
                }
                let reply = knowing_leader(inner, inner.active.heartbeat(request).await?);
                broker = (reply.error == 0).then_some(sent_by);
                if sender.send(Ok(reply)).await.is_err() {
                    return broker;
                }
            }
            Ok(None) => return broker,
            Err(status) => {
                debug!(%status, "heartbeat stream broke");
                return broker;
            }
        }
    }
}

/// A controller that neither leads nor knows a leader says so: where all do, or are gone, brokers need not fear to have
/// been replaced.
fn knowing_leader(inner: &Inner, mut reply: v1::BrokerHeartbeatReply) -> v1::BrokerHeartbeatReply {
    let status = inner.raft.status().borrow().clone();
    let knows_one = status.leader.is_some() || status.role == RaftRole::Leader;
    if reply.error == ErrorCode::NotController as i32 && !knows_one {
        reply.error = ErrorCode::ControllerUnavailable as i32;
    }
    reply
}

async fn look_after(inner: &Inner, id: BrokerId, epoch: BrokerEpoch) {
    let image = inner.log.image();
    let Some(broker) = image
        .broker(id)
        .filter(|broker| broker.epoch == epoch && !broker.fenced)
    else {
        return;
    };
    if is_dead(&broker.endpoint).await {
        inner.active.broker_died(id, epoch).await;
    }
}
