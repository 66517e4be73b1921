//! The stream under a lane: opened at the first request, found broken at the next, its replies handed to who waits.

use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;
use strom_proto::splice::{self, Spliced, SplicedSender, SplicedStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tonic::metadata::MetadataMap;

use super::pending::Pending;
use super::{LaneError, LaneLimits};
use crate::Peers;

/// One method of one broker. `Q` is the head of requests; `take` tells whose a reply is, and what of it is wanted.
pub(super) struct LaneStream<Q, R, A> {
    pub(super) peers: Peers,
    pub(super) endpoint: String,
    pub(super) path: &'static str,
    pub(super) limits: LaneLimits,
    pub(super) take: fn(Spliced<R>) -> (u64, A),
    pub(super) open: Mutex<Slot<Q, A>>,
    /// Streams begun so far.
    pub(super) begun: AtomicU64,
}

/// The stream of a lane, and how the last try to open one failed.
pub(super) struct Slot<Q, A> {
    pub(super) stream: Option<OpenStream<Q, A>>,
    failed: Option<(Instant, LaneError)>,
}

impl<Q, A> Default for Slot<Q, A> {
    fn default() -> Self {
        Slot {
            stream: None,
            failed: None,
        }
    }
}

pub(super) struct OpenStream<Q, A> {
    /// Counts the streams of this lane, from 1.
    pub(super) number: u64,
    pub(super) sender: SplicedSender<Q>,
    pub(super) pending: Pending<A>,
}

impl<Q, A> Clone for OpenStream<Q, A> {
    fn clone(&self) -> Self {
        OpenStream {
            number: self.number,
            sender: self.sender.clone(),
            pending: self.pending.clone(),
        }
    }
}

impl<Q, R, A> LaneStream<Q, R, A>
where
    Q: Message + Unpin + 'static,
    R: Message + Default + 'static,
    A: Send + 'static,
{
    /// The open stream, or a new one, opened with the `headers` for its number.
    pub(super) async fn get(
        &self,
        headers: impl FnOnce(u64) -> MetadataMap,
    ) -> Result<OpenStream<Q, A>, LaneError> {
        let asked = Instant::now();
        let mut slot = self.open.lock().await;
        if let Some(stream) = &slot.stream
            && !stream.sender.is_closed()
        {
            return Ok(stream.clone());
        }
        // Who waited for a try that failed does not try again: else they would do so one after the other.
        if let Some((at, error)) = &slot.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        match self.connect(number, headers(number)).await {
            Ok(stream) => {
                slot.stream = Some(stream.clone());
                Ok(stream)
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self, number: u64, headers: MetadataMap) -> Result<OpenStream<Q, A>, LaneError> {
        let unreachable = |reason: String| LaneError::Unreachable(reason);
        let transport = self
            .peers
            .data(&self.endpoint)
            .map_err(|e| unreachable(e.to_string()))?;
        let (sender, body) = splice::channel(self.limits.queue_bytes);
        let open = splice::open(transport, self.path, headers, body, self.limits.message_bytes_max);
        let replies = timeout(self.limits.connect_timeout, open)
            .await
            .map_err(|_| unreachable("timed out".into()))?
            .map_err(|status| unreachable(status.to_string()))?;
        let pending = Pending::new();
        tokio::spawn(read_replies(replies, self.take, pending.clone()));
        Ok(OpenStream {
            number,
            sender,
            pending,
        })
    }
}

async fn read_replies<R: Message + Default, A>(
    mut replies: SplicedStream<R>,
    take: fn(Spliced<R>) -> (u64, A),
    pending: Pending<A>,
) {
    while let Some(Ok(message)) = replies.next().await {
        let (correlation, reply) = take(message);
        pending.complete(correlation, reply);
    }
    pending.break_all();
}
