//! Building a batch record by record, byte for byte as Kafka's own `MemoryRecordsBuilder` does.

use bytes::{BufMut, Bytes, BytesMut};
use strom_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use thiserror::Error;

use crate::attributes::{Attributes, TimestampType};
use crate::compression::{Codec, Compression, CompressionError, compress};
use crate::crc::crc_of;
use crate::header::{BatchHeader, HEADER_LEN, LOG_OVERHEAD, MAGIC_V2, NO_SEQUENCE, NO_TIMESTAMP};
use crate::reader::{put_varint, put_varlong};
use crate::record::Record;

/// Why a batch cannot be built.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum BuildError {
    #[error("a batch or one of its records exceeds 2 GiB")]
    TooLarge,
    #[error("offset {offset} does not follow the last one of the batch")]
    Offset { offset: Offset },
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// A record to append.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds; -1 = none.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// Collects records and turns them into one batch: for coordinators, the CLI, tests and compaction.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    compression: Compression,
    log_append_time: Option<i64>,
    base_timestamp: Option<i64>,
    /// A header's room, then the records, uncompressed.
    buffer: BytesMut,
    /// Kept for its capacity: one record without its length prefix.
    scratch: Vec<u8>,
    /// What the batch that this one takes the place of covered: `last_offset_delta`, and `max_timestamp` if no record stays.
    replaced: Option<(i32, i64)>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An uncompressed CreateTime batch at offset 0 without leader epoch or producer.
    pub fn new() -> Self {
        let mut buffer = BytesMut::with_capacity(512);
        buffer.put_bytes(0, HEADER_LEN);
        BatchBuilder {
            header: BatchHeader {
                base_offset: 0,
                batch_length: 0,
                partition_leader_epoch: LeaderEpoch::NONE,
                magic: MAGIC_V2,
                crc: 0,
                attributes: Attributes::default(),
                last_offset_delta: -1,
                base_timestamp: NO_TIMESTAMP,
                max_timestamp: NO_TIMESTAMP,
                producer_id: ProducerId(-1),
                producer_epoch: ProducerEpoch(-1),
                base_sequence: NO_SEQUENCE,
                record_count: 0,
            },
            compression: Compression::NONE,
            log_append_time: None,
            base_timestamp: None,
            buffer,
            scratch: Vec::new(),
            replaced: None,
        }
    }

    /// A batch without records that takes the place of `of`, keeping offsets, times and producer state, as compaction
    /// leaves it. Push the surviving records with [`push_record`](Self::push_record).
    pub fn replacing(of: &BatchHeader, compression: Compression) -> Self {
        let mut builder = BatchBuilder::new().compression(compression);
        builder.replaced = Some((of.last_offset_delta, of.max_timestamp));
        builder.log_append_time = match of.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(of.max_timestamp),
        };
        builder.base_timestamp = of.delete_horizon_ms();
        builder.header = BatchHeader {
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            record_count: 0,
            ..*of
        };
        builder
    }

    #[must_use]
    pub fn base_offset(mut self, offset: Offset) -> Self {
        self.header.base_offset = offset;
        self
    }

    #[must_use]
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.header.partition_leader_epoch = epoch;
        self
    }

    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    #[must_use]
    pub fn transactional(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_transactional(on);
        self
    }

    #[must_use]
    pub fn control(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_control(on);
        self
    }

    /// LogAppendTime: every record has this time, whatever it was pushed with.
    #[must_use]
    pub fn log_append_time(mut self, ms: i64) -> Self {
        self.log_append_time = Some(ms);
        self
    }

    /// Sets the delete horizon (KIP-534), against which the records' timestamps are then encoded. Call before pushing.
    #[must_use]
    pub fn delete_horizon(mut self, ms: i64) -> Self {
        self.header.attributes = self.header.attributes.with_delete_horizon(true);
        self.base_timestamp = Some(ms);
        self
    }

    /// Records pushed so far.
    pub fn count(&self) -> i32 {
        self.header.record_count
    }

    pub fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// Bytes of the batch so far, before compression.
    pub fn uncompressed_len(&self) -> usize {
        self.buffer.len()
    }

    /// Appends a record at the next offset, which it returns.
    pub fn push(&mut self, record: &NewRecord<'_>) -> Result<Offset, BuildError> {
        let offset = self.header.next_offset();
        let mut headers = Vec::new();
        for (key, value) in record.headers {
            put_varint(&mut headers, int(key.len())?);
            headers.put_slice(key);
            put_nullable(&mut headers, *value)?;
        }
        self.append(offset, record, record.headers.len(), &headers)?;
        Ok(offset)
    }

    /// Appends a record read from another batch at its own offset, its headers as they are encoded.
    pub fn push_record(&mut self, record: &Record) -> Result<(), BuildError> {
        let new = NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &[],
        };
        self.append(
            record.offset,
            &new,
            record.headers.len(),
            record.headers.encoded(),
        )
    }

    fn append(
        &mut self,
        offset: Offset,
        record: &NewRecord<'_>,
        headers_count: usize,
        headers: &[u8],
    ) -> Result<(), BuildError> {
        let delta = offset
            .checked_sub(self.header.base_offset)
            .and_then(|delta| i32::try_from(delta).ok());
        let delta = delta.filter(|&delta| delta > self.header.last_offset_delta);
        let delta = delta.ok_or(BuildError::Offset { offset })?;
        let base_timestamp = *self.base_timestamp.get_or_insert(record.timestamp);
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        body.put_i8(0);
        put_varlong(&mut body, record.timestamp.wrapping_sub(base_timestamp));
        put_varint(&mut body, delta);
        put_nullable(&mut body, record.key)?;
        put_nullable(&mut body, record.value)?;
        put_varint(&mut body, int(headers_count)?);
        body.put_slice(headers);
        let len = int(body.len())?;
        int(self.buffer.len().saturating_add(body.len()))?;
        put_varint(&mut self.buffer, len);
        self.buffer.put_slice(&body);
        self.scratch = body;
        self.header.last_offset_delta = delta;
        self.header.record_count = self
            .header
            .record_count
            .checked_add(1)
            .ok_or(BuildError::TooLarge)?;
        self.header.max_timestamp = self.header.max_timestamp.max(record.timestamp);
        Ok(())
    }

    /// Finishes the batch. Without records, only a builder made by [`replacing`](Self::replacing) gives a useful one.
    pub fn build(self) -> Result<Bytes, BuildError> {
        let mut header = self.header;
        let mut buffer = self.buffer;
        let empty = header.record_count == 0;
        let codec = if empty {
            Codec::None
        } else {
            self.compression.codec
        };
        if codec != Codec::None {
            let compressed = compress(
                codec,
                self.compression.level,
                buffer.get(HEADER_LEN..).unwrap_or(&[]),
            )?;
            buffer.truncate(HEADER_LEN);
            buffer.put_slice(&compressed);
        }
        header.attributes = header.attributes.with_codec(codec);
        header.base_timestamp = self.base_timestamp.unwrap_or(NO_TIMESTAMP);
        if let Some((last_offset_delta, max_timestamp)) = self.replaced {
            header.last_offset_delta = last_offset_delta.max(header.last_offset_delta);
            if empty {
                header.max_timestamp = max_timestamp;
            }
        }
        if let Some(ms) = self.log_append_time {
            header.attributes = header
                .attributes
                .with_timestamp_type(TimestampType::LogAppendTime);
            header.max_timestamp = ms;
        }
        header.batch_length = int(buffer.len().saturating_sub(LOG_OVERHEAD))?;
        header.crc = crc_of(&header, buffer.get(HEADER_LEN..).unwrap_or(&[]));
        crate::assign::write_header(&mut buffer, &header);
        Ok(buffer.freeze())
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) -> Result<(), BuildError> {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, int(bytes.len())?);
            out.put_slice(bytes);
        }
    }
    Ok(())
}

fn int(len: usize) -> Result<i32, BuildError> {
    i32::try_from(len).map_err(|_| BuildError::TooLarge)
}
