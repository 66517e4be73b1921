//! ElectLeaders (key 43): preferred or unclean elections on request.

use strom_client::Effect;
use strom_kafka_codec::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use strom_kafka_codec::messages::{ElectLeadersRequest, ElectLeadersResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::v1;
use strom_types::ErrorCode;

use super::admin::{Deadline, Verdict, change};
use super::call::unary;
use super::{Call, Start};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// The request as a whole can fail.
const ERROR_SINCE_VERSION: i16 = 1;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let deadline = Deadline::of_request(request.timeout_ms);
    let all = request.topic_partitions.is_none();
    let named = request.topic_partitions.iter().flatten();
    let partitions: Vec<v1::TopicPartition> = named
        .flat_map(|topic| {
            topic.partitions.iter().map(|partition| v1::TopicPartition {
                topic: topic.topic.to_string(),
                partition: *partition,
            })
        })
        .collect();
    let elected = match request.election_type {
        PREFERRED | UNCLEAN if all || !partitions.is_empty() => {
            elect(&call, deadline, request.election_type == UNCLEAN, &partitions).await
        }
        PREFERRED | UNCLEAN => Ok(Vec::new()),
        _ => Err(Verdict::refused(
            ErrorCode::InvalidRequest,
            "Unknown election type.",
        )),
    };
    match elected {
        Ok(results) => ElectLeadersResponse {
            replica_election_results: group(results),
            ..Default::default()
        },
        Err(verdict) => {
            let each = partitions
                .into_iter()
                .map(|partition| (partition, verdict.clone()));
            ElectLeadersResponse {
                error_code: if call.version >= ERROR_SINCE_VERSION {
                    verdict.code()
                } else {
                    0
                },
                replica_election_results: group(each.collect()),
                ..Default::default()
            }
        }
    }
}

type Outcome = (v1::TopicPartition, Verdict);

/// No partitions = all of them.
async fn elect(
    call: &Call,
    deadline: Deadline,
    unclean: bool,
    partitions: &[v1::TopicPartition],
) -> Result<Vec<Outcome>, Verdict> {
    let request = v1::ElectLeadersRequest {
        unclean,
        partitions: partitions.to_vec(),
        all: partitions.is_empty(),
    };
    let changed = change(
        call,
        deadline,
        Effect::Once,
        request,
        |mut stub, request| async move { stub.elect_leaders(request).await },
    )
    .await?;
    let outcome = |result: &v1::ElectLeadersResult| {
        let verdict = changed.verdict(result.error.as_ref());
        Some((result.partition.clone()?, verdict))
    };
    Ok(changed.reply.results.iter().filter_map(outcome).collect())
}

/// By topic, in the order given.
fn group(outcomes: Vec<Outcome>) -> Vec<ReplicaElectionResult> {
    let mut results: Vec<ReplicaElectionResult> = Vec::new();
    for (partition, verdict) in outcomes {
        let result = PartitionResult {
            partition_id: partition.partition,
            error_code: verdict.code(),
            error_message: verdict.message,
        };
        match results.last_mut() {
            Some(last) if last.topic == partition.topic.as_str() => last.partition_result.push(result),
            _ => results.push(ReplicaElectionResult {
                topic: ByteStr::from(partition.topic),
                partition_result: vec![result],
            }),
        }
    }
    results
}
