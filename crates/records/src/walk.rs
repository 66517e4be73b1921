//! A look at every record of a batch in order, in constant memory, and the leader's check of a produced one by it.

use std::ops::ControlFlow;

use crate::attributes::TimestampType;
use crate::compression::{Codec, Decompressor};
use crate::header::{BatchHeader, NO_TIMESTAMP};
use crate::invalid::{InvalidBatch, RecordFault};
use crate::policy::ProducePolicy;
use crate::reader::{Reader, Source, StreamReader};
use crate::record::{RecordError, RecordLayout};

/// How many refused records are named in the reply; clients fail the others of the batch along with them.
const FAULTS_MAX: usize = 100;

/// How a walk over all records ended: with their size, decompressed, or where `visit` broke it off.
type Walked<B> = Result<ControlFlow<B, usize>, RecordError>;

/// Shows `visit` every record of a batch, whose `body` may decompress to at most `max_bytes`, and makes sure that the
/// records are as many as the header says and fill the body.
pub(crate) fn walk<B>(
    header: &BatchHeader,
    body: &[u8],
    max_bytes: usize,
    visit: impl FnMut(&RecordLayout) -> ControlFlow<B>,
) -> Walked<B> {
    match header.codec()? {
        // An empty batch, as compaction leaves it, has no compressed stream either.
        codec if codec == Codec::None || header.record_count == 0 => {
            walk_source(header, &mut Reader::new(body), visit)
        }
        codec => {
            let stream = Decompressor::new(codec, body, max_bytes)?;
            walk_source(header, &mut StreamReader::new(stream), visit)
        }
    }
}

fn walk_source<B>(
    header: &BatchHeader,
    source: &mut impl Source,
    mut visit: impl FnMut(&RecordLayout) -> ControlFlow<B>,
) -> Walked<B> {
    for _ in 0..header.record_count {
        if let ControlFlow::Break(found) = visit(&RecordLayout::read(source)?) {
            return Ok(ControlFlow::Break(found));
        }
    }
    if source.is_at_end()? {
        Ok(ControlFlow::Continue(source.position()))
    } else {
        Err(RecordError::TrailingBytes)
    }
}

/// What a check of all records has found out.
pub(crate) struct Checked {
    /// The largest timestamp, -1 when no record has one.
    pub(crate) max_timestamp: i64,
    /// Bytes of the records, decompressed.
    pub(crate) size: usize,
}

/// Checks every record: structure, count, offset deltas, timestamps, and keys where the topic demands them.
pub(crate) fn check_records(
    header: &BatchHeader,
    body: &[u8],
    policy: &ProducePolicy,
) -> Result<Checked, InvalidBatch> {
    let mut max_timestamp = NO_TIMESTAMP;
    let mut faults = Vec::new();
    let mut bad_timestamp = false;
    let mut index = 0i32;
    let by_create_time = policy.timestamp_type == TimestampType::CreateTime;
    let walked = walk(header, body, policy.decompressed_bytes_max, |record| {
        let at = index;
        index = index.saturating_add(1);
        if record.offset_delta != at {
            return ControlFlow::Break(Some(InvalidBatch::OffsetDelta {
                index: at,
                delta: record.offset_delta,
            }));
        }
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        max_timestamp = max_timestamp.max(timestamp);
        let message = if policy.compacted && record.key.is_none() {
            "Compacted topic cannot accept message without key.".to_owned()
        } else if by_create_time && !policy.accepts(timestamp) {
            bad_timestamp = true;
            timestamp_message(timestamp, policy)
        } else {
            return ControlFlow::Continue(());
        };
        faults.push(RecordFault {
            batch_index: at,
            message,
        });
        if faults.len() == FAULTS_MAX {
            return ControlFlow::Break(None);
        }
        ControlFlow::Continue(())
    })?;
    match walked {
        ControlFlow::Break(Some(invalid)) => Err(invalid),
        _ if bad_timestamp => Err(InvalidBatch::RejectedForTimestamp(faults)),
        ControlFlow::Continue(size) if faults.is_empty() => Ok(Checked { max_timestamp, size }),
        _ => Err(InvalidBatch::Rejected(faults)),
    }
}

fn timestamp_message(timestamp: i64, policy: &ProducePolicy) -> String {
    let (earliest, latest) = policy.window();
    format!("Timestamp {timestamp} is out of range. The timestamp should be within [{earliest}, {latest}].")
}
