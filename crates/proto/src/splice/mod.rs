//! gRPC messages whose last field is a large `bytes payload`, sent and received without copying it.
//!
//! On the wire a [`Spliced`] is an ordinary gRPC message `{ H head = 1; bytes payload = 15; }`, so any gRPC peer can
//! speak it. tonic's own codec copies every message twice; this one hands the payload's `Bytes` to HTTP/2 (or, inside
//! one process, straight to the receiver) as they are. See docs/performance.md for what that is worth.

mod body;
mod call;
mod payload;
mod stream;

pub use body::{SendError, SplicedBody, SplicedSender, channel};
pub use call::{LANE_HEADER, SplicedMethods, SplicedServer, accept, open, respond};
pub use payload::{Payload, PayloadTooShort};
pub use stream::{SpliceError, SplicedStream};

/// Field number of the head, wire type 2.
const HEAD_TAG: u8 = 1 << 3 | 2;
/// Field number 15 of the payload, wire type 2.
const PAYLOAD_TAG: u8 = 15 << 3 | 2;
/// Compression flag and length in front of each gRPC message.
const GRPC_HEADER_LEN: usize = 5;

/// One message: a prost head, and a payload of any number of pieces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spliced<H> {
    pub head: H,
    pub payload: Payload,
}

impl<H> Spliced<H> {
    pub fn new(head: H, payload: impl Into<Payload>) -> Self {
        Spliced {
            head,
            payload: payload.into(),
        }
    }
}

#[cfg(test)]
mod tests;
