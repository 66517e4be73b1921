//! Finding a record by time inside one batch, for ListOffsets.

use strom_types::Offset;

use crate::batches::Batch;
use crate::record::RecordError;

/// The first record at or after `from_offset` whose timestamp is at least `target_ms`: its offset and timestamp.
/// The batch is only decompressed when its `max_timestamp` reaches the target.
pub fn find_timestamp(
    batch: &Batch,
    target_ms: i64,
    from_offset: Offset,
    max_bytes: usize,
) -> Result<Option<(Offset, i64)>, RecordError> {
    if batch.header.max_timestamp < target_ms || batch.header.last_offset() < from_offset {
        return Ok(None);
    }
    for record in batch.records(max_bytes)? {
        let record = record?;
        if record.timestamp >= target_ms && record.offset >= from_offset {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}

/// The first record that has the batch's `max_timestamp` (ListOffsets -3, KIP-734); `None` when compaction took it.
pub fn offset_of_max_timestamp(batch: &Batch, max_bytes: usize) -> Result<Option<Offset>, RecordError> {
    for record in batch.records(max_bytes)? {
        let record = record?;
        if record.timestamp == batch.header.max_timestamp {
            return Ok(Some(record.offset));
        }
    }
    Ok(None)
}
