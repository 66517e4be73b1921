//! The producer snapshot file: all five remembered batches of every producer (Kafka keeps only the last), with a CRC.

use std::collections::HashMap;

use bytes::{Buf, BufMut};
use smallvec::SmallVec;
use strom_types::{ProducerEpoch, ProducerId};

use super::{BATCHES_MAX, BatchMeta, Producer, Producers};

/// Kafka's own snapshots are version 1; this layout is ours.
const VERSION: u16 = 100;
const HEAD_LEN: usize = 2 + 4 + 4 + 4;
/// Producer id, epoch, update time, coordinator epoch, transaction start, number of batches.
const ENTRY_LEN_MIN: usize = 8 + 2 + 8 + 4 + 8 + 1;
const BATCH_LEN: usize = 4 + 4 + 8 + 4 + 8;

/// `aborted` is the number of aborted transactions that the snapshot's segment has before it: a check of its index.
pub(crate) fn encode(producers: &Producers, aborted: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEAD_LEN + producers.entries.len() * (ENTRY_LEN_MIN + BATCH_LEN));
    body.put_u32(u32::try_from(aborted).unwrap_or(u32::MAX));
    body.put_u32(u32::try_from(producers.entries.len()).unwrap_or(u32::MAX));
    for (id, producer) in &producers.entries {
        body.put_i64(id.get());
        body.put_i16(producer.epoch.get());
        body.put_i64(producer.updated_ms);
        body.put_i32(producer.coordinator_epoch);
        body.put_i64(producer.txn_first_offset.unwrap_or(-1));
        body.put_u8(u8::try_from(producer.batches.len()).unwrap_or(0));
        for meta in &producer.batches {
            body.put_i32(meta.first_sequence);
            body.put_i32(meta.last_sequence);
            body.put_i64(meta.last_offset);
            body.put_i32(meta.offset_delta);
            body.put_i64(meta.timestamp);
        }
    }
    let mut out = Vec::with_capacity(body.len() + 6);
    out.put_u16(VERSION);
    out.put_u32(crc32c::crc32c(&body));
    out.extend_from_slice(&body);
    out
}

/// `None` unless version, CRC and every length fit.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<(Producers, usize)> {
    let version = bytes.try_get_u16().ok()?;
    let crc = bytes.try_get_u32().ok()?;
    if version != VERSION || crc != crc32c::crc32c(bytes) {
        return None;
    }
    let aborted = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    let count = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    if count > bytes.len() / ENTRY_LEN_MIN {
        return None;
    }
    let mut entries = HashMap::with_capacity(count);
    for _ in 0..count {
        let (id, producer) = decode_entry(&mut bytes)?;
        entries.insert(id, producer);
    }
    bytes
        .is_empty()
        .then(|| (Producers::from_entries(entries), aborted))
}

fn decode_entry(bytes: &mut &[u8]) -> Option<(ProducerId, Producer)> {
    let id = ProducerId(bytes.try_get_i64().ok()?);
    let epoch = ProducerEpoch(bytes.try_get_i16().ok()?);
    let updated_ms = bytes.try_get_i64().ok()?;
    let coordinator_epoch = bytes.try_get_i32().ok()?;
    let txn_first = bytes.try_get_i64().ok()?;
    let count = usize::from(bytes.try_get_u8().ok()?);
    if count > BATCHES_MAX {
        return None;
    }
    let mut batches = SmallVec::new();
    for _ in 0..count {
        batches.push(BatchMeta {
            first_sequence: bytes.try_get_i32().ok()?,
            last_sequence: bytes.try_get_i32().ok()?,
            last_offset: bytes.try_get_i64().ok()?,
            offset_delta: bytes.try_get_i32().ok()?,
            timestamp: bytes.try_get_i64().ok()?,
        });
    }
    let txn_first_offset = (txn_first >= 0).then_some(txn_first);
    Some((
        id,
        Producer {
            epoch,
            batches,
            updated_ms,
            coordinator_epoch,
            txn_first_offset,
        },
    ))
}
