//! The leader's check of what a client produced to one partition, and the batch it becomes.

use bytes::{Bytes, BytesMut};
use strom_types::{LeaderEpoch, Offset};

use crate::assign::{body_of, write_header};
use crate::attributes::TimestampType;
use crate::compression::{Codec, Compression, CompressionError, Compressor, Decompressor, WINDOW_BYTES};
use crate::crc::{CrcError, crc_of, verify_crc};
use crate::header::{BatchHeader, HEADER_LEN, HeaderError, LOG_OVERHEAD, NO_TIMESTAMP};
use crate::invalid::InvalidBatch;
use crate::policy::ProducePolicy;
use crate::walk::check_records;

/// A batch that passed [`validate_produce`], in the form it will be stored in, without its place in the log yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProduceBatch {
    /// The final header, but for `base_offset` and `partition_leader_epoch`. Under LogAppendTime or after re-compression
    /// it differs from what the client sent.
    pub header: BatchHeader,
    /// Whole batch; its first 61 bytes may still be the client's.
    bytes: Bytes,
}

impl ProduceBatch {
    /// Bytes of the batch as stored.
    pub fn total_len(&self) -> usize {
        self.bytes.len()
    }

    /// The batch without a place in the log: the very bytes that were validated unless a rule changed them.
    pub fn into_bytes(self) -> Bytes {
        match BatchHeader::parse(&self.bytes) {
            Ok(header) if header == self.header => self.bytes,
            _ => self.assign_contiguous(0, LeaderEpoch(0)),
        }
    }

    /// For the produce reply: the append time under LogAppendTime, else -1.
    pub fn log_append_time_ms(&self) -> i64 {
        match self.header.timestamp_type() {
            TimestampType::CreateTime => NO_TIMESTAMP,
            TimestampType::LogAppendTime => self.header.max_timestamp,
        }
    }

