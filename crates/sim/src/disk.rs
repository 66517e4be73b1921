//! A broker's virtual disk: one log per partition with a synced and an unsynced part, checkpoints, the clean marker.

use std::collections::BTreeMap;
use std::sync::Arc;

use strom_groups::Record;
use strom_replication::{EpochEnd, EpochStart, LogUnreadable, LogView, end_offset_for};
use strom_types::{BrokerEpoch, LeaderEpoch, Offset, TopicIdPartition};
use uuid::Uuid;

use crate::rng::Rng;

/// Batches remembered per producer, as the real log does.
const SEQUENCES_MAX: usize = 5;

/// One batch of one record.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub epoch: LeaderEpoch,
    /// Unique: what was written, by whomever.
    pub id: u64,
    /// (producer id, sequence).
    pub producer: Option<(i64, i32)>,
    /// Of a coordinator's partition.
    pub group: Option<Arc<[Record]>>,
}

impl Entry {
    pub(crate) fn same_as(&self, other: &Entry) -> bool {
        self.epoch == other.epoch && self.id == other.id
    }
}

/// What the log says to a producer's batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sequence {
    Next,
    Duplicate(Offset),
    OutOfOrder,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ModelLog {
    start: Offset,
    entries: Vec<Entry>,
    durable: Offset,
    /// The end that an fsync under way will cover.
    flushing: Option<Offset>,
    epochs: Vec<EpochStart>,
    producers: BTreeMap<i64, Vec<(i32, Offset)>>,
    /// Some of its bytes are not what was written; nobody may have read them yet.
    pub rotten: bool,
}

impl ModelLog {
    fn place(&self, offset: Offset) -> Option<usize> {
        usize::try_from(offset - self.start).ok()
    }

    pub(crate) fn end(&self) -> Offset {
        self.start + Offset::try_from(self.entries.len()).unwrap_or(Offset::MAX)
    }

    pub(crate) fn start(&self) -> Offset {
        self.start
    }

    pub(crate) fn durable(&self) -> Offset {
        self.durable
    }

    pub(crate) fn epochs(&self) -> &[EpochStart] {
        &self.epochs
    }

    pub(crate) fn get(&self, offset: Offset) -> Option<&Entry> {
        self.place(offset).and_then(|at| self.entries.get(at))
    }

    pub(crate) fn read(&self, from: Offset, end: Offset, max: usize) -> Vec<Entry> {
        let (Some(at), Ok(len)) = (self.place(from), usize::try_from(end - from)) else {
            return Vec::new();
        };
        let tail = self.entries.get(at..).unwrap_or_default();
        tail.iter().take(max.min(len)).cloned().collect()
    }

    pub(crate) fn check_sequence(&self, producer: i64, sequence: i32) -> Sequence {
        let Some(known) = self.producers.get(&producer) else {
            return Sequence::Next;
        };
        if let Some((_, offset)) = known.iter().find(|(seen, _)| *seen == sequence) {
            return Sequence::Duplicate(*offset);
        }
        match known.last() {
            Some((last, _)) if sequence != last + 1 => Sequence::OutOfOrder,
            _ => Sequence::Next,
        }
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        let end = self.end();
        self.assign_epoch(entry.epoch, end);
        self.note_producer(&entry, end);
        self.entries.push(entry);
    }

    fn note_producer(&mut self, entry: &Entry, offset: Offset) {
        if let Some((producer, sequence)) = entry.producer {
            let known = self.producers.entry(producer).or_default();
            if known.len() >= SEQUENCES_MAX {
                known.remove(0);
            }
            known.push((sequence, offset));
        }
    }

    pub(crate) fn assign_epoch(&mut self, epoch: LeaderEpoch, start_offset: Offset) {
        if epoch > self.latest_epoch() {
            self.epochs.retain(|entry| entry.start_offset < start_offset);
            self.epochs.push(EpochStart { epoch, start_offset });
        }
    }

    pub(crate) fn truncate(&mut self, to: Offset) {
        self.epochs.retain(|entry| entry.start_offset < to);
        self.cut(to);
    }

    fn cut(&mut self, to: Offset) {
        self.entries.truncate(self.place(to).unwrap_or(0));
        self.durable = self.durable.min(to);
        self.flushing = self.flushing.map(|end| end.min(to));
        self.producers.clear();
        let entries = std::mem::take(&mut self.entries);
        for (offset, entry) in (self.start..).zip(&entries) {
            self.note_producer(entry, offset);
        }
        self.entries = entries;
    }

    /// Drops what lies below `to`; the epoch in force there begins there now. Producers' state stays.
    pub(crate) fn advance_start(&mut self, to: Offset) {
        let to = to.min(self.end());
        if to <= self.start {
            return;
        }
        if let Some(gone) = self.place(to) {
            self.entries.drain(..gone);
        }
        self.start = to;
        self.durable = self.durable.max(to);
        let below = self.epochs.iter().rposition(|entry| entry.start_offset <= to);
        self.epochs.drain(..below.unwrap_or(0));
        if let Some(first) = self.epochs.first_mut() {
            first.start_offset = first.start_offset.max(to);
        }
    }

