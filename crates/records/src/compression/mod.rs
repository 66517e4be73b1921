//! The four codecs, by Kafka's ids and framings; decompression is capped by what it puts out.

mod encode;
mod snappy;
mod stream;

use std::fmt;

use thiserror::Error;

pub(crate) use encode::Compressor;
pub(crate) use stream::Decompressor;

/// Bytes that are decompressed at a time.
pub(crate) const WINDOW_BYTES: usize = 16 << 10;

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
    let mut compressor = Compressor::new(Compression { codec, level }, data.len(), usize::MAX)?;
    compressor.write(data)?;
    compressor.finish()
}

/// Decompresses records into at most `max_bytes`. Memory beyond the output is bounded by the codec (some MiB at most);
/// nothing is allocated because the data claims a length. Where not all is wanted at once, `Decompressor` takes less.
pub fn decompress(codec: Codec, data: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let mut stream = Decompressor::new(codec, data, max_bytes)?;
    let mut out = Vec::new();
    let mut window = [0; WINDOW_BYTES];
    loop {
        let read = stream.read(&mut window)?;
        if read == 0 {
            return Ok(out);
        }
        out.extend_from_slice(window.get(..read).unwrap_or_default());
    }
}

fn corrupt(codec: Codec, reason: impl fmt::Display) -> CompressionError {
    CompressionError::Corrupt {
        codec,
        reason: reason.to_string(),
    }
}
