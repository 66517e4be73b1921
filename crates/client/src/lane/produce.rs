//! The produce lane: requests leave in the order they are submitted; a broken stream fails everything in flight as
//! indeterminate, and the next stream fences the old one at the broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strom_proto::splice::{self, Payload, Spliced, SplicedSender, SplicedStream};
use strom_proto::v1::{ProduceHead, ProduceReplyHead};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::pending::Pending;
use super::{LaneError, LaneLimits};
use crate::Peers;

const PATH: &str = "/strom.v1.BrokerData/Produce";

/// One request on its way: resolves to the broker's reply.
pub type ProduceCall = oneshot::Receiver<Result<ProduceReplyHead, LaneError>>;

/// The produce stream to one broker; cheap to clone.
#[derive(Clone)]
pub struct ProduceLane {
    inner: Arc<Inner>,
}

struct Inner {
    peers: Peers,
    endpoint: String,
    limits: LaneLimits,
    /// Names this lane at the broker, which drops what is left of an older stream of the same lane.
    lane_id: Uuid,
    generation: AtomicU64,
    stream: Mutex<Option<Stream>>,
}

#[derive(Clone)]
struct Stream {
    sender: SplicedSender<ProduceHead>,
    pending: Pending<ProduceReplyHead>,
}

impl ProduceLane {
    pub fn new(peers: Peers, endpoint: String, limits: LaneLimits) -> Self {
        let inner = Inner {
            peers,
            endpoint,
            limits,
            lane_id: Uuid::new_v4(),
            generation: AtomicU64::new(0),
            stream: Mutex::new(None),
        };
        ProduceLane {
            inner: Arc::new(inner),
        }
    }

    /// Puts a request on the stream, waiting while the queue is full. Requests submitted one after the other reach the
    /// broker in that order, or the later ones fail too.
    pub async fn submit(&self, mut head: ProduceHead, payload: Payload) -> Result<ProduceCall, LaneError> {
        let stream = self.stream().await?;
        let (correlation, receiver) = stream.pending.register();
        head.correlation = correlation;
        if stream.sender.send(Spliced::new(head, payload)).await.is_err() {
            stream.pending.forget(correlation);
            return Err(LaneError::Broken);
        }
        Ok(receiver)
    }

    async fn stream(&self) -> Result<Stream, LaneError> {
        let mut slot = self.inner.stream.lock().await;
        if let Some(stream) = slot.as_ref()
            && !stream.sender.is_closed()
        {
            return Ok(stream.clone());
        }
        let stream = self.inner.open().await?;
        *slot = Some(stream.clone());
        Ok(stream)
    }
}

impl Inner {
    async fn open(&self) -> Result<Stream, LaneError> {
        let unreachable = |reason: String| LaneError::Unreachable(reason);
        let transport = self
            .peers
            .data(&self.endpoint)
            .map_err(|e| unreachable(e.to_string()))?;
        let (sender, body) = splice::channel(self.limits.queue_bytes);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let mut headers = MetadataMap::new();
        if let Ok(value) = format!("{}/{generation}", self.lane_id).parse() {
            headers.insert(splice::LANE_HEADER, value);
        }
        let open = splice::open(transport, PATH, headers, body, self.limits.message_bytes_max);
        let replies = timeout(self.limits.connect_timeout, open)
            .await
            .map_err(|_| unreachable("timed out".into()))?
            .map_err(|status| unreachable(status.to_string()))?;
        let pending = Pending::new();
        tokio::spawn(read_replies(replies, pending.clone()));
        Ok(Stream { sender, pending })
    }
}

async fn read_replies(mut replies: SplicedStream<ProduceReplyHead>, pending: Pending<ProduceReplyHead>) {
    while let Some(Ok(message)) = replies.next().await {
        pending.complete(message.head.correlation, message.head);
    }
    pending.break_all();
}
