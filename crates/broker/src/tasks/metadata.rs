//! Follows the metadata: each change, in order, on a thread that may block.

use strom_client::MetadataChange;
use strom_runtime::Shutdown;
use tokio::sync::mpsc;
use tracing::error;

use crate::broker::Broker;

/// Brings the partitions in step with each metadata change, in order, on a thread of its own: it opens logs and syncs.
pub(crate) async fn apply_metadata(
    broker: Broker,
    mut changes: mpsc::UnboundedReceiver<MetadataChange>,
    stop: Shutdown,
) {
    let (metadata, applied) = (broker.metadata(), broker.applied());
    let mut seen = metadata.changes();
    let mut damaged = broker.shared().damaged_logs().found();
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
            found = damaged.changed() => {
                let image = metadata.image();
                // Otherwise a change is on its way, with which this is looked at too.
                if found.is_ok() && changes.is_empty() && image.index <= *applied.borrow() {
                    let partitions = broker.partitions().clone();
                    on_blocking_thread(move || partitions.mend_damaged(&image)).await;
                }
                continue;
            }
        };
        match change {
            Some(change) => {
                let index = change.image.index;
                let partitions = broker.partitions().clone();
                on_blocking_thread(move || partitions.apply(&change)).await;
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

async fn on_blocking_thread(change: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(change).await {
        error!(%error, "a metadata change could not be applied");
        std::panic::resume_unwind(error.into_panic());
    }
}
