//! Giving a batch its place in the log: offsets and leader epoch, which lie outside the CRC, and append times, which do not.

use bytes::{Bytes, BytesMut};
use strom_types::{LeaderEpoch, Offset};

use crate::attributes::TimestampType;
use crate::crc::crc_after_change;
use crate::header::{BatchHeader, HEADER_LEN, HeaderError};

impl BatchHeader {
    /// The header at `base_offset`, written by the leader of `leader_epoch`. The CRC stays valid.
    #[must_use]
    pub fn at(self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        BatchHeader {
            base_offset,
            partition_leader_epoch: leader_epoch,
            ..self
        }
    }

    /// The header with other timestamps and the CRC that goes with them (Kafka's `setMaxTimestamp`). The records'
    /// deltas stay. `self.crc` must be right, since the new one is derived from it without reading the records.
    #[must_use]
    pub fn with_max_timestamp(self, timestamp_type: TimestampType, max_timestamp: i64) -> Self {
        let attributes = self.attributes.with_timestamp_type(timestamp_type);
        let mut new = BatchHeader {
            attributes,
            max_timestamp,
            ..self
        };
        if new != self {
            new.crc = crc_after_change(&self, &new, self.body_len());
        }
        new
    }
}

/// Stamps one whole batch: the patched 61 bytes, and the rest as a slice of `batch` (nothing else is copied).
pub fn assign_offsets(
    batch: &Bytes,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> Result<(Bytes, Bytes), HeaderError> {
    let header = BatchHeader::parse(batch)?.at(base_offset, leader_epoch);
    Ok((Bytes::copy_from_slice(&header.encode()), body_of(batch)))
}

/// Stamps one whole batch in its own buffer.
pub fn patch_in_place(
    mut batch: BytesMut,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> Result<Bytes, HeaderError> {
    let header = BatchHeader::parse(&batch)?.at(base_offset, leader_epoch);
    write_header(&mut batch, &header);
    Ok(batch.freeze())
}

/// The bytes after the header; empty when `batch` is not even a header.
pub(crate) fn body_of(batch: &Bytes) -> Bytes {
    if batch.len() < HEADER_LEN {
        Bytes::new()
    } else {
        batch.slice(HEADER_LEN..)
    }
}

pub(crate) fn write_header(batch: &mut BytesMut, header: &BatchHeader) {
    if let Some(head) = batch.first_chunk_mut::<HEADER_LEN>() {
        *head = header.encode();
    }
}
