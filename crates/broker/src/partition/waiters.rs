//! Who waits on a partition: producers for their acknowledgement, fetches for data.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use strom_log::AppendInfo;
use strom_replication::{AckWait, Acks, AcksState};
use strom_types::{ErrorCode, Offset};

/// What an append came to.
pub(crate) type Acknowledged = Result<AppendInfo, ErrorCode>;

/// Takes the outcome of one append, exactly once. Called under the partition's lock: it must not block.
pub(crate) trait AckSink: Send + Sync {
    fn acknowledge(&self, place: usize, outcome: Acknowledged);

    /// W3C trace context of the request, when it is recorded.
    fn traceparent(&self) -> Option<String> {
        None
    }
}

/// One append's place in a sink.
#[derive(Clone)]
pub(crate) struct Ack {
    pub sink: Arc<dyn AckSink>,
    pub place: usize,
}

impl Ack {
    pub(crate) fn complete(self, outcome: Acknowledged) {
        self.sink.acknowledge(self.place, outcome);
    }
}

struct AckWaiter {
    wait: AckWait,
    info: AppendInfo,
    ack: Ack,
    traceparent: Option<String>,
}

/// Appends that are not acknowledged yet, in the order of their offsets.
#[derive(Default)]
pub(super) struct AckWaiters {
    all: VecDeque<AckWaiter>,
    leader: VecDeque<AckWaiter>,
    /// How many of `all` belong to a recorded trace.
    traced: usize,
}

impl AckWaiters {
    pub(super) fn push(&mut self, wait: AckWait, info: AppendInfo, ack: Ack) {
        let mut waiter = AckWaiter {
            wait,
            info,
            ack,
            traceparent: None,
        };
        if wait.acks == Acks::All {
            waiter.traceparent = waiter.ack.sink.traceparent();
            self.traced += usize::from(waiter.traceparent.is_some());
            self.all.push_back(waiter);
        } else {
            self.leader.push_back(waiter);
        }
    }

    /// The trace of a request that waits for followers to have records that end in `offsets`; the first one's.
    pub(super) fn traceparent_in(&self, offsets: Range<Offset>) -> Option<String> {
        if self.traced == 0 {
            return None;
        }
        let mut waiters = self.all.iter();
        waiters
            .find(|waiter| waiter.traceparent.is_some() && offsets.contains(&waiter.wait.last_offset))?
            .traceparent
            .clone()
    }

    /// Completes everybody whose state is decided. A retried batch may wait for an earlier offset than those before it,
    /// so a queue that holds one is looked through to its end.
    pub(super) fn settle(&mut self, state: impl Fn(&AckWait) -> AcksState) {
        for queue in [&mut self.all, &mut self.leader] {
            while let Some(first) = queue.front() {
                match state(&first.wait) {
                    AcksState::Pending => break,
                    decided => {
                        let Some(waiter) = queue.pop_front() else { break };
                        self.traced -= usize::from(waiter.traceparent.is_some());
                        let outcome = match decided {
                            AcksState::Failed(code) => Err(code),
                            _ => Ok(waiter.info),
                        };
                        waiter.ack.complete(outcome);
                    }
                }
            }
        }
    }

    pub(super) fn fail(&mut self, code: ErrorCode) {
        self.traced = 0;
        for waiter in self.all.drain(..).chain(self.leader.drain(..)) {
            waiter.ack.complete(Err(code));
        }
    }

    /// Fails those whose records end at `offset` or beyond.
    pub(super) fn fail_from(&mut self, offset: Offset, code: ErrorCode) {
        for queue in [&mut self.all, &mut self.leader] {
            let (failed, kept) = queue
                .drain(..)
                .partition(|waiter| waiter.wait.last_offset >= offset);
            *queue = kept;
            let failed: VecDeque<AckWaiter> = failed;
            failed
                .into_iter()
                .for_each(|waiter| waiter.ack.complete(Err(code)));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.leader.is_empty()
    }
}

/// Wakes a long poll; called under the partition's lock, so it must not block.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
    /// Nobody waits any more: the registration can be dropped.
    fn is_done(&self) -> bool;
}

struct FetchWaiter {
    /// Wakes when the readable end is beyond it.
    offset: Offset,
    wake: Arc<dyn Wake>,
}

/// Long polls that wait for data of this partition.
#[derive(Default)]
pub(super) struct FetchWaiters {
    waiters: Vec<FetchWaiter>,
    /// Finished waiters are swept out when so many are registered.
    sweep_at: usize,
}

const SWEEP_MIN: usize = 16;

impl FetchWaiters {
    pub(super) fn push(&mut self, offset: Offset, wake: Arc<dyn Wake>) {
        if self.waiters.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.waiters.retain(|waiter| !waiter.wake.is_done());
            self.sweep_at = self.waiters.len() * 2;
        }
        self.waiters.push(FetchWaiter { offset, wake });
    }

    pub(super) fn advance(&mut self, readable_end: Offset) {
        self.waiters.retain(|waiter| {
            let due = waiter.offset < readable_end;
            if due {
                waiter.wake.wake();
            }
            !due
        });
    }

    pub(super) fn wake_all(&mut self) {
        for waiter in self.waiters.drain(..) {
            waiter.wake.wake();
        }
    }
}
