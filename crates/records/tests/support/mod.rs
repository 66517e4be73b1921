//! What tests of damaged batches share.
#![allow(unreachable_pub, clippy::unwrap_used)]

use bytes::Bytes;
use strom_records::*;

/// The batch with framing and CRC put right, as a producer would send it, so that what lies behind them is reached.
pub fn sealed(mut bytes: Vec<u8>) -> Bytes {
    if bytes.len() >= HEADER_LEN {
        let length = i32::try_from(bytes.len() - LOG_OVERHEAD).unwrap();
        bytes[..8].fill(0);
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        let crc = compute_crc(&bytes).unwrap();
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.into()
}
