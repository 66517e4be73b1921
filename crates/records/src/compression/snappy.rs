//! Snappy as Kafka carries it: xerial's block stream from Java, one raw block from most other clients.

use std::io::{self, Read, Write};

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

/// Writes a xerial stream.
pub(super) struct SnappyWriter<W> {
    out: W,
    block: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl<W: Write> SnappyWriter<W> {
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&XERIAL_HEADER)?;
        Ok(SnappyWriter {
            out,
            block: Vec::with_capacity(BLOCK_LEN),
            encoder: snap::raw::Encoder::new(),
        })
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for SnappyWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = BLOCK_LEN.saturating_sub(self.block.len());
        let data = data.get(..room).unwrap_or(data);
        self.block.extend_from_slice(data);
        if self.block.len() == BLOCK_LEN {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = self.encoder.compress_vec(&self.block)?;
        self.block.clear();
        let len = u32::try_from(block.len()).map_err(io::Error::other)?;
        self.out.write_all(&len.to_be_bytes())?;
        self.out.write_all(&block)
    }
}

/// Reads either form, block by block.
pub(super) struct SnappyReader<'a> {
    input: Reader<'a>,
    xerial: bool,
    /// The block that is being read, and how far.
    block: Vec<u8>,
    at: usize,
    block_bytes_max: usize,
}

impl<'a> SnappyReader<'a> {
    pub(super) fn new(data: &'a [u8], block_bytes_max: usize) -> Result<Self, CompressionError> {
        let (magic, versions) = XERIAL_HEADER.split_at(XERIAL_MAGIC_LEN);
        let mut input = Reader::new(data);
        let xerial = data.starts_with(magic);
        if xerial {
            let header = input.take(XERIAL_HEADER.len());
            let header = header.map_err(|_| corrupt(Codec::Snappy, "xerial stream is cut"))?;
            // There was never another version; Java refuses 0, others read no further than the magic.
            if !header.ends_with(versions) {
                return Err(corrupt(Codec::Snappy, "unknown version of xerial stream"));
            }
        }
        Ok(SnappyReader {
            input,
            xerial,
            block: Vec::new(),
            at: 0,
            block_bytes_max,
        })
    }

    pub(super) fn rest(&self) -> &[u8] {
        self.input.rest()
    }

    fn next_block(&mut self) -> io::Result<()> {
        let len = if self.xerial {
            let len = self.input.take(4).map_err(cut)?.first_chunk();
            len.map_or(0, |len| u32::from_be_bytes(*len))
                .try_into()
                .map_err(io::Error::other)?
        } else {
            self.input.remaining()
        };
        let block = self.input.take(len).map_err(cut)?;
        let claimed = snap::raw::decompress_len(block)?;
        if claimed > self.block_bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if claimed > block.len().saturating_mul(RATIO_MAX) {
            return Err(io::Error::other("claimed length is impossible"));
        }
        self.at = 0;
        if claimed > self.block.capacity() {
            // The old one goes first, so that the two never lie side by side.
            self.block = Vec::new();
            self.block = vec![0; claimed];
        } else {
            self.block.resize(claimed, 0);
        }
        snap::raw::Decoder::new().decompress(block, &mut self.block)?;
        Ok(())
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.block.len() && self.input.remaining() > 0 {
            self.next_block()?;
        }
        let mut rest = self.block.get(self.at..).unwrap_or_default();
        let read = rest.read(out)?;
        self.at = self.at.saturating_add(read);
        Ok(read)
    }
}

fn cut(_: RecordError) -> io::Error {
    io::Error::other("xerial stream is cut")
}
