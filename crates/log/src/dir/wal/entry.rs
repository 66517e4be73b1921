//! The layout of one entry: what a round made durable of several logs, or that a log's earlier entries no longer count.
//!
//! Numbers are big-endian. `SWAL`, CRC-32C of what follows it, length, number of parts, sequence, released; then the
//! parts' heads, then their bytes in the same order. Entries begin at multiples of [`ALIGNMENT`], so that no write
//! touches a page that an earlier entry lies in.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use strom_types::{Offset, TopicId, TopicIdPartition};
use uuid::Uuid;

pub(super) const ALIGNMENT: u64 = 4_096;
const MAGIC: u32 = u32::from_be_bytes(*b"SWAL");
const HEADER_LEN: usize = 32;
/// Magic and CRC, which the CRC does not cover.
const PREFIX_LEN: usize = 8;
/// A `Forget`, the shortest part.
const PART_LEN_MIN: usize = 21;
const BATCHES: u8 = 1;
const FORGET: u8 = 2;

/// Where batches lie in their log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) topic: Arc<str>,
    pub(crate) segment_base: Offset,
    /// Bytes from the segment's start.
    pub(crate) position: u64,
    pub(crate) len: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Batches(Place),
    /// What earlier entries hold of this log is not to be replayed.
    Forget,
}

/// An entry without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    /// Entries below it are in the segments.
    pub(super) released: u64,
    pub(super) parts: Vec<(TopicIdPartition, Part)>,
}

/// An entry read back, and where its parts' bytes begin and it ends, from its own start.
pub(super) struct Decoded {
    pub(super) head: Head,
    pub(super) payload_at: usize,
    pub(super) len: usize,
}

/// Bytes that an entry of `len` takes in its file.
pub(super) fn room_for(len: usize) -> u64 {
    (len as u64).next_multiple_of(ALIGNMENT)
}

impl Head {
    /// The chunks to write, `payload` last, and their length. `None` when it is too long for the format.
    pub(super) fn encode(&self, payload: Vec<Bytes>) -> Option<(Vec<Bytes>, usize)> {
        let mut parts = BytesMut::new();
        for (id, part) in &self.parts {
            let kind = if matches!(part, Part::Forget) {
                FORGET
            } else {
                BATCHES
            };
            parts.put_u8(kind);
            parts.put_slice(id.topic_id.0.as_bytes());
            parts.put_i32(id.partition);
            if let Part::Batches(place) = part {
                parts.put_i64(place.segment_base);
                parts.put_u64(place.position);
                parts.put_u32(place.len);
                parts.put_u8(u8::try_from(place.topic.len()).ok()?);
                parts.put_slice(place.topic.as_bytes());
            }
        }
        let len = HEADER_LEN + parts.len() + payload.iter().map(Bytes::len).sum::<usize>();
        let mut covered = BytesMut::with_capacity(HEADER_LEN - PREFIX_LEN + parts.len());
        covered.put_u32(u32::try_from(len).ok()?);
        covered.put_u32(u32::try_from(self.parts.len()).ok()?);
        covered.put_u64(self.seq);
        covered.put_u64(self.released);
        covered.put_slice(&parts);
        let crc = payload.iter().fold(crc32c::crc32c(&covered), |crc, chunk| {
            crc32c::crc32c_append(crc, chunk)
        });
        let mut front = BytesMut::with_capacity(PREFIX_LEN + covered.len());
        front.put_u32(MAGIC);
        front.put_u32(crc);
        front.put_slice(&covered);
        let mut chunks = Vec::with_capacity(payload.len() + 1);
        chunks.push(front.freeze());
        chunks.extend(payload);
        Some((chunks, len))
    }

    /// The entry at the start of `bytes`; `None` when none lies there whole.
    pub(super) fn decode(bytes: &[u8]) -> Option<Decoded> {
        let mut fields = bytes.get(..HEADER_LEN)?;
        if fields.get_u32() != MAGIC {
            return None;
        }
        let crc = fields.get_u32();
        let len = usize::try_from(fields.get_u32()).ok()?;
        let count = usize::try_from(fields.get_u32()).ok()?;
        let (seq, released) = (fields.get_u64(), fields.get_u64());
        let covered = bytes.get(PREFIX_LEN..len)?;
        if count > len / PART_LEN_MIN || crc32c::crc32c(covered) != crc {
            return None;
        }
        let mut rest = bytes.get(HEADER_LEN..len)?;
        let mut parts = Vec::with_capacity(count);
        for _ in 0..count {
            parts.push(decode_part(&mut rest)?);
        }
        let payload: u64 = parts.iter().map(|(_, part)| part.len()).sum();
        if payload != rest.len() as u64 {
            return None;
        }
        Some(Decoded {
            head: Head { seq, released, parts },
            payload_at: len - rest.len(),
            len,
        })
    }
}

impl Part {
    /// Bytes it has behind the heads.
    pub(super) fn len(&self) -> u64 {
        match self {
            Part::Batches(place) => u64::from(place.len),
            Part::Forget => 0,
        }
    }
}

fn decode_part(rest: &mut &[u8]) -> Option<(TopicIdPartition, Part)> {
    let kind = rest.try_get_u8().ok()?;
    let topic_id = TopicId(Uuid::from_u128(rest.try_get_u128().ok()?));
    let id = TopicIdPartition::new(topic_id, rest.try_get_i32().ok()?);
    let part = match kind {
        FORGET => Part::Forget,
        BATCHES => {
            let segment_base = rest.try_get_i64().ok()?;
            let position = rest.try_get_u64().ok()?;
            let len = rest.try_get_u32().ok()?;
            let name_len = usize::from(rest.try_get_u8().ok()?);
            let (name, after) = rest.split_at_checked(name_len)?;
            *rest = after;
            Part::Batches(Place {
                topic: std::str::from_utf8(name).ok()?.into(),
                segment_base,
                position,
                len,
            })
        }
        _ => return None,
    };
    Some((id, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> TopicIdPartition {
        TopicIdPartition::new(TopicId(Uuid::from_u128(n)), 3)
    }

    fn sample() -> (Head, Vec<u8>) {
        let place = Place {
            topic: "orders".into(),
            segment_base: 40,
            position: 1 << 33,
            len: 5,
        };
        let head = Head {
            seq: 9,
            released: 7,
            parts: vec![(id(1), Part::Batches(place)), (id(2), Part::Forget)],
        };
        let payload = vec![Bytes::from_static(b"he"), Bytes::from_static(b"llo")];
        let (chunks, len) = head.encode(payload).unwrap();
        let bytes = chunks.concat();
        assert_eq!(bytes.len(), len);
        (head, bytes)
    }

    #[test]
    fn comes_back_as_it_went() {
        let (head, mut bytes) = sample();
        bytes.extend([7; 100]);
        let decoded = Head::decode(&bytes).unwrap();
        assert_eq!(decoded.head, head);
        assert_eq!(bytes.get(decoded.payload_at..decoded.len), Some(&b"hello"[..]));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let (_, bytes) = sample();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(Head::decode(&bad).is_none(), "byte {at}");
            assert!(Head::decode(&bytes[..at]).is_none(), "cut at {at}");
        }
    }
}
