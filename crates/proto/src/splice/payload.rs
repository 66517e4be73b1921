//! The payload of a spliced message: a rope of `Bytes`.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// A head promised more payload bytes than the message carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the payload is shorter than its head says")]
pub struct PayloadTooShort;

/// Pieces of bytes, read from the front.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payload {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Payload {
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Takes the next `len` bytes as one slice: without a copy when one piece holds them all.
    pub fn take_bytes(&mut self, len: usize) -> Result<Bytes, PayloadTooShort> {
        if len > self.len {
            return Err(PayloadTooShort);
        }
        if len == 0 {
            return Ok(Bytes::new());
        }
        self.len -= len;
        if let Some(front) = self.pieces.front_mut()
            && front.len() >= len
        {
            let taken = front.split_to(len);
            if front.is_empty() {
                self.pieces.pop_front();
            }
            return Ok(taken);
        }
        let mut joined = BytesMut::with_capacity(len);
        while joined.len() < len {
            let Some(front) = self.pieces.front_mut() else {
                break;
            };
            let step = front.len().min(len - joined.len());
            joined.extend_from_slice(&front.split_to(step));
            if !front.has_remaining() {
                self.pieces.pop_front();
            }
        }
        Ok(joined.freeze())
    }

    /// Moves the next `len` bytes out as pieces, never copying.
    pub(super) fn split(&mut self, len: usize) -> Result<Payload, PayloadTooShort> {
        if len > self.len {
            return Err(PayloadTooShort);
        }
        let mut out = Payload::new();
        while out.len < len {
            let Some(mut front) = self.pieces.pop_front() else {
                break;
            };
            let step = front.len().min(len - out.len);
            out.push(front.split_to(step));
            if !front.is_empty() {
                self.pieces.push_front(front);
            }
        }
        self.len -= len;
        Ok(out)
    }

    pub(super) fn copy_prefix(&self, into: &mut [u8]) -> usize {
        let mut filled = 0;
        for piece in &self.pieces {
            for (to, from) in into.iter_mut().skip(filled).zip(piece.iter()) {
                *to = *from;
                filled += 1;
            }
            if filled == into.len() {
                break;
            }
        }
        filled
    }
}

impl Iterator for Payload {
    type Item = Bytes;

    /// The next piece as it is.
    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        self.len -= piece.len();
        Some(piece)
    }
}

impl From<Bytes> for Payload {
    fn from(piece: Bytes) -> Self {
        let mut payload = Payload::new();
        payload.push(piece);
        payload
    }
}

impl FromIterator<Bytes> for Payload {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        let mut payload = Payload::new();
        for piece in pieces {
            payload.push(piece);
        }
        payload
    }
}
