//! The command line: roles here, operator's verbs from `strom-cli`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A Kafka-compatible distributed log: roles to run, and verbs to operate a cluster with.
#[derive(Debug, Parser)]
#[command(name = "strom", version, about, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Role(Role),
    #[command(flatten)]
    Verb(strom_cli::Verb),
}

/// What this process is to be.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Run all three roles in one process, with no configuration needed
    Standalone(StandaloneArgs),
    /// Run a controller: a member of the metadata quorum
    Controller(ControllerArgs),
    /// Run a broker: partition logs and their replicas, group coordinator; or ask about brokers
    Broker(BrokerArgs),
    /// Run a gateway: the Kafka protocol for clients
    Gateway(GatewayArgs),
    /// Run the roles of process.roles, configured as a Kafka node is (files, environment)
    Server(ServerArgs),
}

/// Options of every role.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CommonArgs {
    /// Address of the admin HTTP server (probes, metrics) [strom.admin.listener]
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Set a configuration key; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// Read a TOML configuration file; may be repeated, later files win
    #[arg(long = "config", value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Read a Kafka server.properties file; may be repeated, later files win
    #[arg(long = "properties", value_name = "FILE")]
    pub properties: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StandaloneArgs {
    /// Where all data lies [log.dirs]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address for Kafka clients [listeners]
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ControllerArgs {
    /// This controller's id [node.id]
    #[arg(long)]
    pub node_id: Option<i32>,
    /// Where the metadata lies [log.dirs]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address for other services, host:port or unix:///path [strom.grpc.listener]
    #[arg(long, value_name = "ADDRESS")]
    pub grpc: Option<String>,
    /// All controllers of the quorum, as ID@ADDRESS, comma-separated [strom.controller.bootstrap]
    #[arg(long, value_name = "ID@ADDRESS,...")]
    pub voters: Option<String>,
    /// Id of the cluster, the same for all [strom.cluster.id]
    #[arg(long)]
    pub cluster_id: Option<String>,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BrokerArgs {
    /// Without one of these, the broker role is run
    #[command(subcommand)]
    pub verb: Option<strom_cli::BrokerVerb>,
    /// The broker id that clients see [node.id]
    #[arg(long)]
    pub node_id: Option<i32>,
    /// Where the partitions' logs lie [log.dirs]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address for other services, host:port or unix:///path [strom.grpc.listener]
    #[arg(long, value_name = "ADDRESS")]
    pub grpc: Option<String>,
    /// The controllers, as [ID@]ADDRESS, comma-separated [strom.controller.bootstrap]
    #[arg(long, value_name = "ADDRESS,...")]
    pub controllers: Option<String>,
    /// Id of the cluster that this broker must belong to [strom.cluster.id]
    #[arg(long)]
    pub cluster_id: Option<String>,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// Address for Kafka clients [listeners]
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// Broker id N is reached at this port + N [strom.kafka.broker.ports]
    #[arg(long, value_name = "PORT")]
    pub broker_ports: Option<u16>,
    /// The controllers, as [ID@]ADDRESS, comma-separated [strom.controller.bootstrap]
    #[arg(long, value_name = "ADDRESS,...")]
    pub controllers: Option<String>,
    /// Id of the cluster that this gateway must belong to [strom.cluster.id]
    #[arg(long)]
    pub cluster_id: Option<String>,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Roles of this process: controller, broker, gateway [process.roles]
    #[arg(long, value_name = "ROLE,...")]
    pub roles: Option<String>,
    #[command(flatten)]
    pub common: CommonArgs,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}
