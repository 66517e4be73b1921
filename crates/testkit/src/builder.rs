//! What a cluster is to be made of.

use std::path::PathBuf;

use strom_gateway::GatewayConfig;
use strom_runtime::Endpoint;
use strom_types::{BrokerId, NodeId};
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::cluster::{Cluster, Layout};
use crate::port::Port;
use crate::process::Process;
use crate::roles::Spec;

/// How the roles reach each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wiring {
    /// As `strom standalone` and Kafka's combined mode: process `n` runs the n-th controller, broker and gateway, and
    /// these call each other without a socket; only between processes there are some.
    InProcess,
    /// A process per role, talking gRPC over unix sockets.
    Grpc,
    /// A process per role, talking gRPC over TCP with certificates on both sides.
    Mtls,
}

/// Ids of controllers in processes of their own, out of the way of brokers' ids.
const CONTROLLER_ID_BASE: i32 = 9000;
const CLUSTER_ID: &str = "c3Ryb20tdGVzdC1jbHVzdA";

/// See [`Cluster::builder`].
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    wiring: Wiring,
    controllers: u16,
    brokers: u16,
    gateways: u16,
    settings: Vec<(String, String)>,
    allowed_logs: Vec<String>,
    broker_dir: Option<PathBuf>,
    tune_gateway: Option<fn(&mut GatewayConfig)>,
}

impl ClusterBuilder {
    pub(crate) fn new() -> Self {
        ClusterBuilder {
            wiring: Wiring::InProcess,
            controllers: 1,
            brokers: 1,
            gateways: 1,
            settings: Vec::new(),
            allowed_logs: Vec::new(),
            broker_dir: None,
            tune_gateway: None,
        }
    }

    #[must_use]
    pub fn wiring(mut self, wiring: Wiring) -> Self {
        self.wiring = wiring;
        self
    }

    #[must_use]
    pub fn controllers(mut self, count: u16) -> Self {
        self.controllers = count;
        self
    }

    #[must_use]
    pub fn brokers(mut self, count: u16) -> Self {
        self.brokers = count;
        self
    }

    #[must_use]
    pub fn gateways(mut self, count: u16) -> Self {
        self.gateways = count;
        self
    }

    /// A configuration key for every process, over the test's own defaults.
    #[must_use]
    pub fn setting(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Lets pass warnings and errors that contain `text`. All others fail the test.
    #[must_use]
    pub fn allow_log(mut self, text: &str) -> Self {
        self.allowed_logs.push(text.to_owned());
        self
    }

    /// The data of broker 0's process lies here instead of in the cluster's own directory.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.broker_dir = Some(dir.into());
        self
    }

    /// Changes what no configuration key reaches, such as time-outs of connections.
    #[must_use]
    pub fn tune_gateway(mut self, tune: fn(&mut GatewayConfig)) -> Self {
        self.tune_gateway = Some(tune);
        self
    }

    /// Starts everything and waits until clients are served.
    pub async fn start(self) -> Cluster {
        let mut cluster = self.build();
        cluster.start_all();
        cluster.wait_ready().await;
        cluster
    }

    /// Lays out the cluster without starting anything.
    fn build(self) -> Cluster {
        let dir = tempfile::Builder::new()
            .prefix("strom-")
            .tempdir()
            .expect("a directory");
        let ports: Vec<Port> = (0..self.gateways)
            .map(|_| Port::reserve().expect("a port"))
            .collect();
        let mut reserved = Vec::new();
        let mut specs = match self.wiring {
            Wiring::InProcess => self.combined(&dir, &ports),
            Wiring::Grpc => self.apart(&ports, &dir, |name| socket(&dir, name)),
            Wiring::Mtls => self.apart(&ports, &dir, |_| {
                let port = Port::reserve().expect("a port");
                let address = port.address();
                reserved.push(port);
                Endpoint::tcp(address.ip().to_string(), address.port())
            }),
        };
        let authority = Authority::new(dir.path(), "authority");
        if self.wiring == Wiring::Mtls {
            for spec in &mut specs {
                let credentials = authority.issue(&spec.name, &spec.identities());
                spec.settings.extend(credentials.settings());
            }
        }
        Cluster::new(Layout {
            dir,
            ports,
            reserved,
            processes: specs.into_iter().map(Process::new).collect(),
            authority,
            allowed_logs: self.allowed_logs,
        })
    }

