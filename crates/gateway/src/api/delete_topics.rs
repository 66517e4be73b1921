//! DeleteTopics (key 20): by name, or by id from version 6 on.

use bytes::Bytes;
use strom_client::Effect;
use strom_kafka_codec::messages::delete_topics_request::DeleteTopicState;
use strom_kafka_codec::messages::delete_topics_response::DeletableTopicResult;
use strom_kafka_codec::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::convert::topic_id_bytes;
use strom_proto::v1;
use strom_types::{ErrorCode, TopicId};

use super::admin::{Deadline, Verdict, visible};
use super::call::unary;
use super::{Call, Start};

const BY_ID_SINCE_VERSION: i16 = 6;
/// Older clients do not know TOPIC_DELETION_DISABLED.
const DISABLED_SINCE_VERSION: i16 = 3;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let deadline = Deadline::of_request(request.timeout_ms);
    let named = if call.version >= BY_ID_SINCE_VERSION {
        request.topics
    } else {
        let by_name = |name| DeleteTopicState {
            name: Some(name),
            ..Default::default()
        };
        request.topic_names.into_iter().map(by_name).collect()
    };
    let mut responses = Vec::with_capacity(named.len());
    let mut sent = Vec::new();
    let mut places = Vec::new();
    for (place, topic) in named.into_iter().enumerate() {
        let verdict = match topic_name(&topic) {
            Ok(name) => {
                sent.push(name);
                places.push(place);
                Verdict::timed_out()
            }
            Err(verdict) => verdict,
        };
        responses.push(response(call.version, topic, verdict));
    }
    if !sent.is_empty() {
        let count = sent.len();
        let answers = delete(&call, deadline, sent, count).await;
        for (place, (verdict, name)) in places.into_iter().zip(answers) {
            if let Some(response) = responses.get_mut(place) {
                fill(call.version, response, verdict);
                if let Some(result) = name {
                    response.name = response.name.take().or(Some(ByteStr::from(result.name)));
                    response.topic_id =
                        TopicId::from_slice(&result.topic_id).map_or(response.topic_id, |id| id.0);
                }
            }
        }
    }
    DeleteTopicsResponse {
        responses,
        ..Default::default()
    }
}

fn topic_name(topic: &DeleteTopicState) -> Result<v1::TopicName, Verdict> {
    let refuse = |message| Err(Verdict::refused(ErrorCode::InvalidRequest, message));
    match (&topic.name, topic.topic_id.is_nil()) {
        (Some(_), false) => refuse("You may not specify both topic name and topic id."),
        (None, true) => refuse("Neither topic name nor id were specified."),
        (Some(name), true) => Ok(v1::TopicName {
            name: name.to_string(),
            topic_id: Bytes::new(),
        }),
        (None, false) => Ok(v1::TopicName {
            name: String::new(),
            topic_id: topic_id_bytes(TopicId(topic.topic_id)),
        }),
    }
}

/// One verdict per topic, in order, with what the controllers know of the topic where it is gone.
async fn delete(
    call: &Call,
    deadline: Deadline,
    topics: Vec<v1::TopicName>,
    count: usize,
) -> Vec<(Verdict, Option<v1::DeleteTopicResult>)> {
    let all = |verdict: Verdict| vec![(verdict, None); count];
    // A repeated deletion could hit a topic that was created anew in between.
    let reply = call
        .gateway
        .controller()
        .call(
            deadline.left(),
            Effect::Once,
            v1::DeleteTopicsRequest { topics },
            |mut stub, request| async move { stub.delete_topics(request).await },
        )
        .await;
    let reply = match reply {
        Ok(reply) if reply.results.len() == count => reply,
        Ok(_) => return all(Verdict::timed_out()),
        Err(error) => return all(Verdict::of_call(&error)),
    };
    let seen = visible(call, deadline, reply.metadata_offset).await;
    reply
        .results
        .into_iter()
        .map(|result| match &result.error {
            Some(error) => (Verdict::of_item(Some(error)), None),
            None if seen => (Verdict::of_item(None), Some(result)),
            None => (Verdict::timed_out(), Some(result)),
        })
        .collect()
}

fn response(version: i16, topic: DeleteTopicState, verdict: Verdict) -> DeletableTopicResult {
    let mut response = DeletableTopicResult {
        name: topic.name,
        topic_id: topic.topic_id,
        ..Default::default()
    };
    fill(version, &mut response, verdict);
    response
}

fn fill(version: i16, response: &mut DeletableTopicResult, verdict: Verdict) {
    let disabled = verdict.error == ErrorCode::TopicDeletionDisabled;
    let verdict = if disabled && version < DISABLED_SINCE_VERSION {
        Verdict {
            error: ErrorCode::InvalidRequest,
            ..verdict
        }
    } else {
        verdict
    };
    response.error_code = verdict.code();
    response.error_message = verdict.message;
}
