//! A log in memory for tests: records with epochs, an epoch cache, a synced and an unsynced part.

use strom_types::{LeaderEpoch, Offset};

use crate::divergence::end_offset_for;
use crate::log_view::{EpochEnd, EpochStart, LogUnreadable, LogView};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ToyRecord {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) value: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ToyLog {
    pub(crate) start: Offset,
    pub(crate) records: Vec<ToyRecord>,
    pub(crate) durable: Offset,
    pub(crate) epochs: Vec<EpochStart>,
    pub(crate) unreadable: bool,
}

fn index(log: &ToyLog, offset: Offset) -> usize {
    usize::try_from(offset - log.start).unwrap()
}

impl ToyLog {
    /// A synced log of `(epoch, how many records)` runs.
    pub(crate) fn of(runs: &[(i32, usize)]) -> Self {
        let mut log = ToyLog::default();
        for &(epoch, count) in runs {
            log.assign_epoch(LeaderEpoch(epoch), log.end());
            for _ in 0..count {
                log.append(LeaderEpoch(epoch), 0);
            }
        }
        log.flush();
        log
    }

    pub(crate) fn end(&self) -> Offset {
        self.start + Offset::try_from(self.records.len()).unwrap()
    }

    pub(crate) fn append(&mut self, epoch: LeaderEpoch, value: u64) {
        let end = self.end();
        self.assign_epoch(epoch, end);
        self.records.push(ToyRecord { epoch, value });
    }

    pub(crate) fn assign_epoch(&mut self, epoch: LeaderEpoch, start_offset: Offset) {
        if epoch > self.latest_epoch() {
            self.epochs.retain(|entry| entry.start_offset < start_offset);
            self.epochs.push(EpochStart { epoch, start_offset });
        }
    }

    pub(crate) fn get(&self, offset: Offset) -> Option<ToyRecord> {
        usize::try_from(offset - self.start)
            .ok()
            .and_then(|i| self.records.get(i).copied())
    }

    pub(crate) fn read(&self, from: Offset, count: usize) -> Vec<ToyRecord> {
        let tail = self.records.get(index(self, from)..).unwrap_or_default();
        tail.iter().take(count).copied().collect()
    }

    pub(crate) fn truncate(&mut self, to: Offset) {
        self.records.truncate(index(self, to));
        self.epochs.retain(|entry| entry.start_offset < to);
        self.durable = self.durable.min(to);
    }

    /// Drops what lies below `to`; the epoch in force there begins there now.
    pub(crate) fn advance_start(&mut self, to: Offset) {
        if to <= self.start {
            return;
        }
        self.records.drain(..index(self, to));
        self.start = to;
        self.durable = self.durable.max(to);
        let below = self.epochs.iter().rposition(|entry| entry.start_offset <= to);
        if let Some(below) = below {
            self.epochs.drain(..below);
            self.epochs[0].start_offset = to;
        }
    }

    pub(crate) fn restart(&mut self, start: Offset) {
        *self = ToyLog {
            start,
            durable: start,
            ..ToyLog::default()
        };
    }

    pub(crate) fn flush(&mut self) {
        self.durable = self.end();
    }
}

impl LogView for ToyLog {
    fn log_start(&self) -> Offset {
        self.start
    }

    fn log_end(&self) -> Offset {
        self.end()
    }

    fn durable_end(&self) -> Offset {
        self.durable
    }

    fn latest_epoch(&self) -> LeaderEpoch {
        self.epochs.last().map_or(LeaderEpoch::NONE, |entry| entry.epoch)
    }

    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Result<Option<EpochEnd>, LogUnreadable> {
        if self.unreadable {
            return Err(LogUnreadable);
        }
        Ok(end_offset_for(&self.epochs, self.end(), epoch))
    }
}
