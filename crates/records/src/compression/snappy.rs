//! Snappy as Kafka carries it: xerial's block stream from Java, one raw block from most other clients.

use super::{Codec, CompressionError, corrupt};
use crate::reader::Reader;
use crate::record::RecordError;

/// `\x82SNAPPY\0`, version 1, compatible with version 1 (xerial's `SnappyCodec`).
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const XERIAL_MAGIC_LEN: usize = 8;
/// xerial's default block.
const BLOCK_LEN: usize = 32 << 10;
/// A 3-byte copy gives 64 bytes and nothing in the format gives more: a block that claims a higher ratio is lying.
const RATIO_MAX: usize = 22;

pub(super) fn compress(data: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let codec = Codec::Snappy;
    let mut encoder = snap::raw::Encoder::new();
    let mut out = Vec::with_capacity(data.len() / 2);
    out.extend_from_slice(&XERIAL_HEADER);
    for block in data.chunks(BLOCK_LEN) {
        let block = encoder
            .compress_vec(block)
            .map_err(|error| CompressionError::Compress {
                codec,
                reason: error.to_string(),
            })?;
        let len = u32::try_from(block.len()).map_err(|_| CompressionError::Compress {
            codec,
            reason: "block too large".to_owned(),
        })?;
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}

pub(super) fn decompress(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    let magic = XERIAL_HEADER.split_at(XERIAL_MAGIC_LEN).0;
    if !data.starts_with(magic) {
        block_into(&mut out, data, max_bytes)?;
        return Ok(out);
    }
    let cut = |_: RecordError| corrupt(Codec::Snappy, "xerial stream is cut");
    let mut reader = Reader::new(data);
    while reader.remaining() > 0 {
        // Streams may be concatenated, each with its own header, whose versions are not needed.
        if reader.rest().starts_with(magic) {
            reader.take(XERIAL_HEADER.len()).map_err(cut)?;
            continue;
        }
        let len = reader
            .take(4)
            .map_err(cut)?
            .first_chunk()
            .map_or(0, |len| u32::from_be_bytes(*len));
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        block_into(&mut out, reader.take(len).map_err(cut)?, max_bytes)?;
    }
    Ok(out)
}

/// Appends one decompressed block; its claimed length is believed only within the cap and the format's best ratio.
fn block_into(out: &mut Vec<u8>, block: &[u8], max_bytes: usize) -> Result<(), CompressionError> {
    let failed = |error: snap::Error| corrupt(Codec::Snappy, error);
    let claimed = snap::raw::decompress_len(block).map_err(failed)?;
    let start = out.len();
    let end = start.saturating_add(claimed);
    if end > max_bytes {
        return Err(CompressionError::TooLarge { max_bytes });
    }
    if claimed > block.len().saturating_mul(RATIO_MAX) {
        return Err(corrupt(Codec::Snappy, "claimed length is impossible"));
    }
    out.resize(end, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new()
        .decompress(block, room)
        .map_err(failed)?;
    Ok(())
}
