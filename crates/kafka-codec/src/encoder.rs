//! Writing: small parts into contiguous chunks, record data spliced in between.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use uuid::Uuid;

use crate::{ByteStr, Chunks};

/// Byte fields of at least this length become a chunk of their own instead of being copied.
const SPLICE_MIN: usize = 1024;

/// Why a message cannot be written at a version: a fault of the program, not of the peer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EncodeError {
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
    #[error("{field} is set, which version {version} cannot carry")]
    FieldUnavailable { field: &'static str, version: i16 },
    #[error("{field} is null, which version {version} cannot carry")]
    Null { field: &'static str, version: i16 },
    #[error("{0} bytes or elements are too many for the wire")]
    TooLong(usize),
}

/// Collects encoded bytes.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Finished chunks: small parts, each followed by spliced bytes.
    done: Vec<(BytesMut, Bytes)>,
    tail: BytesMut,
    flexible: bool,
    /// Inside tagged fields nothing is spliced: their size is put in front afterwards.
    tag_depth: usize,
}

/// An open tagged section: where its count lies, and the count so far.
pub(crate) struct Tags {
    at: usize,
    count: u8,
}

impl Encoder {
    /// An empty encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty encoder with room for `bytes` of small parts.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            tail: BytesMut::with_capacity(bytes),
            ..Self::default()
        }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.done
            .iter()
            .map(|(small, spliced)| small.len() + spliced.len())
            .sum::<usize>()
            + self.tail.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes written.
    pub fn finish(self) -> Chunks {
        let mut parts = VecDeque::with_capacity(self.done.len() * 2 + 1);
        for (small, spliced) in self.done {
            parts.extend(
                [small.freeze(), spliced]
                    .into_iter()
                    .filter(|part| !part.is_empty()),
            );
        }
        if !self.tail.is_empty() {
            parts.push_back(self.tail.freeze());
        }
        Chunks::from_parts(parts)
    }

    /// The bytes written, of which the first four become the length of the rest. They must have been reserved by
    /// writing any `int32` first.
    pub(crate) fn finish_frame(mut self) -> Result<Chunks, EncodeError> {
        let len = self.len();
        let size = len.saturating_sub(4);
        let size = i32::try_from(size).map_err(|_| EncodeError::TooLong(len))?;
        let first = self.done.first_mut().map_or(&mut self.tail, |(small, _)| small);
        if let Some(prefix) = first.first_chunk_mut::<4>() {
            *prefix = size.to_be_bytes();
        }
        Ok(self.finish())
    }

    pub(crate) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    pub(crate) fn is_flexible(&self) -> bool {
        self.flexible
    }

    pub(crate) fn unavailable(&self, field: &'static str, version: i16) -> EncodeError {
        EncodeError::FieldUnavailable { field, version }
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.tail.put_u8(u8::from(value));
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.tail.put_i8(value);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.tail.put_i16(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.tail.put_u16(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.tail.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.tail.put_i64(value);
    }

    pub(crate) fn f64(&mut self, value: f64) {
        self.tail.put_f64(value);
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.tail.put_slice(value.as_bytes());
    }

    pub(crate) fn uvarint(&mut self, value: u32) {
        let (bytes, len) = varint(value);
        self.tail.extend(bytes.iter().take(len));
    }

    fn compact_len(&mut self, len: usize) -> Result<(), EncodeError> {
        let stated = u32::try_from(len).ok().and_then(|len| len.checked_add(1));
        self.uvarint(stated.ok_or(EncodeError::TooLong(len))?);
        Ok(())
    }

    /// The length of an array or byte field.
    pub(crate) fn long_len(&mut self, len: usize) -> Result<(), EncodeError> {
        let stated = i32::try_from(len).map_err(|_| EncodeError::TooLong(len))?;
        if self.flexible {
            return self.compact_len(len);
        }
        self.i32(stated);
        Ok(())
    }

    pub(crate) fn null_long(&mut self) {
        if self.flexible {
            self.uvarint(0);
        } else {
            self.i32(-1);
        }
    }

    pub(crate) fn string(&mut self, value: &ByteStr) -> Result<(), EncodeError> {
        let bytes = value.as_bytes();
        let len = i16::try_from(bytes.len()).map_err(|_| EncodeError::TooLong(bytes.len()))?;
        if self.flexible {
            self.compact_len(bytes.len())?;
        } else {
            self.i16(len);
        }
        self.tail.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn null_string(&mut self) {
        if self.flexible {
            self.uvarint(0);
        } else {
            self.i16(-1);
        }
    }

    /// A string that stays in the classic encoding in flexible versions too (`client_id` of header v2).
    pub(crate) fn classic_nullable_string(&mut self, value: Option<&ByteStr>) -> Result<(), EncodeError> {
        let flexible = std::mem::replace(&mut self.flexible, false);
        let written = self.nullable(value, 0);
        self.flexible = flexible;
        written
    }

    pub(crate) fn bytes(&mut self, value: &Bytes) -> Result<(), EncodeError> {
        self.long_len(value.len())?;
        if value.len() < SPLICE_MIN || self.tag_depth > 0 {
            self.tail.extend_from_slice(value);
        } else {
            self.done.push((self.tail.split(), value.clone()));
        }
        Ok(())
    }

    pub(crate) fn no_tags(&mut self) {
        if self.flexible {
            self.tail.put_u8(0);
        }
    }

    pub(crate) fn begin_tags(&mut self) -> Tags {
        let at = self.tail.len();
        self.tail.put_u8(0);
        Tags { at, count: 0 }
    }

    /// Writes a tag's number; the field itself follows.
    pub(crate) fn begin_tag(&mut self, tag: u32) -> usize {
        self.tag_depth += 1;
        self.uvarint(tag);
        self.tail.len()
    }

    /// Puts the size in front of the field that began at `start`.
    pub(crate) fn end_tag(&mut self, tags: &mut Tags, start: usize) {
        self.tag_depth -= 1;
        tags.count += 1;
        let size = self.tail.len() - start;
        // A message beyond 4 GiB is refused when its frame is finished.
        let (bytes, len) = varint(u32::try_from(size).unwrap_or(u32::MAX));
        self.tail.extend(bytes.iter().take(len));
        self.tail[start..].rotate_right(len);
    }

    pub(crate) fn end_tags(&mut self, tags: &Tags) {
        // The generator sees to it that a struct has at most 127 tagged fields: one byte.
        if let Some(count) = self.tail.get_mut(tags.at) {
            *count = tags.count;
        }
    }
}

/// The bytes of an unsigned varint and how many of them count.
fn varint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut len = 0;
    for byte in &mut bytes {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        len += 1;
        if value == 0 {
            *byte = low & 0x7f;
            break;
        }
        *byte = low | 0x80;
    }
    (bytes, len)
}
