//! DeleteTopics, by id or by name.

use std::collections::BTreeMap;

use strom_proto::convert::topic_id_bytes;
use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::{ErrorCode, TopicId};

use super::{Context, Refused, Reply, broken, refuse};
use crate::draft::Draft;
use crate::image::{Image, TopicImage};

pub(super) fn delete_topics(
    draft: &mut Draft,
    context: &Context<'_>,
    request: &v1::DeleteTopicsRequest,
) -> Result<Reply, Refused> {
    if !context.configs(&draft.image).broker_bool("delete.topic.enable") {
        return Err(refuse(
            ErrorCode::TopicDeletionDisabled,
            "Topic deletion is disabled.",
        ));
    }
    let base = draft.image.clone();
    let mut named_times: BTreeMap<TopicId, usize> = BTreeMap::new();
    for topic in request.topics.iter().filter_map(|named| find(&base, named).ok()) {
        *named_times.entry(topic.id).or_default() += 1;
    }
    let mut results = Vec::with_capacity(request.topics.len());
    for named in &request.topics {
        let mut result = v1::DeleteTopicResult {
            name: named.name.clone(),
            topic_id: named.topic_id.clone(),
            error: None,
        };
        match find(&base, named) {
            Ok(topic) if named_times.get(&topic.id) == Some(&1) => {
                result.name = topic.name.to_string();
                result.topic_id = topic_id_bytes(topic.id);
                let topic_id = topic_id_bytes(topic.id);
                draft
                    .push(Record::RemoveTopic(v1::RemoveTopicRecord { topic_id }))
                    .map_err(|error| broken(&error))?;
            }
            Ok(_) => result.error = Some(refuse(ErrorCode::InvalidRequest, "Duplicate topic name.")),
            Err(error) => result.error = Some(error),
        }
        results.push(result);
    }
    Ok(Reply::DeleteTopics(v1::DeleteTopicsReply {
        results,
        metadata_offset: 0,
    }))
}

fn find<'a>(image: &'a Image, named: &v1::TopicName) -> Result<&'a TopicImage, Refused> {
    if named.topic_id.is_empty() {
        return image.topic_by_name(&named.name).ok_or_else(|| {
            refuse(
                ErrorCode::UnknownTopicOrPartition,
                "This server does not host this topic-partition.",
            )
        });
    }
    if !named.name.is_empty() {
        return Err(refuse(
            ErrorCode::InvalidRequest,
            "A topic is named by id or by name.",
        ));
    }
    TopicId::from_slice(&named.topic_id)
        .and_then(|id| image.topic(id))
        .ok_or_else(|| {
            refuse(
                ErrorCode::UnknownTopicId,
                "This server does not host this topic ID.",
            )
        })
}
