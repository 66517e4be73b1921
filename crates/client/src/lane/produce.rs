//! The produce lane: requests leave in the order they are submitted; a broken stream fails everything in flight as
//! indeterminate, and the next stream fences the old one at the broker.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use strom_proto::splice::{self, Payload, Spliced};
use strom_proto::v1::{ProduceHead, ProduceReplyHead};
use strom_runtime::trace_context;
use tokio::sync::{Mutex, oneshot};
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::stream::{LaneStream, OpenStream};
use super::{LaneError, LaneLimits};
use crate::Peers;

const PATH: &str = "/strom.v1.BrokerData/Produce";

/// One request on its way: resolves to the broker's reply.
pub type ProduceCall = oneshot::Receiver<Result<ProduceReplyHead, LaneError>>;

/// The way to one broker's produce streams, one open at a time; cheap to clone.
#[derive(Clone)]
pub struct ProduceLane {
    inner: Arc<Inner>,
}

struct Inner {
    stream: LaneStream<ProduceHead, ProduceReplyHead, ProduceReplyHead>,
    /// Names this lane at the broker, which drops what is left of an older stream of the same lane.
    lane_id: Uuid,
}

/// The stream that was open when it was asked for.
pub struct ProduceStream {
    lane_id: Uuid,
    stream: OpenStream<ProduceHead, ProduceReplyHead>,
}

/// Which stream of which lane: what goes out on one keeps its order, between two there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamName {
    lane_id: Uuid,
    number: u64,
}

impl StreamName {
    pub fn new(lane_id: Uuid, number: u64) -> Self {
        StreamName { lane_id, number }
    }
}

impl ProduceLane {
    pub fn new(peers: Peers, endpoint: String, limits: LaneLimits) -> Self {
        let stream = LaneStream {
            peers,
            endpoint,
            path: PATH,
            limits,
            take: |reply: Spliced<ProduceReplyHead>| (reply.head.correlation, reply.head),
            open: Mutex::default(),
            begun: AtomicU64::new(0),
        };
        let inner = Inner {
            stream,
            lane_id: Uuid::new_v4(),
        };
        ProduceLane {
            inner: Arc::new(inner),
        }
    }

    /// The open stream; it is opened if there is none.
    pub async fn stream(&self) -> Result<ProduceStream, LaneError> {
        let lane_id = self.inner.lane_id;
        let stream = self.inner.stream.get(|number| headers(lane_id, number)).await?;
        Ok(ProduceStream { lane_id, stream })
    }
}

impl ProduceStream {
    pub fn name(&self) -> StreamName {
        StreamName::new(self.lane_id, self.stream.number)
    }

    /// Puts a request on the stream, waiting while the queue is full. Requests submitted one after the other reach the
    /// broker in that order, or the later ones fail too.
    pub async fn submit(self, mut head: ProduceHead, payload: Payload) -> Result<ProduceCall, LaneError> {
        // Forgotten where this future is dropped while the queue is full: no reply would end the wait.
        let (unsent, receiver) = self.stream.pending.register();
        head.correlation = unsent.correlation;
        head.traceparent = trace_context::current().unwrap_or_default();
        let sent = self.stream.sender.send(Spliced::new(head, payload)).await;
        sent.map_err(|_| LaneError::Broken)?;
        unsent.sent();
        Ok(receiver)
    }
}

fn headers(lane_id: Uuid, number: u64) -> MetadataMap {
    let mut headers = MetadataMap::new();
    if let Ok(value) = format!("{lane_id}/{number}").parse() {
        headers.insert(splice::LANE_HEADER, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use strom_proto::splice::{SplicedMethods, SplicedServer};
    use tokio::time::timeout;
    use tonic::body::Body;
    use tonic::service::Routes;

    use super::*;

    const BROKER: &str = "local:broker";

    /// Reads nothing of any stream.
    #[derive(Clone)]
    struct Deaf;

    impl SplicedMethods for Deaf {
        const NAME: &'static str = "strom.v1.BrokerData";

        fn call(&self, _: &str, request: http::Request<Body>) -> Option<http::Response<Body>> {
            let (sender, body) = splice::channel::<ProduceReplyHead>(1024);
            tokio::spawn(async move {
                sender.closed().await;
                drop(request);
            });
            Some(splice::respond(body))
        }
    }

    #[tokio::test]
    async fn who_gives_up_before_a_full_queue_leaves_nothing_behind() {
        let peers = Peers::new();
        let mut routes = Routes::builder();
        routes.add_service(SplicedServer(Deaf));
        peers.serve_local(BROKER, routes.routes());
        let limits = LaneLimits {
            queue_bytes: 1024,
            ..LaneLimits::default()
        };
        let lane = ProduceLane::new(peers, BROKER.into(), limits);
        let submit = || async {
            let payload = Payload::from(Bytes::from(vec![0; 1024]));
            lane.stream().await?.submit(ProduceHead::default(), payload).await
        };
        let first = submit().await.unwrap();
        for _ in 0..10 {
            let stuck = timeout(Duration::from_millis(5), submit()).await;
            assert!(stuck.is_err(), "the queue is full");
        }
        let open = lane.inner.stream.open.lock().await;
        assert_eq!(
            open.stream.as_ref().unwrap().pending.waiting(),
            1,
            "only the first is on its way"
        );
        drop(first);
    }
}
