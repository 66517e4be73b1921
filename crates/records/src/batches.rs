//! Walking the batches that lie end to end in one buffer, as in a segment or a fetch reply.

use bytes::Bytes;
use strom_types::Offset;

use crate::assign::body_of;
use crate::crc::{CrcError, verify_crc};
use crate::header::{BatchHeader, HeaderError, LOG_OVERHEAD};
use crate::record::{RecordError, RecordIter};

/// One whole batch, a slice of the buffer it came in. `bytes` is `header.total_len()` long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub header: BatchHeader,
    pub bytes: Bytes,
}

impl Batch {
    /// Takes the batch at the front of `bytes`; what follows it is left out. `None` when it is not there in full.
    pub fn first_of(bytes: &Bytes) -> Result<Option<Batch>, HeaderError> {
        let header = match BatchHeader::parse(bytes) {
            Ok(header) => header,
            Err(HeaderError::TooShort { .. }) => return short_tail(bytes),
            Err(error) => return Err(error),
        };
        let len = header.total_len();
        if bytes.len() < len {
            return Ok(None);
        }
        Ok(Some(Batch {
            header,
            bytes: bytes.slice(..len),
        }))
    }

    pub fn verify_crc(&self) -> Result<(), CrcError> {
        verify_crc(&self.bytes)
    }

    /// The records as they lie: still compressed, without the header.
    pub fn body(&self) -> Bytes {
        body_of(&self.bytes)
    }

    /// The records, decompressed into at most `max_bytes` (see [`crate::MAX_DECOMPRESSED_BYTES`]).
    pub fn records(&self, max_bytes: usize) -> Result<RecordIter, RecordError> {
        RecordIter::new(&self.header, &self.body(), max_bytes)
    }
}

/// Fewer than 61 bytes are a cut batch, unless their length field already cannot be one's.
fn short_tail(bytes: &Bytes) -> Result<Option<Batch>, HeaderError> {
    let length = bytes.get(8..LOG_OVERHEAD).and_then(|field| field.first_chunk());
    match length.map(|field| i32::from_be_bytes(*field)) {
        Some(length) if length < 49 => Err(HeaderError::Length(length)),
        _ => Ok(None),
    }
}

/// Yields the whole batches of a buffer in order, and ends after the first error. A cut batch at the end is no error,
/// since a fetch may return one (KIP-74): it is left in [`tail`](Self::tail).
#[derive(Clone, Debug)]
pub struct BatchIter {
    rest: Bytes,
    position: usize,
    done: bool,
}

impl BatchIter {
    pub fn new(records: Bytes) -> Self {
        BatchIter {
            rest: records,
            position: 0,
            done: false,
        }
    }

    /// Bytes of the whole batches yielded so far: where the next one, the error or the tail begins.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What has not been yielded; after the end without an error, the incomplete last batch.
    pub fn tail(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for BatchIter {
    type Item = Result<Batch, HeaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done || self.rest.is_empty() {
            return None;
        }
        match Batch::first_of(&self.rest) {
            Ok(Some(batch)) => {
                self.rest = self.rest.slice(batch.bytes.len()..);
                self.position = self.position.saturating_add(batch.bytes.len());
                Some(Ok(batch))
            }
            Ok(None) => {
                self.done = true;
                None
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}

/// The first whole batch whose last offset is at or after `offset`, and its byte position in `records`.
pub fn first_batch_containing(
    records: &Bytes,
    offset: Offset,
) -> Result<Option<(usize, Batch)>, HeaderError> {
    let mut batches = BatchIter::new(records.clone());
    loop {
        let position = batches.position();
        match batches.next().transpose()? {
            None => return Ok(None),
            Some(batch) if batch.header.last_offset() >= offset => return Ok(Some((position, batch))),
            Some(_) => {}
        }
    }
}
