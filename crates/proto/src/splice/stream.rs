//! The receiving half: gRPC frames of an HTTP body, parsed into messages whose payload is never copied.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::Body as _;
use prost::Message;
use prost::encoding::decode_varint;
use thiserror::Error;
use tonic::Status;
use tonic::body::Body;

use super::{GRPC_HEADER_LEN, HEAD_TAG, PAYLOAD_TAG, Payload, Spliced};

/// Bytes that the tag and length of one field can take.
const FIELD_PREFIX_MAX: usize = 11;

#[derive(Debug, Error)]
pub enum SpliceError {
    #[error("message of {len} bytes is over the limit of {limit}")]
    TooLarge { len: usize, limit: usize },
    #[error("malformed spliced message: {0}")]
    Malformed(&'static str),
    #[error("malformed head: {0}")]
    Head(#[from] prost::DecodeError),
    #[error("the stream broke: {0}")]
    Transport(#[source] Box<Status>),
    #[error("the stream ended inside a message")]
    CutOff,
}

/// The messages of one spliced stream, in order.
pub struct SplicedStream<H> {
    body: Body,
    buffered: Payload,
    /// Length of the message whose gRPC header has been read.
    expected: Option<usize>,
    message_bytes_max: usize,
    done: bool,
    head: std::marker::PhantomData<fn() -> H>,
}

impl<H: Message + Default> SplicedStream<H> {
    /// Memory held is what was received and not yet taken, at most one message of `message_bytes_max`.
    pub fn new(body: Body, message_bytes_max: usize) -> Self {
        SplicedStream {
            body,
            buffered: Payload::new(),
            expected: None,
            message_bytes_max,
            done: false,
            head: std::marker::PhantomData,
        }
    }

    /// The next message; `None` at the stream's orderly end.
    pub async fn next(&mut self) -> Option<Result<Spliced<H>, SpliceError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Spliced<H>, SpliceError>>> {
        loop {
            if self.done {
                return Poll::Ready(None);
            }
            match self.parse() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) => {}
                Err(error) => return self.fail(error),
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame,
            };
            match frame {
                Some(Ok(frame)) => {
                    if let Err(error) = self.take_frame(frame) {
                        return self.fail(error);
                    }
                }
                Some(Err(status)) => return self.fail(SpliceError::Transport(Box::new(status))),
                None if self.buffered.is_empty() && self.expected.is_none() => {
                    self.done = true;
                    return Poll::Ready(None);
                }
                None => return self.fail(SpliceError::CutOff),
            }
        }
    }

    fn fail(&mut self, error: SpliceError) -> Poll<Option<Result<Spliced<H>, SpliceError>>> {
        self.done = true;
        Poll::Ready(Some(Err(error)))
    }

    fn take_frame(&mut self, frame: http_body::Frame<Bytes>) -> Result<(), SpliceError> {
        match frame.into_data() {
            Ok(data) => {
                self.buffered.push(data);
                Ok(())
            }
            Err(frame) => match frame.trailers_ref().and_then(Status::from_header_map) {
                Some(status) if status.code() != tonic::Code::Ok => {
                    Err(SpliceError::Transport(Box::new(status)))
                }
                _ => Ok(()),
            },
        }
    }

    fn parse(&mut self) -> Result<Option<Spliced<H>>, SpliceError> {
        let len = match self.expected {
            Some(len) => len,
            None => {
                if self.buffered.len() < GRPC_HEADER_LEN {
                    return Ok(None);
                }
                let mut header = self
                    .buffered
                    .take_bytes(GRPC_HEADER_LEN)
                    .map_err(|_| SpliceError::CutOff)?;
                if header.get_u8() != 0 {
                    return Err(SpliceError::Malformed("compressed message"));
                }
                let len = header.get_u32() as usize;
                if len > self.message_bytes_max {
                    return Err(SpliceError::TooLarge {
                        len,
                        limit: self.message_bytes_max,
                    });
                }
                self.expected = Some(len);
                len
            }
        };
        if self.buffered.len() < len {
            return Ok(None);
        }
        self.expected = None;
        let message = self.buffered.split(len).map_err(|_| SpliceError::CutOff)?;
        parse_message(message).map(Some)
    }
}

fn parse_message<H: Message + Default>(mut message: Payload) -> Result<Spliced<H>, SpliceError> {
    let mut spliced = Spliced {
        head: H::default(),
        payload: Payload::new(),
    };
    while !message.is_empty() {
        let (tag, len) = field_prefix(&mut message)?;
        match tag {
            HEAD_TAG => spliced.head = H::decode(message.take_bytes(len).map_err(too_short)?)?,
            PAYLOAD_TAG => spliced.payload = message.split(len).map_err(too_short)?,
            _ => return Err(SpliceError::Malformed("unknown field")),
        }
    }
    Ok(spliced)
}

fn too_short(_: super::PayloadTooShort) -> SpliceError {
    SpliceError::Malformed("field is longer than its message")
}

/// Takes a one-byte tag and a length.
fn field_prefix(message: &mut Payload) -> Result<(u8, usize), SpliceError> {
    let mut prefix = [0u8; FIELD_PREFIX_MAX];
    let filled = message.copy_prefix(&mut prefix);
    let mut rest = prefix.get(..filled).unwrap_or_default();
    let before = rest.len();
    if rest.is_empty() {
        return Err(SpliceError::Malformed("no tag"));
    }
    let tag = rest.get_u8();
    let len = decode_varint(&mut rest).map_err(|_| SpliceError::Malformed("bad length"))?;
    message.take_bytes(before - rest.len()).map_err(too_short)?;
    let len = usize::try_from(len).map_err(|_| SpliceError::Malformed("bad length"))?;
    Ok((tag, len))
}
