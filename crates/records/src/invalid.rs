//! Why a produced batch is refused, with Kafka's code for each reason.

use strom_types::ErrorCode;
use thiserror::Error;

use crate::compression::CompressionError;
use crate::record::RecordError;

/// One refused record of a batch (KIP-467's `record_errors`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordFault {
    /// Index of the record in its batch.
    pub batch_index: i32,
    pub message: String,
}

/// Why a batch is refused; all of these are definite, nothing is written.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InvalidBatch {
    #[error("a produce request must hold a record batch per partition")]
    Empty,
    #[error("a produce request may hold only one record batch per partition")]
    MoreThanOneBatch,
    #[error("the batch says it is {claimed} bytes long, {actual} were sent")]
    Length { claimed: i64, actual: usize },
    #[error("only record batches of magic 2 are accepted, not {0}")]
    OldMagic(i8),
    #[error("invalid magic {0}")]
    UnknownMagic(i8),
    #[error("base offset of a produced batch must be 0, it is {0}")]
    BaseOffset(i64),
    #[error("the batch has {size} bytes, which exceeds the maximum of {max}")]
    TooLarge { size: usize, max: usize },
    #[error("the batch has {size} bytes, which exceeds the segment size of {max}")]
    LargerThanSegment { size: usize, max: usize },
    #[error("the batch is corrupt: stored crc {stored}, computed {computed}")]
    Crc { stored: u32, computed: u32 },
    #[error("the batch counts {count} records and has last offset delta {last_offset_delta}")]
    Count { count: i32, last_offset_delta: i32 },
    #[error("unknown compression codec {0}")]
    UnknownCodec(i16),
    #[error("produce requests below version 7 may not use zstd")]
    ZstdNotAllowed,
    #[error("clients may not write control records")]
    Control,
    #[error("clients may not set a delete horizon")]
    DeleteHorizon,
    #[error("the batch is transactional, the request names no transactional id")]
    NotTransactional,
    #[error("the batch is transactional and has no producer id")]
    TransactionWithoutProducer,
    #[error("producer id {producer_id}, epoch {epoch} and sequence {sequence} do not go together")]
    Producer {
        producer_id: i64,
        epoch: i16,
        sequence: i32,
    },
    #[error("producers may not set the timestamp type LogAppendTime")]
    TimestampType,
    #[error("invalid records: {0}")]
    Records(#[from] RecordError),
    #[error("record {index} of the batch has offset delta {delta}")]
    OffsetDelta { index: i32, delta: i32 },
    #[error("one or more records have been rejected due to invalid timestamp")]
    RejectedForTimestamp(Vec<RecordFault>),
    #[error("one or more records have been rejected: {}", first_message(.0))]
    Rejected(Vec<RecordFault>),
    #[error("the batch cannot be re-compressed: {0}")]
    Recompression(CompressionError),
}

fn first_message(faults: &[RecordFault]) -> &str {
    faults.first().map_or("", |fault| &fault.message)
}

impl InvalidBatch {
    /// Kafka's code (`LogValidator`, `UnifiedLog.analyzeAndValidateRecords`, `ProduceRequest.validateRecords`). Kafka
    /// lets an unknown codec out as UNKNOWN_SERVER_ERROR; UNSUPPORTED_COMPRESSION_TYPE says what is wrong.
    pub fn code(&self) -> ErrorCode {
        match self {
            InvalidBatch::Length { .. } | InvalidBatch::UnknownMagic(_) | InvalidBatch::Crc { .. } => {
                ErrorCode::CorruptMessage
            }
            // Java then splits the batch, which is right for one that swells too much, too.
            InvalidBatch::TooLarge { .. }
            | InvalidBatch::Records(RecordError::Compression(CompressionError::TooLarge { .. }))
            | InvalidBatch::Recompression(CompressionError::TooLarge { .. }) => ErrorCode::MessageTooLarge,
            InvalidBatch::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            InvalidBatch::UnknownCodec(_) | InvalidBatch::ZstdNotAllowed => {
                ErrorCode::UnsupportedCompressionType
            }
            InvalidBatch::TimestampType | InvalidBatch::RejectedForTimestamp(_) => {
                ErrorCode::InvalidTimestamp
            }
            InvalidBatch::Recompression(_) => ErrorCode::UnknownServerError,
            InvalidBatch::Empty
            | InvalidBatch::MoreThanOneBatch
            | InvalidBatch::OldMagic(_)
            | InvalidBatch::BaseOffset(_)
            | InvalidBatch::Count { .. }
            | InvalidBatch::Control
            | InvalidBatch::DeleteHorizon
            | InvalidBatch::NotTransactional
            | InvalidBatch::TransactionWithoutProducer
            | InvalidBatch::Producer { .. }
            | InvalidBatch::Records(_)
            | InvalidBatch::OffsetDelta { .. }
            | InvalidBatch::Rejected(_) => ErrorCode::InvalidRecord,
        }
    }

    /// The records at fault, for the produce reply's `record_errors`; empty when the batch as a whole is refused. At
    /// most the first hundred.
    pub fn record_faults(&self) -> &[RecordFault] {
        match self {
            InvalidBatch::RejectedForTimestamp(faults) | InvalidBatch::Rejected(faults) => faults,
            _ => &[],
        }
    }
}
