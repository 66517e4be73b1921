//! Bounds, order, and the report that every shipment leaves behind.

use super::*;
use crate::driver::OutgoingSnapshot;
use crate::snapshot::{SnapshotMeta, SnapshotSource};
use crate::store::StoreError;
use crate::transport::Shipment;

fn take(inbox: &Inbox) -> Batch {
    inbox.take(Instant::now())
}

fn envelope(bytes: usize) -> RaftEnvelope {
    RaftEnvelope {
        messages: vec![Bytes::from(vec![0; bytes])],
        ..RaftEnvelope::default()
    }
}

fn snapshot() -> IncomingSnapshot {
    IncomingSnapshot {
        envelope: envelope(1),
        chunks: Vec::new(),
    }
}

#[test]
fn envelopes_are_bounded_by_count_and_bytes() {
    let inbox = Inbox::default();
    for _ in 0..ENVELOPES_MAX {
        inbox.push_envelope(envelope(1)).unwrap();
    }
    assert_eq!(inbox.push_envelope(envelope(1)), Err(Refused::Full));
    assert_eq!(take(&inbox).peers.len(), BATCH_MAX);
    inbox.push_envelope(envelope(ENVELOPE_BYTES_MAX)).unwrap();
    assert_eq!(inbox.push_envelope(envelope(1)), Err(Refused::Full));
    assert_eq!(take(&inbox).peers.len(), 1);
    inbox.push_envelope(envelope(1)).unwrap();
}

#[test]
fn a_snapshot_ends_a_batch_and_requests_do_not_wait_for_it() {
    let inbox = Inbox::default();
    inbox.push_envelope(envelope(1)).unwrap();
    inbox.push_snapshot(snapshot()).unwrap();
    assert_eq!(inbox.push_snapshot(snapshot()), Err(Refused::Full));
    inbox.push_envelope(envelope(1)).unwrap();
    let (reply, _answer) = oneshot::channel();
    inbox.push_request(Request::ReadIndex(reply)).unwrap();
    let batch = take(&inbox);
    assert_eq!((batch.peers.len(), batch.requests.len()), (2, 1));
    assert_eq!(take(&inbox).peers.len(), 1);
}

#[test]
fn a_closed_inbox_takes_nothing() {
    let inbox = Inbox::default();
    inbox.push_envelope(envelope(1)).unwrap();
    inbox.close();
    assert_eq!(inbox.push_envelope(envelope(1)), Err(Refused::Closed));
    assert_eq!(inbox.push_snapshot(snapshot()), Err(Refused::Closed));
    let batch = inbox.take(Instant::now() + std::time::Duration::from_secs(60));
    assert!(batch.closed);
}

struct Empty;

impl SnapshotSource for Empty {
    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta::default()
    }
    fn chunk(&self, _number: u32) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }
}

#[test]
fn a_dropped_shipment_is_a_failure_and_a_delivered_one_is_not() {
    let inbox = Arc::new(Inbox::default());
    let to = RaftId::from_raft(2).unwrap();
    let shipment = || {
        let snapshot = OutgoingSnapshot {
            to,
            envelope: envelope(1),
            source: Arc::new(Empty),
        };
        Shipment::new(snapshot, Reports::new(inbox.clone()))
    };
    drop(shipment());
    shipment().delivered();
    let reports: Vec<bool> = take(&inbox)
        .peers
        .into_iter()
        .filter_map(|event| match event {
            PeerEvent::SnapshotReport { peer, delivered } if peer == to => Some(delivered),
            _ => None,
        })
        .collect();
    assert_eq!(reports, vec![false, true]);
}
