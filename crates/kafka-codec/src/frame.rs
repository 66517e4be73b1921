//! Frames: a size, a header, a body.

use bytes::Bytes;
use thiserror::Error;

use crate::messages::{RequestHeader, ResponseHeader};
use crate::{
    ApiKey, Budget, ByteStr, Chunks, DecodeError, Decoder, EncodeError, Encoder, Message, Request, Response,
};

/// Small parts of most messages fit this without growing.
const FRAME_CAPACITY: usize = 256;

/// A request whose header has been read; the body follows in `body`.
#[derive(Debug)]
pub struct RequestFrame {
    pub api_key: ApiKey,
    pub header: RequestHeader,
    /// To be read by `body.message::<ProduceRequest>(header.request_api_version)` and so on.
    pub body: Decoder,
}

/// Why a frame is not a request that can be decoded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    /// The codec does not know the key or the version. Kafka closes the connection, except for `ApiVersions`, which
    /// it answers in version 0 with `UNSUPPORTED_VERSION` (KIP-511).
    #[error("unsupported api key {api_key} version {api_version}")]
    Unsupported {
        api_key: i16,
        api_version: i16,
        correlation_id: i32,
    },
    #[error("malformed request header: {0}")]
    Malformed(#[from] DecodeError),
}

impl RequestFrame {
    /// Reads the header of a frame (without its size).
    pub fn decode(frame: Bytes) -> Result<Self, RequestError> {
        // The first eight bytes are the same in every version of the header.
        let mut start = Decoder::new(frame.clone());
        let (key, version, correlation_id) = (start.i16()?, start.i16()?, start.i32()?);
        let unsupported = RequestError::Unsupported {
            api_key: key,
            api_version: version,
            correlation_id,
        };
        let api_key = match ApiKey::from_i16(key) {
            Some(known) if known.versions().contains(version) => known,
            _ => return Err(unsupported),
        };
        let mut body = Decoder::new(frame);
        let header = body.message(api_key.request_header_version(version))?;
        Ok(Self {
            api_key,
            header,
            body,
        })
    }
}

/// A whole request frame, size included.
pub fn encode_request_frame<R: Request>(
    correlation_id: i32,
    version: i16,
    client_id: Option<&str>,
    request: &R,
) -> Result<Chunks, EncodeError> {
    let header = RequestHeader {
        request_api_key: R::KEY.as_i16(),
        request_api_version: version,
        correlation_id,
        client_id: client_id.map(|id| ByteStr::from(id.to_owned())),
    };
    encode_frame(&header, R::KEY.request_header_version(version), request, version)
}

/// A whole response frame, size included. Record data is spliced in, not copied.
pub fn encode_response_frame<R: Response>(
    correlation_id: i32,
    version: i16,
    response: &R,
) -> Result<Chunks, EncodeError> {
    let header = ResponseHeader { correlation_id };
    encode_frame(
        &header,
        R::KEY.response_header_version(version),
        response,
        version,
    )
}

fn encode_frame(
    header: &impl Message,
    header_version: i16,
    body: &impl Message,
    version: i16,
) -> Result<Chunks, EncodeError> {
    let mut encoder = Encoder::with_capacity(FRAME_CAPACITY);
    encoder.i32(0);
    header.encode(&mut encoder, header_version)?;
    body.encode(&mut encoder, version)?;
    encoder.finish_frame()
}

/// Reads a response frame (without its size) to the request of `version` that was sent: the correlation id and the
/// body.
pub fn decode_response_frame<R: Response>(frame: Bytes, version: i16) -> Result<(i32, R), DecodeError> {
    let budget = Budget::of_response(frame.len());
    let mut decoder = Decoder::with_budget(frame, budget);
    let header: ResponseHeader = decoder.message(R::KEY.response_header_version(version))?;
    let body = decoder.message(version)?;
    decoder.finish()?;
    Ok((header.correlation_id, body))
}
