//! Writes to a leader and keeps what was acknowledged.

use std::sync::Arc;

use bytes::Bytes;
use strom_records::{BatchBuilder, NewRecord};
use strom_replication::Acks;
use strom_types::ErrorCode;
use tokio::sync::mpsc;

use crate::partition::{Ack, AckSink, Acknowledged, Partition, ProduceTerms};

struct Sink(mpsc::UnboundedSender<Acknowledged>);

impl AckSink for Sink {
    fn acknowledge(&self, _: usize, outcome: Acknowledged) {
        let _ = self.0.send(outcome);
    }
}

/// Outcomes of writes, in the order in which they came.
pub(super) struct Writer {
    sink: Arc<Sink>,
    outcomes: mpsc::UnboundedReceiver<Acknowledged>,
}

impl Writer {
    pub(super) fn new() -> Self {
        let (sender, outcomes) = mpsc::unbounded_channel();
        Writer {
            sink: Arc::new(Sink(sender)),
            outcomes,
        }
    }

    /// Appends one record of `value`; an error is a refusal before the append.
    pub(super) fn write(&self, leader: &Partition, acks: Acks, value: &[u8]) -> Result<(), ErrorCode> {
        let terms = ProduceTerms {
            acks,
            zstd_allowed: true,
        };
        let ack = Ack {
            sink: self.sink.clone(),
            place: 0,
        };
        leader.produce(&batch(&[value]), terms, ack).map_err(|e| e.code())
    }

    pub(super) async fn outcome(&mut self) -> Acknowledged {
        let outcome = tokio::time::timeout(std::time::Duration::from_secs(20), self.outcomes.recv());
        outcome.await.expect("no acknowledgement in time").unwrap()
    }

    pub(super) fn outcome_now(&mut self) -> Option<Acknowledged> {
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
