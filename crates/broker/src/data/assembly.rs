//! The reply to one produce request, put together as its partitions are acknowledged.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use strom_proto::splice::{Payload, Spliced, SplicedSender};
use strom_proto::v1::{LeaderHint, ProduceHead, ProducePartitionReply, ProduceReplyHead, RecordError};
use strom_runtime::{continued_span, trace_context};
use strom_types::{ErrorCode, Mono};
use tracing::Span;

use crate::partition::{AckSink, Acknowledged};

pub(super) struct Assembly {
    correlation: u64,
    /// After this time what is missing is answered REQUEST_TIMED_OUT.
    pub(super) deadline: Mono,
    /// Partitions without an outcome; the reply leaves when it reaches zero.
    missing: AtomicUsize,
    open: Mutex<Open>,
    /// Whether `open` has a span that is recorded.
    traced: bool,
    sender: SplicedSender<ProduceReplyHead>,
}

/// What there is until the reply leaves.
struct Open {
    replies: Vec<Option<ProducePartitionReply>>,
    span: Span,
}

impl Assembly {
    pub(super) fn new(head: &ProduceHead, received: Mono, sender: SplicedSender<ProduceReplyHead>) -> Self {
        let span = continued_span!(
            &head.traceparent,
            "produce",
            otel.kind = "server",
            partitions = head.partitions.len()
        );
        Assembly {
            correlation: head.correlation,
            deadline: received + Duration::from_millis(u64::from(head.timeout_ms)),
            missing: AtomicUsize::new(head.partitions.len()),
            traced: !span.is_disabled(),
            open: Mutex::new(Open {
                replies: vec![None; head.partitions.len()],
                span,
            }),
            sender,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing.load(Ordering::Acquire) == 0
    }

    /// Sets one partition's outcome; the first one counts.
    pub(super) fn set(&self, place: usize, reply: ProducePartitionReply) {
        let mut open = self.open.lock();
        let Some(slot) = open.replies.get_mut(place) else {
            return;
        };
        if slot.is_some() {
            return;
        }
        *slot = Some(reply);
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.send(std::mem::take(&mut open.replies));
            open.span = Span::none();
        }
    }

    /// Answers what is still missing with an error that leaves the outcome open.
    pub(super) fn time_out(&self) {
        let partitions = self.open.lock().replies.len();
        for place in 0..partitions {
            self.set(place, failed(ErrorCode::RequestTimedOut));
        }
    }

    fn send(&self, replies: Vec<Option<ProducePartitionReply>>) {
        let partitions = replies
            .into_iter()
            .map(|reply| reply.unwrap_or_else(|| failed(ErrorCode::RequestTimedOut)));
        let head = ProduceReplyHead {
            correlation: self.correlation,
            partitions: partitions.collect(),
        };
        // A gateway that takes no acknowledgements has broken the stream, or will be told nothing any more.
        let _ = self.sender.try_send(Spliced::new(head, Payload::new()));
    }
}

impl AckSink for Assembly {
    fn acknowledge(&self, place: usize, outcome: Acknowledged) {
        let reply = match outcome {
            Ok(info) => ProducePartitionReply {
                base_offset: info.base_offset,
                log_append_time_ms: info.log_append_time.map_or(-1, |time| time.0),
                log_start_offset: info.log_start,
                ..Default::default()
            },
            Err(code) => failed(code),
        };
        self.set(place, reply);
    }

    fn traceparent(&self) -> Option<String> {
        self.traced.then(|| trace_context::of(&self.open.lock().span))?
    }
}

pub(super) fn failed(code: ErrorCode) -> ProducePartitionReply {
    ProducePartitionReply {
        error: code as i32,
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        ..Default::default()
    }
}

/// A refusal with what Kafka says beside the code (KIP-467, KIP-951).
pub(super) fn refused(
    code: ErrorCode,
    message: String,
    record_errors: Vec<RecordError>,
    current_leader: Option<LeaderHint>,
) -> ProducePartitionReply {
    ProducePartitionReply {
        error_message: message,
        record_errors,
        current_leader,
        ..failed(code)
    }
}
