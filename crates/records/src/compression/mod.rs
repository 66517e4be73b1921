//! The four codecs, by Kafka's ids and framings; decompression is capped by what it puts out.

mod snappy;

use std::fmt;
use std::io::{self, Read, Write};

use thiserror::Error;

/// The largest zstd window accepted, as zstd's own decoder: 128 MiB, which its highest levels ask for. The window is
/// mapped, not touched, beyond what is really put out, so the output cap bounds the memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// First bytes of an LZ4 frame; Kafka reads no legacy or skippable ones (KIP-57).
const LZ4_MAGIC: [u8; 4] = 0x184d_2204u32.to_le_bytes();

/// A codec id that Kafka does not have (5 to 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("unknown compression codec {0}")]
pub struct UnknownCodec(pub i16);

/// How the records of a batch are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The id in a batch's attributes.
    pub const fn id(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    pub fn from_id(id: i16) -> Result<Self, UnknownCodec> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.id() == id)
            .ok_or(UnknownCodec(id))
    }

    /// Kafka's name, as in a producer's `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// Reads a producer's or a topic's `compression.type`; a topic's `producer` names no codec and gives `None`.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "uncompressed" {
            return Some(Codec::None);
        }
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A codec to write with, and its level (`compression.{gzip,lz4,zstd}.level`); `None` is the codec's default.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Compression {
    pub codec: Codec,
    pub level: Option<i32>,
}

impl Compression {
    pub const NONE: Compression = Compression::of(Codec::None);

    pub const fn of(codec: Codec) -> Self {
        Compression { codec, level: None }
    }
}

/// Why bytes cannot be compressed or decompressed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CompressionError {
    #[error("the records decompress to more than {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
    #[error("bad {codec} data: {reason}")]
    Corrupt { codec: Codec, reason: String },
    #[error("cannot compress with {codec}: {reason}")]
    Compress { codec: Codec, reason: String },
}

/// Compresses records as Kafka's Java client does: gzip; snappy in xerial blocks; an LZ4 frame of independent 64 KiB
/// blocks; zstd. Levels: gzip 1 to 9, zstd as the library's; others and -1 mean the default. LZ4 has one level here.
pub fn compress(codec: Codec, level: Option<i32>, data: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let failed = |error: &dyn fmt::Display| CompressionError::Compress {
        codec,
        reason: error.to_string(),
    };
    match codec {
        Codec::None => Ok(data.to_vec()),
        Codec::Gzip => gzip(level, data).map_err(|error| failed(&error)),
        Codec::Snappy => snappy::compress(data),
        Codec::Lz4 => lz4(data).map_err(|error| failed(&error)),
        Codec::Zstd => {
            let range = zstd::compression_level_range();
            let level = level.map_or(zstd::DEFAULT_COMPRESSION_LEVEL, |level| {
                level.clamp(*range.start(), *range.end())
            });
            zstd::bulk::compress(data, level).map_err(|error| failed(&error))
        }
    }
}

fn gzip(level: Option<i32>, data: &[u8]) -> io::Result<Vec<u8>> {
    let level = level
        .and_then(|level| u32::try_from(level).ok())
        .filter(|level| (1..=9).contains(level));
    let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(data.len() / 4), level);
    encoder.write_all(data)?;
    encoder.finish()
}

fn lz4(data: &[u8]) -> io::Result<Vec<u8>> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(data.len() / 2));
    encoder.write_all(data)?;
    encoder.finish().map_err(io::Error::from)
}

/// Decompresses records into at most `max_bytes`. Memory beyond the output is bounded by the codec (some MiB at most);
/// nothing is allocated because the data claims a length.
pub fn decompress(codec: Codec, data: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Codec::None if data.len() > max_bytes => Err(CompressionError::TooLarge { max_bytes }),
        Codec::None => Ok(data.to_vec()),
        Codec::Gzip => read_capped(codec, flate2::bufread::MultiGzDecoder::new(data), max_bytes),
        Codec::Snappy => snappy::decompress(data, max_bytes),
        Codec::Lz4 if !data.starts_with(&LZ4_MAGIC) => Err(corrupt(codec, "not an LZ4 frame")),
        // Reads one frame, as Kafka does.
        Codec::Lz4 => read_capped(codec, lz4_flex::frame::FrameDecoder::new(data), max_bytes),
        Codec::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(data).map_err(|error| corrupt(codec, error))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(|error| corrupt(codec, error))?;
            read_capped(codec, decoder, max_bytes)
        }
    }
}

fn read_capped(codec: Codec, reader: impl Read, max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let mut out = Vec::new();
    reader
        .take(limit)
        .read_to_end(&mut out)
        .map_err(|error| corrupt(codec, error))?;
    if out.len() > max_bytes {
        return Err(CompressionError::TooLarge { max_bytes });
    }
    Ok(out)
}

fn corrupt(codec: Codec, reason: impl fmt::Display) -> CompressionError {
    CompressionError::Corrupt {
        codec,
        reason: reason.to_string(),
    }
}
