//! Snapshots on their way: what is stored, how it is read chunk by chunk, and how a stream is put together again.

use bytes::Bytes;
use thiserror::Error;

use crate::store::StoreError;

/// The stored snapshot: the state after `index`, whose entry had `term`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SnapshotMeta {
    pub index: u64,
    pub term: u64,
    pub chunks: u32,
    pub bytes: u64,
}

/// Reads one stored snapshot from any thread. Fails once a newer snapshot has replaced it.
pub trait SnapshotSource: Send + Sync {
    fn meta(&self) -> SnapshotMeta;

    /// The chunk `number`, checked against its CRC; `None` past the last one.
    fn chunk(&self, number: u32) -> Result<Option<Bytes>, StoreError>;
}

/// All chunks of a source in memory.
pub(crate) fn read_all(source: &dyn SnapshotSource) -> Result<Vec<Bytes>, StoreError> {
    let mut chunks = Vec::new();
    while let Some(chunk) = source.chunk(u32::try_from(chunks.len()).unwrap_or(u32::MAX))? {
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// A snapshot stream that is not the one it began as.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum AssembleError {
    #[error("chunk at {found}, expected {expected}")]
    Gap { expected: u64, found: u64 },
    #[error("chunk at {0} fails its CRC")]
    BadCrc(u64),
    #[error("snapshot of {0} bytes is over the limit")]
    TooLarge(u64),
    #[error("more bytes than announced")]
    TooLong,
    #[error("an empty chunk inside the stream")]
    EmptyChunk,
    #[error("{got} of {total} bytes came")]
    Short { got: u64, total: u64 },
}

/// Puts a stream of chunks together; memory grows only with what was received.
#[derive(Debug)]
pub(crate) struct Assembler {
    total: u64,
    got: u64,
    chunks: Vec<Bytes>,
}

impl Assembler {
    pub(crate) fn new(total: u64, bytes_max: u64) -> Result<Self, AssembleError> {
        if total > bytes_max {
            return Err(AssembleError::TooLarge(total));
        }
        Ok(Assembler {
            total,
            got: 0,
            chunks: Vec::new(),
        })
    }

    pub(crate) fn push(&mut self, offset: u64, data: Bytes, crc: u32) -> Result<(), AssembleError> {
        if offset != self.got {
            return Err(AssembleError::Gap {
                expected: self.got,
                found: offset,
            });
        }
        if data.is_empty() {
            return if self.total == 0 {
                Ok(())
            } else {
                Err(AssembleError::EmptyChunk)
            };
        }
        if crc32c::crc32c(&data) != crc {
            return Err(AssembleError::BadCrc(offset));
        }
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        if length > self.total - self.got {
            return Err(AssembleError::TooLong);
        }
        self.got += length;
        self.chunks.push(data);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Vec<Bytes>, AssembleError> {
        if self.got == self.total {
            Ok(self.chunks)
        } else {
            Err(AssembleError::Short {
                got: self.got,
                total: self.total,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_checked() {
        let data = Bytes::from_static(b"abc");
        let crc = crc32c::crc32c(&data);
        let mut whole = Assembler::new(6, 10).unwrap();
        whole.push(0, data.clone(), crc).unwrap();
        assert_eq!(
            whole.push(2, data.clone(), crc),
            Err(AssembleError::Gap {
                expected: 3,
                found: 2
            })
        );
        assert_eq!(
            whole.push(3, data.clone(), crc ^ 1),
            Err(AssembleError::BadCrc(3))
        );
        assert_eq!(whole.push(3, Bytes::new(), 0), Err(AssembleError::EmptyChunk));
        whole.push(3, data.clone(), crc).unwrap();
        assert_eq!(whole.push(6, data.clone(), crc), Err(AssembleError::TooLong));
        assert_eq!(whole.finish().unwrap().len(), 2);
        assert_eq!(Assembler::new(11, 10).unwrap_err(), AssembleError::TooLarge(11));
        let short = Assembler::new(6, 10).unwrap();
        assert_eq!(short.finish(), Err(AssembleError::Short { got: 0, total: 6 }));
    }
}
