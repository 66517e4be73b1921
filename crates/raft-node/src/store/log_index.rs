//! The log in brief: its span, its terms as runs, and its latest entries, so that RocksDB is rarely read.

use std::collections::VecDeque;

use raft::eraftpb::Entry;

use crate::store::SizeLimit;

/// Terms are kept for the whole log (one pair per term), entries for about the last megabyte.
#[derive(Debug)]
pub(crate) struct LogIndex {
    cut: (u64, u64),
    last: u64,
    /// (first index, term), ascending; covers the log without its cut part.
    runs: Vec<(u64, u64)>,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
}

const TAIL_BYTES_MAX: usize = 1 << 20;
const TAIL_ENTRIES_MAX: usize = 4096;

fn size(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 64
}

impl LogIndex {
    pub(crate) fn new(cut: (u64, u64)) -> Self {
        LogIndex {
            cut,
            last: cut.0,
            runs: Vec::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
        }
    }

    pub(crate) fn first(&self) -> u64 {
        self.cut.0 + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn last_term(&self) -> u64 {
        self.runs.last().map_or(self.cut.1, |run| run.1)
    }

    pub(crate) fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.cut.0 {
            return Ok(self.cut.1);
        }
        if index < self.cut.0 {
            return Err(raft::StorageError::Compacted.into());
        }
        if index > self.last {
            return Err(raft::StorageError::Unavailable.into());
        }
        let after = self.runs.partition_point(|run| run.0 <= index);
        match after.checked_sub(1).and_then(|run| self.runs.get(run)) {
            Some(run) => Ok(run.1),
            None => Err(raft::StorageError::Unavailable.into()),
        }
    }

    /// Takes entries that follow or overwrite the log's tail.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            self.truncate_from(first.index);
        }
        for entry in entries {
            if self.runs.last().is_none_or(|run| run.1 != entry.term) {
                self.runs.push((entry.index, entry.term));
            }
            self.last = entry.index;
            self.tail_bytes += size(entry);
            self.tail.push_back(entry.clone());
        }
        while self.tail_bytes > TAIL_BYTES_MAX || self.tail.len() > TAIL_ENTRIES_MAX {
            let Some(entry) = self.tail.pop_front() else { break };
            self.tail_bytes -= size(&entry);
        }
    }

    fn truncate_from(&mut self, index: u64) {
        while self.tail.back().is_some_and(|entry| entry.index >= index) {
            if let Some(entry) = self.tail.pop_back() {
                self.tail_bytes -= size(&entry);
            }
        }
        while self.runs.last().is_some_and(|run| run.0 >= index) {
            self.runs.pop();
        }
        self.last = self.last.min(index.saturating_sub(1));
    }

    /// Forgets everything up to and including `cut`.
    pub(crate) fn cut_front(&mut self, cut: (u64, u64)) {
        self.cut = cut;
        self.last = self.last.max(cut.0);
        while self.tail.front().is_some_and(|entry| entry.index <= cut.0) {
            if let Some(entry) = self.tail.pop_front() {
                self.tail_bytes -= size(&entry);
            }
        }
        let keep_from = self
            .runs
            .partition_point(|run| run.0 <= cut.0 + 1)
            .saturating_sub(1);
        self.runs.drain(..keep_from);
        if let Some(run) = self.runs.first_mut() {
            run.0 = run.0.max(cut.0 + 1);
        }
        if self.last == cut.0 {
            self.runs.clear();
        }
    }

    /// The entries `low..high` when all of them are cached.
    pub(crate) fn cached(&self, low: u64, high: u64, limit: &mut SizeLimit) -> Option<Vec<Entry>> {
        let front = self.tail.front()?.index;
        let skip = usize::try_from(low.checked_sub(front)?).ok()?;
        let found = self
            .tail
            .iter()
            .skip(skip)
            .take_while(|entry| entry.index < high && limit.admits(entry))
            .cloned();
        Some(found.collect())
    }
}
