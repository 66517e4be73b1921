//! OffsetFetch (key 9): committed offsets of one group, or from version 8 on of many.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt};
use strom_kafka_codec::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use strom_kafka_codec::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use strom_kafka_codec::messages::{OffsetFetchRequest, OffsetFetchResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_metadata::Image;
use strom_proto::convert::error_code;
use strom_proto::v1;
use strom_types::{ErrorCode, TopicId};
use uuid::Uuid;

use super::call::unary;
use super::coordinators::{COORDINATOR_TIMEOUT, coordinator};
use super::nodes::text;
use super::{Call, Start};
use crate::codes::{coordinator_call_code, coordinator_code, kafka};

/// An error of the whole group has a place of its own.
const GROUP_ERROR_SINCE_VERSION: i16 = 2;
const MANY_GROUPS_SINCE_VERSION: i16 = 8;
const TOPIC_IDS_SINCE_VERSION: i16 = 10;
/// Groups of one request that are asked for at the same time.
const GROUPS_AT_ONCE: usize = 16;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let require_stable = request.require_stable;
    if call.version >= MANY_GROUPS_SINCE_VERSION {
        let mut seen = BTreeSet::new();
        // A group that is named again is told of once.
        let groups = request
            .groups
            .into_iter()
            .filter(|group| seen.insert(group.group_id.clone()))
            .map(|group| one_group(&call, group, require_stable));
        let groups = stream::iter(groups).buffered(GROUPS_AT_ONCE).collect().await;
        return OffsetFetchResponse {
            groups,
            ..Default::default()
        };
    }
    let named = request.topics.clone();
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics: request
            .topics
            .map(|topics| topics.into_iter().map(renamed).collect()),
        ..Default::default()
    };
    let group = one_group(&call, group, require_stable).await;
    flatten(call.version, named, group)
}

fn renamed(topic: OffsetFetchRequestTopic) -> OffsetFetchRequestTopics {
    OffsetFetchRequestTopics {
        name: topic.name,
        partition_indexes: topic.partition_indexes,
        ..Default::default()
    }
}

/// The shape of the versions that know only one group. Before version 2, the group's error is each partition's.
fn flatten(
    version: i16,
    named: Option<Vec<OffsetFetchRequestTopic>>,
    group: OffsetFetchResponseGroup,
) -> OffsetFetchResponse {
    if group.error_code != 0 && version < GROUP_ERROR_SINCE_VERSION {
        let topics = named.unwrap_or_default().into_iter();
        return OffsetFetchResponse {
            topics: topics
                .map(|topic| OffsetFetchResponseTopic {
                    partitions: topic
                        .partition_indexes
                        .iter()
                        .map(|index| flat(nothing(*index, group.error_code)))
                        .collect(),
                    name: topic.name,
                })
                .collect(),
            ..Default::default()
        };
    }
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(flat).collect(),
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: group.error_code,
        ..Default::default()
    }
}

fn flat(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    }
}

async fn one_group(
    call: &Call,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let image = call.gateway.metadata().image();
    let topics = match fetch(call, &image, &group, require_stable).await {
        Ok(mut offsets) => match group.topics {
            Some(topics) => topics
                .into_iter()
                .map(|topic| named_topic(&image, call.version, topic, &mut offsets))
                .collect(),
            None => all_topics(&image, call.version, offsets),
        },
        Err(code) => {
            return OffsetFetchResponseGroup {
                group_id: group.group_id,
                error_code: kafka(code),
                ..Default::default()
            };
        }
    };
    OffsetFetchResponseGroup {
        group_id: group.group_id,
        topics,
        ..Default::default()
    }
}

