//! Reading: bounds before allocations, a budget per request, no panic on any input.

use bytes::Bytes;
use thiserror::Error;
use uuid::Uuid;

use crate::wire::Wire;
use crate::{ByteStr, Message};

/// Why bytes are not a message. The connection that sent them cannot be trusted to be in step any more.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("{needed} bytes wanted where {remaining} remain")]
    UnexpectedEnd { needed: usize, remaining: usize },
    #[error("negative length {0}")]
    NegativeLength(i32),
    #[error("null where the schema allows none")]
    UnexpectedNull,
    #[error("an array of {count} elements cannot fit into {remaining} bytes")]
    ArrayTooLong { count: usize, remaining: usize },
    #[error("a string of {0} bytes, 32767 are allowed")]
    StringTooLong(usize),
    #[error("the message holds more than its size may unpack to")]
    OverBudget,
    #[error("a varint longer than 32 bits")]
    VarintTooLong,
    #[error("a string that is not UTF-8")]
    InvalidUtf8,
    #[error("tagged field {tag} is {actual} bytes long, not {stated}")]
    TagSize { tag: u32, stated: usize, actual: usize },
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
    #[error("{0} bytes after the end of the message")]
    TrailingBytes(usize),
}

/// What decoding one frame may allocate. Array elements and tagged fields count as objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub heap_bytes: usize,
    pub objects: usize,
}

impl Budget {
    /// For input from anybody: 8 × the frame plus 64 KiB, a million objects.
    ///
    /// Factor 4 would refuse honest requests: a topic name of 5 bytes takes 7 on the wire and 48 in memory, a
    /// ShareFetch partition 6 and 40.
    pub const fn of_request(frame_len: usize) -> Self {
        Self::scaled(frame_len, 8)
    }

    /// For answers of a server we chose to ask and for what we stored ourselves: 16 × the frame plus 64 KiB, a
    /// million objects.
    pub const fn of_response(frame_len: usize) -> Self {
        Self::scaled(frame_len, 16)
    }

    const fn scaled(frame_len: usize, factor: usize) -> Self {
        Self {
            heap_bytes: frame_len.saturating_mul(factor).saturating_add(64 * 1024),
            objects: 1_000_000,
        }
    }
}

/// A cursor over one frame. Strings and byte fields are slices of it.
#[derive(Clone, Debug)]
pub struct Decoder {
    frame: Bytes,
    at: usize,
    flexible: bool,
    budget: Budget,
}

impl Decoder {
    /// Reads `frame` with the budget of a request.
    pub fn new(frame: Bytes) -> Self {
        let budget = Budget::of_request(frame.len());
        Self::with_budget(frame, budget)
    }

    /// Reads `frame` with a budget of its own.
    pub const fn with_budget(frame: Bytes, budget: Budget) -> Self {
        Self {
            frame,
            at: 0,
            flexible: false,
            budget,
        }
    }

    /// Reads the next message; several may lie in one frame (header, body).
    pub fn message<M: Message>(&mut self, version: i16) -> Result<M, DecodeError> {
        M::decode(self, version)
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.frame.len().saturating_sub(self.at)
    }

    /// What is left of the budget.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// Ends the decoding of a frame: [`DecodeError::TrailingBytes`] if it has not been read to its end.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }

    pub(crate) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    fn end(&self, needed: usize) -> DecodeError {
        DecodeError::UnexpectedEnd {
            needed,
            remaining: self.remaining(),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self
            .frame
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<N>())
            .copied();
        let bytes = bytes.ok_or_else(|| self.end(N))?;
        self.at += N;
        Ok(bytes)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        if count > self.remaining() {
            return Err(self.end(count));
        }
        let start = self.at;
        self.at += count;
        Ok(self.frame.slice(start..self.at))
    }

    fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        if count > self.remaining() {
            return Err(self.end(count));
        }
        self.at += count;
        Ok(())
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, DecodeError> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.fixed().map(u16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub(crate) fn f64(&mut self) -> Result<f64, DecodeError> {
        self.fixed().map(f64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.fixed().map(Uuid::from_bytes)
    }

    pub(crate) fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed::<1>()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    fn compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        let stated = self.uvarint()?;
        // A length that does not fit `usize` is longer than any frame.
        Ok(stated
            .checked_sub(1)
            .map(|len| usize::try_from(len).unwrap_or(usize::MAX)))
    }

    fn classic_len(stated: i32) -> Result<Option<usize>, DecodeError> {
        match stated {
            -1 => Ok(None),
            len => usize::try_from(len)
                .map(Some)
                .map_err(|_| DecodeError::NegativeLength(len)),
        }
    }

    /// The length of an array or byte field, `None` for null.
    pub(crate) fn long_len(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            self.compact_len()
        } else {
            Self::classic_len(self.i32()?)
        }
    }

    pub(crate) fn nullable_string(&mut self) -> Result<Option<ByteStr>, DecodeError> {
        let len = if self.flexible {
            self.compact_len()?
        } else {
            Self::classic_len(i32::from(self.i16()?))?
        };
        let Some(len) = len else {
            return Ok(None);
        };
        if len > usize::from(i16::MAX.unsigned_abs()) {
            return Err(DecodeError::StringTooLong(len));
        }
        let bytes = self.take(len)?;
        ByteStr::from_utf8(bytes)
            .map(Some)
            .map_err(|_| DecodeError::InvalidUtf8)
    }

    /// A string that stays in the classic encoding in flexible versions too (`client_id` of header v2).
    pub(crate) fn classic_nullable_string(&mut self) -> Result<Option<ByteStr>, DecodeError> {
        let flexible = std::mem::replace(&mut self.flexible, false);
        let string = self.nullable_string();
        self.flexible = flexible;
        string
    }

    /// `count` elements, admitted before memory is asked for.
    pub(crate) fn elements<T: Wire>(&mut self, count: usize, v: i16) -> Result<Vec<T>, DecodeError> {
        let remaining = self.remaining();
        if count > remaining / T::min_size(v, self.flexible).max(1) {
            return Err(DecodeError::ArrayTooLong { count, remaining });
        }
        self.charge(count, count.saturating_mul(size_of::<T>()))?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(self, v)?);
        }
        Ok(elements)
    }

    fn charge(&mut self, objects: usize, heap_bytes: usize) -> Result<(), DecodeError> {
        let Budget {
            heap_bytes: heap,
            objects: left,
        } = self.budget;
        match (heap.checked_sub(heap_bytes), left.checked_sub(objects)) {
            (Some(heap_bytes), Some(objects)) => {
                self.budget = Budget { heap_bytes, objects };
                Ok(())
            }
            _ => Err(DecodeError::OverBudget),
        }
    }

    /// Reads the tagged section. `known` reads the fields it knows and says whether it did; others are skipped.
    pub(crate) fn tags(
        &mut self,
        known: &mut dyn FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            self.charge(1, 0)?;
            let tag = self.uvarint()?;
            let stated = usize::try_from(self.uvarint()?).unwrap_or(usize::MAX);
            let start = self.at;
            if stated > self.remaining() {
                return Err(self.end(stated));
            }
            if !known(self, tag)? {
                self.skip(stated)?;
            }
            let actual = self.at.saturating_sub(start);
            if actual != stated {
                return Err(DecodeError::TagSize { tag, stated, actual });
            }
        }
        Ok(())
    }

    pub(crate) fn skip_tags(&mut self) -> Result<(), DecodeError> {
        self.tags(&mut |_, _| Ok(false))
    }
}
