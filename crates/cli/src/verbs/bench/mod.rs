//! `strom bench`: how fast a cluster produces, consumes, and carries a record from end to end.

mod consume;
mod latency;
mod machine;
mod payload;
mod produce;
mod report;

use clap::{Args, Subcommand};
use strom_types::ErrorCode;

use crate::args::{Connect, Pair};
use crate::exit::Error;
use crate::kafka::{Client, KafkaError};
use crate::output::Output;
use crate::verbs::topic::create::{NewTopic, create_topic};

/// Measure a cluster: produce, consume, latency; with percentiles and the facts of this machine
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    #[command(subcommand)]
    verb: BenchVerb,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Subcommand, Clone, Debug)]
enum BenchVerb {
    Produce(produce::ProduceArgs),
    Consume(consume::ConsumeArgs),
    Latency(latency::LatencyArgs),
}

/// The topic to measure on
#[derive(Args, Clone, Debug)]
struct BenchTopic {
    /// Topic; created if it does not exist, and left there
    #[arg(long, short, value_name = "TOPIC", default_value = "strom-bench")]
    topic: String,
    /// Partitions, if it is created
    #[arg(long, short, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Copies, if it is created [default: the cluster's default.replication.factor]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A topic config, if it is created; may be repeated
    #[arg(long = "config", short = 'c', value_name = "KEY=VALUE")]
    configs: Vec<Pair>,
}

impl BenchTopic {
    /// Makes sure that the topic is there.
    async fn ensure(&self, client: &Client) -> Result<(), KafkaError> {
        let spec = NewTopic {
            name: &self.topic,
            partitions: Some(self.partitions),
            replication_factor: self.replication_factor,
            configs: &self.configs,
            validate_only: false,
        };
        match create_topic(client, &spec).await {
            Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => Err(error),
            _ => client.topic(&self.topic).await.map(|_| ()),
        }
    }
}

pub(crate) async fn run(args: BenchArgs, output: &mut Output) -> Result<(), Error> {
    args.connect.apply(output);
    match args.verb {
        BenchVerb::Produce(verb) => produce::run(&verb, &args.connect, output).await,
        BenchVerb::Consume(verb) => consume::run(&verb, &args.connect, output).await,
        BenchVerb::Latency(verb) => latency::run(&verb, &args.connect, output).await,
    }
}
