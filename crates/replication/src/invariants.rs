//! What is true of a replica after every step, as plain functions for debug builds and the simulator.

use strom_types::{BrokerId, Offset};

use crate::log_view::LogPosition;
use crate::metadata::{PartitionState, RecoveryState};

/// log start ≤ fsynced end ≤ log end.
pub fn log_is_ordered(log: &LogPosition) -> bool {
    log.start <= log.durable && log.durable <= log.end
}

/// log start ≤ high watermark ≤ log end.
pub fn hw_is_in_the_log(high_watermark: Offset, log: &LogPosition) -> bool {
    log.start <= high_watermark && high_watermark <= log.end
}

/// HWMonotonic: the high watermark never goes back but by an unclean election's truncation.
pub fn hw_is_monotonic(before: Offset, after: Offset, recovery: RecoveryState) -> bool {
    after >= before || recovery == RecoveryState::Recovering
}

/// A partition's record makes sense: the leader is in the ISR, the ISR and ELR are disjoint sets of replicas, and a
/// RECOVERING leader is alone in its ISR.
pub fn record_is_sound(partition: &PartitionState) -> bool {
    let assigned = |id: &BrokerId| partition.replicas.contains(id);
    let leader_in_sync = partition
        .leader
        .is_none_or(|leader| partition.isr.contains(&leader));
    let alone = partition.recovery_state == RecoveryState::Recovered || partition.isr.len() <= 1;
    leader_in_sync
        && alone
        && partition.isr.iter().all(assigned)
        && partition.elr.iter().all(assigned)
        && partition.elr.iter().all(|id| !partition.isr.contains(id))
        && partition.min_isr >= 1
}

/// QuorumSuperset: whoever may be elected (ISR ∪ ELR of the controller) is waited for by a leader that may move the
/// high watermark.
pub fn quorum_is_superset(partition: &PartitionState, maximal_isr: &[BrokerId]) -> bool {
    partition.isr.len() < partition.min_isr
        || partition
            .isr
            .iter()
            .chain(&partition.elr)
            .all(|id| maximal_isr.contains(id))
}
