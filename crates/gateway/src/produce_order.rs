//! The order of idempotent producers' batches on one connection, which the leader behind it may change under.
//!
//! A client knows of one broker per connection, so it expects that a batch which fails takes those pipelined behind it
//! with it. Here the next batch might go to the next leader instead: it waits for nobody, but is refused while one before
//! it is under way elsewhere or has failed. `strom_types::FailedBatch` says why that matters.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parking_lot::Mutex;
use strom_client::StreamName;
use strom_types::{Admitted, ErrorCode, OrderedWay, ProducerBatch, ProducerId, TopicIdPartition, leaves_gap};

/// Ways kept for one connection. Only a client that makes up producers and never sends again what failed has so many:
/// then those with nothing under way are forgotten.
const WAYS_MAX: usize = 10_000;

type Ways = HashMap<(TopicIdPartition, ProducerId), OrderedWay<StreamName>>;

/// The ways of producers to partitions on which something is under way or has failed.
#[derive(Debug, Default)]
pub(crate) struct ProduceOrder {
    ways: Mutex<Ways>,
}

impl ProduceOrder {
    /// Lets `batch` out on `stream`, to be settled; `None` if it would overtake another.
    pub(crate) fn admit(
        &self,
        key: TopicIdPartition,
        batch: ProducerBatch,
        stream: StreamName,
    ) -> Option<Admitted> {
        let mut ways = self.ways.lock();
        make_room(&mut ways);
        ways.entry((key, batch.id)).or_default().admit(batch, stream)
    }

    /// What an admitted batch has come to.
    pub(crate) fn settle(&self, key: TopicIdPartition, admitted: Admitted, code: ErrorCode) {
        if let Entry::Occupied(mut entry) = self.ways.lock().entry((key, admitted.batch().id)) {
            entry.get_mut().settle(admitted, leaves_gap(code));
            if entry.get().is_clear() {
                entry.remove();
            }
        }
    }

    /// A batch that could not be sent at all.
    pub(crate) fn unsent(&self, key: TopicIdPartition, batch: ProducerBatch) {
        let mut ways = self.ways.lock();
        make_room(&mut ways);
        ways.entry((key, batch.id)).or_default().unsent(batch);
    }
}

fn make_room(ways: &mut Ways) {
    if ways.len() >= WAYS_MAX {
        ways.retain(|_, way| way.is_under_way());
    }
}

#[cfg(test)]
mod tests {
    use strom_types::{ProducerEpoch, TopicId};
    use uuid::Uuid;

    use super::*;

    fn batch(sequence: i32) -> ProducerBatch {
        of(1, sequence)
    }

    fn of(id: i64, sequence: i32) -> ProducerBatch {
        ProducerBatch {
            id: ProducerId(id),
            epoch: ProducerEpoch(0),
            sequence,
        }
    }

    #[test]
    fn a_settled_way_is_forgotten_and_a_failed_one_kept() {
        let key = TopicIdPartition::new(TopicId(Uuid::from_u128(1)), 0);
        let stream = |number| StreamName::new(Uuid::from_u128(1), number);
        let order = ProduceOrder::default();
        let first = order.admit(key, batch(0), stream(1)).unwrap();
        order.settle(key, first, ErrorCode::None);
        assert!(order.ways.lock().is_empty());
        let lost = order.admit(key, batch(1), stream(1)).unwrap();
        order.settle(key, lost, ErrorCode::RequestTimedOut);
        assert_eq!(order.admit(key, batch(2), stream(2)), None);
        assert!(order.admit(key, batch(1), stream(2)).is_some());
        assert!(order.admit(key, batch(2), stream(2)).is_some());
    }

    #[test]
    fn producers_that_are_made_up_are_forgotten() {
        let key = TopicIdPartition::new(TopicId(Uuid::from_u128(1)), 0);
        let stream = StreamName::new(Uuid::from_u128(1), 1);
        let order = ProduceOrder::default();
        let first = order.admit(key, of(0, 0), stream).unwrap();
        for id in 1..=25_000 {
            order.unsent(key, of(id, 4));
        }
        assert!(order.ways.lock().len() <= WAYS_MAX);
        order.settle(key, first, ErrorCode::RequestTimedOut);
        assert_eq!(
            order.admit(key, of(0, 1), stream),
            None,
            "what was under way is kept"
        );
    }

    #[test]
    fn each_producer_of_a_shared_connection_has_its_own_order() {
        let key = TopicIdPartition::new(TopicId(Uuid::from_u128(1)), 0);
        let stream = StreamName::new(Uuid::from_u128(1), 1);
        let order = ProduceOrder::default();
        order.unsent(key, of(1, 4));
        assert!(order.admit(key, of(2, 0), stream).is_some());
        assert_eq!(order.admit(key, of(1, 5), stream), None);
        assert!(order.admit(key, of(2, 1), stream).is_some());
    }
}
