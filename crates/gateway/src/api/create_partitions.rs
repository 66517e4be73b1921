//! CreatePartitions (key 37): topics grow.

use strom_client::Effect;
use strom_kafka_codec::messages::create_partitions_request::CreatePartitionsTopic;
use strom_kafka_codec::messages::create_partitions_response::CreatePartitionsTopicResult;
use strom_kafka_codec::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::v1;

use super::admin::{Deadline, Verdict, change, led, send_valid};
use super::call::unary;
use super::{Call, Start};

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let deadline = Deadline::of_request(request.timeout_ms);
    let names: Vec<ByteStr> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let topics = request.topics.into_iter().map(|topic| Ok(new_partitions(topic)));
    let validate_only = request.validate_only;
    let answers = send_valid(topics, |topics| create(&call, deadline, topics, validate_only)).await;
    let results = names.into_iter().zip(answers).map(|(name, answer)| {
        let verdict = answer.map_or_else(|refused| refused, |()| Verdict::of_item(None));
        CreatePartitionsTopicResult {
            name,
            error_code: verdict.code(),
            error_message: verdict.message,
        }
    });
    CreatePartitionsResponse {
        results: results.collect(),
        ..Default::default()
    }
}

/// Clients name the new partitions' replicas only, in order; the controllers count on from the present number.
fn new_partitions(topic: CreatePartitionsTopic) -> v1::NewPartitions {
    let assignments = topic.assignments.unwrap_or_default();
    let numbered = (0..).zip(assignments);
    v1::NewPartitions {
        name: String::from(topic.name),
        count: topic.count,
        assignments: numbered
            .map(|(partition, assignment)| v1::ReplicaAssignment {
                partition,
                brokers: assignment.broker_ids,
            })
            .collect(),
    }
}

/// One answer per topic, in order.
async fn create(
    call: &Call,
    deadline: Deadline,
    topics: Vec<v1::NewPartitions>,
    validate_only: bool,
) -> Result<Vec<Result<(), Verdict>>, Verdict> {
    let request = v1::CreatePartitionsRequest {
        topics,
        validate_only,
    };
    // A second call would be refused because the first had its way.
    let changed = change(
        call,
        deadline,
        Effect::Once,
        request,
        |mut stub, request| async move { stub.create_partitions(request).await },
    )
    .await?;
    let results = &changed.reply.results;
    if !validate_only {
        let grown = results.iter().filter(|result| result.error.is_none());
        let grown: Vec<&str> = grown.map(|result| result.name.as_str()).collect();
        led(call, deadline, changed.reply.metadata_offset, &grown).await;
    }
    let answers = results
        .iter()
        .map(|result| changed.verdict(result.error.as_ref()).ok(()));
    Ok(answers.collect())
}
