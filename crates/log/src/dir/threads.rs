//! The directory's three threads: each repeats its round until it is told to stop.

use std::time::{Duration, Instant};

use super::shared::DirShared;
use super::work_queue::WorkQueue;
use super::{Inner, LogDir};
use crate::error::LogError;

/// How long a thread waits for work before it looks around.
const IDLE: Duration = Duration::from_millis(50);
/// Under load a round begins at most so often, so that it gathers what many small appends bring: each round costs
/// wake-ups, and each flush a disk command, however little it carries. Work that finds the thread idle waits for none
/// of it, and rounds of much data take longer than this anyway.
const WRITE_ROUND_MIN: Duration = Duration::from_micros(250);
const FLUSH_ROUND_MIN: Duration = Duration::from_micros(1000);

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
                let begun = Instant::now();
                inner.writer.round(logs);
                gather(&shared.write_queue, begun, WRITE_ROUND_MIN);
                if inner.writer.is_stalled() && !shared.write_queue.is_stopped() {
                    std::thread::sleep(IDLE);
                }
            }
            // Nothing more is written: the flusher may finish.
            shared.flush_queue.stop();
        })?);
        threads.push(spawn("log-flusher", |inner, shared| {
            while let Some(logs) = shared.flush_queue.take(IDLE * 20) {
                let begun = Instant::now();
                inner.flusher.round(logs);
                gather(&shared.flush_queue, begun, FLUSH_ROUND_MIN);
            }
        })?);
        threads.push(spawn("log-housekeeper", |inner, shared| {
            inner.run_housekeeper(shared);
        })?);
        Ok(())
    }
}

/// With more work waiting already, lets yet more gather before the next round.
fn gather(queue: &WorkQueue, begun: Instant, round_min: Duration) {
    if !queue.is_empty() {
        std::thread::sleep(round_min.saturating_sub(begun.elapsed()));
    }
}
