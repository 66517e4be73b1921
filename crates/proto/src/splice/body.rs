//! The sending half: a queue bounded in bytes that is an HTTP body of gRPC frames.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{GRPC_HEADER_LEN, HEAD_TAG, PAYLOAD_TAG, Spliced};

/// Small messages that are ready together leave as one frame of about this size.
const COALESCE_BYTES: usize = 32 * 1024;
/// A payload piece up to this size is copied beside its head: cheaper than a frame of its own.
const COPY_BYTES_MAX: usize = 2 * 1024;
/// What one queued message counts at least, so that empty ones are bounded too.
const MESSAGE_COST_BYTES: usize = 256;

/// The other end has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the stream is closed")]
pub struct SendError;

type Queued<H> = (Spliced<H>, OwnedSemaphorePermit);

/// Puts messages in the queue; cheap to clone. The stream ends when all clones are gone.
pub struct SplicedSender<H> {
    queue: mpsc::UnboundedSender<Queued<H>>,
    budget: Arc<Semaphore>,
    budget_bytes: u32,
}

impl<H> Clone for SplicedSender<H> {
    fn clone(&self) -> Self {
        SplicedSender {
            queue: self.queue.clone(),
            budget: self.budget.clone(),
            budget_bytes: self.budget_bytes,
        }
    }
}

impl<H> SplicedSender<H> {
    /// Waits until the queue has room for the message's bytes. A message larger than the whole budget waits for an
    /// empty queue.
    pub async fn send(&self, message: Spliced<H>) -> Result<(), SendError> {
        let cost = self.cost(&message);
        let permit = self
            .budget
            .clone()
            .acquire_many_owned(cost)
            .await
            .map_err(|_| SendError)?;
        self.queue.send((message, permit)).map_err(|_| SendError)
    }

    /// Queues at once, or gives the message back when the queue is full.
    pub fn try_send(&self, message: Spliced<H>) -> Result<(), Result<Spliced<H>, SendError>> {
        match self.budget.clone().try_acquire_many_owned(self.cost(&message)) {
            Ok(permit) => self.queue.send((message, permit)).map_err(|_| Err(SendError)),
            Err(tokio::sync::TryAcquireError::NoPermits) => Err(Ok(message)),
            Err(tokio::sync::TryAcquireError::Closed) => Err(Err(SendError)),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Returns when the receiving side is gone.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }

    fn cost(&self, message: &Spliced<H>) -> u32 {
        u32::try_from(message.payload.len() + MESSAGE_COST_BYTES)
            .unwrap_or(u32::MAX)
            .min(self.budget_bytes)
    }
}

/// A sender and the HTTP body that it feeds. `budget_bytes` bounds what waits in between.
pub fn channel<H>(budget_bytes: u32) -> (SplicedSender<H>, SplicedBody<H>) {
    let budget_bytes = budget_bytes.max(1);
    let budget = Arc::new(Semaphore::new(budget_bytes as usize));
    let (queue, receiver) = mpsc::unbounded_channel();
    let sender = SplicedSender {
        queue,
        budget: budget.clone(),
        budget_bytes,
    };
    (
        sender,
        SplicedBody {
            queue: receiver,
            budget,
            frames: VecDeque::new(),
            state: State::Open,
            trailers: false,
        },
    )
}

#[derive(PartialEq)]
enum State {
    Open,
    /// All messages are out; trailers are due if this is a response.
    Drained,
    Done,
}

/// The HTTP body; `trailers` is set on responses, which end with `grpc-status`.
pub struct SplicedBody<H> {
    queue: mpsc::UnboundedReceiver<Queued<H>>,
    budget: Arc<Semaphore>,
    frames: VecDeque<(Bytes, Option<OwnedSemaphorePermit>)>,
    state: State,
    trailers: bool,
}

impl<H> SplicedBody<H> {
    pub(super) fn with_trailers(mut self) -> Self {
        self.trailers = true;
        self
    }
}

impl<H> Drop for SplicedBody<H> {
    fn drop(&mut self) {
        self.budget.close();
    }
}

impl<H: Message> SplicedBody<H> {
    /// Appends one message: small payloads behind the head in `small`, large ones as frames of their own.
    fn encode(&mut self, (message, permit): Queued<H>, small: &mut BytesMut) {
        let Spliced { head, payload } = message;
        let head_len = head.encoded_len();
        let payload_len = payload.len();
        let mut message_len = 1 + encoded_len_varint(head_len as u64) + head_len;
        if payload_len > 0 {
            message_len += 1 + encoded_len_varint(payload_len as u64) + payload_len;
        }
        small.reserve(GRPC_HEADER_LEN + message_len - payload_len + payload_len.min(COPY_BYTES_MAX));
        small.put_u8(0);
        small.put_u32(u32::try_from(message_len).unwrap_or(u32::MAX));
        small.put_u8(HEAD_TAG);
        encode_varint(head_len as u64, small);
        head.encode_raw(small);
        if payload_len == 0 {
            return;
        }
        small.put_u8(PAYLOAD_TAG);
        encode_varint(payload_len as u64, small);
        if payload_len <= COPY_BYTES_MAX {
            for piece in payload {
                small.put_slice(&piece);
            }
            return;
        }
        self.frames.push_back((small.split().freeze(), None));
        for piece in payload {
            self.frames.push_back((piece, None));
        }
        if let Some(last) = self.frames.back_mut() {
            last.1 = Some(permit);
        }
    }

    /// Moves what waits in the queue into frames; true when there is something to send.
    fn fill(&mut self, cx: &mut Context<'_>) -> bool {
        let mut small = BytesMut::new();
        while self.state == State::Open && self.frames.is_empty() && small.len() < COALESCE_BYTES {
            match self.queue.poll_recv(cx) {
                Poll::Ready(Some(queued)) => self.encode(queued, &mut small),
                Poll::Ready(None) => self.state = State::Drained,
                Poll::Pending => break,
            }
        }
        if !small.is_empty() {
            self.frames.push_back((small.freeze(), None));
        }
        !self.frames.is_empty()
    }
}

impl<H: Message + Unpin> http_body::Body for SplicedBody<H> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.frames.is_empty() && !self.fill(cx) {
            if self.state == State::Drained {
                self.state = State::Done;
                if self.trailers {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
            }
            return if self.state == State::Done {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        }
        // The permit is dropped as the message's last frame leaves.
        let frame = self
            .frames
            .pop_front()
            .map(|(bytes, _permit)| Ok(Frame::data(bytes)));
        Poll::Ready(frame)
    }
}
