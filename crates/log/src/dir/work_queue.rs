//! Logs that wait for one of the directory's threads.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::log::Log;

#[derive(Default)]
pub(crate) struct WorkQueue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    logs: Vec<Arc<Log>>,
    stopped: bool,
}

impl WorkQueue {
    /// Each log sees to it that it is here once only.
    pub(crate) fn push(&self, log: &Weak<Log>) {
        let Some(log) = log.upgrade() else { return };
        let mut waiting = self.waiting.lock();
        waiting.logs.push(log);
        if waiting.logs.len() == 1 {
            self.arrived.notify_one();
        }
    }

    /// Everything that waits; blocks until there is something. `None` when stopped and empty.
    pub(crate) fn take(&self, timeout: Duration) -> Option<Vec<Arc<Log>>> {
        let mut waiting = self.waiting.lock();
        if waiting.logs.is_empty() && !waiting.stopped {
            self.arrived.wait_for(&mut waiting, timeout);
        }
        let logs = std::mem::take(&mut waiting.logs);
        if logs.is_empty() && waiting.stopped {
            None
        } else {
            Some(logs)
        }
    }

    pub(crate) fn try_take(&self) -> Vec<Arc<Log>> {
        std::mem::take(&mut self.waiting.lock().logs)
    }

    /// The same without a wake-up: the caller takes it itself, or calls [`wake`](Self::wake).
    pub(crate) fn push_quietly(&self, log: &Weak<Log>) {
        if let Some(log) = log.upgrade() {
            self.waiting.lock().logs.push(log);
        }
    }

    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.waiting.lock().stopped = true;
        self.arrived.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.waiting.lock().stopped
    }
}
