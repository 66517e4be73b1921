//! CreatePartitions: topics grow, they never shrink.

use std::collections::BTreeSet;

use strom_proto::v1;
use strom_types::{BrokerId, ErrorCode, TopicIdPartition};

use super::assignment::{check_assignments, invalid, new_partition, none_active};
use super::{Context, Refused, Reply, broken, refuse};
use crate::draft::Draft;
use crate::image::{Image, PartitionState, TopicImage};
use crate::placement::Placement;
use crate::topic_settings::ClusterConfigs;

pub(super) fn create_partitions(
    draft: &mut Draft,
    context: &Context<'_>,
    request: &v1::CreatePartitionsRequest,
) -> Result<Reply, Refused> {
    let configs = context.configs(&draft.image);
    let base = draft.image.clone();
    let mut seen = BTreeSet::new();
    let duplicates: BTreeSet<&str> = request
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .filter(|name| !seen.insert(*name))
        .collect();
    let mut room = context.settings.partitions_per_request_max;
    let mut results = Vec::with_capacity(request.topics.len());
    for wanted in &request.topics {
        let grown = if duplicates.contains(wanted.name.as_str()) {
            Err(refuse(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else {
            plan(&draft.image, context, &configs, wanted, room)
        };
        let error = match grown {
            Ok(states) => {
                room = room.saturating_sub(states.len());
                for (key, state) in states {
                    draft.put_partition(key, state).map_err(|error| broken(&error))?;
                }
                None
            }
            Err(error) => Some(error),
        };
        results.push(v1::CreatePartitionsResult {
            name: wanted.name.clone(),
            error,
        });
    }
    if request.validate_only {
        *draft = Draft::on(&base);
    }
    Ok(Reply::CreatePartitions(v1::CreatePartitionsReply {
        results,
        metadata_offset: 0,
    }))
}

fn plan(
    image: &Image,
    context: &Context<'_>,
    configs: &ClusterConfigs<'_>,
    wanted: &v1::NewPartitions,
    room: usize,
) -> Result<Vec<(TopicIdPartition, PartitionState)>, Refused> {
    let topic = image.topic_by_name(&wanted.name).ok_or_else(|| {
        refuse(
            ErrorCode::UnknownTopicOrPartition,
            "This server does not host this topic-partition.",
        )
    })?;
    let additional = additional(topic, wanted)?;
    let total = image.partition_count().saturating_add(additional);
    if additional > room || total > context.settings.partitions_max {
        return Err(refuse(
            ErrorCode::PolicyViolation,
            "Excessively large number of partitions.",
        ));
    }
    let replicas = topic
        .partitions
        .values()
        .next()
        .map_or(1, |state| state.replicas.len());
    let manual = !wanted.assignments.is_empty();
    let lists: Vec<Vec<BrokerId>> = if manual {
        if wanted.assignments.len() != additional {
            return Err(invalid(format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
                wanted.assignments.len()
            )));
        }
        check_assignments(image, &wanted.assignments, Some(replicas))?
    } else {
        Placement::of(image)
            .place(additional, replicas)
            .map_err(|error| refuse(ErrorCode::InvalidReplicationFactor, error.to_string()))?
    };
    let settings = configs.topic(image, topic.id);
    let first = topic.partitions.len();
    let mut states = Vec::with_capacity(lists.len());
    for (n, replicas) in (first..).zip(lists) {
        let min_isr = settings.effective_min_isr(replicas.len());
        let state = new_partition(image, replicas, min_isr).ok_or_else(|| none_active(n))?;
        let partition = i32::try_from(n).map_err(|_| invalid("Too many partitions."))?;
        states.push((TopicIdPartition::new(topic.id, partition), state));
    }
    Ok(states)
}

fn additional(topic: &TopicImage, wanted: &v1::NewPartitions) -> Result<usize, Refused> {
    let present = topic.partitions.len();
    let count = usize::try_from(wanted.count).unwrap_or(0);
    match count.checked_sub(present) {
        Some(0) => Err(refuse(
            ErrorCode::InvalidPartitions,
            format!("Topic already has {present} partition(s)."),
        )),
        Some(additional) => Ok(additional),
        None => Err(refuse(
            ErrorCode::InvalidPartitions,
            format!(
                "The topic {} currently has {present} partition(s); {} would not be an increase.",
                topic.name, wanted.count
            ),
        )),
    }
}
