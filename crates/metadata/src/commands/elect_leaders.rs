//! ElectLeaders on request, and the automatic return of leaderships to preferred leaders.

use std::sync::Arc;

use strom_proto::convert::service_error;
use strom_proto::v1;
use strom_types::{ErrorCode, TopicIdPartition};

use super::{Refused, Reply, broken, refuse};
use crate::draft::Draft;
use crate::image::{Image, PartitionState};
use crate::partition_change::PartitionChange;

/// Leaderships that one rebalance returns at most (Kafka's `MAX_ELECTIONS_PER_IMBALANCE`).
const RETURNS_MAX: usize = 1000;

pub(super) fn elect_leaders(draft: &mut Draft, request: &v1::ElectLeadersRequest) -> Result<Reply, Refused> {
    let base = draft.image.clone();
    let mut results = Vec::new();
    if request.all {
        for topic in base.topics() {
            for partition in topic.partitions.keys() {
                let named = v1::TopicPartition {
                    topic: topic.name.to_string(),
                    partition: *partition,
                };
                match elect_one(draft, &base, &named, request.unclean)? {
                    Err(ErrorCode::ElectionNotNeeded) => {}
                    outcome => results.push(result(named, outcome)),
                }
            }
        }
    } else {
        for named in &request.partitions {
            let outcome = elect_one(draft, &base, named, request.unclean)?;
            results.push(result(named.clone(), outcome));
        }
    }
    Ok(Reply::ElectLeaders(v1::ElectLeadersReply {
        results,
        metadata_offset: 0,
    }))
}

fn result(named: v1::TopicPartition, outcome: Result<(), ErrorCode>) -> v1::ElectLeadersResult {
    let text = |code: ErrorCode| match code {
        ErrorCode::UnknownTopicOrPartition => "This server does not host this topic-partition.",
        ErrorCode::ElectionNotNeeded => "Leader election not needed for topic partition.",
        ErrorCode::PreferredLeaderNotAvailable => "The preferred leader was not available.",
        _ => "Eligible topic partition leaders are not available.",
    };
    v1::ElectLeadersResult {
        partition: Some(named),
        error: outcome.err().map(|code| service_error(code, text(code))),
    }
}

/// The inner error concerns this partition only.
fn elect_one(
    draft: &mut Draft,
    base: &Image,
    named: &v1::TopicPartition,
    unclean: bool,
) -> Result<Result<(), ErrorCode>, Refused> {
    let Some(topic) = base.topic_by_name(&named.topic) else {
        return Ok(Err(ErrorCode::UnknownTopicOrPartition));
    };
    let key = TopicIdPartition::new(topic.id, named.partition);
    let Some(state) = draft.image.partition(key).map(Arc::clone) else {
        return Ok(Err(ErrorCode::UnknownTopicOrPartition));
    };
    let needless = if unclean {
        state.leader.is_some()
    } else {
        has_preferred_leader(&state)
    };
    if needless {
        return Ok(Err(ErrorCode::ElectionNotNeeded));
    }
    let change = PartitionChange {
        prefer_first: !unclean,
        allow_unclean: unclean,
        ..Default::default()
    };
    draft.change(key, &change).map_err(|error| broken(&error))?;
    let after = draft
        .image
        .partition(key)
        .ok_or_else(|| refuse(ErrorCode::UnknownServerError, "the partition vanished"))?;
    Ok(match (unclean, after.leader) {
        (true, None) => Err(ErrorCode::EligibleLeadersNotAvailable),
        (false, _) if !has_preferred_leader(after) => Err(ErrorCode::PreferredLeaderNotAvailable),
        _ => Ok(()),
    })
}

fn has_preferred_leader(state: &PartitionState) -> bool {
    state.leader.is_some() && state.leader == state.preferred_leader()
}

pub(super) fn rebalance(draft: &mut Draft) -> Result<Reply, Refused> {
    let base = draft.image.clone();
    let change = PartitionChange {
        prefer_first: true,
        ..Default::default()
    };
    let mut returned = 0;
    for (key, state) in base.partitions() {
        let in_sync = state.preferred_leader().is_some_and(|id| state.isr.contains(&id));
        if has_preferred_leader(state) || !in_sync {
            continue;
        }
        if draft.change(key, &change).map_err(|error| broken(&error))? {
            returned += 1;
        }
        if returned >= RETURNS_MAX {
            break;
        }
    }
    Ok(Reply::Change(v1::ChangeReply::default()))
}
