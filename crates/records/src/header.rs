//! The 61 bytes in front of every v2 batch, as a plain value.

use bytes::{Buf, BufMut};
use strom_types::{LeaderEpoch, Offset, ProducerBatch, ProducerEpoch, ProducerId};
use thiserror::Error;

use crate::attributes::{Attributes, TimestampType};
use crate::compression::{Codec, UnknownCodec};

/// Bytes of a v2 batch header.
pub const HEADER_LEN: usize = 61;
/// Bytes of `base_offset` and `batch_length`, which `batch_length` does not count.
pub const LOG_OVERHEAD: usize = 12;
pub const MAGIC_V2: i8 = 2;
/// "No timestamp" on the wire.
pub const NO_TIMESTAMP: i64 = -1;
/// "No sequence" on the wire.
pub const NO_SEQUENCE: i32 = -1;

/// Where the magic byte lies, in every format Kafka ever had.
const MAGIC_AT: usize = 16;
/// The smallest legal `batch_length`: a header and no records.
const MIN_BATCH_LENGTH: i32 = 49;

/// Why bytes are not the start of a v2 batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HeaderError {
    #[error("{have} bytes are too few for a batch header of 61")]
    TooShort { have: usize },
    #[error("batch magic {0} is not 2")]
    Magic(i8),
    #[error("batch length {0} is below the minimum of 49")]
    Length(i32),
}

/// A parsed v2 batch header (Kafka's `DefaultRecordBatch`). It models all 61 bytes, so [`encode`](Self::encode) gives
/// back what [`parse`](Self::parse) read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes after this field; see [`total_len`](Self::total_len).
    pub batch_length: i32,
    pub partition_leader_epoch: LeaderEpoch,
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may be longer. Magic is looked at first, so that a short v0 or
    /// v1 message is told apart from a damaged batch. On success `batch_length` is at least 49.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic.cast_signed() != MAGIC_V2
        {
            return Err(HeaderError::Magic(magic.cast_signed()));
        }
        let head: &[u8; HEADER_LEN] = bytes
            .first_chunk()
            .ok_or(HeaderError::TooShort { have: bytes.len() })?;
        let header = Self::read(head);
        if header.batch_length < MIN_BATCH_LENGTH {
            return Err(HeaderError::Length(header.batch_length));
        }
        Ok(header)
    }

    fn read(head: &[u8; HEADER_LEN]) -> Self {
        let mut at: &[u8] = head;
        BatchHeader {
            base_offset: at.get_i64(),
            batch_length: at.get_i32(),
            partition_leader_epoch: LeaderEpoch(at.get_i32()),
            magic: at.get_i8(),
            crc: at.get_u32(),
            attributes: Attributes(at.get_i16()),
            last_offset_delta: at.get_i32(),
            base_timestamp: at.get_i64(),
            max_timestamp: at.get_i64(),
            producer_id: ProducerId(at.get_i64()),
            producer_epoch: ProducerEpoch(at.get_i16()),
            base_sequence: at.get_i32(),
            record_count: at.get_i32(),
        }
    }

    /// The 61 bytes on the wire; `crc` is written as it stands.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let mut at: &mut [u8] = &mut out;
        at.put_i64(self.base_offset);
        at.put_i32(self.batch_length);
        at.put_i32(self.partition_leader_epoch.get());
        at.put_i8(self.magic);
        at.put_u32(self.crc);
        at.put_i16(self.attributes.0);
        at.put_i32(self.last_offset_delta);
        at.put_i64(self.base_timestamp);
        at.put_i64(self.max_timestamp);
        at.put_i64(self.producer_id.get());
        at.put_i16(self.producer_epoch.get());
        at.put_i32(self.base_sequence);
        at.put_i32(self.record_count);
        out
    }

    /// Bytes of the whole batch, header included.
    pub fn total_len(&self) -> usize {
        usize::try_from(self.batch_length)
            .unwrap_or(0)
            .saturating_add(LOG_OVERHEAD)
    }

    /// Bytes after the header.
    pub fn body_len(&self) -> usize {
        self.total_len().saturating_sub(HEADER_LEN)
    }

    /// Offset of the last record, also when compaction has removed it.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset that follows the batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().saturating_add(1)
    }

    pub fn codec(&self) -> Result<Codec, UnknownCodec> {
        self.attributes.codec()
    }

    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type()
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    pub fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id.get() >= 0
    }

    /// What names it among its producer's batches; `None` unless the producer is idempotent.
    pub fn producer_batch(&self) -> Option<ProducerBatch> {
        self.has_producer_id().then_some(ProducerBatch {
            id: self.producer_id,
            epoch: self.producer_epoch,
            sequence: self.base_sequence,
        })
    }

    /// KIP-534: when compaction may drop this batch's tombstones or marker; `None` while that is not fixed yet.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.attributes
            .has_delete_horizon()
            .then_some(self.base_timestamp)
    }

    /// Sequence of the last record; sequences wrap from `i32::MAX` to 0. [`NO_SEQUENCE`] when the batch has none.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        increment_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// `sequence + increment` in the ring 0..=`i32::MAX` (Kafka's `DefaultRecordBatch.incrementSequence`).
fn increment_sequence(sequence: i32, increment: i32) -> i32 {
    match sequence.checked_add(increment) {
        Some(sum) => sum,
        None => increment
            .wrapping_sub(i32::MAX.wrapping_sub(sequence))
            .wrapping_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(increment_sequence(0, 0), 0);
        assert_eq!(increment_sequence(i32::MAX, 0), i32::MAX);
        assert_eq!(increment_sequence(i32::MAX, 1), 0);
        assert_eq!(increment_sequence(i32::MAX - 1, 3), 1);
    }

    #[test]
    fn magic_is_reported_before_length() {
        let mut bytes = [0u8; 26];
        bytes[16] = 1;
        assert_eq!(BatchHeader::parse(&bytes), Err(HeaderError::Magic(1)));
        bytes[16] = 2;
        assert_eq!(
            BatchHeader::parse(&bytes),
            Err(HeaderError::TooShort { have: 26 })
        );
        let mut bytes = [0u8; 61];
        bytes[16] = 2;
        bytes[11] = 48;
        assert_eq!(BatchHeader::parse(&bytes), Err(HeaderError::Length(48)));
    }
}
