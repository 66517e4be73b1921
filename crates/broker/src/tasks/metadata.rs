//! Follows the metadata: each change, in order, on a thread that may block.

use std::sync::Arc;

use strom_client::{MetadataCache, MetadataChange};
use strom_runtime::Shutdown;
use strom_types::MetadataOffset;
use tokio::sync::{mpsc, watch};
use tracing::error;

use crate::partitions::Partitions;

/// Brings the partitions in step with each metadata change, in order, on a thread of its own: it opens logs and syncs.
pub(crate) async fn apply_metadata(
    partitions: Arc<Partitions>,
    metadata: MetadataCache,
    mut changes: mpsc::UnboundedReceiver<MetadataChange>,
    applied: watch::Sender<MetadataOffset>,
    stop: Shutdown,
) {
    let mut seen = metadata.changes();
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => match change {
                Some(change) => Some(change),
                None => return,
            },
            // Entries without records move the index alone.
            changed = seen.changed() => match changed {
                Ok(()) => None,
                Err(_) => return,
            },
        };
        match change {
            Some(change) => {
                let index = change.image.index;
                let partitions = partitions.clone();
                let done = tokio::task::spawn_blocking(move || partitions.apply(&change)).await;
                if let Err(error) = done {
                    error!(%error, "a metadata change could not be applied");
                    std::panic::resume_unwind(error.into_panic());
                }
                applied.send_if_modified(|at| std::mem::replace(at, index.max(*at)) < index);
            }
            None if changes.is_empty() => {
                let index = metadata.applied();
                if changes.is_empty() && metadata.image().index <= *applied.borrow() {
                    applied.send_if_modified(|at| std::mem::replace(at, index.max(*at)) < index);
                }
            }
            None => {}
        }
    }
}
