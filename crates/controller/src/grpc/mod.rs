//! The controller's gRPC face: thin adapters from messages to commands, and the three kinds of stream.

mod controller;
mod gateway;
mod heartbeat;
mod quorum;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use strom_metadata::{Command, Reply};
use strom_proto::convert::{error_code, service_error};
use strom_proto::status::to_status;
use strom_proto::v1;
use strom_raft_node::RaftHandle;
use strom_runtime::TaskGroup;
use strom_types::{ErrorCode, NodeId};
use tonic::Status;

use crate::active::Active;
use crate::state_machine::MetadataLog;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Service {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) node_id: NodeId,
    pub(crate) active: Active,
    pub(crate) log: MetadataLog,
    pub(crate) raft: RaftHandle,
    /// Endpoints of all controllers.
    pub(crate) voters: BTreeMap<NodeId, String>,
    /// The tasks behind open streams.
    pub(crate) tasks: TaskGroup,
}

impl Service {
    pub(crate) fn new(inner: Inner) -> Self {
        Service {
            inner: Arc::new(inner),
        }
    }

    async fn submit(&self, command: Command) -> Result<Reply, Status> {
        let outcome = self.inner.active.submit(command).await;
        outcome.map_err(|error| self.refusal(error))
    }

    /// A service error as a status, with the way to the leader when this is not it.
    fn refusal(&self, mut error: v1::ServiceError) -> Status {
        if error_code(error.code) == ErrorCode::NotController {
            let leader = self.inner.raft.status().borrow().leader;
            if let Some(leader) = leader.filter(|leader| *leader != self.inner.node_id) {
                error.leader_id = Some(leader.get());
                error.leader_endpoint = self.inner.voters.get(&leader).cloned().unwrap_or_default();
            }
        }
        to_status(&error)
    }

    fn not_controller(&self) -> Status {
        self.refusal(service_error(
            ErrorCode::NotController,
            "this controller does not lead the quorum",
        ))
    }
}
