//! Leader → follower replication: one stream per (follower, leader) pair of brokers carries all their partitions.
//!
//! The follower opens the stream and sends positions (`follower`); the leader steps its replicas with them (`leader`)
//! and pushes what they lack as soon as it is appended (`pusher`). All decisions are `strom_replication`'s.

mod desk;
mod follower;
mod leader;
mod push;
mod pusher;
mod streams;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use strom_client::Peers;
use strom_metadata::Image;
use strom_proto::splice::{self, SplicedMethods};
use strom_runtime::{Caller, Shutdown};
use strom_types::{BrokerEpoch, BrokerId};
use tokio::task::JoinSet;
use tonic::body::Body;

pub(crate) use desk::FetchDesk;
pub(crate) use push::Push;

use crate::partitions::Partitions;
use crate::shared::Shared;
use crate::write_room::WriteRoom;
use follower::Fetcher;
use streams::Streams;

const SERVICE: &str = "strom.v1.Replication";
const METHOD: &str = "Replicate";
const PATH: &str = "/strom.v1.Replication/Replicate";

/// Bytes that one follower may have been sent without having taken them in; one message may exceed it.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// A bound of its own, should a follower report more than it was sent.
const LEADER_QUEUE_BYTES: u32 = 2 * 8 * 1024 * 1024;
/// A message is sent when it has about so many bytes of records; one batch may exceed it.
const MESSAGE_BYTES: usize = 1024 * 1024;
/// What one partition adds to a message before others have their turn.
const TURN_BYTES: usize = 256 * 1024;
const PARTITIONS_PER_MESSAGE: usize = 2_000;
/// High watermarks that move while no records flow are gathered for so long.
const NEWS_EVERY: Duration = Duration::from_millis(5);
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Largest message taken from a leader: the largest batch that may be configured, and its head.
const LEADER_MESSAGE_BYTES_MAX: usize = 128 * 1024 * 1024;
const FOLLOWER_MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
const FOLLOWER_QUEUE_BYTES: u32 = 1024 * 1024;
/// Answers that may wait for a follower: one per partition of a large broker.
const ANSWERS_MAX: usize = 1_000_000;

/// The metadata as it is now.
pub(crate) type Images = Arc<dyn Fn() -> Arc<Image> + Send + Sync>;

/// Both sides of this broker's replication. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Replication {
    parts: Arc<Parts>,
    streams: Arc<Streams>,
    /// Ends the follower streams that are served here.
    ended: Shutdown,
}

pub(crate) struct Parts {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
    pub images: Images,
    pub partitions: Arc<Partitions>,
    pub shared: Arc<Shared>,
    pub room: WriteRoom,
    pub peers: Peers,
}

impl Replication {
    pub(crate) fn new(parts: Parts) -> Self {
        Replication {
            parts: Arc::new(parts),
            streams: Arc::default(),
            ended: Shutdown::new(),
        }
    }

    fn image(&self) -> Arc<Image> {
        (self.parts.images)()
    }

    /// Follows leaders until shutdown, then ends the streams to followers too.
    pub(crate) async fn run(self, stop: Shutdown) {
        // Also when this future is dropped.
        let _ended = self.ended.token().drop_guard();
        let mut fetchers = JoinSet::new();
        let mut known = HashSet::new();
        loop {
            let new = tokio::select! {
                () = stop.cancelled() => break,
                new = self.parts.shared.fetch_desk().leaders_beyond(&known) => new,
            };
            for (leader, wake) in new {
                known.insert(leader);
                fetchers.spawn(Fetcher::new(self.clone(), leader, wake).run(stop.clone()));
            }
        }
        while let Some(ended) = fetchers.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

impl SplicedMethods for Replication {
    const NAME: &'static str = SERVICE;

    fn call(&self, method: &str, request: Request<Body>) -> Option<Response<Body>> {
        if method != METHOD {
            return None;
        }
        let caller = Caller::of(request.extensions());
        let messages = splice::accept(request, FOLLOWER_MESSAGE_BYTES_MAX);
        let (sender, body) = splice::channel(LEADER_QUEUE_BYTES);
        tokio::spawn(leader::serve(self.clone(), caller, messages, sender));
        Some(splice::respond(body))
    }
}
