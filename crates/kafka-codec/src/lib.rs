//! Kafka's wire protocol: every message of 4.3.1 at every version, headers, frames, and the records of the
//! coordinators' topics, generated from `proto/kafka` and safe against hostile input.
//!
//! A request off the wire and the answer back:
//!
//! ```
//! use bytes::Bytes;
//! use strom_kafka_codec::messages::{ApiVersionsRequest, ApiVersionsResponse};
//! use strom_kafka_codec::{ApiKey, FrameReader, RequestFrame, encode_request_frame, encode_response_frame};
//!
//! // A client's side.
//! let request = ApiVersionsRequest { client_software_name: "demo".into(), ..Default::default() };
//! let sent = encode_request_frame(7, 3, Some("client-1"), &request)?;
//!
//! // A server's side.
//! let mut reader = FrameReader::new(64 * 1024);
//! reader.buffer_mut().extend_from_slice(&sent.into_contiguous());
//! let frame = reader.next_frame()?.expect("a whole frame has arrived");
//! let RequestFrame { api_key, header, mut body } = RequestFrame::decode(frame)?;
//! assert_eq!((api_key, header.correlation_id), (ApiKey::ApiVersions, 7));
//! assert_eq!(header.client_id.as_deref(), Some("client-1"));
//! let decoded: ApiVersionsRequest = body.message(header.request_api_version)?;
//! body.finish()?;
//! assert_eq!(decoded, request);
//!
//! let response = ApiVersionsResponse { error_code: 0, ..Default::default() };
//! let reply = encode_response_frame(header.correlation_id, header.request_api_version, &response)?;
//! assert_eq!(reply.len(), 4 + 4 + 2 + 1 + 4 + 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod api_key;
mod byte_str;
mod chunks;
pub mod coordinator;
mod decoder;
mod encoder;
mod frame;
mod frame_reader;
mod generated;
mod message;
pub mod messages;
pub mod versioned;
mod wire;

#[cfg(test)]
mod tests;

pub use api_key::{ApiKey, VersionRange};
pub use byte_str::ByteStr;
pub use chunks::Chunks;
pub use decoder::{Budget, DecodeError, Decoder};
pub use encoder::{EncodeError, Encoder};
pub use frame::{
    RequestError, RequestFrame, decode_response_frame, encode_request_frame, encode_response_frame,
};
pub use frame_reader::{FrameError, FrameReader};
pub use message::{Message, Request, Response};
