//! The gRPC transport: one client stream of envelopes per peer, reconnected with back-off; snapshots by streams of
//! their own; and the service that receives both.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use strom_proto::v1::raft_client::RaftClient;
use strom_proto::v1::{RaftEnvelope, RaftSnapshotChunk};
use strom_runtime::InternalTls;
use strom_types::NodeId;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::identity::RaftId;
use crate::inbox::Reports;
use crate::snapshot::SnapshotSource;
use crate::store::StoreError;
use crate::transport::{Shipment, Transport, Unsent};

pub use super::service::{RaftService, service};

const QUEUE_ENVELOPES: usize = 256;
const QUEUE_BYTES_MAX: usize = 8 << 20;
pub(super) const ENVELOPE_BYTES_MAX: usize = 16 << 20;
pub(super) const CHUNK_MESSAGE_BYTES_MAX: usize = 24 << 20;
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// An endpoint that is none.
#[derive(Debug, Error)]
pub enum EndpointError {
    #[error("node {0} has a negative id")]
    NegativeNodeId(NodeId),
    #[error("the endpoint of node {node}: {error}")]
    Invalid {
        node: NodeId,
        error: tonic::transport::Error,
    },
}

/// `http://host:port` (a bare `host:port` is taken as such) or `unix:///path`, with the timeouts of a raft
/// connection: a dead peer is noticed within seconds.
fn peer_endpoint(text: &str) -> Result<Endpoint, tonic::transport::Error> {
    let uri = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let endpoint = Endpoint::from_str(&uri)?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true))
}

/// The way to one peer.
#[derive(Clone)]
struct Way {
    endpoint: Endpoint,
    tls: Option<InternalTls>,
}

impl Way {
    async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        match &self.tls {
            Some(tls) => tls.connect(&self.endpoint).await,
            None => self.endpoint.connect().await,
        }
    }
}

struct Peer {
    way: Way,
    queue: mpsc::Sender<RaftEnvelope>,
    link: Arc<Link>,
}

/// What the raft thread sees of a peer's connection.
#[derive(Default)]
struct Link {
    connected: AtomicBool,
    queued_bytes: AtomicUsize,
}

/// Sends to peers from tasks on the runtime it was made on; dropping it stops them.
pub struct GrpcTransport {
    runtime: Handle,
    peers: BTreeMap<RaftId, Peer>,
    receivers: Mutex<BTreeMap<RaftId, mpsc::Receiver<RaftEnvelope>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl GrpcTransport {
    /// To the other voters (the entry of `me` is skipped), by TLS where the way is TCP and it is configured.
    pub fn from_voters(
        me: NodeId,
        voters: &[(NodeId, String)],
        tls: Option<&InternalTls>,
        runtime: Handle,
    ) -> Result<Arc<Self>, EndpointError> {
        let mut table = BTreeMap::new();
        let mut receivers = BTreeMap::new();
        for (node, text) in voters {
            let (node, invalid) = (*node, |error| EndpointError::Invalid { node: *node, error });
            let id = RaftId::first(node).ok_or(EndpointError::NegativeNodeId(node))?;
            if node == me {
                continue;
            }
            let way = Way {
                endpoint: peer_endpoint(text).map_err(invalid)?,
                tls: tls.filter(|_| !text.starts_with("unix:")).cloned(),
            };
            let (queue, receiver) = mpsc::channel(QUEUE_ENVELOPES);
            let link = Arc::default();
            table.insert(id, Peer { way, queue, link });
            receivers.insert(id, receiver);
        }
        Ok(Arc::new(GrpcTransport {
            runtime,
            peers: table,
            receivers: Mutex::new(receivers),
            tasks: Mutex::new(JoinSet::new()),
        }))
    }
}

impl Transport for GrpcTransport {
    fn attach(&self, reports: Reports) {
        let mut tasks = self.tasks.lock();
        for (id, receiver) in std::mem::take(&mut *self.receivers.lock()) {
            if let Some(peer) = self.peers.get(&id) {
                let sender = PeerSender {
                    id,
                    way: peer.way.clone(),
                    link: peer.link.clone(),
                    reports: reports.clone(),
                };
                tasks.spawn_on(sender.run(receiver), &self.runtime);
            }
        }
    }

    fn send(&self, to: RaftId, envelope: RaftEnvelope) -> Result<(), Unsent> {
        let peer = self.peers.get(&to).ok_or(Unsent)?;
        // Nothing waits for a connection: what raft says now is stale by then.
        if !peer.link.connected.load(Ordering::Acquire) {
            return Err(Unsent);
        }
        let bytes = weight(&envelope);
        if peer.link.queued_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes <= QUEUE_BYTES_MAX
            && peer.queue.try_send(envelope).is_ok()
        {
            return Ok(());
        }
        peer.link.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        Err(Unsent)
    }

