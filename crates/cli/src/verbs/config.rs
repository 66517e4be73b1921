//! `strom config`: describe and alter the configs of topics, brokers and groups.

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::args::{Connect, Pair};
use crate::exit::Error;
use crate::kafka::Client;
use crate::kafka::configs::{Alteration, ConfigChange, ConfigEntry, Resource, ResourceKind};
use crate::output::{Block, Output, View, or_dash};
use crate::verbs::outcome::Outcomes;

/// Configs of topics, brokers and groups: describe, alter
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Subcommand, Clone, Debug)]
enum ConfigVerb {
    Describe(DescribeArgs),
    Alter(AlterArgs),
}

/// Whose configs
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("entity").required(true).multiple(false)
    .args(["topic", "broker", "broker_defaults", "group", "entity_type"]))]
struct Entity {
    /// A topic's
    #[arg(long, short, value_name = "TOPIC")]
    topic: Option<String>,
    /// A broker's, by id
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// The dynamic defaults of all brokers
    #[arg(long)]
    broker_defaults: bool,
    /// A consumer group's
    #[arg(long, short, value_name = "GROUP")]
    group: Option<String>,
    /// The kind, as kafka-configs writes it (with --entity-name or --entity-default)
    #[arg(long, value_enum, value_name = "KIND")]
    entity_type: Option<EntityType>,
    /// The name that goes with --entity-type
    #[arg(long, value_name = "NAME", requires = "entity_type")]
    entity_name: Option<String>,
    /// All of the kind (brokers only), instead of --entity-name
    #[arg(long, requires = "entity_type", conflicts_with = "entity_name")]
    entity_default: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EntityType {
    Topics,
    Brokers,
    Groups,
    ClientMetrics,
}

impl Entity {
    fn resource(&self) -> Result<Resource, Error> {
        let of = |kind, name: String| Ok(Resource { kind, name });
        if let Some(name) = &self.topic {
            return of(ResourceKind::Topic, name.clone());
        }
        if let Some(id) = self.broker {
            return of(ResourceKind::Broker, id.to_string());
        }
        if let Some(name) = &self.group {
            return of(ResourceKind::Group, name.clone());
        }
        let kind = match self.entity_type {
            None => return of(ResourceKind::Broker, String::new()),
            Some(EntityType::Topics) => ResourceKind::Topic,
            Some(EntityType::Brokers) => ResourceKind::Broker,
            Some(EntityType::Groups) => ResourceKind::Group,
            Some(EntityType::ClientMetrics) => ResourceKind::ClientMetrics,
        };
        match &self.entity_name {
            Some(name) => of(kind, name.clone()),
            None if self.entity_default && kind == ResourceKind::Broker => of(kind, String::new()),
            None => Err(Error::Usage(format!(
                "--entity-name is missing: which {}?",
                kind.name()
            ))),
        }
    }
}

/// Show configs: those that are not the default, or all
#[derive(Args, Clone, Debug)]
struct DescribeArgs {
    #[command(flatten)]
    entity: Entity,
    /// Also those that have their default
    #[arg(long, short)]
    all: bool,
    /// Only keys that contain this
    #[arg(long, short, value_name = "TEXT")]
    key: Option<String>,
}

/// Change configs
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true)
    .args(["set", "delete", "append", "subtract"]))]
struct AlterArgs {
    #[command(flatten)]
    entity: Entity,
    /// Set a key; may be repeated
    #[arg(long, short, visible_aliases = ["add-config", "config"], value_name = "KEY=VALUE")]
    set: Vec<Pair>,
    /// Return a key to its default; may be repeated
    #[arg(
        long,
        short,
        visible_alias = "delete-config",
        value_name = "KEY",
        value_delimiter = ','
    )]
    delete: Vec<String>,
    /// Add an entry to a list; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    append: Vec<Pair>,
    /// Take an entry out of a list; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    subtract: Vec<Pair>,
    /// Only let the cluster check whether it could be done
    #[arg(long, visible_alias = "validate-only")]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Shown {
    key: String,
    value: Option<String>,
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    read_only: bool,
    sensitive: bool,
    synonyms: Vec<Synonym>,
}

#[derive(Debug, Serialize)]
struct Synonym {
    source: &'static str,
    key: String,
    value: Option<String>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct ConfigList(Vec<Shown>);

impl View for ConfigList {
    fn blocks(&self) -> Vec<Block> {
        let row = |config: &Shown| {
            let value = if config.sensitive {
                Some("(hidden)")
            } else {
                config.value.as_deref()
            };
            let access = if config.read_only { "read-only" } else { "dynamic" };
            vec![
                config.key.clone(),
                or_dash(value),
                config.source.to_owned(),
                access.to_owned(),
            ]
        };
        vec![Block::Table {
            columns: &["KEY", "VALUE", "SOURCE", "ACCESS"],
            rows: self.0.iter().map(row).collect(),
        }]
    }
}

fn shown(entry: ConfigEntry) -> Shown {
    let synonyms = entry.synonyms.into_iter();
    Shown {
        key: entry.key,
        value: entry.value,
        source: entry.source,
        kind: entry.kind,
        read_only: entry.read_only,
        sensitive: entry.sensitive,
        synonyms: synonyms
            .map(|(source, key, value)| Synonym { source, key, value })
            .collect(),
    }
}

pub(crate) async fn run(args: ConfigArgs, output: &mut Output) -> Result<(), Error> {
    args.connect.apply(output);
    let client = args.connect.client();
    match args.verb {
        ConfigVerb::Describe(args) => describe(&args, &client, output).await,
        ConfigVerb::Alter(args) => alter(&args, &client, output).await,
    }
}

async fn describe(args: &DescribeArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let entries = client.describe_configs(&args.entity.resource()?).await?;
    let wanted = |entry: &ConfigEntry| {
        (args.all || !entry.is_default) && args.key.as_ref().is_none_or(|text| entry.key.contains(text))
    };
    output.show(&ConfigList(
        entries.into_iter().filter(wanted).map(shown).collect(),
    ))
}

async fn alter(args: &AlterArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let resource = args.entity.resource()?;
    let pairs = |change: ConfigChange, pairs: &[Pair]| -> Vec<Alteration> {
        pairs
            .iter()
            .map(|pair| (change, pair.key.clone(), Some(pair.value.clone())))
            .collect()
    };
    let mut alterations = pairs(ConfigChange::Set, &args.set);
    alterations.extend(pairs(ConfigChange::Append, &args.append));
    alterations.extend(pairs(ConfigChange::Subtract, &args.subtract));
    alterations.extend(
        args.delete
            .iter()
            .map(|key| (ConfigChange::Delete, key.clone(), None)),
    );
    let result = client.alter_configs(&resource, &alterations, args.dry_run).await;
    let mut outcomes = Outcomes::default();
    let done = if args.dry_run {
        "would be altered"
    } else {
        "altered"
    };
    outcomes.add(&resource.subject(), done, result);
    outcomes.settle(output)
}
