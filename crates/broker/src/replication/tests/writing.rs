//! Writes to a leader and keeps what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use strom_records::{BatchBuilder, NewRecord};
use strom_replication::Acks;
use strom_types::ErrorCode;
use tokio::sync::mpsc;

use crate::partition::{Ack, AckSink, Acknowledged, Partition, ProduceTerms};

struct Sink(mpsc::UnboundedSender<(usize, Acknowledged)>);

impl AckSink for Sink {
    fn acknowledge(&self, place: usize, outcome: Acknowledged) {
        let _ = self.0.send((place, outcome));
    }
}

/// Outcomes of writes, in the order in which they came.
pub(super) struct Writer {
    sink: Arc<Sink>,
    outcomes: mpsc::UnboundedReceiver<(usize, Acknowledged)>,
    next_place: AtomicUsize,
}

impl Writer {
    pub(super) fn new() -> Self {
        let (sender, outcomes) = mpsc::unbounded_channel();
        Writer {
            sink: Arc::new(Sink(sender)),
            outcomes,
            next_place: AtomicUsize::new(0),
        }
    }

    /// Appends one record of `value` and names the write; an error is a refusal before the append.
    pub(super) fn write(&self, leader: &Partition, acks: Acks, value: &[u8]) -> Result<usize, ErrorCode> {
        let place = self.next_place.fetch_add(1, Ordering::Relaxed);
        let terms = ProduceTerms {
            acks,
            zstd_allowed: true,
        };
        let ack = Ack {
            sink: self.sink.clone(),
            place,
        };
        let checked = leader.check_produced(&batch(&[value]), terms);
        let appended = checked.and_then(|batch| leader.append_produced(batch, ack));
        appended.map(|()| place).map_err(|e| e.code())
    }

    pub(super) async fn outcome(&mut self) -> Acknowledged {
        let outcome = tokio::time::timeout(std::time::Duration::from_secs(20), self.outcomes.recv());
        outcome.await.expect("no acknowledgement in time").unwrap().1
    }

    pub(super) fn outcome_now(&mut self) -> Option<(usize, Acknowledged)> {
        self.outcomes.try_recv().ok()
    }
}

/// A batch as a producer sends it, at offset 0.
pub(super) fn batch(values: &[&[u8]]) -> Bytes {
    let mut batch = BatchBuilder::new();
    for value in values {
        let record = NewRecord {
            timestamp: 1_700_000_000_000,
            value: Some(value),
            ..NewRecord::default()
        };
        batch.push(&record).unwrap();
    }
    batch.build().unwrap()
}
