//! The one place where a partition's state changes: epochs (rule E2), election, ISR and ELR.

#[cfg(test)]
mod tests;

use strom_types::{BrokerId, LeaderEpoch, PartitionEpoch};

use crate::election::{Ballot, Elected, Title, elect};
use crate::image::PartitionState;

/// What is asked of a partition; [`PartitionChange::default`] asks only for a leader if it has none that may lead.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionChange {
    /// The ISR to have; `None` = as it is.
    pub isr: Option<Vec<BrokerId>>,
    /// Replicas that may have lost records which counted as committed: they leave ISR and ELR.
    pub unclean: Vec<BrokerId>,
    /// What was said in the present leader epoch does not count any more.
    pub new_leader_epoch: bool,
    /// The preferred leader takes over when it may.
    pub prefer_first: bool,
    /// A leader may be elected that lacks committed records.
    pub allow_unclean: bool,
    /// The leader has finished its recovery after an unclean election.
    pub recovered: bool,
    /// The new effective `min.insync.replicas`.
    pub min_isr: Option<i32>,
}

/// The state after a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    pub state: PartitionState,
    /// A leader was elected that may lack committed records.
    pub unclean: bool,
}

/// Applies a change: `None` when it changes nothing. `live` = may lead (unfenced, not shutting down, its directory
/// online).
///
/// The partition epoch grows with every change, the leader epoch when it is to, or the leader becomes another, none, or some
/// again after none: a restarted leader left the ISR by its registration, so it never resumes its old epoch.
pub fn change_partition(
    old: &PartitionState,
    change: &PartitionChange,
    live: impl Fn(BrokerId) -> bool,
) -> Option<Changed> {
    let mut new = old.clone();
    new.isr = change.isr.clone().unwrap_or_else(|| old.isr.clone());
    new.isr.retain(|id| !change.unclean.contains(id));
    if change.recovered {
        new.recovering = false;
    }
    let min_isr_changed = change.min_isr.is_some_and(|min_isr| min_isr != old.min_isr);
    new.min_isr = change.min_isr.unwrap_or(old.min_isr);

    let mut elr: Vec<BrokerId> = old.elr.clone();
    elr.retain(|id| !change.unclean.contains(id));
    // Also who leaves the ISR by this change may lead by its ELR title, so that an emptied ISR never blocks.
    let leavers = old.isr.iter().filter(|id| !change.unclean.contains(id));
    elr.extend(leavers.filter(|id| !new.isr.contains(id)));
    let ballot = Ballot {
        replicas: &old.replicas,
        isr: &new.isr,
        elr: &elr,
        last_known_elr: &old.last_known_elr,
        current: old.leader,
        prefer_first: change.prefer_first,
        allow_unclean: change.allow_unclean,
    };
    let elected = elect(ballot, live);
    let unclean = matches!(
        elected,
        Some(Elected {
            title: Title::Unclean,
            ..
        })
    );
    new.leader = elected.map(|elected| elected.leader);
    if let Some(Elected { leader, title }) = elected
        && title != Title::InSync
    {
        new.isr = vec![leader];
    }
    if unclean {
        // From here on this leader's log is the truth: who held the old one is no longer eligible.
        new.recovering = true;
        new.elr.clear();
        new.last_known_elr.clear();
    } else {
        settle_elr(old, change, &mut new);
    }
    if min_isr_changed && !new.isr.is_empty() {
        // Under another min ISR the leader may commit without them. With the ISR empty nobody commits, and they
        // are all there is to elect from.
        new.elr.clear();
        new.last_known_elr.clear();
    }
    if new == *old && !change.new_leader_epoch {
        return None;
    }
    new.partition_epoch = PartitionEpoch(old.partition_epoch.get() + 1);
    if new.leader != old.leader || unclean || change.new_leader_epoch {
        new.leader_epoch = LeaderEpoch(old.leader_epoch.get() + 1);
    }
    Some(Changed { state: new, unclean })
}

/// KIP-966: below min ISR nothing is committed, so who was in the ISR or the ELR stays eligible, unless its disk may
/// have lost something. At or above it only the ISR is.
fn settle_elr(old: &PartitionState, change: &PartitionChange, new: &mut PartitionState) {
    let in_sync = i32::try_from(new.isr.len()).unwrap_or(i32::MAX);
    if in_sync >= new.min_isr {
        new.elr.clear();
        new.last_known_elr.clear();
        return;
    }
    let was_eligible = |id: &BrokerId| old.isr.contains(id) || old.elr.contains(id);
    let of_replicas = |keep: &dyn Fn(&BrokerId) -> bool| -> Vec<BrokerId> {
        old.replicas
            .iter()
            .copied()
            .filter(|id| !new.isr.contains(id) && keep(id))
            .collect()
    };
    let elr = of_replicas(&|id| was_eligible(id) && !change.unclean.contains(id));
    let last_known =
        of_replicas(&|id| !elr.contains(id) && (was_eligible(id) || old.last_known_elr.contains(id)));
    new.elr = elr;
    new.last_known_elr = last_known;
}
