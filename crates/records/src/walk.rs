//! The record-by-record check of a produced batch: keys, timestamps, offset deltas and structure, without allocation.

use crate::attributes::TimestampType;
use crate::header::{BatchHeader, NO_TIMESTAMP};
use crate::invalid::{InvalidBatch, RecordFault};
use crate::policy::ProducePolicy;
use crate::reader::Reader;
use crate::record::{RawRecord, RecordError};

/// How many refused records are named in the reply; clients fail the others of the batch along with them.
const FAULTS_MAX: usize = 100;

/// Checks every record of `payload` (decompressed) and returns the largest timestamp, -1 when no record has one.
pub(crate) fn check_records(
    header: &BatchHeader,
    payload: &[u8],
    policy: &ProducePolicy,
) -> Result<i64, InvalidBatch> {
    let mut reader = Reader::new(payload);
    let mut max_timestamp = NO_TIMESTAMP;
    let mut faults = Vec::new();
    let mut bad_timestamp = false;
    for index in 0..header.record_count {
        let record = RawRecord::read(&mut reader)?;
        if record.offset_delta != index {
            return Err(InvalidBatch::OffsetDelta {
                index,
                delta: record.offset_delta,
            });
        }
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        max_timestamp = max_timestamp.max(timestamp);
        let (message, by_timestamp) = if policy.compacted && record.key.is_none() {
            (
                "Compacted topic cannot accept message without key.".to_owned(),
                false,
            )
        } else if policy.timestamp_type == TimestampType::CreateTime && !policy.accepts(timestamp) {
            (timestamp_message(timestamp, policy), true)
        } else {
            continue;
        };
        bad_timestamp |= by_timestamp;
        faults.push(RecordFault {
            batch_index: index,
            message,
        });
        if faults.len() == FAULTS_MAX {
            break;
        }
    }
    if bad_timestamp {
        return Err(InvalidBatch::RejectedForTimestamp(faults));
    }
    if !faults.is_empty() {
        return Err(InvalidBatch::Rejected(faults));
    }
    match reader.remaining() {
        0 => Ok(max_timestamp),
        left => Err(RecordError::TrailingBytes(left).into()),
    }
}

fn timestamp_message(timestamp: i64, policy: &ProducePolicy) -> String {
    let (earliest, latest) = policy.window();
    format!("Timestamp {timestamp} is out of range. The timestamp should be within [{earliest}, {latest}].")
}
