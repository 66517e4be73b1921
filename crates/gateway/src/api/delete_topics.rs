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

use super::admin::{Deadline, Verdict, change, send_valid};
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
    let topics = named.iter().map(topic_name);
    let answers = send_valid(topics, |topics| delete(&call, deadline, topics)).await;
    let responses = named
        .into_iter()
        .zip(answers)
        .map(|(topic, answer)| response(call.version, topic, answer));
    DeleteTopicsResponse {
        responses: responses.collect(),
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

/// One answer per topic, in order: what came of it, and what the controllers know of a topic that is gone.
async fn delete(
    call: &Call,
    deadline: Deadline,
    topics: Vec<v1::TopicName>,
) -> Result<Vec<Result<Deleted, Verdict>>, Verdict> {
    let request = v1::DeleteTopicsRequest { topics };
    // A repeated deletion could hit a topic that was created anew in between.
    let changed = change(
        call,
        deadline,
        Effect::Once,
        request,
        |mut stub, request| async move { stub.delete_topics(request).await },
    )
    .await?;
    let deleted = |result: &v1::DeleteTopicResult| match &result.error {
        Some(error) => Err(Verdict::of_item(Some(error))),
        None => Ok((changed.verdict(None), result.clone())),
    };
    Ok(changed.reply.results.iter().map(deleted).collect())
}

type Deleted = (Verdict, v1::DeleteTopicResult);

fn response(version: i16, topic: DeleteTopicState, answer: Result<Deleted, Verdict>) -> DeletableTopicResult {
    let mut response = DeletableTopicResult {
        name: topic.name,
        topic_id: topic.topic_id,
        ..Default::default()
    };
    let mut verdict = match answer {
        Ok((verdict, gone)) => {
            response.name = response.name.or(Some(ByteStr::from(gone.name)));
            response.topic_id = TopicId::from_slice(&gone.topic_id).map_or(response.topic_id, |id| id.0);
            verdict
        }
        Err(refused) => refused,
    };
    if verdict.error == ErrorCode::TopicDeletionDisabled && version < DISABLED_SINCE_VERSION {
        verdict.error = ErrorCode::InvalidRequest;
    }
    response.error_code = verdict.code();
    response.error_message = verdict.message;
    response
}
