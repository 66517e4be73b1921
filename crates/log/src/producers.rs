//! The state of idempotent and transactional producers in one log: duplicate and order checks, open transactions.

mod snapshot;

use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;
use strom_records::{BatchHeader, ControlMarker, MarkerKind};
use strom_types::{ErrorCode, Offset, ProducerEpoch, ProducerId, WallMs};
use thiserror::Error;

pub(crate) use snapshot::{decode as decode_snapshot, encode as encode_snapshot};

/// Batches remembered per producer: Kafka's `max.in.flight.requests.per.connection` of an idempotent producer.
pub(crate) const BATCHES_MAX: usize = 5;
const NO_SEQUENCE: i32 = -1;

/// Why a producer's batch was refused; always before anything was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProducerError {
    #[error("sequence {found} of producer {id} where {expected} is next")]
    OutOfOrderSequence {
        id: ProducerId,
        expected: i32,
        found: i32,
    },
    #[error("epoch {found} of producer {id} is older than {current}")]
    InvalidEpoch {
        id: ProducerId,
        current: ProducerEpoch,
        found: ProducerEpoch,
    },
    #[error("marker for producer {id} from coordinator epoch {found}, older than {current}")]
    CoordinatorFenced {
        id: ProducerId,
        current: i32,
        found: i32,
    },
}

impl ProducerError {
    pub fn code(&self) -> ErrorCode {
        match self {
            ProducerError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            ProducerError::InvalidEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            ProducerError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        }
    }
}

/// One batch of a producer, as far as duplicates need it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BatchMeta {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) last_offset: Offset,
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: i64,
}

impl BatchMeta {
    pub(crate) fn base_offset(&self) -> Offset {
        self.last_offset - i64::from(self.offset_delta)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Producer {
    pub(crate) epoch: ProducerEpoch,
    /// Oldest first, all of `epoch`.
    pub(crate) batches: SmallVec<[BatchMeta; BATCHES_MAX]>,
    /// When it last appended, by the clock of this node: unlike record timestamps, that is never in the past.
    pub(crate) updated_ms: i64,
    pub(crate) coordinator_epoch: i32,
    pub(crate) txn_first_offset: Option<Offset>,
}

/// One producer, as DescribeProducers shows it; `-1` where Kafka shows `-1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerState {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub last_sequence: i32,
    pub last_timestamp: i64,
    pub coordinator_epoch: i32,
    pub txn_start_offset: Offset,
}

/// A transaction whose marker says abort (Kafka's `AbortedTxn`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// Offset of the marker.
    pub last_offset: Offset,
    /// The last stable offset right after it.
    pub last_stable_offset: Offset,
}

/// What to do with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Append,
    Duplicate(BatchMeta),
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Producers {
    entries: HashMap<ProducerId, Producer>,
    /// First offset of each open transaction.
    open: BTreeMap<Offset, ProducerId>,
    /// (first offset, marker's offset) of ended transactions whose marker the high watermark may not have passed.
    ended: Vec<(Offset, Offset)>,
    purged_ms: i64,
}

impl Producers {
    /// Kafka's `ProducerAppendInfo` and `ProducerStateEntry.findDuplicateBatch`.
    pub(crate) fn check(
        &mut self,
        header: &BatchHeader,
        marker: Option<&ControlMarker>,
        now: WallMs,
        expiration_ms: i64,
    ) -> Result<Verdict, ProducerError> {
        if !header.has_producer_id() {
            return Ok(Verdict::Append);
        }
        self.purge(now, expiration_ms);
        let id = header.producer_id;
        let Some(producer) = self.entries.get(&id) else {
            return Ok(Verdict::Append);
        };
        if header.producer_epoch < producer.epoch {
            let (current, found) = (producer.epoch, header.producer_epoch);
            return Err(ProducerError::InvalidEpoch { id, current, found });
        }
        if let Some(marker) = marker {
            if marker.coordinator_epoch < producer.coordinator_epoch {
                let (current, found) = (producer.coordinator_epoch, marker.coordinator_epoch);
                return Err(ProducerError::CoordinatorFenced { id, current, found });
            }
            return Ok(Verdict::Append);
        }
        let (first, last) = (header.base_sequence, header.last_sequence());
        let mut expected = 0;
        if header.producer_epoch == producer.epoch {
            let same = |meta: &&BatchMeta| meta.first_sequence == first && meta.last_sequence == last;
            if let Some(meta) = producer.batches.iter().find(same) {
                return Ok(Verdict::Duplicate(*meta));
            }
            expected = producer
                .batches
                .last()
                .map_or(0, |meta| following(meta.last_sequence));
        }
        if first == expected {
            Ok(Verdict::Append)
        } else {
            Err(ProducerError::OutOfOrderSequence {
                id,
                expected,
                found: first,
            })
        }
    }

