//! Cuts a byte stream into frames without trusting the lengths it announces.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// Free space offered to a connection that has sent nothing large yet.
const STEP_MIN: usize = 4 * 1024;
/// Free space offered while the length of the next frame is not known.
const STEP_UNANNOUNCED_MAX: usize = 64 * 1024;
/// The most free space a connection earns by having sent frames of that size.
const STEP_MAX: usize = 1024 * 1024;

/// Less free space than this is not worth a read of its own.
const READ_MIN: usize = 1024;

/// A size that no frame may have: close the connection.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("a frame of {0} bytes")]
    Negative(i32),
    #[error("a frame of {len} bytes, {limit} are allowed")]
    TooLarge { len: usize, limit: usize },
}

/// The receiving end of a connection, without the IO.
///
/// Read into [`buffer_mut`](Self::buffer_mut), then take frames until there is none. The buffer grows with the bytes
/// *received*: at most to twice what it holds plus a step of 1 MiB, and that step is reached only by a connection
/// that has sent frames of such a size before. An announced length alone allocates nothing.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    limit: usize,
    step: usize,
}

impl FrameReader {
    /// A reader for frames of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
            step: STEP_MIN,
        }
    }

    /// The buffer to append received bytes to; it has free space.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        let held = self.buffer.len();
        let room = self.room(held);
        // A rest of free space is used up only if it is worth a read or ends the frame.
        if self.buffer.capacity() - held < room.min(READ_MIN) {
            self.buffer.reserve(room);
        }
        &mut self.buffer
    }

    /// How much space to add to `held` bytes.
    fn room(&self, held: usize) -> usize {
        match self.announced() {
            Some(Ok(len)) => {
                // Doubling, or what earlier frames have earned, up to the end of this frame.
                let missing = len.saturating_add(4).saturating_sub(held);
                missing.clamp(1, held.max(self.step))
            }
            _ => self.step.min(STEP_UNANNOUNCED_MAX),
        }
    }

    fn announced(&self) -> Option<Result<usize, FrameError>> {
        let len = i32::from_be_bytes(*self.buffer.first_chunk::<4>()?);
        Some(match usize::try_from(len) {
            Ok(len) if len <= self.limit => Ok(len),
            Ok(len) => Err(FrameError::TooLarge {
                len,
                limit: self.limit,
            }),
            Err(_) => Err(FrameError::Negative(len)),
        })
    }

    /// The next whole frame without its size, a slice of the buffer. The size is checked as soon as its four bytes
    /// are there. After an error the stream is out of step and must be closed.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(len) = self.announced().transpose()? else {
            return Ok(None);
        };
        if self.buffer.len() - 4 < len {
            return Ok(None);
        }
        // Follows the size of what is sent: up at once, down by halves.
        self.step = len.max(self.step / 2).clamp(STEP_MIN, STEP_MAX);
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }

    /// Size, API key and API version of the frame that comes next, once it has begun with so much.
    pub fn begun(&self) -> Option<(usize, i16, i16)> {
        let len = self.announced()?.ok()?;
        let [_, _, _, _, key @ .., v0, v1] = *self.buffer.first_chunk::<8>()?;
        Some((len, i16::from_be_bytes(key), i16::from_be_bytes([v0, v1])))
    }

    /// Bytes held of a frame that has not arrived in full (once [`next_frame`](Self::next_frame) gave none).
    pub fn partial_len(&self) -> usize {
        self.buffer.len()
    }
}
