//! `strom broker list`.

use clap::{Args, Subcommand};
use serde::Serialize;
use strom_kafka_codec::messages::{DescribeClusterRequest, DescribeClusterResponse};

use crate::args::Connect;
use crate::exit::Error;
use crate::kafka::{Client, Deadline, KafkaError, Target};
use crate::output::{Block, Output, View, or_dash};

/// What can be asked about brokers. Apart from [`crate::Verb`]'s others, since `strom broker` alone starts one.
#[derive(Subcommand, Clone, Debug)]
pub enum BrokerVerb {
    /// List the cluster's brokers and their addresses
    List(BrokerListArgs),
}

#[derive(Args, Clone, Debug)]
pub struct BrokerListArgs {
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Serialize)]
struct Broker {
    id: i32,
    host: String,
    port: i32,
    rack: Option<String>,
    fenced: bool,
}

#[derive(Serialize)]
struct BrokerList {
    cluster_id: String,
    brokers: Vec<Broker>,
}

impl View for BrokerList {
    fn blocks(&self) -> Vec<Block> {
        let row = |broker: &Broker| {
            let state = if broker.fenced { "fenced" } else { "active" };
            vec![
                broker.id.to_string(),
                broker.host.clone(),
                broker.port.to_string(),
                or_dash(broker.rack.as_ref()),
                state.to_owned(),
            ]
        };
        vec![
            Block::Line(format!("cluster {}", self.cluster_id)),
            Block::Table {
                columns: &["ID", "HOST", "PORT", "RACK", "STATE"],
                rows: self.brokers.iter().map(row).collect(),
            },
        ]
    }
}

pub(crate) async fn run(verb: BrokerVerb, output: &mut Output) -> Result<(), Error> {
    let BrokerVerb::List(args) = verb;
    args.connect.apply(output);
    let found = describe_cluster(&args.connect.client()).await?;
    let mut brokers: Vec<Broker> = found
        .brokers
        .iter()
        .map(|broker| Broker {
            id: broker.broker_id,
            host: broker.host.as_str().to_owned(),
            port: broker.port,
            rack: broker.rack.as_ref().map(|rack| rack.as_str().to_owned()),
            fenced: broker.is_fenced,
        })
        .collect();
    brokers.sort_by_key(|broker| broker.id);
    output.show(&BrokerList {
        cluster_id: found.cluster_id.as_str().to_owned(),
        brokers,
    })
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
