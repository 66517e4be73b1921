//! The fetch lane: long polls that a broker answers when they are satisfied, when they time out, or when the caller
//! asks for what there is.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use strom_proto::splice::{Payload, Spliced};
use strom_proto::v1::{FetchHead, FetchQuery, FetchRequestHead, fetch_request_head::Request};
use strom_runtime::trace_context;
use tokio::sync::{Mutex, oneshot};
use tonic::metadata::MetadataMap;

use super::stream::{LaneStream, OpenStream};
use super::{LaneError, LaneLimits};
use crate::Peers;

const PATH: &str = "/strom.v1.BrokerData/Fetch";

/// The fetch stream to one broker; cheap to clone.
#[derive(Clone)]
pub struct FetchLane {
    stream: Arc<LaneStream<FetchRequestHead, FetchHead, Spliced<FetchHead>>>,
}

/// One query on its way. Dropping it gives the answer up.
pub struct FetchCall {
    correlation: u64,
    stream: OpenStream<FetchRequestHead, Spliced<FetchHead>>,
    reply: oneshot::Receiver<Result<Spliced<FetchHead>, LaneError>>,
    answered: bool,
}

impl FetchLane {
    pub fn new(peers: Peers, endpoint: String, limits: LaneLimits) -> Self {
        let stream = LaneStream {
            peers,
            endpoint,
            path: PATH,
            limits,
            take: |reply: Spliced<FetchHead>| (reply.head.correlation, reply),
            open: Mutex::default(),
            begun: AtomicU64::new(0),
        };
        FetchLane {
            stream: Arc::new(stream),
        }
    }

    pub async fn query(&self, mut query: FetchQuery) -> Result<FetchCall, LaneError> {
        let stream = self.stream.get(|_| MetadataMap::new()).await?;
        let (unsent, reply) = stream.pending.register();
        let correlation = unsent.correlation;
        query.correlation = correlation;
        // From here on the call looks after it.
        unsent.sent();
        query.traceparent = trace_context::current().unwrap_or_default();
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
