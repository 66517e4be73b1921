//! Finding a record by time inside one batch, for ListOffsets.

use std::ops::ControlFlow;

use bytes::Bytes;
use strom_types::Offset;

use crate::attributes::TimestampType;
use crate::batches::Batch;
use crate::record::RecordError;
use crate::walk::walk;

/// The first record at or after `from_offset` whose timestamp is at least `target_ms`: its offset and timestamp.
/// The batch is only decompressed when its `max_timestamp` reaches the target.
pub fn find_timestamp(
    batch: &Batch,
    target_ms: i64,
    from_offset: Offset,
) -> Result<Option<(Offset, i64)>, RecordError> {
    if batch.header.max_timestamp < target_ms || batch.header.last_offset() < from_offset {
        return Ok(None);
    }
    find(batch, |offset, timestamp| {
        timestamp >= target_ms && offset >= from_offset
    })
}

/// The first record that has the batch's `max_timestamp` (ListOffsets -3, KIP-734); `None` when compaction took it.
pub fn offset_of_max_timestamp(batch: &Batch) -> Result<Option<Offset>, RecordError> {
    let found = find(batch, |_, timestamp| timestamp == batch.header.max_timestamp)?;
    Ok(found.map(|(offset, _)| offset))
}

/// The first record that is wanted. Its size was bounded when it was produced, and the walk keeps nothing of it.
fn find(batch: &Batch, wanted: impl Fn(Offset, i64) -> bool) -> Result<Option<(Offset, i64)>, RecordError> {
    let header = &batch.header;
    let append_time = header.timestamp_type() == TimestampType::LogAppendTime;
    let body: Bytes = batch.body();
    let walked = walk(header, &body, usize::MAX, |record| {
        let offset = header.base_offset.wrapping_add(i64::from(record.offset_delta));
        let timestamp = if append_time {
            header.max_timestamp
        } else {
            header.base_timestamp.wrapping_add(record.timestamp_delta)
        };
        if wanted(offset, timestamp) {
            ControlFlow::Break((offset, timestamp))
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(walked.break_value())
}
