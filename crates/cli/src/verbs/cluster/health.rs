//! `strom cluster health`: whether all brokers, partitions and the controller are well, and if not, why.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use strom_kafka_codec::messages::DescribeClusterResponse;

use super::MIN_ISR;
use crate::args::{Connect, Span};
use crate::exit::Error;
use crate::interrupt::Interrupts;
use crate::kafka::topics::PartitionView;
use crate::kafka::{Client, KafkaError, TopicPartition, TopicView};
use crate::output::{Block, Format, Output, View, or_dash};
use crate::verbs::broker::describe_cluster;
use crate::verbs::quorum::describe_quorum;

/// How long to look for the controller: without one, a server only answers when its patience is over.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(5);
/// How many partitions a reason names; JSON has them all.
const NAMED_MAX: usize = 5;

/// Say whether the cluster is healthy, and if not, why (exit code 3)
#[derive(Args, Clone, Debug)]
pub(crate) struct HealthArgs {
    /// Go on, and show each change
    #[arg(long, short)]
    watch: bool,
    /// Watch until the cluster is healthy
    #[arg(long, short)]
    exit_when_healthy: bool,
    /// How often to look while watching
    #[arg(long, value_name = "TIME", default_value = "2s")]
    interval: Span,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Health {
    healthy: bool,
    /// What is wrong, for people.
    reasons: Vec<String>,
    cluster_id: Option<String>,
    controller: Option<i32>,
    brokers: usize,
    brokers_down: Vec<i32>,
    topics: usize,
    partitions: usize,
    /// Partitions by name: without a leader, with fewer replicas in sync than there are, with fewer than
    /// min.insync.replicas.
    offline: Vec<String>,
    under_replicated: Vec<String>,
    under_min_isr: Vec<String>,
}

impl View for Health {
    fn blocks(&self) -> Vec<Block> {
        let state = if self.healthy { "healthy" } else { "unhealthy" };
        let mut blocks = vec![Block::Line(format!(
            "{state}  cluster {}  controller {}  brokers {} of {}  topics {}  partitions {}",
            or_dash(self.cluster_id.as_ref()),
            or_dash(self.controller),
            self.brokers.saturating_sub(self.brokers_down.len()),
            self.brokers,
            self.topics,
            self.partitions,
        ))];
        let reasons = self.reasons.iter();
        blocks.extend(reasons.map(|reason| Block::Line(format!("  {reason}"))));
        blocks
    }
}

pub(super) async fn run(args: &HealthArgs, connect: &Connect, output: &mut Output) -> Result<(), Error> {
    let mut interrupts = Interrupts::listen()?;
    let client = connect.client();
    let mut shown = None;
    loop {
        let health = look(&client, connect).await;
        let watching = (args.watch || args.exit_when_healthy) && !(args.exit_when_healthy && health.healthy);
        if shown.as_ref() != Some(&health) {
            show(&health, args.watch || args.exit_when_healthy, output)?;
        }
        let pause = tokio::time::sleep(args.interval.0);
        let go_on = watching
            && tokio::select! {
                () = pause => true,
                () = interrupts.recv() => false,
            };
        if !go_on {
            return match health.reasons.len() {
                0 => Ok(()),
                1 => Err(Error::Unhealthy(
                    "the cluster is unhealthy, for one reason".to_owned(),
                )),
                reasons => Err(Error::Unhealthy(format!(
                    "the cluster is unhealthy, for {reasons} reasons"
                ))),
            };
        }
        shown = Some(health);
    }
}

/// A program that watches reads one line per change.
fn show(health: &Health, watching: bool, output: &mut Output) -> Result<(), Error> {
    if watching && output.format == Format::Json {
        output.json_line(health)?;
        return output.flush();
    }
    output.show(health)
}

/// Looks once. That nobody answers is a finding, too.
async fn look(client: &Client, connect: &Connect) -> Health {
    let mut health = Health::default();
    if let Err(error) = examine(&mut health, client, connect).await {
        health.reasons.push(error.to_string());
    }
    health.healthy = health.reasons.is_empty();
    health
}

async fn examine(health: &mut Health, client: &Client, connect: &Connect) -> Result<(), KafkaError> {
    let cluster = describe_cluster(client).await?;
    let topics = client.all_topics().await?;
    health.cluster_id = Some(cluster.cluster_id.as_str().to_owned());
    match describe_quorum(&connect.client_within(QUORUM_TIMEOUT)).await {
        Ok(quorum) if quorum.leader_id >= 0 => health.controller = Some(quorum.leader_id),
        Ok(_) => health
            .reasons
            .push("the controller quorum has no leader".to_owned()),
        // A Kafka without a quorum, or one that does not let us look.
        Err(KafkaError::Unsupported { .. }) if cluster.controller_id >= 0 => {
            health.controller = Some(cluster.controller_id);
        }
        Err(error) => health.reasons.push(format!("no controller answers: {error}")),
    }
    health.take_brokers(&cluster, &topics);
    let wanting: Vec<String> = topics
        .iter()
        .filter(|topic| topic.partitions.values().any(is_under_replicated))
        .map(|topic| topic.name.clone())
        .collect();
    let min_isr = match client.topics_config(&wanting, MIN_ISR).await {
        Ok(found) => found,
        Err(error) => {
            health
                .reasons
                .push(format!("min.insync.replicas is unknown: {error}"));
            BTreeMap::new()
        }
    };
    health.take_partitions(&topics, &min_isr);
    Ok(())
}

fn is_under_replicated(partition: &PartitionView) -> bool {
    partition.isr.len() < partition.replicas.len()
}

impl Health {
    /// A broker is down if it is fenced, or if replicas are placed on it and the cluster does not list it.
    fn take_brokers(&mut self, cluster: &DescribeClusterResponse, topics: &[TopicView]) {
        let listed: BTreeMap<i32, bool> = cluster
            .brokers
            .iter()
            .map(|broker| (broker.broker_id, broker.is_fenced))
            .collect();
        let placed = topics.iter().flat_map(|topic| topic.partitions.values());
        let mut all: BTreeSet<i32> = placed.flat_map(|p| p.replicas.iter().copied()).collect();
        all.extend(listed.keys());
        self.brokers = all.len();
        self.brokers_down = all
            .into_iter()
            .filter(|id| listed.get(id).copied().unwrap_or(true))
            .collect();
        for id in &self.brokers_down {
            let how = if listed.contains_key(id) {
                "fenced"
            } else {
                "not listed"
            };
            self.reasons.push(format!("broker {id} is down ({how})"));
        }
        if self.brokers == 0 {
            self.reasons.push("the cluster has no brokers".to_owned());
        }
    }