    pub(crate) fn restart(&mut self, start: Offset) {
        *self = ModelLog {
            start,
            durable: start,
            ..ModelLog::default()
        };
    }

    /// Begins an fsync of what there is; false when there is nothing to sync or one is under way.
    pub(crate) fn begin_flush(&mut self) -> bool {
        let due = self.flushing.is_none() && self.durable < self.end();
        if due {
            self.flushing = Some(self.end());
        }
        due
    }

    pub(crate) fn finish_flush(&mut self) {
        if let Some(end) = self.flushing.take() {
            self.durable = self.durable.max(end);
        }
    }

    pub(crate) fn sync(&mut self) {
        self.flushing = None;
        self.durable = self.end();
    }

    /// What a start finds: after a power loss a random part of the unsynced tail (recovery cuts at the tear), after the
    /// death of the process alone all of it. Epochs that begin beyond the end go, as in the real recovery.
    fn recover(&mut self, power_lost: bool, rng: &mut Rng) {
        self.flushing = None;
        if power_lost {
            let unsynced = u64::try_from(self.end() - self.durable).unwrap_or(0);
            // Whole, gone, or torn anywhere between.
            let kept = match rng.below(3) {
                0 => 0,
                1 => unsynced,
                _ => rng.below(unsynced + 1),
            };
            let to = self.durable + Offset::try_from(kept).unwrap_or(0);
            self.cut(to);
            self.epochs.retain(|entry| entry.start_offset <= to);
        }
        self.durable = self.end();
    }
}

impl LogView for ModelLog {
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
        if self.rotten {
            return Err(LogUnreadable);
        }
        Ok(end_offset_for(&self.epochs, self.end(), epoch))
    }
}

/// Outlives the processes that use it.
#[derive(Clone, Debug)]
pub(crate) struct BrokerDisk {
    pub id: Uuid,
    pub logs: BTreeMap<TopicIdPartition, ModelLog>,
    pub checkpoints: BTreeMap<TopicIdPartition, Offset>,
    /// The life under which everything was closed in order.
    pub clean: Option<BrokerEpoch>,
    /// Emptied, and not registered since: nothing may be expected of it.
    pub wiped: bool,
}

impl BrokerDisk {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        BrokerDisk {
            id: Uuid::from_bytes(rng.bytes16()),
            logs: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            clean: None,
            wiped: false,
        }
    }

    pub(crate) fn wipe(&mut self, rng: &mut Rng) {
        *self = BrokerDisk {
            wiped: true,
            ..BrokerDisk::new(rng)
        };
    }

    pub(crate) fn is_rotten(&self) -> bool {
        self.logs.values().any(|log| log.rotten)
    }

    pub(crate) fn crash(&mut self, power_lost: bool, rng: &mut Rng) {
        for log in self.logs.values_mut() {
            log.recover(power_lost, rng);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: i32, id: u64) -> Entry {
        Entry {
            epoch: LeaderEpoch(epoch),
            id,
            producer: Some((7, i32::try_from(id).expect("small"))),
            group: None,
        }
    }

    #[test]
    fn a_power_loss_takes_only_what_was_not_synced() {
        for seed in 0..50 {
            let mut log = ModelLog::default();
            for id in 0..4 {
                log.append(entry(1, id));
            }
            assert!(log.begin_flush());
            log.append(entry(2, 4));
            log.append(entry(2, 5));
            log.finish_flush();
            assert_eq!((log.durable(), log.end()), (4, 6));
            log.recover(true, &mut Rng::new(seed));
            assert!((4..=6).contains(&log.end()), "{}", log.end());
            assert_eq!(log.check_sequence(7, 3), Sequence::Duplicate(3));
            assert_eq!(log.durable(), log.end());
        }
    }

    #[test]
    fn a_flush_does_not_vouch_for_what_replaced_its_records() {
        let mut log = ModelLog::default();
        (0..4).for_each(|id| log.append(entry(1, id)));
        log.begin_flush();
        log.truncate(2);
        (9..12).for_each(|id| log.append(entry(2, id)));
        log.finish_flush();
        assert_eq!(log.durable(), 2);
    }

    #[test]
    fn sequences_are_checked_as_the_real_log_does() {
        let mut log = ModelLog::default();
        (0..8).for_each(|id| log.append(entry(1, id)));
        assert_eq!(log.check_sequence(7, 8), Sequence::Next);
        assert_eq!(log.check_sequence(7, 5), Sequence::Duplicate(5));
        assert_eq!(log.check_sequence(7, 2), Sequence::OutOfOrder);
        assert_eq!(log.check_sequence(8, 40), Sequence::Next);
        log.truncate(5);
        assert_eq!(log.check_sequence(7, 5), Sequence::Next);
    }
}
