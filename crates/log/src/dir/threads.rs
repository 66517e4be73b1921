//! The directory's three threads: each repeats its round until it is told to stop.

use std::time::Duration;

use super::shared::DirShared;
use super::{Inner, LogDir};
use crate::error::LogError;

/// How long a thread waits for work before it looks around.
const IDLE: Duration = Duration::from_millis(50);
/// Up to so many bytes are flushed by the writer itself: a hand-over to the flusher costs a wake-up, which is a good part
/// of a small flush, and what arrives meanwhile is gathered for the next round. Larger writes overlap with the flush.
const FLUSH_BY_WRITER_BYTES: usize = 256 * 1024;

impl LogDir {
    pub(super) fn spawn_threads(&self) -> Result<(), LogError> {
        let spawn = |name: &str, run: fn(&Inner, &DirShared)| {
            let (inner, shared) = (self.inner.clone(), self.shared.clone());
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || run(&inner, &shared));
            thread.map_err(|error| LogError::io("spawn a thread for", &self.shared.path, error))
        };
        let mut threads = self.threads.lock();
        threads.push(spawn("log-writer", |inner, shared| {
            while let Some(logs) = shared.write_queue.take(IDLE) {
                if let Some(bytes) = inner.writer.round(logs) {
                    let small = bytes <= FLUSH_BY_WRITER_BYTES;
                    if !(small && inner.flusher.try_round()) {
                        shared.flush_queue.wake();
                    }
                }
                if shared.wal.needs_upkeep() {
                    shared.flush_queue.wake();
                }
                if inner.writer.is_stalled() && !shared.write_queue.is_stopped() {
                    std::thread::sleep(IDLE);
                }
            }
            // Nothing more is written: the flusher may finish.
            shared.flush_queue.stop();
        })?);
        threads.push(spawn("log-flusher", |inner, shared| {
            while let Some(logs) = shared.flush_queue.take(IDLE * 20) {
                inner.flusher.round(logs);
                inner.flusher.keep_wal();
            }
        })?);
        threads.push(spawn("log-housekeeper", |inner, shared| {
            inner.run_housekeeper(shared);
        })?);
        Ok(())
    }
}
