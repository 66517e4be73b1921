//! `strom group describe`: what a group has committed, and how far that is behind.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;

use super::members::{GroupView, MemberView, describe_group};
use crate::args::GroupNames;
use crate::exit::Error;
use crate::kafka::offsets::{LATEST, Offsets, Wanted};
use crate::kafka::{Client, KafkaError, TopicPartition};
use crate::output::{Block, Output, View, joined, or_dash};

/// Show groups: committed offset, end and lag of each partition, and who reads it
#[derive(Args, Clone, Debug)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    groups: GroupNames,
    /// Show the members instead of the partitions (JSON has both)
    #[arg(long)]
    members: bool,
}

#[derive(Debug, Serialize)]
struct Described {
    group: String,
    state: String,
    #[serde(rename = "type")]
    kind: &'static str,
    assignor: String,
    /// Sum of the lags that are known.
    lag: i64,
    members: Vec<Member>,
    partitions: Vec<Partition>,
}

#[derive(Debug, Serialize)]
struct Member {
    id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    partitions: Vec<String>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Partition {
    topic: String,
    partition: i32,
    committed_offset: Option<i64>,
    /// Null if the topic is gone or has no leader.
    end_offset: Option<i64>,
    lag: Option<i64>,
    member_id: Option<String>,
    client_id: Option<String>,
    host: Option<String>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Descriptions {
    groups: Vec<Described>,
    #[serde(skip)]
    members: bool,
}

impl View for Descriptions {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for (index, group) in self.groups.iter().enumerate() {
            if index > 0 {
                blocks.push(Block::Line(String::new()));
            }
            blocks.push(Block::Line(format!(
                "{}  state {}  type {}  assignor {}  members {}  lag {}",
                group.group,
                group.state,
                group.kind,
                if group.assignor.is_empty() {
                    "-"
                } else {
                    &group.assignor
                },
                group.members.len(),
                group.lag,
            )));
            let table = if self.members {
                member_table(group)
            } else {
                partition_table(group)
            };
            blocks.push(table);
        }
        blocks
    }
}

fn partition_table(group: &Described) -> Block {
    let row = |partition: &Partition| {
        vec![
            partition.topic.clone(),
            partition.partition.to_string(),
            or_dash(partition.committed_offset),
            or_dash(partition.end_offset),
            or_dash(partition.lag),
            or_dash(partition.member_id.as_ref()),
            or_dash(partition.host.as_ref()),
        ]
    };
    Block::Table {
        columns: &["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST"],
        rows: group.partitions.iter().map(row).collect(),
    }
}

fn member_table(group: &Described) -> Block {
    let row = |member: &Member| {
        vec![
            member.id.clone(),
            or_dash(member.instance_id.as_ref()),
            member.client_id.clone(),
            member.host.clone(),
            joined(&member.partitions),
        ]
    };
    Block::Table {
        columns: &["MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS"],
        rows: group.members.iter().map(row).collect(),
    }
}

pub(super) async fn run(args: &DescribeArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let mut groups = Vec::new();
    for name in args.groups.list() {
        groups.push(describe(client, &name).await?);
    }
    output.show(&Descriptions {
        groups,
        members: args.members,
    })
}

async fn describe(client: &Client, name: &str) -> Result<Described, KafkaError> {
    let group = describe_group(client, name).await?;
    let committed = client.committed(name).await?;
    let assigned = group
        .members
        .iter()
        .flat_map(|member| member.assignment.iter().cloned());
    let keys: BTreeSet<TopicPartition> = committed.keys().cloned().chain(assigned).collect();
    let ends = end_offsets(client, &keys).await?;
    Ok(assemble(&group, &keys, &committed, &ends))
}

/// The ends of those partitions that exist and have a leader.
async fn end_offsets(client: &Client, keys: &BTreeSet<TopicPartition>) -> Result<Offsets, KafkaError> {
    let led: BTreeSet<TopicPartition> = client
        .all_topics()
        .await?
        .iter()
        .flat_map(|topic| {
            topic
                .keys()
                .filter(|key| {
                    topic
                        .partitions
                        .get(&key.partition)
                        .is_some_and(|p| p.leader >= 0)
                })
                .collect::<Vec<_>>()
        })
        .collect();
    let wanted: Wanted = keys.intersection(&led).map(|key| (key.clone(), LATEST)).collect();
    client.list_offsets(&wanted, false).await
}

fn assemble(
    group: &GroupView,
    keys: &BTreeSet<TopicPartition>,
    committed: &Offsets,
    ends: &Offsets,
) -> Described {
    let mut owners: BTreeMap<&TopicPartition, &MemberView> = BTreeMap::new();
    for member in &group.members {
        owners.extend(member.assignment.iter().map(|key| (key, member)));
    }
    let partitions: Vec<Partition> = keys
        .iter()
        .map(|key| {
            let (at, end, owner) = (
                committed.get(key).copied(),
                ends.get(key).copied(),
                owners.get(key),
            );
            Partition {
                topic: key.topic.to_string(),
                partition: key.partition,
                committed_offset: at,
                end_offset: end,
                lag: at.zip(end).map(|(at, end)| end.saturating_sub(at).max(0)),
                member_id: owner.map(|member| member.id.clone()),
                client_id: owner.map(|member| member.client_id.clone()),
                host: owner.map(|member| member.host.clone()),
            }
        })
        .collect();
    let lag = partitions
        .iter()
        .filter_map(|partition| partition.lag)
        .fold(0_i64, i64::saturating_add);
    let members = group.members.iter().map(|member| Member {
        id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        host: member.host.clone(),
        partitions: member.assignment.iter().map(TopicPartition::to_string).collect(),
    });
    Described {
        group: group.group.clone(),
        state: group.state.clone(),
        kind: group.kind,
        assignor: group.assignor.clone(),
        lag,
        members: members.collect(),
        partitions,
    }
}
