//! The way of a coordinator's records into its partition's log: encoded, batched, appended in order, and followed until
//! the high watermark has passed them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strom_groups::{AppendToken, Record};
use strom_records::{BatchBuilder, BuildError, Compression, HEADER_LEN, NewRecord};
use strom_replication::AcksState;
use strom_types::{ErrorCode, LeaderEpoch, Mono, Offset};
use tokio::sync::mpsc;
use tracing::{debug, error};

use super::records::{self, KeyValue};
use crate::partition::{Ack, AckSink, Acknowledged, Partition};

/// Most that a record takes in a batch beside its key and value.
const RECORD_OVERHEAD: usize = 40;
/// Appends share a batch up to this size.
const SHARED_BATCH_BYTES: usize = 256 << 10;
/// Before an unknown outcome is looked at again, or a refused rest of an append is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What became of a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// Surely not in the log.
    Refused { token: AppendToken, error: ErrorCode },
    /// An append was answered; an error leaves it open whether the records stay.
    Answered { place: usize, committed: bool },
}

/// One batch.
struct Write {
    batch: Bytes,
    /// The appends that are whole with it.
    tokens: Vec<AppendToken>,
    /// What stands before it in its append is in the log already, so it cannot be refused for good any more.
    continues: bool,
}

struct InFlight {
    tokens: Vec<AppendToken>,
    last_offset: Offset,
}

pub(super) struct Writer {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    compression: Compression,
    outcomes: mpsc::UnboundedSender<Outcome>,
    sink: Arc<dyn AckSink>,
    open: OpenBatch,
    /// Empty after a flush, unless the rest of an append was refused: nothing may be written before that.
    queue: VecDeque<Write>,
    next_place: usize,
    in_flight: BTreeMap<usize, InFlight>,
    /// Places whose acknowledgement failed although the records are in the log.
    uncertain: BTreeSet<usize>,
    retry_at: Option<Mono>,
}

#[derive(Default)]
struct OpenBatch {
    records: Vec<KeyValue>,
    len: usize,
    tokens: Vec<AppendToken>,
}

struct Sink(mpsc::UnboundedSender<Outcome>);

impl AckSink for Sink {
    fn acknowledge(&self, place: usize, outcome: Acknowledged) {
        let committed = outcome.is_ok();
        // The receiver ends with the coordinator.
        let _ = self.0.send(Outcome::Answered { place, committed });
    }
}

impl Writer {
    pub(super) fn new(
        partition: Arc<Partition>,
        epoch: LeaderEpoch,
        compression: Compression,
    ) -> (Writer, mpsc::UnboundedReceiver<Outcome>) {
        let (outcomes, receiver) = mpsc::unbounded_channel();
        let writer = Writer {
            partition,
            epoch,
            compression,
            sink: Arc::new(Sink(outcomes.clone())),
            outcomes,
            open: OpenBatch::default(),
            queue: VecDeque::new(),
            next_place: 0,
            in_flight: BTreeMap::new(),
            uncertain: BTreeSet::new(),
            retry_at: None,
        };
        (writer, receiver)
    }

    /// When [`Writer::flush`] is to be called although nothing was pushed.
    pub(super) fn retry_at(&self) -> Option<Mono> {
        self.retry_at
    }

