//! The records inside a batch, decompressed under a cap and read as slices of one buffer.

use bytes::Bytes;
use thiserror::Error;

use crate::attributes::TimestampType;
use crate::compression::{Codec, CompressionError, UnknownCodec, decompress};
use crate::header::BatchHeader;
use crate::reader::Reader;
use strom_types::Offset;

/// The default cap on what one batch may decompress to.
pub const MAX_DECOMPRESSED_BYTES: usize = 64 << 20;

/// The fewest bytes a record takes, its length prefix included: seven one-byte fields.
pub(crate) const MIN_RECORD_LEN: usize = 7;
/// The fewest bytes a record header takes: two lengths.
const MIN_HEADER_LEN: usize = 2;

/// Why the records of a batch cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RecordError {
    #[error(transparent)]
    UnknownCodec(#[from] UnknownCodec),
    #[error(transparent)]
    Compression(#[from] CompressionError),
    #[error("the records end before the count in the batch header is reached")]
    Truncated,
    #[error("a varint is longer than its type allows")]
    Varint,
    #[error("illegal length {0}")]
    Length(i32),
    #[error("record count {0} is negative")]
    Count(i32),
    #[error("{0} bytes are left in a record after its last field")]
    RecordSize(usize),
    #[error("{0} bytes are left after the last record")]
    TrailingBytes(usize),
}

/// One record, as slices of the decompressed batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub offset: Offset,
    /// Milliseconds; the batch's `max_timestamp` under LogAppendTime; -1 = none.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    /// `None` is a tombstone on a compacted topic.
    pub value: Option<Bytes>,
    pub headers: Headers,
}

/// One header of a record. Kafka's keys are UTF-8; they are kept as the bytes that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// A record's headers: checked, but kept as encoded, since a header takes two bytes on the wire and sixty in memory.
/// Order and duplicate keys are kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Headers {
    count: usize,
    encoded: Bytes,
}

impl Headers {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = RecordHeader> + '_ {
        let mut reader = Reader::new(&self.encoded);
        (0..self.count).map_while(move |_| {
            let (key, value) = read_header(&mut reader).ok()?;
            let value = value.map(|value| self.encoded.slice_ref(value));
            Some(RecordHeader {
                key: self.encoded.slice_ref(key),
                value,
            })
        })
    }

    pub fn to_vec(&self) -> Vec<RecordHeader> {
        self.iter().collect()
    }

    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

fn read_header<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], Option<&'a [u8]>), RecordError> {
    let len = reader.length()?;
    let key = reader.take(len)?;
    Ok((key, reader.nullable()?))
}

/// One record as it lies in the batch, borrowed: what validation needs, without an allocation.
pub(crate) struct RawRecord<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers_count: usize,
    headers: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// Reads the next record and checks every length in it, its headers' too.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, RecordError> {
        let len = reader.length()?;
        let mut record = Reader::new(reader.take(len)?);
        let _attributes = record.byte()?;
        let timestamp_delta = record.varlong()?;
        let offset_delta = record.varint()?;
        let key = record.nullable()?;
        let value = record.nullable()?;
        let count = record.varint()?;
        let headers_count = usize::try_from(count).map_err(|_| RecordError::Length(count))?;
        if headers_count > record.remaining() / MIN_HEADER_LEN {
            return Err(RecordError::Truncated);
        }
        let headers = record.rest();
        for _ in 0..headers_count {
            read_header(&mut record)?;
        }
        if record.remaining() > 0 {
            return Err(RecordError::RecordSize(record.remaining()));
        }
        Ok(RawRecord {
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers_count,
            headers,
        })
    }
}

/// The records' bytes, decompressed where they are compressed; `max_bytes` caps the output.
pub(crate) fn payload_of(header: &BatchHeader, body: &Bytes, max_bytes: usize) -> Result<Bytes, RecordError> {
    match header.codec()? {
        Codec::None => Ok(body.clone()),
        // An empty batch, as compaction leaves it, has no compressed stream either.
        _ if header.record_count == 0 => Ok(body.clone()),
        codec => Ok(Bytes::from(decompress(codec, body, max_bytes)?)),
    }
}

/// Yields the records of one batch in order, and ends after the first error. Bytes left over after the last record
/// are an error too. Compressed records are decompressed once, up front.
#[derive(Clone, Debug)]
pub struct RecordIter {
    payload: Bytes,
    left: i32,
    base_offset: Offset,
    base_timestamp: i64,
    append_time: Option<i64>,
    done: bool,
}

impl RecordIter {
    /// `body` is everything after the header.
    pub fn new(header: &BatchHeader, body: &Bytes, max_bytes: usize) -> Result<Self, RecordError> {
        if header.record_count < 0 {
            return Err(RecordError::Count(header.record_count));
        }
        let append_time = match header.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp),
        };
        Ok(RecordIter {
            payload: payload_of(header, body, max_bytes)?,
            left: header.record_count,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time,
            done: false,
        })
    }

    fn read(&mut self) -> Result<Record, RecordError> {
        let mut reader = Reader::new(&self.payload);
        let raw = RawRecord::read(&mut reader)?;
        let slice = |bytes: &[u8]| self.payload.slice_ref(bytes);
        let record = Record {
            // Wrapping, as in Kafka: both come from the wire.
            offset: self.base_offset.wrapping_add(i64::from(raw.offset_delta)),
            timestamp: self
                .append_time
                .unwrap_or_else(|| self.base_timestamp.wrapping_add(raw.timestamp_delta)),
            key: raw.key.map(slice),
            value: raw.value.map(slice),
            headers: Headers {
                count: raw.headers_count,
                encoded: slice(raw.headers),
            },
        };
        let rest = slice(reader.rest());
        self.payload = rest;
        Ok(record)
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.left == 0 {
            self.done = true;
            let left = self.payload.len();
            return (left > 0).then_some(Err(RecordError::TrailingBytes(left)));
        }
        self.left -= 1;
        let record = self.read();
        self.done = record.is_err();
        Some(record)
    }
}
