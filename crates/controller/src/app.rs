//! Wires a controller: raft storage, state machine, the active member's loop, services; and takes it through its life.

use std::sync::Arc;
use std::time::Duration;

use strom_proto::v1::controller_server::ControllerServer;
use strom_raft_node::transport::grpc::{GrpcTransport, service as raft_service};
use strom_raft_node::transport::{NoPeers, Transport};
use strom_raft_node::{RaftConfig, RaftHandle, RaftNode, RaftRole};
use strom_runtime::{Clock, Health, InternalTls, Shutdown, TaskGroup};
use strom_types::NodeId;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tonic::service::Routes;
use tracing::{error, info};

use crate::active::{ActiveLoop, Parts};
use crate::cluster_id;
use crate::config::ControllerConfig;
use crate::error::{BuildError, RunError};
use crate::grpc::{Inner, Service};
use crate::metrics::Metrics;
use crate::state_machine::{MetadataLog, MetadataMachine};

/// The gRPC services that a controller offers.
pub const SERVICES: &[&str] = &["strom.v1.Controller", "strom.v1.Raft"];
const COMPONENT: &str = "controller";
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The largest entry: a broker that is in the ISR of 150,000 partitions leaves them all in one. Raft's transport
/// queues 8 MiB per peer.
const ENTRY_BYTES_MAX: usize = 7 * 1024 * 1024;
/// How long a leader that stops waits for another to take over, and for open streams to end.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);

/// What a controller needs from its process.
pub struct Environment {
    pub clock: Clock,
    pub health: Health,
    pub metrics: strom_runtime::Metrics,
    /// For the way to the other controllers.
    pub tls: Option<InternalTls>,
}

/// A controller whose storage is open, ready to run.
pub struct App {
    node_id: NodeId,
    cluster_id: String,
    node: RaftNode<MetadataMachine>,
    raft: RaftHandle,
    log: MetadataLog,
    active: ActiveLoop,
    service: Service,
    tasks: TaskGroup,
    health: Health,
}

impl App {
    /// Opens the storage, which blocks on the disk. Must be called within a tokio runtime.
    pub fn build(config: ControllerConfig, environment: Environment) -> Result<Self, BuildError> {
        let Environment {
            clock,
            health,
            metrics,
            tls,
        } = environment;
        health.set_not_ready(COMPONENT, "opening its storage");
        let alone = config.voters.len() <= 1;
        let cluster_id = cluster_id::resolve(config.cluster_id.as_deref(), alone, &config.data_dir)?;
        let (machine, log) = MetadataMachine::new();
        let mut raft_config = RaftConfig::new(
            config.node_id,
            cluster_id.as_str(),
            config.data_dir,
            config.voters.clone(),
        );
        raft_config.tuning.proposal_bytes_max = ENTRY_BYTES_MAX;
        let transport: Arc<dyn Transport> = if alone {
            Arc::new(NoPeers)
        } else {
            GrpcTransport::from_voters(config.node_id, &config.voters, tls.as_ref(), Handle::current())?
        };
        let mut core = config.core;
        if !alone {
            let ticks = u32::try_from(raft_config.tuning.election_ticks).unwrap_or(u32::MAX);
            core.handover_grace = raft_config.tick.saturating_mul(ticks);
        }
        let (node, raft) = RaftNode::open(&raft_config, machine, transport)?;
        health.set_not_ready(COMPONENT, "waiting for the quorum's leader");
        let metrics = Arc::new(Metrics::new(&metrics, log.clone(), raft.status()));
        let (active_loop, active) = ActiveLoop::new(Parts {
            core,
            raft: raft.clone(),
            log: log.clone(),
            clock,
            cluster_id: cluster_id.clone(),
            metrics,
        });
        let tasks = TaskGroup::detached(COMPONENT, Shutdown::new());
        let service = Service::new(Inner {
            node_id: config.node_id,
            active,
            log: log.clone(),
            raft: raft.clone(),
            voters: config.voters.into_iter().collect(),
            tasks: tasks.clone(),
        });
        Ok(App {
            node_id: config.node_id,
            cluster_id,
            node,
            raft,
            log,
            active: active_loop,
            service,
            tasks,
            health,
        })
    }

    /// The id of the cluster that this controller belongs to.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The services that other nodes call, for a gRPC server or for callers in this process.
    pub fn routes(&self) -> Routes {
        let controller = ControllerServer::new(self.service.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let mut routes = Routes::builder();
        routes
            .add_service(controller)
            .add_service(raft_service(self.raft.clone()));
        routes.routes()
    }

    /// Serves until shutdown; a leader then hands over first. The error tells that the storage or the log failed:
    /// the process must not go on as if it had a controller.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let App {
            node_id,
            cluster_id,
            node,
            raft,
            log,
            active,
            service,
            tasks,
            health,
        } = self;
        info!(node = node_id.get(), cluster = cluster_id, "controller starts");
        let (stop_work, stop_raft) = (Shutdown::new(), Shutdown::new());
        let raft_stopped = stop_raft.clone();
        let running = node.run(async move { raft_stopped.cancelled().await });
        tokio::pin!(running);
        let ending = async {
            shutdown.cancelled().await;
            hand_over(node_id, &raft).await;
            tasks.stop(HAND_OVER_MAX).await;
            stop_work.trigger("the controller stops");
        };
        let work = async {
            tokio::join!(
                active.run(stop_work.clone()),
                report(health.clone(), raft.clone(), log.clone(), stop_work.clone()),
                ending,
            );
        };
        let outcome = tokio::select! {
            biased;
            outcome = &mut running => return outcome.map_err(RunError::Raft).inspect_err(|error| {
                health.set_not_ready(COMPONENT, error.to_string());
            }),
            reason = log.failed() => {
                error!(reason, "the metadata log cannot be applied");
                health.set_not_ready(COMPONENT, reason.clone());
                Err(RunError::Metadata(reason))
            }
            () = work => Ok(()),
        };
        stop_raft.trigger("the controller stops");
        let ended = running.await.map_err(RunError::Raft);
        drop(service);
        outcome.and(ended)
    }
}

/// Ready once the quorum has a leader and the cluster a name.
async fn report(health: Health, raft: RaftHandle, log: MetadataLog, stop: Shutdown) {
    let (mut status, mut changes) = (raft.status(), log.changes());
    loop {
        let leader = status.borrow_and_update().leader;
        changes.mark_unchanged();
        if leader.is_none() {
            health.set_not_ready(COMPONENT, "the quorum has no leader");
        } else if log.image().cluster_id().is_empty() {
            health.set_not_ready(COMPONENT, "the metadata has not arrived yet");
        } else {
            health.set_ready(COMPONENT);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = status.changed() => {}
            Ok(()) = changes.changed() => {}
            else => return,
        }
    }
}

/// Gives the leadership to the follower that has most of the log, if there is one.
async fn hand_over(me: NodeId, raft: &RaftHandle) {
    let mut status = raft.status();
    if status.borrow().role != RaftRole::Leader {
        return;
    }
    let Ok(quorum) = raft.describe().await else {
        return;
    };
    let others = quorum.voters.iter().filter(|member| member.node != me);
    let Some(next) = others
        .filter(|member| member.matched.is_some() && member.last_contact.is_some())
        .max_by_key(|member| member.matched)
    else {
        return;
    };
    if raft.transfer_leadership(next.node).await.is_ok() {
        let handed = status.wait_for(|now| now.role != RaftRole::Leader && now.leader.is_some());
        // Without an answer the others elect one by themselves.
        let _ = timeout(HAND_OVER_MAX, handed).await;
    }
}
