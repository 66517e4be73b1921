//! Compression as Kafka's Java client does it, piece by piece, into an output of bounded size.

use std::io::{self, Write};

use super::snappy::SnappyWriter;
use super::{Codec, Compression, CompressionError};

/// Levels above 9 would search windows of up to 128 MiB with tables of hundreds; a batch needs no more than 2 MiB.
const ZSTD_WINDOW_LOG: u32 = 21;
const ZSTD_LARGE_WINDOWS_SINCE_LEVEL: i32 = 10;

/// Compresses what is written to it.
pub(crate) struct Compressor {
    codec: Codec,
    encoder: Encoder,
    max_bytes: usize,
}

enum Encoder {
    None(Capped),
    Gzip(flate2::write::GzEncoder<Capped>),
    Snappy(Box<SnappyWriter<Capped>>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<Capped>>),
    Zstd(zstd::stream::write::Encoder<'static, Capped>),
}

impl Compressor {
    /// For `size` bytes in all, into at most `max_bytes`. Levels: gzip 1 to 9, zstd as the library's; others and -1
    /// mean the default. LZ4 has one level here.
    pub(crate) fn new(to: Compression, size: usize, max_bytes: usize) -> Result<Self, CompressionError> {
        let out = Capped {
            bytes: Vec::with_capacity(size.min(max_bytes) / 4),
            max_bytes,
        };
        let encoder = match to.codec {
            Codec::None => Ok(Encoder::None(out)),
            Codec::Gzip => Ok(Encoder::Gzip(gzip(to.level, out))),
            Codec::Snappy => SnappyWriter::new(out).map(|encoder| Encoder::Snappy(Box::new(encoder))),
            Codec::Lz4 => Ok(Encoder::Lz4(Box::new(lz4(out)))),
            Codec::Zstd => zstd(to.level, size, out).map(Encoder::Zstd),
        };
        Ok(Compressor {
            codec: to.codec,
            encoder: encoder.map_err(|error| failed(to.codec, max_bytes, &error))?,
            max_bytes,
        })
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), CompressionError> {
        let written = match &mut self.encoder {
            Encoder::None(out) => out.write_all(data),
            Encoder::Gzip(encoder) => encoder.write_all(data),
            Encoder::Snappy(encoder) => encoder.write_all(data),
            Encoder::Lz4(encoder) => encoder.write_all(data),
            Encoder::Zstd(encoder) => encoder.write_all(data),
        };
        written.map_err(|error| failed(self.codec, self.max_bytes, &error))
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>, CompressionError> {
        let out = match self.encoder {
            Encoder::None(out) => Ok(out),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Snappy(encoder) => encoder.finish(),
            Encoder::Lz4(encoder) => encoder.finish().map_err(io::Error::from),
            Encoder::Zstd(encoder) => encoder.finish(),
        };
        let out = out.map_err(|error| failed(self.codec, self.max_bytes, &error))?;
        Ok(out.bytes)
    }
}

/// A buffer that refuses to grow past its bound.
struct Capped {
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl Write for Capped {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.len() > self.max_bytes.saturating_sub(self.bytes.len()) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(codec: Codec, max_bytes: usize, error: &io::Error) -> CompressionError {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return CompressionError::TooLarge { max_bytes };
    }
    CompressionError::Compress {
        codec,
        reason: error.to_string(),
    }
}

fn gzip(level: Option<i32>, out: Capped) -> flate2::write::GzEncoder<Capped> {
    let level = level
        .and_then(|level| u32::try_from(level).ok())
        .filter(|level| (1..=9).contains(level));
    let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
    flate2::write::GzEncoder::new(out, level)
}

/// A frame of independent 64 KiB blocks.
fn lz4(out: Capped) -> lz4_flex::frame::FrameEncoder<Capped> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    FrameEncoder::with_frame_info(info, out)
}

fn zstd(
    level: Option<i32>,
    size: usize,
    out: Capped,
) -> io::Result<zstd::stream::write::Encoder<'static, Capped>> {
    let range = zstd::compression_level_range();
    let level = level.map_or(zstd::DEFAULT_COMPRESSION_LEVEL, |level| {
        level.clamp(*range.start(), *range.end())
    });
    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
    encoder.set_pledged_src_size(u64::try_from(size).ok())?;
    if level >= ZSTD_LARGE_WINDOWS_SINCE_LEVEL {
        encoder.window_log(ZSTD_WINDOW_LOG)?;
    }
    Ok(encoder)
}
