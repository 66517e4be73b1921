//! `strom topic describe`.

use clap::Args;
use serde::Serialize;

use crate::args::TopicNames;
use crate::base64::kafka_uuid;
use crate::exit::Error;
use crate::kafka::configs::Resource;
use crate::kafka::offsets::{EARLIEST, LATEST, Offsets, Wanted};
use crate::kafka::{Client, KafkaError, TopicPartition, TopicView};
use crate::output::{Block, Output, View, joined, or_dash};

/// Show topics: leader, replicas and ISR of each partition, and configs that are not the default
#[derive(Args, Clone, Debug)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    topics: TopicNames,
    /// Also show each partition's first and next offset
    #[arg(long)]
    offsets: bool,
}

#[derive(Debug, Serialize)]
struct Described {
    name: String,
    id: String,
    internal: bool,
    replication_factor: usize,
    configs: Vec<Config>,
    partitions: Vec<Partition>,
}

#[derive(Debug, Serialize)]
struct Config {
    key: String,
    value: Option<String>,
    source: &'static str,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: Option<i32>,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    offline: Vec<i32>,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Descriptions {
    topics: Vec<Described>,
    #[serde(skip)]
    offsets: bool,
}

impl View for Descriptions {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for (index, topic) in self.topics.iter().enumerate() {
            if index > 0 {
                blocks.push(Block::Line(String::new()));
            }
            blocks.push(Block::Line(format!(
                "{}  id {}  {} partitions  replication factor {}{}",
                topic.name,
                topic.id,
                topic.partitions.len(),
                topic.replication_factor,
                if topic.internal { "  internal" } else { "" },
            )));
            blocks.push(partition_table(&topic.partitions, self.offsets));
            if !topic.configs.is_empty() {
                let row = |config: &Config| {
                    vec![
                        config.key.clone(),
                        or_dash(config.value.as_ref()),
                        config.source.to_owned(),
                    ]
                };
                let rows = topic.configs.iter().map(row).collect();
                blocks.push(Block::Line(String::new()));
                blocks.push(Block::Table {
                    columns: &["CONFIG", "VALUE", "SOURCE"],
                    rows,
                });
            }
        }
        blocks
    }
}

fn partition_table(partitions: &[Partition], offsets: bool) -> Block {
    let row = |partition: &Partition| {
        let mut row = vec![
            partition.partition.to_string(),
            or_dash(partition.leader),
            or_dash(partition.leader_epoch),
            joined(&partition.replicas),
            joined(&partition.isr),
            joined(&partition.offline),
        ];
        if offsets {
            row.push(or_dash(partition.start_offset));
            row.push(or_dash(partition.end_offset));
        }
        row
    };
    let columns: &'static [&'static str] = if offsets {
        &[
            "PARTITION",
            "LEADER",
            "EPOCH",
            "REPLICAS",
            "ISR",
            "OFFLINE",
            "START",
            "END",
        ]
    } else {
        &["PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "OFFLINE"]
    };
    Block::Table {
        columns,
        rows: partitions.iter().map(row).collect(),
    }
}

pub(super) async fn run(args: &DescribeArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let topics = client.topics(&args.topics.list()).await?;
    let mut described = Vec::new();
    for topic in &topics {
        described.push(describe(topic, args.offsets, client).await?);
    }
    output.show(&Descriptions {
        topics: described,
        offsets: args.offsets,
    })
}

async fn describe(topic: &TopicView, offsets: bool, client: &Client) -> Result<Described, KafkaError> {
    let entries = client.describe_configs(&Resource::topic(&topic.name)).await?;
    let configs = entries.into_iter().filter(|entry| !entry.is_default);
    let (starts, ends) = if offsets {
        (
            ask_offsets(topic, EARLIEST, client).await?,
            ask_offsets(topic, LATEST, client).await?,
        )
    } else {
        Default::default()
    };
    let partitions = topic.partitions.iter().map(|(&index, view)| {
        let key = TopicPartition::new(&topic.name, index);
        Partition {
            partition: index,
            leader: (view.leader >= 0).then_some(view.leader),
            leader_epoch: (view.leader_epoch >= 0).then_some(view.leader_epoch),
            replicas: view.replicas.clone(),
            isr: view.isr.clone(),
            offline: view.offline.clone(),
            start_offset: starts.get(&key).copied(),
            end_offset: ends.get(&key).copied(),
        }
    });
    Ok(Described {
        name: topic.name.clone(),
        id: kafka_uuid(topic.id),
        internal: topic.internal,
        replication_factor: topic
            .partitions
            .values()
            .map(|p| p.replicas.len())
            .max()
            .unwrap_or(0),
        configs: configs
            .map(|c| Config {
                key: c.key,
                value: c.value,
                source: c.source,
            })
            .collect(),
        partitions: partitions.collect(),
    })
}

/// Only of partitions with a leader: the others have none to ask, and the table shows that.
async fn ask_offsets(topic: &TopicView, timestamp: i64, client: &Client) -> Result<Offsets, KafkaError> {
    let led = topic.partitions.iter().filter(|(_, view)| view.leader >= 0);
    let wanted: Wanted = led
        .map(|(&index, _)| (TopicPartition::new(&topic.name, index), timestamp))
        .collect();
    client.list_offsets(&wanted, false).await
}