    /// Gives the batch its place: 61 bytes of header, and the records as a slice of what was received.
    pub fn assign(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> (Bytes, Bytes) {
        let header = self.header.at(base_offset, leader_epoch);
        (Bytes::copy_from_slice(&header.encode()), body_of(&self.bytes))
    }

    /// Gives the batch its place, in one piece: patched where it lies if nobody else holds its buffer, else copied.
    pub fn assign_contiguous(self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Bytes {
        let header = self.header.at(base_offset, leader_epoch);
        let mut bytes = self
            .bytes
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        write_header(&mut bytes, &header);
        bytes.freeze()
    }
}

/// Checks the records that a produce request holds for one partition, in Kafka's order: structure, size, CRC, header
/// rules, then every record. Compressed ones are decompressed for that, a window at a time: a batch that some consumer
/// could not read would stand in its way for ever.
pub fn validate_produce(records: &Bytes, policy: &ProducePolicy) -> Result<ProduceBatch, InvalidBatch> {
    let header = single_batch(records)?;
    if header.base_offset != 0 {
        return Err(InvalidBatch::BaseOffset(header.base_offset));
    }
    check_size(records.len(), policy)?;
    verify_crc(records).map_err(|error| match error {
        CrcError::Mismatch { stored, computed } => InvalidBatch::Crc { stored, computed },
        CrcError::TooShort { have } => InvalidBatch::Length {
            claimed: 61,
            actual: have,
        },
    })?;
    let codec = check_codec(&header, policy)?;
    check_count(&header)?;
    check_rights(&header, policy)?;
    check_producer(&header)?;

    let body = body_of(records);
    let checked = check_records(&header, &body, policy)?;
    let mut batch = ProduceBatch {
        header: header.with_max_timestamp(TimestampType::CreateTime, checked.max_timestamp),
        bytes: records.clone(),
    };
    if let Some(target) = policy.target_for(codec) {
        let body = recompress(codec, &body, target, checked.size, policy)?;
        batch = with_body(&batch.header, target.codec, &body)?;
    }
    if policy.timestamp_type == TimestampType::LogAppendTime {
        batch.header = batch
            .header
            .with_max_timestamp(TimestampType::LogAppendTime, policy.now.0);
    }
    check_size(batch.total_len(), policy)?;
    if batch.total_len() > policy.segment_bytes {
        return Err(InvalidBatch::LargerThanSegment {
            size: batch.total_len(),
            max: policy.segment_bytes,
        });
    }
    Ok(batch)
}

/// Parses the header and makes sure that the batch is all there is.
fn single_batch(records: &Bytes) -> Result<BatchHeader, InvalidBatch> {
    if records.is_empty() {
        return Err(InvalidBatch::Empty);
    }
    let actual = records.len();
    let header = BatchHeader::parse(records).map_err(|error| match error {
        HeaderError::Magic(magic @ 0..=1) => InvalidBatch::OldMagic(magic),
        HeaderError::Magic(magic) => InvalidBatch::UnknownMagic(magic),
        HeaderError::Length(length) => {
            let overhead = i64::try_from(LOG_OVERHEAD).unwrap_or(0);
            InvalidBatch::Length {
                claimed: i64::from(length).saturating_add(overhead),
                actual,
            }
        }
        HeaderError::TooShort { .. } => InvalidBatch::Length { claimed: 61, actual },
    })?;
    let claimed = header.total_len();
    match actual.checked_sub(claimed) {
        Some(0) => Ok(header),
        Some(more) if more >= HEADER_LEN => Err(InvalidBatch::MoreThanOneBatch),
        _ => Err(InvalidBatch::Length {
            claimed: i64::try_from(claimed).unwrap_or(i64::MAX),
            actual,
        }),
    }
}

fn check_size(size: usize, policy: &ProducePolicy) -> Result<(), InvalidBatch> {
    if size > policy.max_message_bytes {
        return Err(InvalidBatch::TooLarge {
            size,
            max: policy.max_message_bytes,
        });
    }
    Ok(())
}

fn check_codec(header: &BatchHeader, policy: &ProducePolicy) -> Result<Codec, InvalidBatch> {
    match header.codec() {
        Ok(Codec::Zstd) if !policy.zstd_allowed => Err(InvalidBatch::ZstdNotAllowed),
        Ok(codec) => Ok(codec),
        Err(unknown) => Err(InvalidBatch::UnknownCodec(unknown.0)),
    }
}

/// The count must agree with the offsets; whether it does with the records, their check will show.
fn check_count(header: &BatchHeader) -> Result<(), InvalidBatch> {
    let (count, last_offset_delta) = (header.record_count, header.last_offset_delta);
    if count <= 0 || last_offset_delta != count - 1 {
        return Err(InvalidBatch::Count {
            count,
            last_offset_delta,
        });
    }
    Ok(())
}

/// Attributes that are not a client's to set, or not this one's.
fn check_rights(header: &BatchHeader, policy: &ProducePolicy) -> Result<(), InvalidBatch> {
    if header.is_control() {
        return Err(InvalidBatch::Control);
    }
    if header.attributes.has_delete_horizon() {
        return Err(InvalidBatch::DeleteHorizon);
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(InvalidBatch::TimestampType);
    }
    if header.is_transactional() && !policy.transactional_allowed {
        return Err(InvalidBatch::NotTransactional);
    }
    if header.is_transactional() && !header.has_producer_id() {
        return Err(InvalidBatch::TransactionWithoutProducer);
    }
    Ok(())
}

/// A producer id comes with an epoch and a sequence.
fn check_producer(header: &BatchHeader) -> Result<(), InvalidBatch> {
    let (producer_id, epoch) = (header.producer_id.get(), header.producer_epoch.get());
    let none = producer_id == -1;
    let whole = producer_id >= 0 && epoch >= 0 && header.base_sequence >= 0;
    if none || whole {
        return Ok(());
    }
    Err(InvalidBatch::Producer {
        producer_id,
        epoch,
        sequence: header.base_sequence,
    })
}

/// The records in another codec, a window at a time.
fn recompress(
    from: Codec,
    body: &[u8],
    to: Compression,
    size: usize,
    policy: &ProducePolicy,
) -> Result<Vec<u8>, InvalidBatch> {
    let body_bytes_max = policy.max_message_bytes.saturating_sub(HEADER_LEN);
    let recode = || -> Result<Vec<u8>, CompressionError> {
        let mut stream = Decompressor::new(from, body, policy.decompressed_bytes_max)?;
        let mut out = Compressor::new(to, size, body_bytes_max)?;
        let mut window = [0; WINDOW_BYTES];
        loop {
            let read = stream.read(&mut window)?;
            if read == 0 {
                return out.finish();
            }
            out.write(window.get(..read).unwrap_or_default())?;
        }
    };
    recode().map_err(InvalidBatch::Recompression)
}

/// The batch with its records in another form; deltas, counts and producer stay.
fn with_body(header: &BatchHeader, codec: Codec, body: &[u8]) -> Result<ProduceBatch, InvalidBatch> {
    let size = body.len().saturating_add(HEADER_LEN);
    let batch_length = i32::try_from(size.saturating_sub(LOG_OVERHEAD));
    let batch_length = batch_length.map_err(|_| InvalidBatch::TooLarge {
        size,
        max: usize::try_from(i32::MAX).unwrap_or(0),
    })?;
    let mut header = BatchHeader {
        batch_length,
        attributes: header.attributes.with_codec(codec),
        ..*header
    };
    header.crc = crc_of(&header, body);
    let mut bytes = BytesMut::with_capacity(size);
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(body);
    Ok(ProduceBatch {
        header,
        bytes: bytes.freeze(),
    })
}
