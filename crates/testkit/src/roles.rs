//! Starts the roles of one process, wired as `crates/strom` wires them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use strom_broker::{BrokerConfig, BrokerError};
use strom_client::{ControllerClient, Peers};
use strom_controller::ControllerConfig;
use strom_gateway::{GatewayConfig, KafkaListener};
use strom_proto::access;
use strom_runtime::admin::BuildInfo;
use strom_runtime::config::{LoadError, Sources, load};
use strom_runtime::supervisor::SupervisorError;
use strom_runtime::tls::TlsError;
use strom_runtime::{
    Clock, Endpoint, GrpcListener, Guard, Health, InternalTls, Metrics, OnFailure, Services, Settings,
    Shutdown, Supervisor, TaskGroup,
};
use strom_types::{BrokerId, Identity, NodeId};
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tonic::service::Routes;

use crate::port;

const LOCAL_CONTROLLER: &str = "local:controller";
const LOCAL_BROKER: &str = "local:broker";
/// A killed controller's raft thread gives its database back a moment later.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(5);

#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Settings(#[from] LoadError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot bind: {0}")]
    Bind(#[from] std::io::Error),
    #[error(transparent)]
    Controller(#[from] strom_controller::BuildError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Gateway(#[from] strom_gateway::BuildError),
    #[error(transparent)]
    Stopped(#[from] SupervisorError),
}

/// What one process runs; kept over its restarts.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub name: String,
    pub controller: Option<NodeId>,
    pub broker: Option<BrokerId>,
    pub gateway: Option<SocketAddr>,
    /// All controllers, and where other processes reach them; empty = only this process's own.
    pub voters: Vec<(NodeId, Endpoint)>,
    /// Where other processes reach this one.
    pub grpc: Option<Endpoint>,
    pub data_dir: PathBuf,
    pub settings: Vec<(String, String)>,
    /// Changes what no configuration key reaches.
    pub tune_gateway: Option<fn(&mut GatewayConfig)>,
}

impl Spec {
    /// What it is to the other processes.
    pub(crate) fn identities(&self) -> Vec<Identity> {
        [
            self.controller.map(|_| Identity::Controller),
            self.broker.map(Identity::Broker),
            self.gateway.map(|_| Identity::Gateway),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// One life of a process, as seen from outside.
#[derive(Clone)]
pub(crate) struct Life {
    pub health: Health,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
    clock: Clock,
    /// Set once the roles start.
    peers: Arc<OnceLock<Peers>>,
}

impl Life {
    pub(crate) fn new(spec: &Spec) -> Self {
        let clock = Clock::system();
        let build = BuildInfo {
            version: env!("CARGO_PKG_VERSION"),
            roles: spec.name.clone(),
        };
        Life {
            health: Health::new(clock.clone()),
            metrics: Metrics::new(&clock, build),
            shutdown: Shutdown::new(),
            clock,
            peers: Arc::default(),
        }
    }

    /// Lets go of the roles. They reach each other through the peers, which hold them: only the end of a real process
    /// ends that circle by itself.
    pub(crate) fn end(self) {
        if let Some(peers) = self.peers.get() {
            for name in [LOCAL_CONTROLLER, LOCAL_BROKER] {
                peers.serve_local(name, Routes::default());
            }
        }
    }

    fn connect(&self, tls: Option<InternalTls>) -> Peers {
        self.peers.get_or_init(|| Peers::secured(tls)).clone()
    }
}

/// Starts the roles and serves until the life's shutdown.
pub(crate) async fn run(spec: Spec, life: Life) -> Result<(), RunError> {
    let settings = load(&Sources {
        flags: spec.settings.clone(),
        ..Sources::default()
    })?;
    let deadline = settings
        .millis("strom.shutdown.timeout.ms")
        .unwrap_or(Duration::from_secs(5));
    let mut supervisor = Supervisor::new(life.shutdown.clone());
    // Stages stop in this order; they are started in the reverse one.
    let stages = Stages {
        gateway: supervisor.stage("gateway"),
        broker: supervisor.stage("broker"),
        grpc: supervisor.stage("grpc"),
        controller: supervisor.stage("controller"),
    };
    let shutdown = life.shutdown.clone();
    let health = life.health.clone();
    let tls = InternalTls::from_settings(&settings, spec.identities())?;
    let start = Start {
        peers: life.connect(tls.clone()),
        spec,
        settings,
        life,
        tls,
        services: Services::default(),
    };
    let started = tokio::select! {
        started = start.roles(&stages) => started,
        () = shutdown.cancelled() => Ok(()),
    };
    if let Err(error) = started {
        shutdown.trigger(error.to_string());
        let _ = supervisor.run(deadline).await;
        return Err(error);
    }
    health.set_started();
    // Of the start only the running roles are left, so that a stopped one lets go of everything.
    drop(start);
    Ok(supervisor.run(deadline).await?)
}

struct Stages {
    gateway: TaskGroup,
    broker: TaskGroup,
    grpc: TaskGroup,
    controller: TaskGroup,
}

struct Start {
    spec: Spec,
    settings: Settings,
    life: Life,
    tls: Option<InternalTls>,
    peers: Peers,
    services: Services,
}

impl Start {
    async fn roles(&self, stages: &Stages) -> Result<(), RunError> {
        if let Some(endpoint) = &self.spec.grpc {
            let listener = GrpcListener::bind(endpoint).await?;
            let services = self.services.clone();
            let tls = self.tls.clone();
            let guard = tls.map(|tls| Guard::new(tls, access::callers, &self.life.metrics));
            stages
                .grpc
                .spawn("grpc server", OnFailure::Shutdown, move |stop| async move {
                    listener.serve(&services, guard, stop).await
                });
        }
        if let Some(id) = self.spec.controller {
            self.controller(id, &stages.controller).await?;
        }
        if let Some(id) = self.spec.broker {
            self.broker(id, &stages.broker).await?;
        }
        if let Some(address) = self.spec.gateway {
            self.gateway(address, &stages.gateway)?;
        }
        Ok(())
    }

    async fn controller(&self, id: NodeId, stage: &TaskGroup) -> Result<(), RunError> {
        let endpoint = self.endpoint(LOCAL_CONTROLLER);
        let voters = self.spec.voters.iter();
        let voters: Vec<_> = voters.map(|(id, endpoint)| (*id, endpoint.to_string())).collect();
        let dir = self.spec.data_dir.join("controller");
        let config = ControllerConfig::from_settings(&self.settings, id, endpoint, dir, voters);
        let deadline = Instant::now() + LOCK_WAIT;
        let app = loop {
            let environment = strom_controller::Environment {
                clock: self.life.clock.clone(),
                health: self.life.health.clone(),
                metrics: self.life.metrics.clone(),
                tls: self.tls.clone(),
            };
            match strom_controller::App::build(config.clone(), environment) {
                Err(error) if error.to_string().contains("lock") && Instant::now() < deadline => {
                    sleep(LOCK_RETRY).await;
                }
                built => break built?,
            }
        };
        self.peers.serve_local(LOCAL_CONTROLLER, app.routes());
        self.services.add(strom_controller::SERVICES, &app.routes());
        stage.spawn("controller", OnFailure::Shutdown, move |stop| app.run(stop));
        Ok(())
    }

    async fn broker(&self, id: BrokerId, stage: &TaskGroup) -> Result<(), RunError> {
        let dir = self.spec.data_dir.join("broker");
        let config = BrokerConfig::from_settings(&self.settings, id, self.endpoint(LOCAL_BROKER), dir);
        let environment = strom_broker::Environment {
            clock: self.life.clock.clone(),
            health: self.life.health.clone(),
            metrics: self.life.metrics.clone(),
            peers: self.peers.clone(),
            controller: self.controllers(),
        };
        let app = strom_broker::App::build(config, environment, self.life.shutdown.clone()).await?;
        self.peers.serve_local(LOCAL_BROKER, app.routes());
        self.services.add(strom_broker::SERVICES, &app.routes());
        stage.spawn("broker", OnFailure::Shutdown, move |stop| app.run(stop));
        Ok(())
    }

    fn gateway(&self, address: SocketAddr, stage: &TaskGroup) -> Result<(), RunError> {
        let listener = KafkaListener {
            name: "PLAINTEXT".to_owned(),
            socket: port::listen(address)?,
            advertised: None,
            broker_ports: None,
        };
        let environment = strom_gateway::Environment {
            clock: self.life.clock.clone(),
            health: self.life.health.clone(),
            metrics: self.life.metrics.clone(),
            peers: self.peers.clone(),
            controller: self.controllers(),
        };
        let mut config = GatewayConfig::from_settings(&self.settings);
        if let Some(tune) = self.spec.tune_gateway {
            tune(&mut config);
        }
        let app = strom_gateway::App::build(config, vec![listener], environment)?;
        stage.spawn("gateway", OnFailure::Shutdown, move |stop| async move {
            app.run(stop).await;
            Ok::<(), Infallible>(())
        });
        Ok(())
    }

    /// Where others reach a role of this process.
    fn endpoint(&self, local: &str) -> String {
        let own = self.spec.grpc.as_ref();
        own.map_or_else(|| local.to_owned(), Endpoint::to_string)
    }

    /// The quorum as this process reaches it: its own controller without a socket.
    fn controllers(&self) -> ControllerClient {
        let own = self.spec.controller;
        let mut endpoints: Vec<String> = own.map(|_| LOCAL_CONTROLLER.to_owned()).into_iter().collect();
        let others = self.spec.voters.iter().filter(|(id, _)| Some(*id) != own);
        endpoints.extend(others.map(|(_, endpoint)| endpoint.to_string()));
        ControllerClient::new(self.peers.clone(), endpoints)
    }
}