    fn combined(&self, dir: &TempDir, ports: &[Port]) -> Vec<Spec> {
        let count = self.controllers.max(self.brokers).max(self.gateways);
        let alone = count == 1;
        let id = i32::from;
        let voters: Vec<_> = (0..self.controllers)
            .filter(|_| !alone)
            .map(|n| (NodeId(id(n)), socket(dir, &format!("node-{n}"))))
            .collect();
        (0..count)
            .map(|n| {
                let name = format!("node-{n}");
                Spec {
                    controller: (n < self.controllers).then_some(NodeId(id(n))),
                    broker: (n < self.brokers).then_some(BrokerId(id(n))),
                    gateway: ports.get(usize::from(n)).map(Port::address),
                    voters: voters.clone(),
                    grpc: (!alone).then(|| socket(dir, &name)),
                    data_dir: self.data_of(dir, &name, n == 0),
                    settings: self.settings_of(Some(id(n))),
                    tune_gateway: self.tune_gateway,
                    name,
                }
            })
            .collect()
    }

    fn apart(&self, ports: &[Port], dir: &TempDir, mut endpoint: impl FnMut(&str) -> Endpoint) -> Vec<Spec> {
        let voters: Vec<_> = (0..self.controllers)
            .map(|n| {
                (
                    NodeId(CONTROLLER_ID_BASE + i32::from(n)),
                    endpoint(&format!("controller-{n}")),
                )
            })
            .collect();
        let spec = |name: String, id: Option<i32>, first_broker: bool| Spec {
            controller: None,
            broker: None,
            gateway: None,
            voters: voters.clone(),
            grpc: None,
            data_dir: self.data_of(dir, &name, first_broker),
            settings: self.settings_of(id),
            tune_gateway: self.tune_gateway,
            name,
        };
        let mut specs = Vec::new();
        for (n, (id, endpoint)) in voters.iter().enumerate() {
            let mut controller = spec(format!("controller-{n}"), Some(id.get()), false);
            controller.controller = Some(*id);
            controller.grpc = Some(endpoint.clone());
            specs.push(controller);
        }
        for n in 0..self.brokers {
            let mut broker = spec(format!("broker-{n}"), Some(i32::from(n)), n == 0);
            broker.broker = Some(BrokerId(i32::from(n)));
            broker.grpc = Some(endpoint(&broker.name));
            specs.push(broker);
        }
        for (n, port) in ports.iter().enumerate() {
            let mut gateway = spec(format!("gateway-{n}"), None, false);
            gateway.gateway = Some(port.address());
            specs.push(gateway);
        }
        specs
    }

    fn data_of(&self, dir: &TempDir, name: &str, first_broker: bool) -> PathBuf {
        let given = self.broker_dir.clone().filter(|_| first_broker);
        given.unwrap_or_else(|| dir.path().join(name))
    }

    fn settings_of(&self, node_id: Option<i32>) -> Vec<(String, String)> {
        let copies = self.brokers.clamp(1, 3).to_string();
        let mut settings: Vec<(String, String)> = [
            ("strom.cluster.id", CLUSTER_ID),
            ("offsets.topic.replication.factor", &copies),
            ("transaction.state.log.replication.factor", &copies),
            ("transaction.state.log.min.isr", "1"),
            // Tests do not wait for members that are still to come.
            ("group.initial.rebalance.delay.ms", "0"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
        settings.extend(node_id.map(|id| ("node.id".to_owned(), id.to_string())));
        for (key, value) in &self.settings {
            settings.retain(|(set, _)| set != key);
            settings.push((key.clone(), value.clone()));
        }
        settings
    }
}

fn socket(dir: &TempDir, name: &str) -> Endpoint {
    Endpoint::Unix(dir.path().join(format!("{name}.sock")))
}
