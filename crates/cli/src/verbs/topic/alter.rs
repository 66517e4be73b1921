//! `strom topic alter`.

use clap::Args;
use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::create_partitions_request::CreatePartitionsTopic;
use strom_kafka_codec::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::args::{Pair, TopicNames};
use crate::exit::Error;
use crate::kafka::configs::{Alteration, ConfigChange, Resource};
use crate::kafka::{Client, Deadline, KafkaError, Target};
use crate::output::Output;
use crate::verbs::outcome::Outcomes;

/// Change topics: add partitions, set or delete configs
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true)
    .args(["add_partitions", "partitions", "configs", "delete_configs"]))]
pub(crate) struct AlterArgs {
    #[command(flatten)]
    topics: TopicNames,
    /// Add this many partitions
    #[arg(long, visible_alias = "add-partition", value_name = "N", conflicts_with = "partitions",
        value_parser = clap::value_parser!(i32).range(1..))]
    add_partitions: Option<i32>,
    /// Bring the number of partitions up to this, as kafka-topics does
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Set a config; may be repeated
    #[arg(
        long = "config",
        short = 'c',
        visible_alias = "add-config",
        value_name = "KEY=VALUE"
    )]
    configs: Vec<Pair>,
    /// Return a config to its default; may be repeated
    #[arg(long = "delete-config", value_name = "KEY", value_delimiter = ',')]
    delete_configs: Vec<String>,
    /// Only let the cluster check whether it could be done
    #[arg(long, visible_alias = "validate-only")]
    dry_run: bool,
}

pub(super) async fn run(args: &AlterArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let mut alterations: Vec<Alteration> = Vec::new();
    for pair in &args.configs {
        alterations.push((ConfigChange::Set, pair.key.clone(), Some(pair.value.clone())));
    }
    for key in &args.delete_configs {
        alterations.push((ConfigChange::Delete, key.clone(), None));
    }
    let mut outcomes = Outcomes::default();
    let would = if args.dry_run { "would be " } else { "" };
    for name in args.topics.list() {
        if args.add_partitions.is_some() || args.partitions.is_some() {
            let result = grow(args, client, &name).await;
            let (count, result) = result.map_or_else(|error| (0, Err(error)), |count| (count, Ok(())));
            outcomes.add(&name, &format!("{would}grown to {count} partitions"), result);
        }
        if !alterations.is_empty() {
            let result = client
                .alter_configs(&Resource::topic(&name), &alterations, args.dry_run)
                .await;
            outcomes.add(&name, &format!("configs {would}altered"), result);
        }
    }
    outcomes.settle(output)
}

/// Adds partitions and says how many there are then.
async fn grow(args: &AlterArgs, client: &Client, name: &str) -> Result<i32, KafkaError> {
    let present = client.topic(name).await?.partitions.len();
    let present = i32::try_from(present).unwrap_or(i32::MAX);
    let count = args
        .partitions
        .unwrap_or_else(|| present.saturating_add(args.add_partitions.unwrap_or(0)));
    let subject = format!("partitions of topic {name}");
    let build = |_: i16, deadline: Deadline| CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: ByteStr::from(name.to_owned()),
            count,
            assignments: None,
        }],
        timeout_ms: deadline.remaining_ms(),
        validate_only: args.dry_run,
    };
    let failure = |response: &CreatePartitionsResponse| {
        let mut results = response.results.iter();
        results.find_map(|r| KafkaError::from_code(&subject, r.error_code, r.error_message.as_deref()))
    };
    let response = client.ask(Target::Any, &subject, build, failure).await?;
    failure(&response).map_or(Ok(count), Err)
}
