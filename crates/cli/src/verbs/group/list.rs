//! `strom group list`.

use clap::Args;
use serde::Serialize;
use strom_kafka_codec::messages::{ListGroupsRequest, ListGroupsResponse};

use crate::exit::Error;
use crate::kafka::{Client, Deadline, KafkaError, Target};
use crate::output::{Block, Output, View};
use crate::verbs::broker::describe_cluster;

/// List groups, their state and coordinator
#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// Only groups in this state (Stable, Empty, PreparingRebalance, …)
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<String>,
    /// Only group ids, one a line
    #[arg(long)]
    names: bool,
}

#[derive(Debug, Serialize)]
struct Listed {
    group: String,
    state: String,
    #[serde(rename = "type")]
    kind: String,
    protocol_type: String,
    coordinator: i32,
}

#[derive(Serialize)]
#[serde(transparent)]
struct GroupList {
    groups: Vec<Listed>,
    #[serde(skip)]
    names: bool,
}

impl View for GroupList {
    fn blocks(&self) -> Vec<Block> {
        if self.names {
            return self
                .groups
                .iter()
                .map(|group| Block::Line(group.group.clone()))
                .collect();
        }
        let dash = |text: &str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text.to_owned()
            }
        };
        let row = |group: &Listed| {
            vec![
                group.group.clone(),
                dash(&group.state),
                dash(&group.kind),
                dash(&group.protocol_type),
                group.coordinator.to_string(),
            ]
        };
        vec![Block::Table {
            columns: &["GROUP", "STATE", "TYPE", "PROTOCOL", "COORDINATOR"],
            rows: self.groups.iter().map(row).collect(),
        }]
    }
}

pub(super) async fn run(args: &ListArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let mut groups = Vec::new();
    // Each broker knows the groups it coordinates.
    for broker in describe_cluster(client)
        .await?
        .brokers
        .iter()
        .filter(|broker| !broker.is_fenced)
    {
        groups.extend(list_at(client, broker.broker_id).await?);
    }
    if !args.state.is_empty() {
        // Filtered here, since servers differ in which versions filter.
        groups.retain(|group| {
            args.state
                .iter()
                .any(|state| group.state.eq_ignore_ascii_case(state))
        });
    }
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    groups.dedup_by(|a, b| a.group == b.group);
    output.show(&GroupList {
        groups,
        names: args.names,
    })
}

async fn list_at(client: &Client, broker: i32) -> Result<Vec<Listed>, KafkaError> {
    let subject = format!("listing the groups of broker {broker}");
    let build = |_: i16, _: Deadline| ListGroupsRequest::default();
    let failure = |response: &ListGroupsResponse| KafkaError::from_code(&subject, response.error_code, None);
    let response = client
        .ask(Target::Broker(broker), &subject, build, failure)
        .await?;
    if let Some(error) = failure(&response) {
        return Err(error);
    }
    let listed = response.groups.iter().map(|group| Listed {
        group: group.group_id.as_str().to_owned(),
        state: group.group_state.as_str().to_owned(),
        kind: group.group_type.as_str().to_owned(),
        protocol_type: group.protocol_type.as_str().to_owned(),
        coordinator: broker,
    });
    Ok(listed.collect())
}