    fn send_snapshot(&self, shipment: Shipment) {
        if let Some(peer) = self.peers.get(&shipment.snapshot.to) {
            let mut tasks = self.tasks.lock();
            while tasks.try_join_next().is_some() {}
            tasks.spawn_on(ship(peer.way.clone(), shipment), &self.runtime);
        }
    }
}

fn weight(envelope: &RaftEnvelope) -> usize {
    envelope.messages.iter().map(Bytes::len).sum()
}

/// Keeps one stream to a peer alive.
struct PeerSender {
    id: RaftId,
    way: Way,
    link: Arc<Link>,
    reports: Reports,
}

impl PeerSender {
    async fn run(self, mut queue: mpsc::Receiver<RaftEnvelope>) {
        let mut backoff = BACKOFF_MIN;
        let mut refused = None;
        loop {
            if let Ok(channel) = self.way.connect().await {
                backoff = BACKOFF_MIN;
                self.link.connected.store(true, Ordering::Release);
                let outcome = self.pump(channel, &mut queue).await;
                self.link.connected.store(false, Ordering::Release);
                self.drain(&mut queue);
                self.reports.unreachable(self.id);
                match outcome {
                    Ok(()) => return,
                    Err(status) => self.tell_refusal(&status, &mut refused),
                }
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Forwards the queue until the stream breaks; `Ok` when the transport was dropped.
    async fn pump(
        &self,
        channel: Channel,
        queue: &mut mpsc::Receiver<RaftEnvelope>,
    ) -> Result<(), tonic::Status> {
        let mut client = RaftClient::new(channel).max_encoding_message_size(ENVELOPE_BYTES_MAX);
        let (feed, stream) = mpsc::channel(1);
        let call = client.send(ReceiverStream::new(stream));
        tokio::pin!(call);
        loop {
            tokio::select! {
                biased;
                ended = &mut call => return Err(ended.err().unwrap_or_else(|| tonic::Status::unavailable("stream ended"))),
                envelope = queue.recv() => {
                    let Some(envelope) = envelope else { return Ok(()) };
                    self.link.queued_bytes.fetch_sub(weight(&envelope), Ordering::AcqRel);
                    // The call is polled while the feed is full, so a broken stream cannot block here.
                    tokio::select! {
                        biased;
                        ended = &mut call => {
                            return Err(ended.err().unwrap_or_else(|| tonic::Status::unavailable("stream ended")));
                        }
                        sent = feed.send(envelope) => if sent.is_err() {
                            return Err(tonic::Status::unavailable("stream closed"));
                        },
                    }
                }
            }
        }
    }

    fn drain(&self, queue: &mut mpsc::Receiver<RaftEnvelope>) {
        while let Ok(envelope) = queue.try_recv() {
            self.link
                .queued_bytes
                .fetch_sub(weight(&envelope), Ordering::AcqRel);
        }
    }

    /// A peer of another cluster says so on every attempt; say it once.
    fn tell_refusal(&self, status: &tonic::Status, last: &mut Option<tonic::Code>) {
        if status.code() == tonic::Code::FailedPrecondition && *last != Some(status.code()) {
            tracing::error!(peer = ?self.id, reason = status.message(), "a raft peer refuses this node");
        }
        *last = Some(status.code());
    }
}

/// Streams one snapshot; however it ends, raft learns of it from the shipment.
async fn ship(way: Way, shipment: Shipment) {
    let index = shipment.snapshot.source.meta().index;
    match try_ship(&way, &shipment).await {
        Ok(()) => shipment.delivered(),
        Err(error) => tracing::warn!(to = ?shipment.snapshot.to, index, %error, "sending a snapshot failed"),
    }
}

#[derive(Debug, Error)]
enum ShipError {
    #[error("connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("refused: {0}")]
    Status(#[from] Box<tonic::Status>),
    #[error("reading the snapshot was cancelled")]
    Cancelled,
    #[error("no answer in time")]
    TimedOut,
}

/// Without progress for this long a snapshot stream is given up.
const SHIP_STALL_MAX: Duration = Duration::from_secs(30);

async fn try_ship(way: &Way, shipment: &Shipment) -> Result<(), ShipError> {
    let channel = way.connect().await?;
    let mut client = RaftClient::new(channel).max_encoding_message_size(CHUNK_MESSAGE_BYTES_MAX);
    let (feed, stream) = mpsc::channel(2);
    let call = client.install_snapshot(ReceiverStream::new(stream));
    let feeding = feed_chunks(feed, shipment);
    let (fed, answer) = tokio::join!(feeding, call);
    fed?;
    answer.map_err(Box::new)?;
    Ok(())
}

async fn feed_chunks(feed: mpsc::Sender<RaftSnapshotChunk>, shipment: &Shipment) -> Result<(), ShipError> {
    let snapshot = &shipment.snapshot;
    let envelope = &snapshot.envelope;
    let mut next = RaftSnapshotChunk {
        cluster_id: envelope.cluster_id.clone(),
        from: envelope.from,
        to: envelope.to,
        message: envelope.messages.first().cloned().unwrap_or_default(),
        total: snapshot.source.meta().bytes,
        from_storage: envelope.from_storage.clone(),
        to_storage: envelope.to_storage.clone(),
        ..RaftSnapshotChunk::default()
    };
    let mut offset = 0;
    let mut number = 0;
    loop {
        let chunk = read_chunk(snapshot.source.clone(), number).await?;
        let last = chunk.is_none();
        if last && number > 0 {
            return Ok(());
        }
        next.data = chunk.unwrap_or_default();
        next.data_crc32c = crc32c::crc32c(&next.data);
        next.offset = offset;
        offset += u64::try_from(next.data.len()).unwrap_or(u64::MAX);
        number += 1;
        match tokio::time::timeout(SHIP_STALL_MAX, feed.send(std::mem::take(&mut next))).await {
            Ok(Ok(())) if last => return Ok(()),
            Ok(Ok(())) => {}
            // The call has ended; its status says why.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(ShipError::TimedOut),
        }
    }
}

/// Reads on a blocking thread: the chunk comes from the disk.
async fn read_chunk(source: Arc<dyn SnapshotSource>, number: u32) -> Result<Option<Bytes>, ShipError> {
    let chunk = tokio::task::spawn_blocking(move || source.chunk(number)).await;
    Ok(chunk.map_err(|_| ShipError::Cancelled)??)
}
