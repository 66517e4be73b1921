//! Kafka record batches, format v2: parse, check, compress, stamp with offsets and build, without copying the payload.

mod assign;
mod attributes;
mod batches;
mod builder;
pub mod compression;
mod control;
mod crc;
mod header;
mod invalid;
mod policy;
mod reader;
mod record;
mod search;
mod validate;
mod walk;

pub use assign::{assign_offsets, patch_in_place};
pub use attributes::{Attributes, TimestampType};
pub use batches::{Batch, BatchIter, first_batch_containing};
pub use builder::{BatchBuilder, BuildError, NewRecord};
pub use compression::{Codec, Compression, CompressionError, UnknownCodec, compress, decompress};
pub use control::{ControlError, ControlMarker, MarkerKind};
pub use crc::{CrcError, compute_crc, verify_crc};
pub use header::{BatchHeader, HEADER_LEN, HeaderError, LOG_OVERHEAD, MAGIC_V2, NO_SEQUENCE, NO_TIMESTAMP};
pub use invalid::{InvalidBatch, RecordFault};
pub use policy::ProducePolicy;
pub use record::{Headers, MAX_DECOMPRESSED_BYTES, Record, RecordError, RecordHeader, RecordIter};
pub use search::{find_timestamp, offset_of_max_timestamp};
pub use validate::{ProduceBatch, validate_produce};