async fn fetch(
    call: &Call,
    image: &Image,
    group: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> Result<Offsets, ErrorCode> {
    let broker = coordinator(call, image, &group.group_id)?;
    let mut partitions = Vec::new();
    for topic in group.topics.iter().flatten() {
        let Some(name) = name_of(image, call.version, topic) else {
            continue;
        };
        partitions.extend(
            topic
                .partition_indexes
                .iter()
                .map(|partition| v1::OffsetFetchPartition {
                    topic: name.to_string(),
                    partition: *partition,
                }),
        );
    }
    let asked = partitions.clone();
    let request = v1::OffsetFetchRequest {
        group_id: group.group_id.to_string(),
        member_id: group.member_id.clone().map(String::from),
        member_epoch: group.member_epoch,
        require_stable,
        all: group.topics.is_none(),
        partitions,
    };
    let reply = broker.groups(COORDINATOR_TIMEOUT, |mut stub| async move {
        stub.offset_fetch(request).await
    });
    let reply = reply.await.map_err(|error| coordinator_call_code(&error))?;
    match coordinator_code(error_code(reply.error)) {
        ErrorCode::None => {}
        code => return Err(code),
    }
    let offsets = Offsets::of(reply.offsets);
    // "Nothing committed" is for the coordinator to say: a consumer resets its position on it.
    if asked.iter().all(|asked| offsets.has(asked)) {
        Ok(offsets)
    } else {
        Err(ErrorCode::CoordinatorNotAvailable)
    }
}

/// The topic's name; `None` for an id that is not known. Offsets of topics that are gone can still be read by name.
fn name_of(image: &Image, version: i16, topic: &OffsetFetchRequestTopics) -> Option<ByteStr> {
    if version >= TOPIC_IDS_SINCE_VERSION {
        image
            .topic(TopicId(topic.topic_id))
            .map(|found| text(&found.name))
    } else {
        Some(topic.name.clone())
    }
}

/// What the coordinator answered, by topic and partition; `None` = told already.
struct Offsets(BTreeMap<String, BTreeMap<i32, Option<v1::FetchedOffset>>>);

impl Offsets {
    fn of(offsets: Vec<v1::FetchedOffset>) -> Self {
        let mut by_topic: BTreeMap<String, BTreeMap<i32, _>> = BTreeMap::new();
        for offset in offsets {
            let topic = by_topic.entry(offset.topic.clone()).or_default();
            topic.insert(offset.partition, Some(offset));
        }
        Offsets(by_topic)
    }

    fn has(&self, asked: &v1::OffsetFetchPartition) -> bool {
        self.0
            .get(&asked.topic)
            .is_some_and(|partitions| partitions.contains_key(&asked.partition))
    }

    /// A partition is told of once: its metadata can be a thousand times larger than a request for it.
    fn take(&mut self, topic: &str, partition: i32) -> OffsetFetchResponsePartitions {
        let place = self
            .0
            .get_mut(topic)
            .and_then(|partitions| partitions.get_mut(&partition));
        match place.and_then(Option::take) {
            Some(offset) => partition_of(offset),
            None => nothing(partition, kafka(ErrorCode::InvalidRequest)),
        }
    }
}

fn named_topic(
    image: &Image,
    version: i16,
    topic: OffsetFetchRequestTopics,
    offsets: &mut Offsets,
) -> OffsetFetchResponseTopics {
    let name = name_of(image, version, &topic);
    let mut partition = |index: &i32| match &name {
        None => nothing(*index, kafka(ErrorCode::UnknownTopicId)),
        Some(name) => offsets.take(name, *index),
    };
    OffsetFetchResponseTopics {
        partitions: topic.partition_indexes.iter().map(&mut partition).collect(),
        name: topic.name,
        topic_id: topic.topic_id,
    }
}

/// Everything the group has committed. Where topics go by id, those without one are left out, as in Kafka.
fn all_topics(image: &Image, version: i16, offsets: Offsets) -> Vec<OffsetFetchResponseTopics> {
    let by_id = version >= TOPIC_IDS_SINCE_VERSION;
    offsets
        .0
        .into_iter()
        .filter_map(|(name, partitions)| {
            let topic_id = image.topic_by_name(&name).map(|topic| topic.id.0);
            if by_id && topic_id.is_none() {
                return None;
            }
            Some(OffsetFetchResponseTopics {
                name: ByteStr::from(name),
                topic_id: topic_id.unwrap_or(Uuid::nil()),
                partitions: partitions.into_values().flatten().map(partition_of).collect(),
            })
        })
        .collect()
}

fn partition_of(offset: v1::FetchedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: offset.partition,
        committed_offset: offset.offset,
        committed_leader_epoch: offset.leader_epoch,
        metadata: Some(ByteStr::from(offset.metadata)),
        error_code: kafka(coordinator_code(error_code(offset.error))),
    }
}

fn nothing(partition_index: i32, error_code: i16) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(ByteStr::new()),
        error_code,
    }
}
