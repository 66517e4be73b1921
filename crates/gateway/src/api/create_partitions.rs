//! CreatePartitions (key 37): topics grow.

use strom_client::Effect;
use strom_kafka_codec::messages::create_partitions_request::CreatePartitionsTopic;
use strom_kafka_codec::messages::create_partitions_response::CreatePartitionsTopicResult;
use strom_kafka_codec::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::v1;

use super::admin::{Deadline, Verdict, visible};
use super::call::unary;
use super::{Call, Start};

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let deadline = Deadline::of_request(request.timeout_ms);
    let names: Vec<ByteStr> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let topics = request.topics.into_iter().map(new_partitions).collect();
    let verdicts = if names.is_empty() {
        Vec::new()
    } else {
        create(&call, deadline, topics, request.validate_only).await
    };
    let mut verdicts = verdicts.into_iter();
    let results = names.into_iter().map(|name| {
        let verdict = verdicts.next().unwrap_or_else(Verdict::timed_out);
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

/// One verdict per topic, in order.
async fn create(
    call: &Call,
    deadline: Deadline,
    topics: Vec<v1::NewPartitions>,
    validate_only: bool,
) -> Vec<Verdict> {
    let count = topics.len();
    let request = v1::CreatePartitionsRequest {
        topics,
        validate_only,
    };
    // A second call would be refused because the first had its way.
    let reply = call
        .gateway
        .controller()
        .call(
            deadline.left(),
            Effect::Once,
            request,
            |mut stub, request| async move { stub.create_partitions(request).await },
        )
        .await;
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => return vec![Verdict::of_call(&error); count],
    };
    let seen = validate_only || visible(call, deadline, reply.metadata_offset).await;
    reply
        .results
        .iter()
        .map(|result| Verdict::of_item(result.error.as_ref()).once_visible(seen))
        .collect()
}
