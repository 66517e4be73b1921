//! Aborted transactions of a segment: Kafka's `.txnindex` entries, 34 bytes each.

use bytes::{Buf, BufMut};
use strom_types::{Offset, ProducerId};

use crate::producers::AbortedTransaction;

const VERSION: i16 = 0;
pub(crate) const ENTRY_LEN: usize = 2 + 4 * 8;
pub(crate) const TXN_INDEX_BYTES_MAX: u64 = 256 << 20;

pub(crate) fn encode(entries: &[AbortedTransaction]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY_LEN);
    for entry in entries {
        out.put_i16(VERSION);
        out.put_i64(entry.producer_id.get());
        out.put_i64(entry.first_offset);
        out.put_i64(entry.last_offset);
        out.put_i64(entry.last_stable_offset);
    }
    out
}

/// The entries of the segment with offsets `from..to`; `None` when any of the bytes cannot be one.
pub(crate) fn decode(mut bytes: &[u8], from: Offset, to: Offset) -> Option<Vec<AbortedTransaction>> {
    if !bytes.len().is_multiple_of(ENTRY_LEN) {
        return None;
    }
    let mut entries: Vec<AbortedTransaction> = Vec::with_capacity(bytes.len() / ENTRY_LEN);
    while !bytes.is_empty() {
        let version = bytes.try_get_i16().ok()?;
        let entry = AbortedTransaction {
            producer_id: ProducerId(bytes.try_get_i64().ok()?),
            first_offset: bytes.try_get_i64().ok()?,
            last_offset: bytes.try_get_i64().ok()?,
            last_stable_offset: bytes.try_get_i64().ok()?,
        };
        let rises = entries
            .last()
            .is_none_or(|last| last.last_offset < entry.last_offset);
        let fits = entry.first_offset < entry.last_offset && (from..to).contains(&entry.last_offset);
        if version != VERSION || !rises || !fits {
            return None;
        }
        entries.push(entry);
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_or_is_refused() {
        let entry = |first, last| AbortedTransaction {
            producer_id: ProducerId(1),
            first_offset: first,
            last_offset: last,
            last_stable_offset: last + 1,
        };
        let entries = vec![entry(3, 10), entry(5, 12)];
        let bytes = encode(&entries);
        assert_eq!(decode(&bytes, 10, 20), Some(entries));
        assert_eq!(decode(&bytes, 11, 20), None);
        assert_eq!(decode(&bytes[..40], 10, 20), None);
        assert_eq!(decode(&[0; 68], 0, 20), None);
        assert_eq!(decode(&[0xff; 68], 0, 20), None);
    }
}
