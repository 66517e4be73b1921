//! Payloads that carry their own version in front (`int16`): coordinator values, consumer-protocol metadata.

use bytes::Bytes;

use crate::{Budget, DecodeError, Decoder, EncodeError, Encoder, Message};

/// The version that an encoded payload starts with.
pub fn version(payload: &Bytes) -> Result<i16, DecodeError> {
    Decoder::new(payload.clone()).i16()
}

/// These payloads are small, stored by ourselves or passed a request's limits before: the wider budget.
pub(crate) fn reader(payload: Bytes) -> Decoder {
    let budget = Budget::of_response(payload.len());
    Decoder::with_budget(payload, budget)
}

/// Encodes `message` with `version` in front.
pub fn encode<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    encode_prefixed(version, message, version)
}

pub(crate) fn encode_prefixed<M: Message>(
    prefix: i16,
    message: &M,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let mut encoder = Encoder::new();
    encoder.i16(prefix);
    message.encode(&mut encoder, version)?;
    Ok(encoder.finish().into_contiguous())
}

/// Decodes a payload whose version must be one of `M`'s, to its last byte.
pub fn decode<M: Message>(payload: Bytes) -> Result<M, DecodeError> {
    let mut decoder = reader(payload);
    let version = decoder.i16()?;
    let message = decoder.message(version)?;
    decoder.finish()?;
    Ok(message)
}

/// Decodes as Kafka's `ConsumerProtocol` does: a newer version is read as the newest known one, and what follows the
/// known fields is ignored, so that later clients may append fields.
pub fn decode_lenient<M: Message>(payload: Bytes) -> Result<M, DecodeError> {
    let mut decoder = reader(payload);
    let version = decoder.i16()?;
    decoder.message(version.min(M::VERSIONS.max))
}
