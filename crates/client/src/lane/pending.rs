//! Requests that wait for their reply on one stream.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::LaneError;

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

    pub(super) fn register(&self) -> (u64, oneshot::Receiver<Result<A, LaneError>>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let correlation = state.next;
        state.next += 1;
        match &mut state.waiters {
            Some(waiters) => drop(waiters.insert(correlation, sender)),
            None => drop(sender.send(Err(LaneError::Broken))),
        }
        (correlation, receiver)
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
