//! Runs the roles of one process: binds everything, starts them in the order they need each other, and stops them in
//! the reverse order.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use strom_broker::{BrokerConfig, BrokerError};
use strom_client::{ControllerClient, Peers};
use strom_controller::ControllerConfig;
use strom_gateway::{GatewayConfig, KafkaListener};
use strom_proto::access;
use strom_runtime::admin::{Admin, BuildInfo};
use strom_runtime::supervisor::SupervisorError;
use strom_runtime::telemetry::{self, TelemetryConfig};
use strom_runtime::{
    Clock, GrpcListener, Guard, Health, Metrics, OnFailure, Services, Shutdown, Supervisor, TaskGroup,
    shutdown,
};
use strom_types::{BrokerId, NodeId};
use thiserror::Error;
use tokio::net::TcpListener;
use tracing::info;

use crate::plan::{Plan, PlanError};
use crate::welcome;

const LOCAL_CONTROLLER: &str = "local:controller";
const LOCAL_BROKER: &str = "local:broker";

/// Exit codes that tell why (sysexits): a wrong configuration, a failed start or run.
const EXIT_CONFIG: u8 = 64;
const EXIT_FAILED: u8 = 1;

#[derive(Debug, Error)]
pub(crate) enum NodeError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("cannot listen on {address}: {source}")]
    Bind { address: String, source: io::Error },
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    #[error("cannot set up logs and traces: {0}")]
    Telemetry(String),
    #[error(transparent)]
    Controller(#[from] strom_controller::BuildError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Gateway(#[from] strom_gateway::BuildError),
    #[error(transparent)]
    Stopped(#[from] SupervisorError),
}

pub(crate) fn exit_code(error: &NodeError) -> u8 {
    match error {
        NodeError::Plan(_) => EXIT_CONFIG,
        _ => EXIT_FAILED,
    }
}

pub(crate) fn run(plan: Plan) -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(async_workers())
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(Node::start_and_run(plan));
    // Disk reads that still run are not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

/// Half of the cores: the log's threads, checks of batches and disk reads have the others, and workers beyond that wake
/// each other for nothing (docs/performance.md).
fn async_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

/// The sockets of a process, all bound before anything else is done.
struct Sockets {
    kafka: Vec<KafkaListener>,
    admin: TcpListener,
    grpc: Option<GrpcListener>,
}

struct Node {
    plan: Plan,
    clock: Clock,
    health: Health,
    metrics: Metrics,
    peers: Peers,
    shutdown: Shutdown,
}

impl Node {
    async fn start_and_run(plan: Plan) -> Result<(), NodeError> {
        let env: Vec<(String, String)> = std::env::vars().collect();
        let telemetry = TelemetryConfig::from_settings(&plan.settings, &env, "strom");
        let _telemetry = telemetry::init(&telemetry).map_err(|e| NodeError::Telemetry(e.to_string()))?;
        plan.settings.log();
        let shutdown = Shutdown::new();
        shutdown::listen_for_signals(shutdown.clone())?;
        let clock = Clock::system();
        let build = BuildInfo {
            version: env!("CARGO_PKG_VERSION"),
            roles: plan.roles(),
        };
        let node = Node {
            health: Health::new(clock.clone()),
            metrics: Metrics::new(&clock, build),
            peers: Peers::secured(plan.tls.clone()),
            clock,
            shutdown,
            plan,
        };
        let sockets = node.bind().await?;
        node.run(sockets).await
    }

    async fn bind(&self) -> Result<Sockets, NodeError> {
        let mut kafka = Vec::new();
        for listener in &self.plan.listeners.clients {
            let address = listener.bind.to_string();
            let socket = bind(&address).await?;
            let advertised = listener.advertised.as_ref().map(|a| (a.host.clone(), a.port));
            kafka.push(KafkaListener {
                name: listener.name.clone(),
                socket,
                advertised,
                broker_ports: self.plan.broker_ports.of(&listener.name),
            });
        }
        let admin = bind(
            &self
                .plan
                .settings
                .text("strom.admin.listener")
                .unwrap_or_default(),
        )
        .await?;
        let grpc = match &self.plan.grpc {
            Some(endpoint) => Some(
                GrpcListener::bind(endpoint)
                    .await
                    .map_err(|source| NodeError::Bind {
                        address: endpoint.to_string(),
                        source,
                    })?,
            ),
            None => None,
        };
        Ok(Sockets { kafka, admin, grpc })
    }

    async fn run(self, sockets: Sockets) -> Result<(), NodeError> {
        let mut supervisor = Supervisor::new(self.shutdown.clone());
        // Stages stop in this order; they are started in the reverse one.
        let gateway = supervisor.stage("gateway");
        let broker = supervisor.stage("broker");
        let grpc = supervisor.stage("grpc");
        let controller = supervisor.stage("controller");
        let admin = supervisor.stage("admin");
        let kafka: Vec<String> = sockets
            .kafka
            .iter()
            .filter_map(|l| l.socket.local_addr().ok())
            .map(|a| a.to_string())
            .collect();
        let admin_address = sockets.admin.local_addr()?.to_string();
        self.serve_admin(&admin, sockets.admin);
        self.health.watch_runtime(&admin);
        let deadline = self
            .plan
            .settings
            .millis("strom.shutdown.timeout.ms")
            .unwrap_or(Duration::from_secs(5));
        let started = tokio::select! {
            started = self.start_roles([&gateway, &broker, &grpc, &controller], sockets.kafka, sockets.grpc) => started,
            () = self.shutdown.cancelled() => Ok(()),
        };
        if let Err(error) = started {
            self.shutdown.trigger(error.to_string());
            let _ = supervisor.run(deadline).await;
            return Err(error);
        }
        self.health.set_started();
        if self.plan.standalone && self.plan.gateway {
            self.welcome(&admin, kafka, admin_address);
        }
        let outcome = supervisor.run(deadline).await;
        info!(reason = self.shutdown.reason().unwrap_or_default(), "stopped");
        Ok(outcome?)
    }

    fn serve_admin(&self, stage: &TaskGroup, listener: TcpListener) {
        let admin = Admin {
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            status: None,
        };
        stage.spawn("admin server", OnFailure::Log, move |stop| {
            admin.run(listener, stop)
        });
    }

    async fn start_roles(
        &self,
        [gateway, broker, grpc, controller]: [&TaskGroup; 4],
        kafka: Vec<KafkaListener>,
        listener: Option<GrpcListener>,
    ) -> Result<(), NodeError> {
        let services = Services::default();
        if let Some(listener) = listener {
            let services = services.clone();
            let tls = self.plan.tls.clone();
            let guard = tls.map(|tls| Guard::new(tls, access::callers, &self.metrics));
            grpc.spawn("grpc server", OnFailure::Shutdown, move |stop| async move {
                listener.serve(&services, guard, stop).await
            });
        }
        if let Some(tls) = self.plan.tls.clone() {
            grpc.spawn("certificates", OnFailure::Log, move |stop| async move {
                tls.watch(stop).await;
                Ok::<(), Infallible>(())
            });
        }
        if self.plan.controller {
            let app = strom_controller::App::build(
                self.controller_config(),
                strom_controller::Environment {
                    clock: self.clock.clone(),
                    health: self.health.clone(),
                    metrics: self.metrics.clone(),
                    tls: self.plan.tls.clone(),
                },
            )?;
            self.peers.serve_local(LOCAL_CONTROLLER, app.routes());
            services.add(strom_controller::SERVICES, &app.routes());
            controller.spawn("controller", OnFailure::Shutdown, move |stop| app.run(stop));
        }
        let controllers = self.controllers();
        if self.plan.broker {
            let environment = strom_broker::Environment {
                clock: self.clock.clone(),
                health: self.health.clone(),
                metrics: self.metrics.clone(),
                peers: self.peers.clone(),
                controller: controllers.clone(),
            };
            let app =
                strom_broker::App::build(self.broker_config(), environment, self.shutdown.clone()).await?;
            self.peers.serve_local(LOCAL_BROKER, app.routes());
            services.add(strom_broker::SERVICES, &app.routes());
            broker.spawn("broker", OnFailure::Shutdown, move |stop| app.run(stop));
        }
        if self.plan.gateway {
            let environment = strom_gateway::Environment {
                clock: self.clock.clone(),
                health: self.health.clone(),
                metrics: self.metrics.clone(),
                peers: self.peers.clone(),
                controller: controllers,
            };
            let config = GatewayConfig::from_settings(&self.plan.settings);
            let app = strom_gateway::App::build(config, kafka, environment)?;
            gateway.spawn("gateway", OnFailure::Shutdown, move |stop| async move {
                app.run(stop).await;
                Ok::<(), Infallible>(())
            });
        }
        Ok(())
    }

    /// The quorum as this process reaches it: its own controller without a socket.
    fn controllers(&self) -> ControllerClient {
        let mut endpoints = Vec::new();
        if self.plan.controller {
            endpoints.push(LOCAL_CONTROLLER.to_owned());
        }
        let own = self
            .plan
            .grpc_advertised
            .as_deref()
            .filter(|_| self.plan.controller);
        endpoints.extend(
            self.plan
                .controllers
                .iter()
                .map(|voter| voter.endpoint.clone())
                .filter(|e| Some(e.as_str()) != own),
        );
        ControllerClient::new(self.peers.clone(), endpoints)
    }

    fn controller_config(&self) -> ControllerConfig {
        let node_id = self.plan.node_id.unwrap_or(NodeId(0));
        let voters = self
            .plan
            .controllers
            .iter()
            .filter_map(|v| Some((v.node_id?, v.endpoint.clone())))
            .collect();
        let endpoint = self
            .plan
            .grpc_advertised
            .clone()
            .unwrap_or_else(|| LOCAL_CONTROLLER.to_owned());
        let dir = self.plan.data_dir.join("controller");
        ControllerConfig::from_settings(&self.plan.settings, node_id, endpoint, dir, voters)
    }

    fn broker_config(&self) -> BrokerConfig {
        let id = BrokerId(self.plan.node_id.map_or(0, NodeId::get));
        let endpoint = self
            .plan
            .grpc_advertised
            .clone()
            .unwrap_or_else(|| LOCAL_BROKER.to_owned());
        BrokerConfig::from_settings(
            &self.plan.settings,
            id,
            endpoint,
            self.plan.data_dir.join("broker"),
        )
    }

    /// Tells a person what runs, once clients are served.
    fn welcome(&self, stage: &TaskGroup, kafka: Vec<String>, admin: String) {
        let (health, data) = (self.health.clone(), self.plan.data_dir.clone());
        stage.spawn("welcome", OnFailure::Log, move |stop| async move {
            while health.ready().is_err() {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_millis(10)) => {}
                }
            }
            welcome::print(&kafka, &admin, &data, io::stdout().lock())
        });
    }
}

async fn bind(address: &str) -> Result<TcpListener, NodeError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| NodeError::Bind {
        address: address.to_owned(),
        source,
    })
}
