//! Checks of replica lists that a client wrote itself, and new partitions' states (Kafka's `ReplicationControlManager`).

use strom_proto::v1;
use strom_types::{BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch};

use super::{Refused, refuse};
use crate::image::{Image, PartitionState};

/// Checks explicit assignments, in order of their partitions. `replication_factor` is what the topic has already.
pub(super) fn check_assignments(
    image: &Image,
    assignments: &[v1::ReplicaAssignment],
    replication_factor: Option<usize>,
) -> Result<Vec<Vec<BrokerId>>, Refused> {
    let mut expected = replication_factor;
    let mut lists = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        let replicas = check_one(image, &assignment.brokers)?;
        let expected = *expected.get_or_insert(replicas.len());
        if replicas.len() != expected {
            return Err(invalid(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this is not \
                 consistent with previous partitions, which have {expected} replica(s).",
                replicas.len()
            )));
        }
        lists.push(replicas);
    }
    Ok(lists)
}

fn check_one(image: &Image, brokers: &[i32]) -> Result<Vec<BrokerId>, Refused> {
    if brokers.is_empty() {
        return Err(invalid(
            "The manual partition assignment includes an empty replica list.",
        ));
    }
    let mut replicas: Vec<BrokerId> = Vec::with_capacity(brokers.len());
    for id in brokers.iter().copied().map(BrokerId) {
        if image.broker(id).is_none() {
            return Err(invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            )));
        }
        if replicas.contains(&id) {
            return Err(invalid(format!(
                "The manual partition assignment includes the broker {id} more than once."
            )));
        }
        replicas.push(id);
    }
    Ok(replicas)
}

/// The first state of a partition: the replicas in service are in sync, the first of them leads. `None` when none is
/// in service.
pub(super) fn new_partition(image: &Image, replicas: Vec<BrokerId>, min_isr: i32) -> Option<PartitionState> {
    let active = |id: &BrokerId| {
        image
            .broker(*id)
            .is_some_and(|broker| broker.is_active() && !broker.is_dirless())
    };
    let isr: Vec<BrokerId> = replicas.iter().copied().filter(active).collect();
    let leader = isr.first().copied()?;
    Some(PartitionState {
        replicas,
        adding: Vec::new(),
        removing: Vec::new(),
        directories: Vec::new(),
        leader: Some(leader),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        isr,
        elr: Vec::new(),
        last_known_elr: Vec::new(),
        recovering: false,
        min_isr,
    })
}

pub(super) fn invalid(message: impl Into<String>) -> Refused {
    refuse(ErrorCode::InvalidReplicaAssignment, message)
}

/// All replicas of a client's own assignment are out of service.
pub(super) fn none_active(partition: usize) -> Refused {
    invalid(format!(
        "All brokers specified in the manual partition assignment for partition {partition} are fenced or in \
         controlled shutdown."
    ))
}