    fn take_partitions(&mut self, topics: &[TopicView], min_isr: &BTreeMap<String, String>) {
        self.topics = topics.len();
        for topic in topics {
            self.partitions += topic.partitions.len();
            let wanted: usize = min_isr
                .get(&topic.name)
                .and_then(|text| text.parse().ok())
                .unwrap_or(1);
            for (&index, partition) in &topic.partitions {
                let name = || TopicPartition::new(&topic.name, index).to_string();
                if partition.leader < 0 {
                    self.offline.push(name());
                }
                if is_under_replicated(partition) {
                    self.under_replicated.push(name());
                    // As in KIP-966, no more are asked for than there are replicas.
                    if partition.isr.len() < wanted.min(partition.replicas.len()) {
                        self.under_min_isr.push(name());
                    }
                }
            }
        }
        for (list, what) in [
            (&self.offline, "without a leader"),
            (
                &self.under_min_isr,
                "with fewer replicas in sync than min.insync.replicas",
            ),
            (&self.under_replicated, "with replicas that are not in sync"),
        ] {
            if !list.is_empty() {
                self.reasons
                    .push(format!("{} {what}: {}", counted(list.len()), named(list)));
            }
        }
    }
}

fn counted(partitions: usize) -> String {
    match partitions {
        1 => "1 partition".to_owned(),
        many => format!("{many} partitions"),
    }
}

fn named(list: &[String]) -> String {
    let some: Vec<&str> = list.iter().take(NAMED_MAX).map(String::as_str).collect();
    match list.len().saturating_sub(NAMED_MAX) {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}
