//! The fetch lane: long polls that a broker answers when they are satisfied, when they time out, or when the caller
//! asks for what there is.

use std::sync::Arc;

use strom_proto::splice::{self, Payload, Spliced, SplicedSender, SplicedStream};
use strom_proto::v1::{FetchHead, FetchQuery, FetchRequestHead, fetch_request_head::Request};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;
use tonic::metadata::MetadataMap;

use super::pending::Pending;
use super::{LaneError, LaneLimits};
use crate::Peers;

const PATH: &str = "/strom.v1.BrokerData/Fetch";

/// The fetch stream to one broker; cheap to clone.
#[derive(Clone)]
pub struct FetchLane {
    inner: Arc<Inner>,
}

struct Inner {
    peers: Peers,
    endpoint: String,
    limits: LaneLimits,
    stream: Mutex<Option<Stream>>,
}

#[derive(Clone)]
struct Stream {
    sender: SplicedSender<FetchRequestHead>,
    pending: Pending<Spliced<FetchHead>>,
}

/// One query on its way. Dropping it gives the answer up.
pub struct FetchCall {
    correlation: u64,
    stream: Stream,
    reply: oneshot::Receiver<Result<Spliced<FetchHead>, LaneError>>,
    answered: bool,
}

impl FetchLane {
    pub fn new(peers: Peers, endpoint: String, limits: LaneLimits) -> Self {
        FetchLane {
            inner: Arc::new(Inner {
                peers,
                endpoint,
                limits,
                stream: Mutex::new(None),
            }),
        }
    }

    pub async fn query(&self, mut query: FetchQuery) -> Result<FetchCall, LaneError> {
        let stream = self.stream().await?;
        let (correlation, reply) = stream.pending.register();
        query.correlation = correlation;
        let request = FetchRequestHead {
            request: Some(Request::Query(query)),
        };
        let call = FetchCall {
            correlation,
            stream: stream.clone(),
            reply,
            answered: false,
        };
        stream
            .sender
            .send(Spliced::new(request, Payload::new()))
            .await
            .map_err(|_| LaneError::Broken)?;
        Ok(call)
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
        let open = splice::open(
            transport,
            PATH,
            MetadataMap::new(),
            body,
            self.limits.message_bytes_max,
        );
        let replies = timeout(self.limits.connect_timeout, open)
            .await
            .map_err(|_| unreachable("timed out".into()))?
            .map_err(|status| unreachable(status.to_string()))?;
        let pending = Pending::new();
        tokio::spawn(read_replies(replies, pending.clone()));
        Ok(Stream { sender, pending })
    }
}

impl FetchCall {
    /// The broker's answer.
    pub async fn reply(&mut self) -> Result<Spliced<FetchHead>, LaneError> {
        let reply = (&mut self.reply).await.unwrap_or(Err(LaneError::Broken));
        self.answered = true;
        reply
    }

    /// Asks the broker to answer at once with what there is.
    pub fn complete(&self) {
        let request = FetchRequestHead {
            request: Some(Request::Complete(self.correlation)),
        };
        // A full queue delays the answer until the query's own time-out; a broken one has already failed it.
        let _ = self.stream.sender.try_send(Spliced::new(request, Payload::new()));
    }
}

impl Drop for FetchCall {
    fn drop(&mut self) {
        if !self.answered {
            self.stream.pending.forget(self.correlation);
            self.complete();
        }
    }
}

async fn read_replies(mut replies: SplicedStream<FetchHead>, pending: Pending<Spliced<FetchHead>>) {
    while let Some(Ok(message)) = replies.next().await {
        pending.complete(message.head.correlation, message);
    }
    pending.break_all();
}
