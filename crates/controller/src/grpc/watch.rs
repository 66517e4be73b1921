//! WatchMetadata: a snapshot, then entries by index, for as long as the watcher keeps up.

use std::time::Duration;

use strom_proto::convert::service_error;
use strom_proto::status::to_status;
use strom_proto::v1;
use strom_proto::v1::metadata_update::Update;
use strom_runtime::{OnFailure, Shutdown};
use strom_types::{ErrorCode, MetadataOffset};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::debug;

use super::Service;
use crate::state_machine::{Following, MetadataLog, chunks};

/// Updates that may wait for a slow watcher, each at most about a megabyte.
const UPDATES_AHEAD: usize = 4;
const ENTRIES_AT_ONCE: usize = 64;
/// A quiet watch is told this often how far it is, so that it can tell quiet from broken.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// A watcher that takes nothing for so long is cut off; it comes back where it was.
const STALL_MAX: Duration = Duration::from_secs(30);

type Sender = mpsc::Sender<Result<v1::MetadataUpdate, Status>>;

#[derive(Debug, Error)]
enum Ended {
    #[error("the watcher has gone")]
    Gone,
    #[error("the watcher takes nothing")]
    Stalled,
}

impl Service {
    pub(super) fn watch(
        &self,
        request: v1::WatchMetadataRequest,
    ) -> Result<ReceiverStream<Result<v1::MetadataUpdate, Status>>, Status> {
        let log = self.inner.log.clone();
        let image = log.image();
        let (theirs, ours) = (request.cluster_id.as_str(), image.cluster_id());
        if !theirs.is_empty() && !ours.is_empty() && theirs != ours {
            return Err(to_status(&service_error(
                ErrorCode::InconsistentClusterId,
                format!("this is cluster {ours}, not {theirs}"),
            )));
        }
        let (sender, updates) = mpsc::channel(UPDATES_AHEAD);
        let position = MetadataOffset(request.applied);
        let client = request.client;
        self.inner
            .tasks
            .spawn("metadata watch", OnFailure::Log, move |stop: Shutdown| async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    Err(ended) = feed(log, position, sender) => debug!(client, %ended, "metadata watch ended"),
                }
                Ok::<(), std::convert::Infallible>(())
            });
        Ok(ReceiverStream::new(updates))
    }
}

async fn feed(log: MetadataLog, mut position: MetadataOffset, sender: Sender) -> Result<(), Ended> {
    let mut changes = log.changes();
    loop {
        changes.mark_unchanged();
        match log.following(position, ENTRIES_AT_ONCE) {
            Following::Entries(entries) => {
                for (index, batch) in entries {
                    let delta = v1::MetadataDelta {
                        index: index.get(),
                        batch: Some(batch.as_ref().clone()),
                    };
                    send(&sender, Update::Delta(delta)).await?;
                    position = index;
                }
            }
            Following::Snapshot(image) => {
                position = image.index;
                let mut parts = chunks(&image).peekable();
                let mut last = false;
                while !last {
                    let chunk = parts.next();
                    last = parts.peek().is_none();
                    let index = image.index.get();
                    send(
                        &sender,
                        Update::Snapshot(v1::MetadataSnapshot { index, chunk, last }),
                    )
                    .await?;
                }
            }
            Following::Nothing => {
                tokio::select! {
                    Ok(()) = changes.changed() => {}
                    () = sleep(KEEP_ALIVE) => send(&sender, Update::CaughtUp(position.get())).await?,
                    () = sender.closed() => return Err(Ended::Gone),
                }
            }
        }
    }
}

async fn send(sender: &Sender, update: Update) -> Result<(), Ended> {
    let message = v1::MetadataUpdate { update: Some(update) };
    match timeout(STALL_MAX, sender.send(Ok(message))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ended::Gone),
        Err(_) => Err(Ended::Stalled),
    }
}
