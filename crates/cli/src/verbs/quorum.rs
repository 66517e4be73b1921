//! `strom quorum status`.

use clap::{Args, Subcommand};
use serde::Serialize;
use strom_kafka_codec::messages::describe_quorum_request::{PartitionData, TopicData};
use strom_kafka_codec::messages::describe_quorum_response::{PartitionData as QuorumState, ReplicaState};
use strom_kafka_codec::messages::{DescribeQuorumRequest, DescribeQuorumResponse};

use crate::args::Connect;
use crate::base64::kafka_uuid;
use crate::datetime::Timestamp;
use crate::exit::Error;
use crate::kafka::{Client, Deadline, KafkaError, Target};
use crate::output::{Block, Output, View, or_dash};

const METADATA_TOPIC: &str = "__cluster_metadata";

/// The controller quorum: status
#[derive(Args, Clone, Debug)]
pub struct QuorumArgs {
    #[command(subcommand)]
    verb: QuorumVerb,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Subcommand, Clone, Debug)]
enum QuorumVerb {
    /// Show the leader, its epoch, and how far voters and observers lag behind
    Status,
}

#[derive(Debug, Serialize)]
struct Replica {
    id: i32,
    role: &'static str,
    directory_id: Option<String>,
    log_end_offset: i64,
    lag: i64,
    /// Milliseconds since the leader heard of it, and since it had everything; null if unknown.
    last_fetch_ms_ago: Option<i64>,
    last_caught_up_ms_ago: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Status {
    leader_id: Option<i32>,
    leader_epoch: i32,
    high_watermark: i64,
    replicas: Vec<Replica>,
}

impl View for Status {
    fn blocks(&self) -> Vec<Block> {
        let row = |replica: &Replica| {
            vec![
                replica.id.to_string(),
                replica.role.to_owned(),
                replica.log_end_offset.to_string(),
                replica.lag.to_string(),
                or_dash(replica.last_fetch_ms_ago),
                or_dash(replica.last_caught_up_ms_ago),
                or_dash(replica.directory_id.as_ref()),
            ]
        };
        vec![
            Block::Line(format!(
                "leader {}  epoch {}  high watermark {}",
                or_dash(self.leader_id),
                self.leader_epoch,
                self.high_watermark
            )),
            Block::Table {
                columns: &[
                    "NODE",
                    "ROLE",
                    "LOG-END",
                    "LAG",
                    "FETCHED-MS-AGO",
                    "CAUGHT-UP-MS-AGO",
                    "DIRECTORY",
                ],
                rows: self.replicas.iter().map(row).collect(),
            },
        ]
    }
}

pub(crate) async fn run(args: QuorumArgs, output: &mut Output) -> Result<(), Error> {
    args.connect.apply(output);
    let QuorumVerb::Status = args.verb;
    let state = describe_quorum(&args.connect.client()).await?;
    let status = status_of(&state, Timestamp::now());
    output.show(&status)?;
    match status.leader_id {
        Some(_) => Ok(()),
        None => Err(Error::Unhealthy("the controller quorum has no leader".to_owned())),
    }
}

/// The state of the metadata quorum, as a server tells it.
pub(crate) async fn describe_quorum(client: &Client) -> Result<QuorumState, KafkaError> {
    let subject = "describing the quorum";
    let build = |_: i16, _: Deadline| DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![PartitionData { partition_index: 0 }],
        }],
    };
    let failure = |response: &DescribeQuorumResponse| {
        let top = KafkaError::from_code(subject, response.error_code, response.error_message.as_deref());
        top.or_else(|| {
            let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.find_map(|p| KafkaError::from_code(subject, p.error_code, p.error_message.as_deref()))
        })
    };
    let response = client.ask(Target::Any, subject, build, failure).await?;
    if let Some(error) = failure(&response) {
        return Err(error);
    }
    let state = response
        .topics
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .next();
    Ok(state.unwrap_or_default())
}

fn status_of(state: &QuorumState, now: Timestamp) -> Status {
    let leader_end = |replicas: &[ReplicaState]| {
        replicas
            .iter()
            .find(|replica| replica.replica_id == state.leader_id)
            .map(|leader| leader.log_end_offset)
    };
    let end = leader_end(&state.current_voters).unwrap_or(state.high_watermark);
    let row = |role: &'static str, replica: &ReplicaState| {
        // Kafka's leader does not fetch from itself, so it gives no times of its own.
        let ago = |ms: i64| (ms > 0).then(|| now.0.saturating_sub(ms).max(0));
        let leads = replica.replica_id == state.leader_id && role == "voter";
        Replica {
            id: replica.replica_id,
            role: if leads { "leader" } else { role },
            directory_id: (!replica.replica_directory_id.is_nil())
                .then(|| kafka_uuid(replica.replica_directory_id)),
            log_end_offset: replica.log_end_offset,
            lag: end.saturating_sub(replica.log_end_offset).max(0),
            last_fetch_ms_ago: ago(replica.last_fetch_timestamp),
            last_caught_up_ms_ago: ago(replica.last_caught_up_timestamp),
        }
    };
    let voters = state.current_voters.iter().map(|replica| row("voter", replica));
    let observers = state.observers.iter().map(|replica| row("observer", replica));
    let mut replicas: Vec<Replica> = voters.chain(observers).collect();
    replicas.sort_by_key(|replica| (replica.role == "observer", replica.id));
    Status {
        leader_id: (state.leader_id >= 0).then_some(state.leader_id),
        leader_epoch: state.leader_epoch,
        high_watermark: state.high_watermark,
        replicas,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_counted_from_the_leaders_end() {
        let replica = |id, end, fetched| ReplicaState {
            replica_id: id,
            log_end_offset: end,
            last_fetch_timestamp: fetched,
            ..Default::default()
        };
        let state = QuorumState {
            leader_id: 2,
            leader_epoch: 5,
            high_watermark: 90,
            current_voters: vec![replica(3, 95, 900), replica(2, 100, -1), replica(1, 80, 400)],
            observers: vec![replica(10, 70, 990)],
            ..Default::default()
        };
        let status = status_of(&state, Timestamp(1000));
        let shown: Vec<_> = status
            .replicas
            .iter()
            .map(|r| (r.id, r.role, r.lag, r.last_fetch_ms_ago))
            .collect();
        assert_eq!(
            shown,
            [
                (1, "voter", 20, Some(600)),
                (2, "leader", 0, None),
                (3, "voter", 5, Some(100)),
                (10, "observer", 30, Some(10))
            ]
        );
    }
}
