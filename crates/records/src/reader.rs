//! Bounded reading and writing of Kafka's zigzag varints and length-prefixed bytes.

use bytes::BufMut;

use crate::record::RecordError;

/// A cursor over received bytes: every read is checked, nothing is allocated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn byte(&mut self) -> Result<u8, RecordError> {
        let (&first, rest) = self.rest.split_first().ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// A zigzag varint of at most 5 bytes.
    pub(crate) fn varint(&mut self) -> Result<i32, RecordError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(RecordError::Varint)
    }

    /// A zigzag varint of at most 10 bytes.
    pub(crate) fn varlong(&mut self) -> Result<i64, RecordError> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28, 35, 42, 49, 56, 63] {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(RecordError::Varint)
    }

    /// A varint that must be a length within the bytes that are left.
    pub(crate) fn length(&mut self) -> Result<usize, RecordError> {
        let length = self.varint()?;
        match usize::try_from(length) {
            Ok(len) if len <= self.remaining() => Ok(len),
            Ok(_) => Err(RecordError::Truncated),
            Err(_) => Err(RecordError::Length(length)),
        }
    }

    /// Length-prefixed bytes; length -1 is null, any other negative one an error.
    pub(crate) fn nullable(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        let mut ahead = *self;
        if ahead.varint()? == -1 {
            *self = ahead;
            return Ok(None);
        }
        let len = self.length()?;
        self.take(len).map(Some)
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
    fn endless_varints_and_lying_lengths_are_refused() {
        assert_eq!(Reader::new(&[0xff; 20]).varint(), Err(RecordError::Varint));
        assert_eq!(Reader::new(&[0xff; 20]).varlong(), Err(RecordError::Varint));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(RecordError::Truncated));
        assert_eq!(Reader::new(&[3]).nullable(), Err(RecordError::Length(-2)));
        assert_eq!(Reader::new(&[4, 0]).nullable(), Err(RecordError::Truncated));
        assert_eq!(Reader::new(&[1]).nullable(), Ok(None));
    }
}
