//! Bounded reading and writing of Kafka's zigzag varints, from bytes at hand or from a stream of them.

use bytes::BufMut;

use crate::compression::{Decompressor, WINDOW_BYTES};
use crate::record::RecordError;

/// Where the bytes of records come from.
pub(crate) trait Source {
    fn byte(&mut self) -> Result<u8, RecordError>;

    fn skip(&mut self, len: usize) -> Result<(), RecordError>;

    /// Bytes taken so far.
    fn position(&self) -> usize;

    fn is_at_end(&mut self) -> Result<bool, RecordError>;

    /// A zigzag varint of at most 5 bytes.
    #[inline]
    fn varint(&mut self) -> Result<i32, RecordError> {
        let first = u32::from(self.byte()?);
        if first & 0x80 == 0 {
            return Ok((first >> 1).cast_signed() ^ -(first & 1).cast_signed());
        }
        let mut value = first & 0x7f;
        for shift in [7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(RecordError::Varint)
    }

    /// A zigzag varint of at most 10 bytes.
    #[inline]
    fn varlong(&mut self) -> Result<i64, RecordError> {
        let first = u64::from(self.byte()?);
        if first & 0x80 == 0 {
            return Ok((first >> 1).cast_signed() ^ -(first & 1).cast_signed());
        }
        let mut value = first & 0x7f;
        for shift in [7, 14, 21, 28, 35, 42, 49, 56, 63] {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(RecordError::Varint)
    }
}

/// A cursor over received bytes: every read is checked, nothing is allocated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest().len()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let end = self.at.saturating_add(len);
        let taken = self.bytes.get(self.at..end).ok_or(RecordError::Truncated)?;
        self.at = end;
        Ok(taken)
    }
}

impl Source for Reader<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, RecordError> {
        let byte = *self.bytes.get(self.at).ok_or(RecordError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, len: usize) -> Result<(), RecordError> {
        self.take(len)?;
        Ok(())
    }

    #[inline]
    fn position(&self) -> usize {
        self.at
    }

    fn is_at_end(&mut self) -> Result<bool, RecordError> {
        Ok(self.at >= self.bytes.len())
    }
}

/// What comes out of a decompressor, a window at a time.
pub(crate) struct StreamReader<'a> {
    stream: Decompressor<'a>,
    window: Vec<u8>,
    /// What of the window is not taken yet.
    at: usize,
    end: usize,
    /// Bytes of the windows before this one.
    before: usize,
}

impl<'a> StreamReader<'a> {
    pub(crate) fn new(stream: Decompressor<'a>) -> Self {
        StreamReader {
            stream,
            window: vec![0; WINDOW_BYTES],
            at: 0,
            end: 0,
            before: 0,
        }
    }

    /// Reads the next window when this one is used up; false at the end.
    #[inline]
    fn fill(&mut self) -> Result<bool, RecordError> {
        if self.at < self.end {
            return Ok(true);
        }
        self.refill()
    }

    #[cold]
    fn refill(&mut self) -> Result<bool, RecordError> {
        self.before = self.before.saturating_add(self.end);
        (self.at, self.end) = (0, 0);
        self.end = self.stream.read(&mut self.window)?;
        Ok(self.end > 0)
    }
}

impl Source for StreamReader<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, RecordError> {
        if !self.fill()? {
            return Err(RecordError::Truncated);
        }
        let byte = self.window.get(self.at).copied();
        self.at += 1;
        byte.ok_or(RecordError::Truncated)
    }

    fn skip(&mut self, mut len: usize) -> Result<(), RecordError> {
        while len > 0 {
            if !self.fill()? {
                return Err(RecordError::Truncated);
            }
            let step = len.min(self.end - self.at);
            self.at += step;
            len -= step;
        }
        Ok(())
    }

    fn position(&self) -> usize {
        self.before.saturating_add(self.at)
    }

    fn is_at_end(&mut self) -> Result<bool, RecordError> {
        Ok(!self.fill()?)
    }
}

pub(crate) fn put_varint(out: &mut impl BufMut, value: i32) {
    let mut zigzag = ((value << 1) ^ (value >> 31)).cast_unsigned();
    while zigzag >= 0x80 {
        out.put_u8(low_seven(u64::from(zigzag)) | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(low_seven(u64::from(zigzag)));
}

pub(crate) fn put_varlong(out: &mut impl BufMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.put_u8(low_seven(zigzag) | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(low_seven(zigzag));
}

fn low_seven(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_read_back(small in any::<i32>(), large in any::<i64>()) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, small);
            put_varlong(&mut bytes, large);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(small));
            prop_assert_eq!(reader.varlong(), Ok(large));
            prop_assert_eq!(reader.remaining(), 0);
        }
    }

    #[test]
    fn endless_varints_are_refused() {
        assert_eq!(Reader::new(&[0xff; 20]).varint(), Err(RecordError::Varint));
        assert_eq!(Reader::new(&[0xff; 20]).varlong(), Err(RecordError::Varint));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(RecordError::Truncated));
    }
}
