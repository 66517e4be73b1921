//! From the command line, files and environment to what this process is to run.

mod security;

use std::path::PathBuf;

use strom_runtime::config::{LoadError, Sources, load};
use strom_runtime::listeners::ListenerError;
use strom_runtime::tls::TlsError;
use strom_runtime::{Endpoint, InternalTls, Listeners, Settings};
use strom_types::NodeId;
use thiserror::Error;

use crate::args::{BrokerArgs, CommonArgs, ControllerArgs, GatewayArgs, Role, ServerArgs, StandaloneArgs};

/// Command line tools' variables; not configuration.
const IGNORED_ENV: &[&str] = &["STROM_BOOTSTRAP_SERVERS", "STROM_BIN", "STROM_CACHE_DIR"];
const STANDALONE_DATA: &str = "strom-data";
/// One node cannot hold more than one copy.
const ALONE_PRESETS: &[(&str, &str)] = &[
    ("node.id", "0"),
    ("process.roles", "controller,broker,gateway"),
    ("offsets.topic.replication.factor", "1"),
];
const STANDALONE_LISTENERS: (&str, &str) = ("listeners", "PLAINTEXT://127.0.0.1:9092");

#[derive(Debug, Error)]
pub(crate) enum PlanError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Listener(#[from] ListenerError),
    #[error("{key} is not set, and the {role} needs it")]
    Missing { key: &'static str, role: &'static str },
    #[error("strom.controller.bootstrap: {0:?} is not of the form ID@ADDRESS")]
    Voter(String),
    #[error("strom.kafka.broker.ports: {0:?} is not of the form PORT or LISTENER:PORT")]
    BrokerPorts(String),
    #[error("process.roles: there is no role {0:?}; the roles are controller, broker and gateway")]
    Role(String),
    #[error("strom.grpc.listener: {0}")]
    Endpoint(#[from] strom_runtime::endpoint::EndpointError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "the way between services leaves this machine ({0}): set strom.grpc.tls.*, or \
         strom.grpc.security.protocol=PLAINTEXT if everybody on that network may be trusted"
    )]
    Plaintext(String),
}

/// A controller as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voter {
    pub node_id: Option<NodeId>,
    pub endpoint: String,
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub settings: Settings,
    pub controller: bool,
    pub broker: bool,
    pub gateway: bool,
    /// Everything in this process, with no socket between the roles.
    pub standalone: bool,
    pub node_id: Option<NodeId>,
    pub data_dir: PathBuf,
    pub controllers: Vec<Voter>,
    pub grpc: Option<Endpoint>,
    /// Where others reach this process's gRPC listener.
    pub grpc_advertised: Option<String>,
    /// Between the services; `None` = plain text.
    pub tls: Option<InternalTls>,
    pub listeners: Listeners,
    pub broker_ports: BrokerPorts,
}

/// On which ports a gateway serves each broker id, by listener.
#[derive(Debug, Default)]
pub(crate) struct BrokerPorts {
    by_listener: Vec<(Option<String>, u16)>,
}

impl BrokerPorts {
    fn parse(settings: &Settings) -> Result<Self, PlanError> {
        let parse = |entry: String| -> Result<_, PlanError> {
            let (listener, port) = match entry.split_once(':') {
                Some((listener, port)) => (Some(listener.to_ascii_uppercase()), port),
                None => (None, entry.as_str()),
            };
            let port = port.parse().map_err(|_| PlanError::BrokerPorts(entry.clone()))?;
            Ok((listener, port))
        };
        let by_listener = settings
            .list("strom.kafka.broker.ports")
            .into_iter()
            .map(parse)
            .collect::<Result<_, _>>()?;
        Ok(BrokerPorts { by_listener })
    }

    /// The port of broker id 0 on this listener; those of the others follow.
    pub(crate) fn of(&self, listener: &str) -> Option<u16> {
        let matches = |name: &Option<String>| name.as_deref().is_none_or(|name| name == listener);
        self.by_listener
            .iter()
            .find(|(name, _)| matches(name))
            .map(|(_, port)| *port)
    }
}

impl Plan {
    pub(crate) fn of(role: Role) -> Result<Plan, PlanError> {
        match role {
            Role::Standalone(args) => Self::standalone(args),
            Role::Controller(args) => Self::controller(args),
            Role::Broker(args) => Self::broker(args),
            Role::Gateway(args) => Self::gateway(args),
            Role::Server(args) => Self::server(args),
        }
    }

    fn standalone(args: StandaloneArgs) -> Result<Plan, PlanError> {
        let mut flags = Flags::default();
        flags.put("log.dirs", args.data_dir.map(|dir| dir.display().to_string()));
        flags.put(
            "listeners",
            args.kafka.map(|address| format!("PLAINTEXT://{address}")),
        );
        let presets = [ALONE_PRESETS, &[STANDALONE_LISTENERS]].concat();
        Self::build(settings(&presets, flags, args.common)?, true)
    }

    fn controller(args: ControllerArgs) -> Result<Plan, PlanError> {
        let mut flags = Flags::default();
        flags.put("node.id", args.node_id.map(|id| id.to_string()));
        flags.put("log.dirs", args.data_dir.map(|dir| dir.display().to_string()));
        flags.put("strom.grpc.listener", args.grpc);
        flags.put("strom.controller.bootstrap", args.voters);
        flags.put("strom.cluster.id", args.cluster_id);
        Self::build(
            settings(&[("process.roles", "controller")], flags, args.common)?,
            false,
        )
    }