    /// Takes one append; it is written with the next [`Writer::flush`].
    pub(super) fn push(&mut self, token: AppendToken, records: &[Record]) {
        let max = self.batch_bytes_max();
        let encoded: Result<Vec<KeyValue>, _> = records.iter().map(records::encode).collect();
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                error!(partition = self.partition.key().partition, %error, "a coordinator's record cannot be encoded");
                return self.refuse(token, ErrorCode::UnknownServerError);
            }
        };
        if encoded.iter().any(|record| HEADER_LEN + size_of(record) > max) {
            return self.refuse(token, ErrorCode::MessageTooLarge);
        }
        let len: usize = encoded.iter().map(size_of).sum();
        if HEADER_LEN + self.open.len + len > max.min(SHARED_BATCH_BYTES) {
            self.close_batch(false);
        }
        if HEADER_LEN + len <= max {
            self.open.len += len;
            self.open.records.extend(encoded);
            self.open.tokens.push(token);
            return;
        }
        // Larger than a batch may be: several, of which the last one makes the append whole.
        let mut continues = false;
        for record in encoded {
            let len = size_of(&record);
            if HEADER_LEN + self.open.len + len > max {
                self.close_batch(continues);
                continues = true;
            }
            self.open.len += len;
            self.open.records.push(record);
        }
        self.open.tokens.push(token);
        self.close_batch(continues);
    }

    /// Appends what was pushed, and looks after what was left open, when it is time.
    pub(super) fn flush(&mut self) {
        self.close_batch(false);
        let now = self.partition.clock().mono();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.look_after_uncertain();
        }
        self.append_queue();
        if self.retry_at.is_none() && !(self.queue.is_empty() && self.uncertain.is_empty()) {
            self.retry_at = Some(now + RETRY_PAUSE);
        }
    }

    /// The appends that are surely committed after this answer.
    pub(super) fn answered(&mut self, place: usize, committed: bool) -> Vec<AppendToken> {
        if committed {
            self.uncertain.remove(&place);
            return self
                .in_flight
                .remove(&place)
                .map_or_else(Vec::new, |done| done.tokens);
        }
        if self.in_flight.contains_key(&place) {
            self.uncertain.insert(place);
        }
        Vec::new()
    }

    fn append_queue(&mut self) {
        while let Some(write) = self.queue.pop_front() {
            let place = self.next_place;
            let ack = Ack {
                sink: self.sink.clone(),
                place,
            };
            match self.partition.append_own(write.batch.clone(), self.epoch, ack) {
                Ok(info) => {
                    self.next_place += 1;
                    let in_flight = InFlight {
                        tokens: write.tokens,
                        last_offset: info.last_offset,
                    };
                    self.in_flight.insert(place, in_flight);
                }
                Err(error) if write.continues => {
                    debug!(partition = self.partition.key().partition, %error, "the rest of an append must wait");
                    return self.queue.push_front(write);
                }
                Err(error) => self.refuse_append(write, error),
            }
        }
    }

    /// Refuses a write and the rest of its append.
    fn refuse_append(&mut self, write: Write, error: ErrorCode) {
        let mut tokens = write.tokens;
        while let Some(rest) = self.queue.pop_front_if(|next| next.continues) {
            tokens.extend(rest.tokens);
        }
        debug!(partition = self.partition.key().partition, %error, "a coordinator's append was refused");
        for token in tokens {
            self.refuse(token, error);
        }
    }

    /// Asks the replica what became of the records whose acknowledgement failed: a lease may be back, the ISR large
    /// enough again.
    fn look_after_uncertain(&mut self) {
        for place in std::mem::take(&mut self.uncertain) {
            let Some(in_flight) = self.in_flight.get(&place) else {
                continue;
            };
            match self.partition.own_append_state(self.epoch, in_flight.last_offset) {
                AcksState::Done => {
                    let _ = self.outcomes.send(Outcome::Answered {
                        place,
                        committed: true,
                    });
                }
                AcksState::Pending | AcksState::Failed(_) => {
                    self.uncertain.insert(place);
                }
            }
        }
    }

    fn refuse(&self, token: AppendToken, error: ErrorCode) {
        // The receiver ends with the coordinator.
        let _ = self.outcomes.send(Outcome::Refused { token, error });
    }

    fn close_batch(&mut self, continues: bool) {
        if self.open.records.is_empty() {
            return;
        }
        let OpenBatch { records, tokens, .. } = std::mem::take(&mut self.open);
        match build(&records, self.partition.clock().wall().0, self.compression) {
            Ok(batch) => self.queue.push_back(Write {
                batch,
                tokens,
                continues,
            }),
            // Unreachable below 2 GiB.
            Err(error) => {
                error!(%error, "a coordinator's batch cannot be built");
                for token in tokens {
                    self.refuse(token, ErrorCode::UnknownServerError);
                }
            }
        }
    }

    fn batch_bytes_max(&self) -> usize {
        let config = self.partition.config();
        let max = config.max_message_bytes.min(config.segment_bytes);
        usize::try_from(max).unwrap_or(0)
    }
}

fn size_of(record: &KeyValue) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, Bytes::len) + RECORD_OVERHEAD
}

fn build(records: &[KeyValue], timestamp: i64, compression: Compression) -> Result<Bytes, BuildError> {
    let mut builder = BatchBuilder::new().compression(compression);
    for record in records {
        builder.push(&NewRecord {
            timestamp,
            key: Some(&record.key),
            value: record.value.as_deref(),
            headers: &[],
        })?;
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use strom_records::{Batch, Codec, MAX_DECOMPRESSED_BYTES};

    use super::*;

    #[test]
    fn batches_have_the_codec_that_is_set() {
        let records = vec![KeyValue {
            key: Bytes::from_static(b"group"),
            value: Some(Bytes::from(vec![b'x'; 1000])),
        }];
        let plain = build(&records, 7, Compression::NONE).unwrap().len();
        for codec in Codec::ALL {
            let built = build(&records, 7, Compression::of(codec)).unwrap();
            let batch = Batch::first_of(&built).unwrap().unwrap();
            assert_eq!(batch.header.codec(), Ok(codec));
            assert_eq!(built.len() < plain, codec != Codec::None);
            let read: Vec<_> = batch.records(MAX_DECOMPRESSED_BYTES).unwrap().collect();
            assert_eq!(read.len(), 1);
            let record = read[0].as_ref().unwrap();
            assert_eq!(record.value, records[0].value);
        }
    }
}
