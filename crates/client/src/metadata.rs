//! A local image of the metadata, kept by a watch on any controller: a snapshot, then deltas by raft index.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use strom_metadata::{Delta, Image, ImageError};
use strom_proto::v1::{self, metadata_update::Update};
use strom_runtime::shutdown::Shutdown;
use strom_types::MetadataOffset;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::{CallError, ControllerClient};

const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Controllers say how far they are at least this often; silence for longer means a broken stream.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The newest image; cheap to clone and to read.
#[derive(Clone)]
pub struct MetadataCache {
    image: Arc<ArcSwap<Image>>,
    applied: watch::Receiver<MetadataOffset>,
}

impl MetadataCache {
    pub fn image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    /// The image without a reference count of its own: for short looks on the hot path.
    pub fn peek(&self) -> arc_swap::Guard<Arc<Image>> {
        self.image.load()
    }

    /// The index up to which everything has been applied; at least the image's.
    pub fn applied(&self) -> MetadataOffset {
        *self.applied.borrow()
    }

    /// Waits until `index` is applied; false when that takes longer than `limit`.
    pub async fn wait_for(&self, index: MetadataOffset, limit: Duration) -> bool {
        let mut applied = self.applied.clone();
        matches!(
            timeout(limit, applied.wait_for(|at| *at >= index)).await,
            Ok(Ok(_))
        )
    }

    /// A receiver that changes with each applied entry.
    pub fn changes(&self) -> watch::Receiver<MetadataOffset> {
        self.applied.clone()
    }
}

/// One step of the metadata, in order, for those who must see each (brokers).
#[derive(Clone)]
pub struct MetadataChange {
    pub image: Arc<Image>,
    pub delta: Arc<Delta>,
}

#[derive(Debug, Error)]
enum WatchError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}")]
    Stream(String),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("the controllers belong to cluster {theirs}, this node to {ours}")]
    OtherCluster { ours: String, theirs: String },
    #[error("a broken snapshot: {0}")]
    Snapshot(&'static str),
}

/// Keeps a [`MetadataCache`] up to date for as long as [`run`](Self::run) runs.
pub struct MetadataWatcher {
    controller: ControllerClient,
    client: String,
    image: Arc<ArcSwap<Image>>,
    applied: watch::Sender<MetadataOffset>,
    changes: Option<mpsc::UnboundedSender<MetadataChange>>,
}

impl MetadataWatcher {
    /// `client` names this node in the controllers' logs.
    pub fn new(controller: ControllerClient, client: String) -> (Self, MetadataCache) {
        let image = Arc::new(ArcSwap::from_pointee(Image::default()));
        let (applied, receiver) = watch::channel(MetadataOffset(0));
        let cache = MetadataCache {
            image: image.clone(),
            applied: receiver,
        };
        (
            MetadataWatcher {
                controller,
                client,
                image,
                applied,
                changes: None,
            },
            cache,
        )
    }

    /// Every change in order, none left out. Memory is bounded by how far the reader lags, so it must keep up.
    pub fn with_changes(mut self) -> (Self, mpsc::UnboundedReceiver<MetadataChange>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.changes = Some(sender);
        (self, receiver)
    }

    pub async fn run(self, shutdown: Shutdown) {
        let watch = async {
            loop {
                let target = self.controller.target();
                let error = match self.watch_once().await {
                    Ok(()) => "the controller ended the stream".to_owned(),
                    Err(error) => error.to_string(),
                };
                if self.applied.borrow().get() == 0 {
                    debug!(controller = %target, %error, "metadata watch not up yet");
                } else {
                    warn!(controller = %target, %error, "metadata watch broke; trying again");
                }
                self.controller.turn(&target, "");
                sleep(RETRY_PAUSE).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = watch => {}
        }
    }

    async fn watch_once(&self) -> Result<(), WatchError> {
        let known = self.image.load_full();
        let request = v1::WatchMetadataRequest {
            cluster_id: known.cluster_id().to_owned(),
            applied: self.applied.borrow().get(),
            client: self.client.clone(),
        };
        let reply = self.controller.stub()?.watch_metadata(request).await;
        let mut updates = reply
            .map_err(|s| WatchError::Stream(s.message().to_owned()))?
            .into_inner();
        let mut snapshot = Vec::new();
        loop {
            let message = timeout(SILENCE_MAX, updates.message()).await;
            let message = message.map_err(|_| WatchError::Stream("no word for too long".into()))?;
            let Some(message) = message.map_err(|s| WatchError::Stream(s.message().to_owned()))? else {
                return Ok(());
            };
            match message.update {
                Some(Update::Snapshot(part)) => {
                    let last = part.last;
                    let index = MetadataOffset(part.index);
                    snapshot.extend(part.chunk.unwrap_or_default().records);
                    if last {
                        self.install(index, std::mem::take(&mut snapshot))?;
                    }
                }
                Some(Update::Delta(delta)) => {
                    if !snapshot.is_empty() {
                        return Err(WatchError::Snapshot("a delta inside it"));
                    }
                    self.apply(MetadataOffset(delta.index), &delta.batch.unwrap_or_default())?;
                }
                Some(Update::CaughtUp(index)) => {
                    let index = MetadataOffset(index);
                    self.applied.send_if_modified(|at| {
                        let ahead = index > *at;
                        *at = index.max(*at);
                        ahead
                    });
                }
                None => {}
            }
        }
    }

    fn install(&self, index: MetadataOffset, records: Vec<v1::MetadataRecord>) -> Result<(), WatchError> {
        let old = self.image.load_full();
        if index < old.index {
            return Err(WatchError::Snapshot("it is older than what is known"));
        }
        let new = Image::from_records(index, records)?;
        if !old.cluster_id().is_empty() && old.cluster_id() != new.cluster_id() {
            return Err(WatchError::OtherCluster {
                ours: old.cluster_id().to_owned(),
                theirs: new.cluster_id().to_owned(),
            });
        }
        let delta = Delta::between(&old, &new);
        info!(index = index.get(), "metadata snapshot installed");
        self.publish(new, delta);
        Ok(())
    }

    fn apply(&self, index: MetadataOffset, batch: &v1::MetadataBatch) -> Result<(), WatchError> {
        let mut image = Image::clone(&self.image.load());
        if index <= image.index {
            return Ok(());
        }
        let delta = image.apply(index, batch)?;
        self.publish(image, delta);
        Ok(())
    }

    fn publish(&self, image: Image, delta: Delta) {
        let index = image.index;
        let image = Arc::new(image);
        self.image.store(image.clone());
        if let Some(changes) = &self.changes {
            // The receiver outlives the watch but for shutdown.
            let _ = changes.send(MetadataChange {
                image,
                delta: Arc::new(delta),
            });
        }
        self.applied.send_if_modified(|at| {
            *at = index.max(*at);
            true
        });
    }
}