    fn broker(args: BrokerArgs) -> Result<Plan, PlanError> {
        let mut flags = Flags::default();
        flags.put("node.id", args.node_id.map(|id| id.to_string()));
        flags.put("log.dirs", args.data_dir.map(|dir| dir.display().to_string()));
        flags.put("strom.grpc.listener", args.grpc);
        flags.put("strom.controller.bootstrap", args.controllers);
        flags.put("strom.cluster.id", args.cluster_id);
        Self::build(
            settings(&[("process.roles", "broker")], flags, args.common)?,
            false,
        )
    }

    fn gateway(args: GatewayArgs) -> Result<Plan, PlanError> {
        let mut flags = Flags::default();
        flags.put(
            "listeners",
            args.kafka.map(|address| format!("PLAINTEXT://{address}")),
        );
        flags.put(
            "strom.kafka.broker.ports",
            args.broker_ports.map(|port| port.to_string()),
        );
        flags.put("strom.controller.bootstrap", args.controllers);
        flags.put("strom.cluster.id", args.cluster_id);
        Self::build(
            settings(&[("process.roles", "gateway")], flags, args.common)?,
            false,
        )
    }

    /// As a Kafka node is configured. A lone node that is its own controller needs nothing else.
    fn server(args: ServerArgs) -> Result<Plan, PlanError> {
        let mut flags = Flags::default();
        flags.put("process.roles", args.roles);
        let joined = settings(&[], flags.clone(), args.common.clone())?;
        if joined.list("strom.controller.bootstrap").is_empty() {
            return Self::build(settings(ALONE_PRESETS, flags, args.common)?, true);
        }
        Self::build(joined, false)
    }

    fn build(settings: Settings, standalone: bool) -> Result<Plan, PlanError> {
        let mut plan = Plan {
            controller: false,
            broker: false,
            gateway: false,
            standalone,
            node_id: settings.node_id().map(NodeId),
            data_dir: data_dir(&settings),
            controllers: voters(&settings)?,
            grpc: None,
            grpc_advertised: None,
            tls: None,
            listeners: Listeners::default(),
            broker_ports: BrokerPorts::parse(&settings)?,
            settings,
        };
        plan.take_roles()?;
        if plan.gateway {
            plan.listeners = Listeners::from_settings(&plan.settings)?;
        }
        if !standalone && (plan.controller || plan.broker) {
            let listener = plan.settings.text("strom.grpc.listener").unwrap_or_default();
            let endpoint: Endpoint = listener.parse()?;
            let advertised = plan.settings.text("strom.grpc.advertised");
            plan.grpc_advertised = Some(advertised.unwrap_or_else(|| endpoint.to_string()));
            plan.grpc = Some(endpoint);
        }
        plan.check()?;
        if !standalone {
            plan.secure()?;
        }
        Ok(plan)
    }

    fn take_roles(&mut self) -> Result<(), PlanError> {
        let roles = self.settings.list("process.roles");
        for role in &roles {
            match role.trim() {
                "controller" => self.controller = true,
                "broker" => self.broker = true,
                "gateway" => self.gateway = true,
                other => return Err(PlanError::Role(other.to_owned())),
            }
        }
        if roles.is_empty() {
            (self.controller, self.broker) = (true, true);
        }
        // Kafka's brokers serve clients themselves: a node that is both of Kafka's roles has a gateway, too.
        if self.controller && self.broker {
            self.gateway = true;
        }
        Ok(())
    }

    /// The roles' names, comma-separated.
    pub(crate) fn roles(&self) -> String {
        let roles = [
            ("controller", self.controller),
            ("broker", self.broker),
            ("gateway", self.gateway),
        ];
        roles
            .iter()
            .filter(|(_, runs)| *runs)
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(",")
    }

    fn check(&self) -> Result<(), PlanError> {
        let missing = |key, role| Err(PlanError::Missing { key, role });
        if self.broker && self.node_id.is_none() {
            return missing("node.id", "broker");
        }
        if self.controller && self.node_id.is_none() {
            return missing("node.id", "controller");
        }
        if !self.standalone && self.controllers.is_empty() {
            return missing("strom.controller.bootstrap", "process");
        }
        Ok(())
    }
}

/// Flags that were given.
#[derive(Clone, Default)]
struct Flags(Vec<(String, String)>);

impl Flags {
    fn put(&mut self, key: &str, value: Option<String>) {
        self.0.extend(value.map(|value| (key.to_owned(), value)));
    }
}

fn settings(presets: &[(&str, &str)], flags: Flags, common: CommonArgs) -> Result<Settings, PlanError> {
    let mut flags = flags;
    flags.put("strom.admin.listener", common.admin);
    flags.0.extend(common.set);
    let sources = Sources {
        presets: presets
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        toml: common.config,
        properties: common.properties,
        env: std::env::vars().collect(),
        ignored_env: IGNORED_ENV.iter().map(|name| (*name).to_owned()).collect(),
        flags: flags.0,
    };
    Ok(load(&sources)?)
}

fn data_dir(settings: &Settings) -> PathBuf {
    let set = settings.setting("log.dirs").is_some() || settings.setting("log.dir").is_some();
    match settings.log_dirs().into_iter().next() {
        Some(dir) if set => dir,
        _ => PathBuf::from(STANDALONE_DATA),
    }
}

/// `[ID@]ADDRESS` each.
fn voters(settings: &Settings) -> Result<Vec<Voter>, PlanError> {
    let parse = |entry: String| {
        let (id, endpoint) = match entry.split_once('@') {
            Some((id, endpoint)) => {
                let id = id.parse().map_err(|_| PlanError::Voter(entry.clone()))?;
                (Some(NodeId(id)), endpoint.to_owned())
            }
            None => (None, entry.clone()),
        };
        Ok(Voter {
            node_id: id,
            endpoint,
        })
    };
    settings
        .list("strom.controller.bootstrap")
        .into_iter()
        .map(parse)
        .collect()
}
