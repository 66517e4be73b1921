//! CRC-32C of a batch: whole, checked, and re-computed for a changed header without touching the records.

use bytes::Buf;
use thiserror::Error;

use crate::header::{BatchHeader, HEADER_LEN};

/// Where the stored CRC lies, and where the bytes it covers begin.
const CRC_AT: usize = 17;
const COVERED_FROM: usize = 21;

/// Why a batch's CRC is not right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CrcError {
    #[error("{have} bytes are too few for a batch")]
    TooShort { have: usize },
    #[error("stored crc {stored:#010x}, computed {computed:#010x}")]
    Mismatch { stored: u32, computed: u32 },
}

/// The CRC of one whole batch; `None` when `batch` is shorter than a header.
pub fn compute_crc(batch: &[u8]) -> Option<u32> {
    if batch.len() < HEADER_LEN {
        return None;
    }
    batch.get(COVERED_FROM..).map(crc32c::crc32c)
}

/// Checks the stored CRC of one whole batch: `batch` ends where the batch ends.
pub fn verify_crc(batch: &[u8]) -> Result<(), CrcError> {
    let too_short = CrcError::TooShort { have: batch.len() };
    let computed = compute_crc(batch).ok_or(too_short)?;
    let stored = batch.get(CRC_AT..COVERED_FROM).ok_or(too_short)?.get_u32();
    if stored == computed {
        Ok(())
    } else {
        Err(CrcError::Mismatch { stored, computed })
    }
}

/// The CRC of `header` followed by `body`.
pub(crate) fn crc_of(header: &BatchHeader, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc_of_header(header), body)
}

/// The CRC after `old` became `new`, the body of `body_len` bytes staying as it is, in O(log `body_len`): a CRC is
/// linear, so both headers' contributions can be carried past the body without reading it. Right only if `old.crc` is.
pub(crate) fn crc_after_change(old: &BatchHeader, new: &BatchHeader, body_len: usize) -> u32 {
    let change = crc_of_header(old) ^ crc_of_header(new);
    crc32c::crc32c_combine(change, old.crc, body_len) ^ if body_len == 0 { old.crc } else { 0 }
}

fn crc_of_header(header: &BatchHeader) -> u32 {
    let bytes = header.encode();
    let (_, covered) = bytes.split_at(COVERED_FROM);
    crc32c::crc32c(covered)
}
