//! The batches of idempotent producers that one produce stream was refused, so that none sent behind them is appended.

use std::collections::HashMap;

use strom_types::{ErrorCode, FailedBatch, ProducerBatch, ProducerId, TopicIdPartition, leaves_gap};

/// Producers that were refused and do not come again on this stream leave an entry each.
const REFUSED_MAX: usize = 10_000;

#[derive(Default)]
pub(super) struct RefusedBatches {
    last: HashMap<(TopicIdPartition, ProducerId), FailedBatch>,
}

impl RefusedBatches {
    /// Whether appending `batch` would let it overtake one that was refused.
    pub(super) fn is_overtaken_by(&mut self, key: TopicIdPartition, batch: ProducerBatch) -> bool {
        let Some(failed) = self.last.get_mut(&(key, batch.id)) else {
            return false;
        };
        let fails = failed.fails(batch);
        if !fails {
            self.last.remove(&(key, batch.id));
        }
        fails
    }

    pub(super) fn note(&mut self, key: TopicIdPartition, batch: ProducerBatch, code: ErrorCode) {
        if !leaves_gap(code) {
            return;
        }
        if self.last.len() >= REFUSED_MAX {
            self.last.clear();
        }
        self.last.entry((key, batch.id)).or_default().note(batch);
    }
}

#[cfg(test)]
mod tests {
    use strom_types::{ProducerEpoch, TopicId};

    use super::*;

    fn batch(id: i64, sequence: i32) -> ProducerBatch {
        ProducerBatch {
            id: ProducerId(id),
            epoch: ProducerEpoch(0),
            sequence,
        }
    }

    #[test]
    fn each_producer_of_each_partition_has_its_own_order() {
        let key = |partition| TopicIdPartition::new(TopicId(uuid::Uuid::nil()), partition);
        let mut refused = RefusedBatches::default();
        refused.note(key(0), batch(1, 0), ErrorCode::NotLeaderOrFollower);
        assert!(refused.is_overtaken_by(key(0), batch(1, 1)));
        assert!(!refused.is_overtaken_by(key(0), batch(2, 1)));
        assert!(!refused.is_overtaken_by(key(1), batch(1, 1)));
        assert!(!refused.is_overtaken_by(key(0), batch(1, 0)));
        assert!(!refused.is_overtaken_by(key(0), batch(1, 1)) && refused.last.is_empty());
    }

    #[test]
    fn a_batch_out_of_order_is_the_logs_to_judge() {
        let key = TopicIdPartition::new(TopicId(uuid::Uuid::nil()), 0);
        let mut refused = RefusedBatches::default();
        refused.note(key, batch(1, 5), ErrorCode::OutOfOrderSequenceNumber);
        assert!(!refused.is_overtaken_by(key, batch(1, 6)));
    }

    #[test]
    fn producers_that_never_come_again_are_forgotten() {
        let key = TopicIdPartition::new(TopicId(uuid::Uuid::nil()), 0);
        let mut refused = RefusedBatches::default();
        for id in 0..25_000 {
            refused.note(key, batch(id, 0), ErrorCode::NotLeaderOrFollower);
        }
        assert!(refused.last.len() <= REFUSED_MAX);
    }
}
