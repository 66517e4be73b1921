//! CreateTopics, validated as Kafka's `ReplicationControlManager.createTopics` does.

use std::collections::{BTreeMap, BTreeSet};

use strom_config::validate_topic;
use strom_proto::convert::topic_id_bytes;
use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::{
    BrokerId, ErrorCode, TopicId, TopicIdPartition, collision_key, is_internal_topic, validate_topic_name,
};

use super::assignment::{check_assignments, invalid, new_partition, none_active};
use super::{Context, Refused, Reply, broken, refuse};
use crate::draft::Draft;
use crate::image::{ConfigResource, Image, ImageError, PartitionState, config_record};
use crate::placement::Placement;
use crate::topic_settings::{ClusterConfigs, DURABILITY, PAGE_CACHE};

/// A topic that passed every check.
struct Planned {
    id: TopicId,
    configs: BTreeMap<String, String>,
    partitions: Vec<PartitionState>,
}

pub(super) fn create_topics(
    draft: &mut Draft,
    context: &Context<'_>,
    request: &v1::CreateTopicsRequest,
) -> Result<Reply, Refused> {
    let configs = context.configs(&draft.image);
    check_size(context, &configs, request)?;
    let base = draft.image.clone();
    let mut names = Names::of(&base);
    let duplicates = duplicate_names(request);
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let planned = if duplicates.contains(topic.name.as_str()) {
            Err(refuse(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else if let Some(existing) = retried(&base, topic) {
            results.push(existing);
            continue;
        } else {
            names
                .check(&base, &topic.name)
                .and_then(|()| plan(&draft.image, context, &configs, topic))
        };
        match planned {
            Ok(planned) => {
                results.push(success(topic, &planned));
                names.take(&topic.name);
                // Also when only validating: later topics of the request must see this one. The draft is dropped.
                write(draft, topic, planned).map_err(|error| broken(&error))?;
            }
            Err(error) => results.push(v1::CreateTopicResult {
                name: topic.name.clone(),
                error: Some(error),
                ..Default::default()
            }),
        }
    }
    if request.validate_only {
        *draft = Draft::on(&base);
    }
    Ok(Reply::CreateTopics(v1::CreateTopicsReply {
        results,
        metadata_offset: 0,
    }))
}

/// Bounds the whole request before anything is placed.
fn check_size(
    context: &Context<'_>,
    configs: &ClusterConfigs<'_>,
    request: &v1::CreateTopicsRequest,
) -> Result<(), Refused> {
    let default = configs.broker_int("num.partitions");
    let count = |topic: &v1::NewTopic| {
        let wanted = match topic.partitions {
            -1 => default,
            partitions => i64::from(partitions),
        };
        let wanted = usize::try_from(wanted).unwrap_or(0);
        wanted.max(topic.assignments.len())
    };
    let total = request.topics.iter().map(count).fold(0, usize::saturating_add);
    if total > context.settings.partitions_per_request_max {
        return Err(refuse(
            ErrorCode::PolicyViolation,
            "Excessively large number of partitions per request.",
        ));
    }
    Ok(())
}

fn duplicate_names(request: &v1::CreateTopicsRequest) -> BTreeSet<&str> {
    let mut seen = BTreeSet::new();
    request
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .filter(|name| !seen.insert(*name))
        .collect()
}

/// A proposal that was sent again: the topic exists under the very id that the caller chose.
fn retried(image: &Image, topic: &v1::NewTopic) -> Option<v1::CreateTopicResult> {
    let existing = image.topic_by_name(&topic.name)?;
    (existing.id.as_bytes().as_slice() == topic.topic_id.as_ref()).then(|| {
        let replicas = existing
            .partitions
            .values()
            .next()
            .map_or(0, |state| state.replicas.len());
        v1::CreateTopicResult {
            name: topic.name.clone(),
            error: None,
            topic_id: topic_id_bytes(existing.id),
            partitions: i32::try_from(existing.partitions.len()).unwrap_or(i32::MAX),
            replication_factor: i32::try_from(replicas).unwrap_or(i32::MAX),
        }
    })
}

/// The names that are taken, by collision key; made on the first name that can collide at all.
struct Names<'a> {
    image: &'a Image,
    by_key: Option<BTreeMap<String, String>>,
}

impl<'a> Names<'a> {
    fn of(image: &'a Image) -> Self {
        Names { image, by_key: None }
    }

    fn by_key(&mut self) -> &mut BTreeMap<String, String> {
        self.by_key.get_or_insert_with(|| {
            self.image
                .topics()
                .filter(|topic| can_collide(&topic.name))
                .map(|topic| (collision_key(&topic.name), topic.name.to_string()))
                .collect()
        })
    }

    fn check(&mut self, image: &Image, name: &str) -> Result<(), Refused> {
        if let Err(error) = validate_topic_name(name) {
            return Err(refuse(
                ErrorCode::InvalidTopicException,
                format!("Topic name is invalid: {error}"),
            ));
        }
        if image.topic_by_name(name).is_some() {
            return Err(refuse(
                ErrorCode::TopicAlreadyExists,
                format!("Topic '{name}' already exists."),
            ));
        }
        if can_collide(name)
            && let Some(other) = self.by_key().get(&collision_key(name))
        {
            return Err(refuse(
                ErrorCode::InvalidTopicException,
                format!("Topic '{name}' collides with existing topic: {other}"),
            ));
        }
        Ok(())
    }

    fn take(&mut self, name: &str) {
        if can_collide(name) {
            let key = collision_key(name);
            self.by_key().insert(key, name.to_owned());
        }
    }
}

fn can_collide(name: &str) -> bool {
    name.contains(['.', '_'])
}

fn plan(
    image: &Image,
    context: &Context<'_>,
    configs: &ClusterConfigs<'_>,
    topic: &v1::NewTopic,
) -> Result<Planned, Refused> {
    let id = TopicId::from_slice(&topic.topic_id)
        .filter(|id| !id.is_zero() && image.topic(*id).is_none())
        .ok_or_else(|| refuse(ErrorCode::InvalidRequest, "The new topic has no usable id."))?;
    let mut own = topic.configs.clone();
    validate_topic(&own, configs.layers())
        .map_err(|error| refuse(ErrorCode::InvalidConfig, error.to_string()))?;
    if configs.durability(&own).as_deref() == Some(PAGE_CACHE) {
        own.insert(DURABILITY.to_owned(), PAGE_CACHE.to_owned());
    }
    let lists = if topic.assignments.is_empty() {
        placed(image, configs, topic)?
    } else {
        assigned(image, topic)?
    };
    if image.partition_count().saturating_add(lists.len()) > context.settings.partitions_max {
        return Err(refuse(
            ErrorCode::PolicyViolation,
            format!(
                "The cluster would have more than {} partitions.",
                context.settings.partitions_max
            ),
        ));
    }
    let settings = configs.resolve(&own);
    let mut partitions = Vec::with_capacity(lists.len());
    for (n, replicas) in lists.into_iter().enumerate() {
        let min_isr = settings.effective_min_isr(replicas.len());
        partitions.push(new_partition(image, replicas, min_isr).ok_or_else(|| none_active(n))?);
    }
    Ok(Planned {
        id,
        configs: own,
        partitions,
    })
}

fn placed(
    image: &Image,
    configs: &ClusterConfigs<'_>,
    topic: &v1::NewTopic,
) -> Result<Vec<Vec<BrokerId>>, Refused> {
    let replicas = match topic.replication_factor {
        -1 => configs.broker_int("default.replication.factor"),
        wanted if wanted > 0 => i64::from(wanted),
        _ => {
            return Err(refuse(
                ErrorCode::InvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            ));
        }
    };
    let partitions = match topic.partitions {
        -1 => configs.broker_int("num.partitions"),
        wanted if wanted > 0 => i64::from(wanted),
        _ => {
            return Err(refuse(
                ErrorCode::InvalidPartitions,
                "Number of partitions was set to an invalid non-positive value.",
            ));
        }
    };
    let size = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
    Placement::of(image)
        .place(size(partitions), size(replicas))
        .map_err(|error| refuse(ErrorCode::InvalidReplicationFactor, error.to_string()))
}

fn assigned(image: &Image, topic: &v1::NewTopic) -> Result<Vec<Vec<BrokerId>>, Refused> {
    for (given, what) in [
        (topic.replication_factor, "replication factor"),
        (topic.partitions, "number of partitions"),
    ] {
        if given != -1 {
            return Err(refuse(
                ErrorCode::InvalidRequest,
                format!("A manual partition assignment was specified, but {what} was not set to -1."),
            ));
        }
    }
    let mut assignments = topic.assignments.clone();
    assignments.sort_by_key(|assignment| assignment.partition);
    let consecutive = (0..)
        .zip(&assignments)
        .all(|(n, assignment)| assignment.partition == n);
    if !consecutive {
        return Err(invalid(
            "partitions should be a consecutive 0-based integer sequence",
        ));
    }
    check_assignments(image, &assignments, None)
}

fn success(topic: &v1::NewTopic, planned: &Planned) -> v1::CreateTopicResult {
    let replicas = planned.partitions.first().map_or(0, |state| state.replicas.len());
    v1::CreateTopicResult {
        name: topic.name.clone(),
        error: None,
        topic_id: topic_id_bytes(planned.id),
        partitions: i32::try_from(planned.partitions.len()).unwrap_or(i32::MAX),
        replication_factor: i32::try_from(replicas).unwrap_or(i32::MAX),
    }
}

fn write(draft: &mut Draft, topic: &v1::NewTopic, planned: Planned) -> Result<(), ImageError> {
    draft.push(Record::Topic(v1::TopicRecord {
        topic_id: topic_id_bytes(planned.id),
        name: topic.name.clone(),
        internal: is_internal_topic(&topic.name),
    }))?;
    let resource = ConfigResource::Topic(planned.id);
    for (key, value) in planned.configs {
        draft.push(config_record(&resource, &key, Some(value)))?;
    }
    for (partition, state) in (0..).zip(planned.partitions) {
        draft.put_partition(TopicIdPartition::new(planned.id, partition), state)?;
    }
    Ok(())
}
