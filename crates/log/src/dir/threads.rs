//! The directory's three threads: each repeats its round until it is told to stop.

use std::time::Duration;

use super::shared::DirShared;
use super::{Inner, LogDir};
use crate::error::LogError;

/// How long a thread waits for work before it looks around.
const IDLE: Duration = Duration::from_millis(50);

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
                inner.writer.round(logs);
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
            }
        })?);
        threads.push(spawn("log-housekeeper", |inner, shared| {
            inner.run_housekeeper(shared);
        })?);
        Ok(())
    }
}
