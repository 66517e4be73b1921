//! Bounds over all logs of a directory: open segment files, and recently written bytes kept in memory.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use strom_types::Offset;

use crate::log::Log;

/// Segment files in the order they were opened.
#[derive(Default)]
pub(crate) struct FileCache {
    files: Mutex<VecDeque<(Weak<Log>, Offset)>>,
    max: usize,
}

impl FileCache {
    pub(crate) fn new(max: usize) -> Self {
        FileCache {
            files: Mutex::default(),
            max: max.max(1),
        }
    }

    /// Notes an opened file and closes the oldest ones over the bound. A log that is busy right now (the caller's own
    /// among them) keeps its file for another round.
    pub(crate) fn opened(&self, log: &Weak<Log>, segment_base: Offset) {
        let mut files = self.files.lock();
        files.push_back((log.clone(), segment_base));
        let mut attempts = files.len().min(8);
        while files.len() > self.max && attempts > 0 {
            attempts -= 1;
            let Some((log, base)) = files.pop_front() else {
                break;
            };
            if let Some(owner) = log.upgrade()
                && !owner.close_file(base)
            {
                files.push_back((log, base));
            }
        }
    }
}

/// What rounds of the writer left in the logs' tails, oldest first.
pub(crate) struct TailCache {
    rounds: Mutex<Rounds>,
    bytes_max: usize,
    age_max: Duration,
}

#[derive(Default)]
struct Rounds {
    entries: VecDeque<TailEntry>,
    bytes: usize,
}

struct TailEntry {
    log: Weak<Log>,
    end: Offset,
    bytes: usize,
    at: Instant,
}

impl TailCache {
    pub(crate) fn new(bytes_max: usize, age_max: Duration) -> Self {
        TailCache {
            rounds: Mutex::default(),
            bytes_max,
            age_max,
        }
    }

    pub(crate) fn wrote(&self, log: Weak<Log>, end: Offset, bytes: usize) {
        let mut rounds = self.rounds.lock();
        rounds.bytes += bytes;
        rounds.entries.push_back(TailEntry {
            log,
            end,
            bytes,
            at: Instant::now(),
        });
        drop(rounds);
        self.trim();
    }

    /// Evicts what is over the bound or too old.
    pub(crate) fn trim(&self) {
        let now = Instant::now();
        let mut gone = Vec::new();
        {
            let mut rounds = self.rounds.lock();
            while let Some(oldest) = rounds.entries.front() {
                if rounds.bytes <= self.bytes_max && now.duration_since(oldest.at) < self.age_max {
                    break;
                }
                rounds.bytes -= oldest.bytes;
                gone.extend(rounds.entries.pop_front());
            }
        }
        for entry in gone {
            if let Some(log) = entry.log.upgrade() {
                log.evict_tail(entry.end);
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.rounds.lock().bytes
    }
}
