//! `strom topic list`.

use clap::Args;
use serde::Serialize;

use crate::base64::kafka_uuid;
use crate::exit::Error;
use crate::kafka::{Client, TopicView};
use crate::output::{Block, Output, View};

/// List topics
#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// Also list internal topics (__consumer_offsets, __transaction_state)
    #[arg(long, short)]
    internal: bool,
    /// Only names, one a line
    #[arg(long)]
    names: bool,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    id: String,
    partitions: usize,
    replication_factor: usize,
    internal: bool,
}

#[derive(Serialize)]
#[serde(transparent)]
struct TopicList {
    topics: Vec<Listed>,
    #[serde(skip)]
    names: bool,
}

impl View for TopicList {
    fn blocks(&self) -> Vec<Block> {
        if self.names {
            return self
                .topics
                .iter()
                .map(|topic| Block::Line(topic.name.clone()))
                .collect();
        }
        let rows = self.topics.iter().map(|topic| {
            vec![
                topic.name.clone(),
                topic.partitions.to_string(),
                topic.replication_factor.to_string(),
            ]
        });
        vec![Block::Table {
            columns: &["NAME", "PARTITIONS", "REPLICATION-FACTOR"],
            rows: rows.collect(),
        }]
    }
}

pub(super) async fn run(args: &ListArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let all = client.all_topics().await?;
    let shown = all.iter().filter(|topic| args.internal || !topic.internal);
    output.show(&TopicList {
        topics: shown.map(listed).collect(),
        names: args.names,
    })
}

fn listed(topic: &TopicView) -> Listed {
    Listed {
        name: topic.name.clone(),
        id: kafka_uuid(topic.id),
        partitions: topic.partitions.len(),
        replication_factor: topic
            .partitions
            .values()
            .map(|p| p.replicas.len())
            .max()
            .unwrap_or(0),
        internal: topic.internal,
    }
}
