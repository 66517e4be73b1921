//! Decompression piece by piece, in the memory of the codec's window, whatever the size of what comes out.

use std::io::{self, Read};

use super::snappy::SnappyReader;
use super::{Codec, CompressionError, corrupt};
use crate::reader::{Reader, Source};
use crate::record::RecordError;

/// The largest zstd window accepted, as zstd's own decoder: 128 MiB, which its highest levels ask for. The window is
/// mapped, not touched, beyond what is really put out, so the output cap bounds the memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// First bytes of an LZ4 frame; Kafka reads no legacy or skippable ones (KIP-57).
const LZ4_MAGIC: [u8; 4] = 0x184d_2204u32.to_le_bytes();

/// Reads one compressed stream, and is strict where clients differ: what one of them cannot read must not be stored.
/// So there is one gzip member, one frame, one xerial header, and nothing behind it.
pub(crate) struct Decompressor<'a> {
    codec: Codec,
    decoder: Decoder<'a>,
    /// Bytes that may still come out.
    left: usize,
    max_bytes: usize,
}

enum Decoder<'a> {
    None(&'a [u8]),
    Gzip(Box<flate2::bufread::GzDecoder<&'a [u8]>>),
    Snappy(SnappyReader<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(zstd::stream::read::Decoder<'static, &'a [u8]>),
}

impl<'a> Decompressor<'a> {
    pub(crate) fn new(codec: Codec, data: &'a [u8], max_bytes: usize) -> Result<Self, CompressionError> {
        let decoder = match codec {
            Codec::None => Decoder::None(data),
            Codec::Gzip => Decoder::Gzip(Box::new(flate2::bufread::GzDecoder::new(data))),
            Codec::Snappy => Decoder::Snappy(SnappyReader::new(data, max_bytes)?),
            Codec::Lz4 => {
                check_lz4_frame(data)?;
                Decoder::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(data)))
            }
            Codec::Zstd => Decoder::Zstd(zstd_decoder(data).map_err(|error| corrupt(codec, error))?),
        };
        Ok(Decompressor {
            codec,
            decoder,
            left: max_bytes,
            max_bytes,
        })
    }

    /// Fills the front of `out`, which must not be empty; 0 is the end, and then all the input was used.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, CompressionError> {
        let read = match &mut self.decoder {
            Decoder::None(data) => data.read(out),
            Decoder::Gzip(decoder) => decoder.read(out),
            Decoder::Snappy(decoder) => decoder.read(out),
            Decoder::Lz4(decoder) => decoder.read(out),
            Decoder::Zstd(decoder) => decoder.read(out),
        };
        let too_large = CompressionError::TooLarge {
            max_bytes: self.max_bytes,
        };
        let read = match read {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(too_large),
            Err(error) => return Err(corrupt(self.codec, error)),
            Ok(read) => read,
        };
        if read == 0 && !self.rest().is_empty() {
            return Err(corrupt(self.codec, "bytes follow the end of the stream"));
        }
        self.left = self.left.checked_sub(read).ok_or(too_large)?;
        Ok(read)
    }

    /// Input that is not used yet.
    fn rest(&self) -> &[u8] {
        match &self.decoder {
            Decoder::None(data) => data,
            Decoder::Gzip(decoder) => decoder.get_ref(),
            Decoder::Snappy(decoder) => decoder.rest(),
            Decoder::Lz4(decoder) => decoder.get_ref(),
            Decoder::Zstd(decoder) => decoder.get_ref(),
        }
    }
}

fn zstd_decoder(data: &[u8]) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(data)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder.single_frame())
}

/// Holds the frame against what Kafka's `Lz4BlockInputStream` reads: independent blocks, no dictionary, and an end
/// mark, which our decoder does not miss.
fn check_lz4_frame(data: &[u8]) -> Result<(), CompressionError> {
    let refuse = |reason| corrupt(Codec::Lz4, reason);
    let cut = |_: RecordError| refuse("the frame is cut");
    let mut reader = Reader::new(data);
    if reader.take(LZ4_MAGIC.len()).map_err(cut)? != LZ4_MAGIC {
        return Err(refuse("not an LZ4 frame"));
    }
    let flags = reader.byte().map_err(cut)?;
    let _block_size = reader.byte().map_err(cut)?;
    if flags & 0b1110_0011 != 0b0110_0000 {
        return Err(refuse(
            "not a frame of version 1 with independent blocks and no dictionary",
        ));
    }
    let len_if = |bit: u8, len: usize| if flags & bit == 0 { 0 } else { len };
    let (block_checksum, content_len, content_checksum) = (len_if(16, 4), len_if(8, 8), len_if(4, 4));
    reader.take(content_len.saturating_add(1)).map_err(cut)?;
    loop {
        let size = reader.take(4).map_err(cut)?.first_chunk();
        let size = size.map_or(0, |size| u32::from_le_bytes(*size)) & !(1 << 31);
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        reader.take(size.saturating_add(block_checksum)).map_err(cut)?;
    }
    reader.take(content_checksum).map_err(cut)?;
    Ok(())
}
