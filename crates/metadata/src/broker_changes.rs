//! What the coming and going of brokers means for partitions (reliability: broker life, elections, KIP-966).

use std::sync::Arc;

use strom_types::{BrokerId, LeaderEpoch, TopicId, TopicIdPartition};

use crate::draft::{Draft, replica_is_online};
use crate::image::{ImageError, PartitionState};
use crate::partition_change::PartitionChange;
use crate::topic_settings::ClusterConfigs;

/// How a broker's replicas leave the ISRs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Departure {
    /// Its disk holds what it held: fenced, shutting down, or back after an orderly end.
    DiskKept,
    /// A new process whose predecessor closed no logs: what was only in the page cache may be lost.
    Crashed,
    /// A directory is new or missing.
    DiskLost,
}

impl Departure {
    /// Whether the replica may lack records that counted as committed. A crash costs a durable topic nothing, and of
    /// a sole replica there is nothing better to wait for.
    fn is_unclean(self, page_cache: bool, state: &PartitionState) -> bool {
        match self {
            Departure::DiskKept => false,
            Departure::Crashed => page_cache && state.replicas.len() > 1,
            Departure::DiskLost => true,
        }
    }
}

/// Takes the broker out of every ISR (and, as the departure demands, ELR) and elects new leaders where it led. The
/// draft must already show the broker as out of service.
pub(crate) fn leave_isrs(
    draft: &mut Draft,
    configs: &ClusterConfigs<'_>,
    id: BrokerId,
    departure: Departure,
) -> Result<(), ImageError> {
    leave_isrs_where(draft, configs, id, departure, |_| true)
}

/// The same for the replicas whose directory is offline in the draft.
pub(crate) fn leave_isrs_of_offline_directories(
    draft: &mut Draft,
    configs: &ClusterConfigs<'_>,
    id: BrokerId,
) -> Result<(), ImageError> {
    let Some(broker) = draft.image.broker(id).map(Arc::clone) else {
        return Ok(());
    };
    leave_isrs_where(draft, configs, id, Departure::DiskKept, |state| {
        !replica_is_online(&broker, state)
    })
}

fn leave_isrs_where(
    draft: &mut Draft,
    configs: &ClusterConfigs<'_>,
    id: BrokerId,
    departure: Departure,
    concerns: impl Fn(&PartitionState) -> bool,
) -> Result<(), ImageError> {
    let base = draft.image.clone();
    let mut page_cache = OfTopic::default();
    let mut unclean_election = OfTopic::default();
    for (key, state) in base.partitions() {
        let involved = state.isr.contains(&id) || state.elr.contains(&id);
        if !involved || !concerns(state) {
            continue;
        }
        let topic = key.topic_id;
        let unclean = departure.is_unclean(page_cache.get(topic, |id| base.is_page_cache_topic(id)), state);
        let change = PartitionChange {
            isr: Some(without(&state.isr, id)),
            unclean: if unclean { vec![id] } else { Vec::new() },
            allow_unclean: unclean_election.get(topic, |id| configs.topic(&base, id).unclean_election),
            ..Default::default()
        };
        draft.change(key, &change)?;
    }
    Ok(())
}

/// The broker found records of these replicas damaged below what it had flushed: they are not to be led from. A new
/// leader epoch voids their leaders' view of them, and the ISR changes that are on their way because of it.
pub(crate) fn leave_damaged(
    draft: &mut Draft,
    id: BrokerId,
    replicas: &[(TopicIdPartition, LeaderEpoch)],
) -> Result<(), ImageError> {
    for (key, acted) in replicas {
        let Some(state) = draft.image.partition(*key).map(Arc::clone) else {
            continue;
        };
        if !state.counts_on(id, *acted) {
            continue;
        }
        let change = PartitionChange {
            isr: Some(without(&state.isr, id)),
            unclean: vec![id],
            new_leader_epoch: true,
            ..Default::default()
        };
        draft.change(*key, &change)?;
    }
    Ok(())
}

/// Gives away what the broker leads, where another replica in sync has room on its disk.
pub(crate) fn yield_leaderships(draft: &mut Draft, id: BrokerId) -> Result<(), ImageError> {
    let base = draft.image.clone();
    for (key, state) in base.partitions() {
        if state.leader == Some(id) {
            draft.change(key, &PartitionChange::default())?;
        }
    }
    Ok(())
}

/// Elects leaders for partitions that have none, where it can: of one broker's replicas when it came into service,
/// or of the partitions that `concerns` picks.
pub(crate) fn elect_leaderless(
    draft: &mut Draft,
    configs: &ClusterConfigs<'_>,
    concerns: impl Fn(TopicIdPartition, &PartitionState) -> bool,
) -> Result<(), ImageError> {
    let base = draft.image.clone();
    let mut unclean_election = OfTopic::default();
    for (key, state) in base.partitions() {
        if state.leader.is_some() || !concerns(key, state) {
            continue;
        }
        let change = PartitionChange {
            allow_unclean: unclean_election.get(key.topic_id, |id| configs.topic(&base, id).unclean_election),
            ..Default::default()
        };
        draft.change(key, &change)?;
    }
    Ok(())
}

fn without(list: &[BrokerId], id: BrokerId) -> Vec<BrokerId> {
    list.iter().copied().filter(|other| *other != id).collect()
}

/// Remembers a topic's setting while the walk stays within the topic.
#[derive(Default)]
struct OfTopic(Option<(TopicId, bool)>);

impl OfTopic {
    fn get(&mut self, topic: TopicId, read: impl FnOnce(TopicId) -> bool) -> bool {
        match self.0 {
            Some((last, value)) if last == topic => value,
            _ => {
                let value = read(topic);
                self.0 = Some((topic, value));
                value
            }
        }
    }
}
