//! The `Raft` gRPC service: hands peers' envelopes and snapshots to the node.

use std::sync::Arc;
use std::time::Duration;

use strom_proto::v1::raft_server::{Raft, RaftServer};
use strom_proto::v1::{RaftEnvelope, RaftEnvelopeReply, RaftSnapshotChunk, RaftSnapshotReply};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::driver::IncomingSnapshot;
use crate::handle::{RaftHandle, StepError};
use crate::snapshot::{AssembleError, Assembler};
use crate::transport::grpc::{CHUNK_MESSAGE_BYTES_MAX, ENVELOPE_BYTES_MAX};

/// A snapshot stream that stays silent for longer is cut off, so that it cannot hold the one place for ever.
const CHUNK_WAIT_MAX: Duration = Duration::from_secs(30);

/// The receiving side; see [`service`].
pub struct RaftService {
    node: RaftHandle,
    snapshots: Arc<Semaphore>,
}

/// The service with its message limits, to be added to a tonic router.
pub fn service(node: RaftHandle) -> RaftServer<RaftService> {
    // A snapshot chunk is the larger of the two messages.
    RaftServer::new(RaftService {
        node,
        snapshots: Arc::new(Semaphore::new(1)),
    })
    .max_decoding_message_size(CHUNK_MESSAGE_BYTES_MAX.max(ENVELOPE_BYTES_MAX))
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn send(
        &self,
        request: Request<Streaming<RaftEnvelope>>,
    ) -> Result<Response<RaftEnvelopeReply>, Status> {
        let mut stream = request.into_inner();
        while let Some(envelope) = stream.message().await? {
            match self.node.step(envelope) {
                // Dropped like a lost packet: raft repeats it.
                Ok(()) | Err(StepError::Overloaded) => {}
                Err(error) => return Err(refusal(&error)),
            }
        }
        Ok(Response::new(RaftEnvelopeReply {}))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<RaftSnapshotChunk>>,
    ) -> Result<Response<RaftSnapshotReply>, Status> {
        let Ok(_place) = self.snapshots.try_acquire() else {
            return Err(Status::resource_exhausted("another snapshot is arriving"));
        };
        let mut stream = request.into_inner();
        let first = next(&mut stream)
            .await?
            .ok_or_else(|| Status::invalid_argument("no chunks"))?;
        self.node
            .check_addresses(&first.cluster_id, first.to)
            .map_err(|error| refusal(&error))?;
        let envelope = RaftEnvelope {
            cluster_id: first.cluster_id,
            from: first.from,
            to: first.to,
            messages: vec![first.message],
            from_storage: first.from_storage,
            to_storage: first.to_storage,
            ..RaftEnvelope::default()
        };
        let mut assembler = Assembler::new(first.total, self.node.snapshot_bytes_max).map_err(bad)?;
        assembler
            .push(first.offset, first.data, first.data_crc32c)
            .map_err(bad)?;
        while let Some(chunk) = next(&mut stream).await? {
            assembler
                .push(chunk.offset, chunk.data, chunk.data_crc32c)
                .map_err(bad)?;
        }
        let chunks = assembler.finish().map_err(bad)?;
        self.node
            .install_snapshot(IncomingSnapshot { envelope, chunks })
            .map_err(|error| refusal(&error))?;
        Ok(Response::new(RaftSnapshotReply {}))
    }
}

async fn next(stream: &mut Streaming<RaftSnapshotChunk>) -> Result<Option<RaftSnapshotChunk>, Status> {
    match tokio::time::timeout(CHUNK_WAIT_MAX, stream.message()).await {
        Ok(chunk) => chunk,
        Err(_) => Err(Status::deadline_exceeded("the snapshot stream stalled")),
    }
}

#[allow(clippy::needless_pass_by_value)]
fn bad(error: AssembleError) -> Status {
    Status::data_loss(error.to_string())
}

fn refusal(error: &StepError) -> Status {
    match error {
        StepError::OtherCluster(_) | StepError::NotForMe(_) => Status::failed_precondition(error.to_string()),
        StepError::Overloaded => Status::resource_exhausted(error.to_string()),
        StepError::ShuttingDown => Status::unavailable(error.to_string()),
    }
}
