//! `strom broker`: list, describe.

mod describe;
mod list;

use clap::Subcommand;
use strom_kafka_codec::messages::{DescribeClusterRequest, DescribeClusterResponse};

pub use self::describe::BrokerDescribeArgs;
pub use self::list::BrokerListArgs;

use crate::exit::Error;
use crate::kafka::{Client, Deadline, KafkaError, Target};
use crate::output::Output;

/// What can be asked about brokers. Apart from [`crate::Verb`]'s others, since `strom broker` alone starts one.
#[derive(Subcommand, Clone, Debug)]
pub enum BrokerVerb {
    /// List the cluster's brokers and their addresses
    List(BrokerListArgs),
    /// Show brokers: address, partitions led and held, log directories
    Describe(BrokerDescribeArgs),
}

pub(crate) async fn run(verb: BrokerVerb, output: &mut Output) -> Result<(), Error> {
    match verb {
        BrokerVerb::List(args) => list::run(&args, output).await,
        BrokerVerb::Describe(args) => describe::run(&args, output).await,
    }
}

/// The cluster, with fenced brokers where the server tells of them.
pub(crate) async fn describe_cluster(client: &Client) -> Result<DescribeClusterResponse, KafkaError> {
    let subject = "describing the cluster";
    let build = |version: i16, _: Deadline| DescribeClusterRequest {
        include_fenced_brokers: version >= 2,
        ..Default::default()
    };
    let failure = |response: &DescribeClusterResponse| {
        KafkaError::from_code(subject, response.error_code, response.error_message.as_deref())
    };
    let response = client.ask(Target::Any, subject, build, failure).await?;
    failure(&response).map_or(Ok(response), Err)
}
