//! Which batches of a fetch reply a consumer may see: no markers and, for read_committed, nothing aborted (KIP-98).

use std::collections::BTreeSet;

use bytes::Bytes;
use strom_kafka_codec::messages::fetch_response::AbortedTransaction;
use strom_records::{Batch, BatchIter, ControlMarker, HeaderError, MarkerKind};
use strom_types::ProducerId;

/// The visible batches, and the offset after the last batch that was looked at (`None` if there was no whole batch).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Visible {
    pub(crate) batches: Vec<Batch>,
    pub(crate) next_offset: Option<i64>,
}

/// Takes a partition's `records` apart. `aborted` is `None` for read_uncommitted.
pub(crate) fn visible(
    records: Bytes,
    aborted: Option<&[AbortedTransaction]>,
) -> Result<Visible, HeaderError> {
    let mut pending: Vec<&AbortedTransaction> = aborted.unwrap_or_default().iter().collect();
    // Youngest first, to take the oldest from the end.
    pending.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
    let mut aborting: BTreeSet<ProducerId> = BTreeSet::new();
    let mut seen = Visible::default();
    for batch in BatchIter::new(records) {
        let batch = batch?;
        let header = &batch.header;
        seen.next_offset = Some(header.last_offset().saturating_add(1));
        while let Some(next) = pending.pop_if(|next| next.first_offset <= header.last_offset()) {
            aborting.insert(ProducerId(next.producer_id));
        }
        if header.is_control() {
            if ControlMarker::of(&batch).is_ok_and(|marker| marker.kind == MarkerKind::Abort) {
                aborting.remove(&header.producer_id);
            }
        } else if !(header.is_transactional() && aborting.contains(&header.producer_id)) {
            seen.batches.push(batch);
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use strom_records::{BatchBuilder, NewRecord};
    use strom_types::ProducerEpoch;

    use super::*;

    fn batch(offset: i64, producer: i64, transactional: bool) -> Bytes {
        let mut builder = BatchBuilder::new()
            .base_offset(offset)
            .transactional(transactional);
        builder = builder.producer(ProducerId(producer), ProducerEpoch(0), 0);
        builder
            .push(&NewRecord {
                timestamp: 1,
                value: Some(b"v"),
                ..Default::default()
            })
            .unwrap();
        builder.build().unwrap()
    }

    fn marker(offset: i64, producer: i64, kind: MarkerKind) -> Bytes {
        let marker = ControlMarker {
            kind,
            coordinator_epoch: 0,
        };
        let built = marker.build(ProducerId(producer), ProducerEpoch(0), 1).unwrap();
        let mut bytes = built.to_vec();
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        Bytes::from(bytes)
    }

    #[test]
    fn aborted_transactions_are_hidden_only_from_read_committed() {
        // Producer 1 aborts 0, commits 4; producer 2 commits 1; 3 is not transactional.
        let log = [
            batch(0, 1, true),
            batch(1, 2, true),
            marker(2, 1, MarkerKind::Abort),
            batch(3, 9, false),
            batch(4, 1, true),
            marker(5, 1, MarkerKind::Commit),
            marker(6, 2, MarkerKind::Commit),
        ];
        let log = Bytes::from(log.concat());
        let aborted = [AbortedTransaction {
            producer_id: 1,
            first_offset: 0,
        }];
        let offsets = |seen: &Visible| {
            seen.batches
                .iter()
                .map(|b| b.header.base_offset)
                .collect::<Vec<_>>()
        };
        let committed = visible(log.clone(), Some(&aborted)).unwrap();
        assert_eq!(
            (offsets(&committed), committed.next_offset),
            (vec![1, 3, 4], Some(7))
        );
        let all = visible(log, None).unwrap();
        assert_eq!((offsets(&all), all.next_offset), (vec![0, 1, 3, 4], Some(7)));
    }

    #[test]
    fn a_cut_batch_is_left_for_the_next_fetch() {
        let mut bytes = batch(0, -1, false).to_vec();
        bytes.extend_from_slice(&batch(1, -1, false)[..30]);
        let seen = visible(Bytes::from(bytes), None).unwrap();
        assert_eq!(seen.next_offset, Some(1));
        assert_eq!(visible(Bytes::new(), None).unwrap(), Visible::default());
    }
}