    /// Takes in a batch that is now in the log, unchecked. Returns the transaction it aborted, if it did.
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        marker: Option<&ControlMarker>,
        now_ms: i64,
    ) -> Option<AbortedTransaction> {
        if !header.has_producer_id() {
            return None;
        }
        let producer = self
            .entries
            .entry(header.producer_id)
            .or_insert_with(|| Producer {
                epoch: header.producer_epoch,
                batches: SmallVec::new(),
                updated_ms: now_ms,
                coordinator_epoch: -1,
                txn_first_offset: None,
            });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        producer.updated_ms = producer.updated_ms.max(now_ms);
        if header.is_control() {
            return marker.and_then(|marker| self.end_transaction(header, marker));
        }
        if producer.batches.len() >= BATCHES_MAX {
            producer.batches.remove(0);
        }
        producer.batches.push(BatchMeta {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
        if header.is_transactional() && producer.txn_first_offset.is_none() {
            producer.txn_first_offset = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
        None
    }

    fn end_transaction(
        &mut self,
        header: &BatchHeader,
        marker: &ControlMarker,
    ) -> Option<AbortedTransaction> {
        let producer = self.entries.get_mut(&header.producer_id)?;
        producer.coordinator_epoch = producer.coordinator_epoch.max(marker.coordinator_epoch);
        let first_offset = producer.txn_first_offset.take()?;
        self.open.remove(&first_offset);
        let last_offset = header.base_offset;
        self.ended.push((first_offset, last_offset));
        (marker.kind == MarkerKind::Abort).then(|| AbortedTransaction {
            producer_id: header.producer_id,
            first_offset,
            last_offset,
            last_stable_offset: self.open.keys().next().copied().unwrap_or(header.next_offset()),
        })
    }

    /// Drops producers that have not appended for `expiration_ms`, once a minute; never one with a transaction open.
    fn purge(&mut self, now: WallMs, expiration_ms: i64) {
        if now.0.saturating_sub(self.purged_ms) < 60_000.min(expiration_ms) {
            return;
        }
        self.purged_ms = now.0;
        self.entries.retain(|_, producer| {
            producer.txn_first_offset.is_some() || now.0.saturating_sub(producer.updated_ms) < expiration_ms
        });
    }

    /// The first offset that a transaction still decides upon: open ones, and ended ones whose marker is not yet below
    /// `high_watermark` and so may be lost.
    pub(crate) fn first_unstable(&mut self, high_watermark: Offset) -> Option<Offset> {
        self.ended.retain(|(_, marker)| *marker >= high_watermark);
        let ended = self.ended.iter().map(|(first, _)| *first).min();
        let open = self.open.keys().next().copied();
        open.into_iter().chain(ended).min()
    }

    pub(crate) fn states(&self) -> Vec<ProducerState> {
        let mut states: Vec<_> = self
            .entries
            .iter()
            .map(|(id, producer)| ProducerState {
                producer_id: *id,
                producer_epoch: producer.epoch,
                last_sequence: producer
                    .batches
                    .last()
                    .map_or(NO_SEQUENCE, |meta| meta.last_sequence),
                last_timestamp: producer.batches.last().map_or(-1, |meta| meta.timestamp),
                coordinator_epoch: producer.coordinator_epoch,
                txn_start_offset: producer.txn_first_offset.unwrap_or(-1),
            })
            .collect();
        states.sort_by_key(|state| state.producer_id);
        states
    }

    /// Rebuilds the state from its parts, as a snapshot holds them.
    fn from_entries(entries: HashMap<ProducerId, Producer>) -> Self {
        let open = entries
            .iter()
            .filter_map(|(id, producer)| producer.txn_first_offset.map(|first| (first, *id)))
            .collect();
        Producers {
            entries,
            open,
            ended: Vec::new(),
            purged_ms: 0,
        }
    }
}

/// Sequences wrap from `i32::MAX` to 0.
fn following(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
mod tests;
