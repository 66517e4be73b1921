//! What the model holds against the replicas: the invariants of reliability 2.8.

use std::collections::BTreeMap;

use strom_types::{BrokerId, LeaderEpoch, Offset};

use super::node::Node;
use crate::toy_log::{ToyLog, ToyRecord};

pub(super) type Verdict = Result<(), String>;

#[derive(Default)]
pub(super) struct Checks {
    /// What some replica has shown below its high watermark, and the leader epoch in which it first did.
    committed: BTreeMap<Offset, (ToyRecord, LeaderEpoch)>,
    leaders: BTreeMap<LeaderEpoch, BrokerId>,
    /// The largest "latest" each epoch has answered.
    latest: BTreeMap<LeaderEpoch, Offset>,
    pub(super) acked: u64,
}

impl Checks {
    /// ConsistentRead: below the high watermark everybody shows the same.
    pub(super) fn on_high_watermark(&mut self, node: &Node, from: Offset, to: Offset) -> Verdict {
        for offset in from.max(node.log.start)..to {
            let Some(shown) = node.log.get(offset) else {
                return Err(format!(
                    "{} has no record {offset} below its high watermark {to}",
                    node.id
                ));
            };
            let epoch = node
                .replica
                .as_ref()
                .map_or(LeaderEpoch::NONE, |replica| replica.leader().1);
            let (first, _) = *self.committed.entry(offset).or_insert((shown, epoch));
            if first != shown {
                return Err(format!(
                    "ConsistentRead: {} shows {shown:?} at {offset}, shown before was {first:?}",
                    node.id
                ));
            }
        }
        Ok(())
    }

    /// OneLeaderPerEpoch and LeaderComplete.
    pub(super) fn on_leader(&mut self, node: &Node, epoch: LeaderEpoch) -> Verdict {
        if *self.leaders.entry(epoch).or_insert(node.id) != node.id {
            return Err(format!("OneLeaderPerEpoch: {} too leads epoch {epoch}", node.id));
        }
        self.holds_committed(&node.log, epoch)
            .map_err(|e| format!("LeaderComplete: {} in epoch {epoch} {e}", node.id))
    }

    /// What was committed in epochs before `before`.
    pub(super) fn holds_committed(&self, log: &ToyLog, before: LeaderEpoch) -> Verdict {
        for (&offset, &(record, epoch)) in self.committed.range(log.start..) {
            if epoch < before && log.get(offset) != Some(record) {
                return Err(format!(
                    "holds {:?} at {offset} instead of the committed {record:?}",
                    log.get(offset)
                ));
            }
        }
        Ok(())
    }

    /// NoAckedLost: what is acknowledged has been committed as it was sent.
    pub(super) fn on_ack(&mut self, offset: Offset, value: u64) -> Verdict {
        self.acked += 1;
        match self.committed.get(&offset) {
            Some((record, _)) if record.value == value => Ok(()),
            other => Err(format!(
                "NoAckedLost: acknowledged {value} at {offset}, committed is {other:?}"
            )),
        }
    }

    /// HWMonotonic: a consumer that follows the leader epochs never sees "latest" go back.
    pub(super) fn on_latest(&mut self, epoch: LeaderEpoch, offset: Offset) -> Verdict {
        if let Some((older, &shown)) = self.latest.range(..=epoch).max_by_key(|(_, shown)| **shown)
            && shown > offset
        {
            return Err(format!(
                "HWMonotonic: latest is {offset} in epoch {epoch}, was {shown} in {older}"
            ));
        }
        self.latest.insert(epoch, offset);
        Ok(())
    }

    /// LeaderCandidateComplete: a member of ISR ∪ ELR has everything committed on its disk.
    pub(super) fn candidate_is_complete(&self, node: &Node) -> Verdict {
        let lacking = self
            .committed
            .range(node.log.start..)
            .find(|(offset, (record, _))| {
                node.log.get(**offset) != Some(*record) || **offset >= node.safe_end()
            });
        match lacking {
            None => Ok(()),
            Some((offset, record)) => Err(format!(
                "LeaderCandidateComplete: {} may be elected without {record:?} at {offset}",
                node.id
            )),
        }
    }

    pub(super) fn committed_end(&self) -> Offset {
        self.committed
            .last_key_value()
            .map_or(0, |(offset, _)| offset + 1)
    }
}

/// LogMatching: one record per offset and epoch, everywhere.
pub(super) fn logs_match(nodes: &[Node]) -> Verdict {
    for a in nodes {
        for b in nodes {
            for offset in a.log.start.max(b.log.start)..a.log.end().min(b.log.end()) {
                if let (Some(x), Some(y)) = (a.log.get(offset), b.log.get(offset))
                    && x.epoch == y.epoch
                    && x.value != y.value
                {
                    return Err(format!(
                        "LogMatching: {} has {x:?}, {} has {y:?} at {offset}",
                        a.id, b.id
                    ));
                }
            }
        }
    }
    Ok(())
}
