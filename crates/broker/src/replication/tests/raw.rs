//! One end of a stream spoken by hand.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use parking_lot::Mutex;
use strom_proto::convert::error_code;
use strom_proto::splice::{self, Payload, Spliced, SplicedMethods, SplicedSender, SplicedStream};
use strom_proto::v1::{
    FollowerHead, FollowerHello, FollowerPosition, FollowerPositions, LeaderHead, follower_head::Message,
};
use strom_types::{ErrorCode, TopicIdPartition};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::metadata::MetadataMap;

use super::cluster::{CLUSTER, Cluster};

/// A follower as a test speaks it.
pub(super) struct RawFollower {
    pub(super) sender: SplicedSender<FollowerHead>,
    pub(super) messages: SplicedStream<LeaderHead>,
}

pub(super) fn hello() -> FollowerHello {
    FollowerHello {
        cluster_id: CLUSTER.into(),
        broker_id: 3,
        broker_epoch: 1,
        leader_id: 1,
    }
}

pub(super) fn position(key: TopicIdPartition, fetch_offset: i64) -> FollowerPosition {
    FollowerPosition {
        topic_id: key.topic_id.as_bytes().to_vec().into(),
        partition: key.partition,
        leader_epoch: 1,
        fetch_offset,
        last_fetched_epoch: if fetch_offset == 0 { -1 } else { 1 },
        restart: true,
        ..Default::default()
    }
}

impl RawFollower {
    /// Opens a stream to broker 1.
    pub(super) async fn open(cluster: &Cluster) -> Self {
        let transport = cluster.node(2).peers.data("local:broker-1").unwrap();
        let (sender, body) = splice::channel(1 << 20);
        let path = super::super::PATH;
        let messages = splice::open(transport, path, MetadataMap::new(), body, 64 << 20)
            .await
            .unwrap();
        RawFollower { sender, messages }
    }

    pub(super) async fn say(&self, message: Message) {
        let head = FollowerHead {
            message: Some(message),
        };
        self.sender
            .send(Spliced::new(head, Payload::new()))
            .await
            .unwrap();
    }

    pub(super) async fn tell(&self, partitions: Vec<FollowerPosition>, consumed_bytes: u64) {
        let positions = FollowerPositions {
            partitions,
            consumed_bytes,
        };
        self.say(Message::Positions(positions)).await;
    }

    /// The next message; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Spliced<LeaderHead>> {
        let next = timeout(Duration::from_secs(20), self.messages.next());
        next.await.expect("no message in time").map(Result::unwrap)
    }

    /// What arrives until nothing has come for a while.
    pub(super) async fn drain(&mut self, quiet: Duration) -> Vec<Spliced<LeaderHead>> {
        let mut all = Vec::new();
        while let Ok(Some(message)) = timeout(quiet, self.messages.next()).await {
            all.push(message.unwrap());
        }
        all
    }

    /// The refusal that must be the last message.
    pub(super) async fn refusal(&mut self) -> (ErrorCode, String) {
        loop {
            let message = self.next().await.expect("the stream ended without a refusal");
            if let Some(refused) = message.head.refused {
                assert!(self.next().await.is_none(), "the stream goes on after a refusal");
                return (error_code(refused.code), refused.message);
            }
        }
    }
}

type Accepted = (SplicedStream<FollowerHead>, SplicedSender<LeaderHead>);

/// A leader as a test speaks it: hands out the streams that followers open.
#[derive(Clone)]
pub(super) struct RawLeader {
    accepted: mpsc::UnboundedSender<Accepted>,
}

pub(super) struct RawStreams(Arc<Mutex<mpsc::UnboundedReceiver<Accepted>>>);

impl RawLeader {
    pub(super) fn new() -> (Self, RawStreams) {
        let (accepted, streams) = mpsc::unbounded_channel();
        (RawLeader { accepted }, RawStreams(Arc::new(Mutex::new(streams))))
    }
}

impl RawStreams {
    /// The next stream and the positions it begins with.
    pub(super) async fn next(&self) -> (RawStream, Vec<FollowerPosition>) {
        let taken = timeout(Duration::from_secs(20), async {
            loop {
                if let Ok(accepted) = self.0.lock().try_recv() {
                    return accepted;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let (messages, sender) = taken.await.expect("no stream in time");
        let mut stream = RawStream { messages, sender };
        assert!(matches!(stream.next().await, Some(Message::Hello(_))));
        let positions = stream.positions().await;
        (stream, positions)
    }
}

pub(super) struct RawStream {
    messages: SplicedStream<FollowerHead>,
    pub(super) sender: SplicedSender<LeaderHead>,
}

impl RawStream {
    pub(super) async fn next(&mut self) -> Option<Message> {
        let next = timeout(Duration::from_secs(20), self.messages.next());
        next.await
            .expect("no message in time")?
            .ok()
            .and_then(|message| message.head.message)
    }

    /// The next positions that name a partition.
    pub(super) async fn positions(&mut self) -> Vec<FollowerPosition> {
        loop {
            match self.next().await {
                Some(Message::Positions(positions)) if positions.partitions.is_empty() => {}
                Some(Message::Positions(positions)) => return positions.partitions,
                other => panic!("no positions but {other:?}"),
            }
        }
    }

    pub(super) async fn send(&self, head: LeaderHead, payload: impl Into<Payload>) {
        self.sender.send(Spliced::new(head, payload)).await.unwrap();
    }
}

impl SplicedMethods for RawLeader {
    const NAME: &'static str = super::super::SERVICE;

    fn call(&self, _: &str, request: Request<Body>) -> Option<Response<Body>> {
        let messages = splice::accept(request, 64 << 20);
        let (sender, body) = splice::channel(1 << 20);
        let _ = self.accepted.send((messages, sender));
        Some(splice::respond(body))
    }
}
