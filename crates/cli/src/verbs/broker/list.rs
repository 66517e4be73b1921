//! `strom broker list`.

use clap::Args;
use serde::Serialize;

use super::describe_cluster;
use crate::args::Connect;
use crate::exit::Error;
use crate::output::{Block, Output, View, or_dash};

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

pub(super) async fn run(args: &BrokerListArgs, output: &mut Output) -> Result<(), Error> {
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
