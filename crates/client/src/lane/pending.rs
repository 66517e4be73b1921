//! Requests that wait for their reply on one stream.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::LaneError;

/// A registered request that has not left: dropped, nobody will answer it.
pub(super) struct Unsent<A> {
    pub(super) correlation: u64,
    pending: Option<Pending<A>>,
}

impl<A> Unsent<A> {
    /// The request has left: its reply, or the stream's end, ends the wait.
    pub(super) fn sent(mut self) {
        self.pending = None;
    }
}

impl<A> Drop for Unsent<A> {
    fn drop(&mut self) {
        if let Some(pending) = &self.pending {
            pending.forget(self.correlation);
        }
    }
}

type Waiter<A> = oneshot::Sender<Result<A, LaneError>>;

/// Correlation ids and who waits for them. Once broken, every waiter present and future is told so.
pub(super) struct Pending<A> {
    state: Arc<Mutex<State<A>>>,
}

struct State<A> {
    next: u64,
    /// `None` = the stream is gone.
    waiters: Option<HashMap<u64, Waiter<A>>>,
}

impl<A> Clone for Pending<A> {
    fn clone(&self) -> Self {
        Pending {
            state: self.state.clone(),
        }
    }
}

impl<A> Pending<A> {
    pub(super) fn new() -> Self {
        Pending {
            state: Arc::new(Mutex::new(State {
                next: 1,
                waiters: Some(HashMap::new()),
            })),
        }
    }

    /// Who waits for a reply to a request that is yet to be sent.
    pub(super) fn register(&self) -> (Unsent<A>, oneshot::Receiver<Result<A, LaneError>>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let correlation = state.next;
        state.next += 1;
        match &mut state.waiters {
            Some(waiters) => drop(waiters.insert(correlation, sender)),
            None => drop(sender.send(Err(LaneError::Broken))),
        }
        let unsent = Unsent {
            correlation,
            pending: Some(self.clone()),
        };
        (unsent, receiver)
    }

    pub(super) fn complete(&self, correlation: u64, reply: A) {
        let waiter = self
            .state
            .lock()
            .waiters
            .as_mut()
            .and_then(|w| w.remove(&correlation));
        if let Some(waiter) = waiter {
            // Whoever gave up waiting does not want it.
            drop(waiter.send(Ok(reply)));
        }
    }

    pub(super) fn forget(&self, correlation: u64) {
        if let Some(waiters) = &mut self.state.lock().waiters {
            waiters.remove(&correlation);
        }
    }

    pub(super) fn break_all(&self) {
        let waiters = self.state.lock().waiters.take();
        for (_, waiter) in waiters.into_iter().flatten() {
            drop(waiter.send(Err(LaneError::Broken)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<A> Pending<A> {
        pub(crate) fn waiting(&self) -> usize {
            self.state.lock().waiters.as_ref().map_or(0, HashMap::len)
        }
    }

    #[tokio::test]
    async fn a_waiter_is_told_of_a_reply_or_of_the_end() {
        let pending = Pending::new();
        let (first, reply) = pending.register();
        pending.complete(first.correlation, "reply");
        first.sent();
        assert_eq!(reply.await.unwrap(), Ok("reply"));
        let (second, reply) = pending.register();
        second.sent();
        pending.break_all();
        assert_eq!(reply.await.unwrap(), Err(LaneError::Broken));
        let (_third, reply) = pending.register();
        assert_eq!(
            reply.await.unwrap(),
            Err(LaneError::Broken),
            "also who comes later"
        );
    }
}
