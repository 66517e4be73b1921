//! Which leader epoch began at which offset (KIP-101, Kafka's `LeaderEpochFileCache`), and the file that keeps it.

use std::fmt::Write;

use strom_types::{LeaderEpoch, Offset};

use crate::log::Amendment;
use crate::sealed_text::{number, seal, unseal};

const VERSION_LINE: &str = "strom-log-state 1";
/// Bound on the file: more than a million leader changes.
pub(crate) const STATE_FILE_BYTES_MAX: u64 = 32 << 20;
pub(crate) const STATE_FILE: &str = "leader-epoch-checkpoint";

/// Entries rise strictly in epoch and in start offset.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct EpochCache(Vec<(LeaderEpoch, Offset)>);

impl EpochCache {
    pub(crate) fn latest(&self) -> LeaderEpoch {
        self.0.last().map_or(LeaderEpoch::NONE, |(epoch, _)| *epoch)
    }

    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.0
    }

    pub(crate) fn start_of(&self, epoch: LeaderEpoch) -> Option<Offset> {
        let entry = self.0.iter().rev().find(|(known, _)| *known == epoch);
        entry.map(|(_, start)| *start)
    }

    /// The epoch that `offset` belongs to, as far as is known.
    pub(crate) fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let next = self.0.partition_point(|(_, start)| *start <= offset);
        next.checked_sub(1)
            .and_then(|at| self.0.get(at))
            .map_or(LeaderEpoch::NONE, |(epoch, _)| *epoch)
    }

    /// Notes that `epoch` begins at `start`. Entries it contradicts (no record was ever written in them) go. Returns
    /// whether anything changed.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch.get() < 0 || self.latest() >= epoch {
            return false;
        }
        self.truncate_from_end(start);
        self.0.push((epoch, start));
        true
    }

    /// Learns from a batch found in the log, whose word counts more than the file's: entries at or after it of the same
    /// or an older epoch are wrong.
    pub(crate) fn observe(&mut self, epoch: LeaderEpoch, base_offset: Offset) -> bool {
        if epoch.get() < 0 || self.epoch_at(base_offset) >= epoch {
            return false;
        }
        self.0
            .retain(|(known, start)| *start < base_offset || *known > epoch);
        // One of a newer epoch at this very place would have made `epoch_at` answer it.
        let at = self.0.partition_point(|(known, _)| *known < epoch);
        self.0.insert(at, (epoch, base_offset));
        true
    }

    /// Forgets epochs that begin at or after `end`.
    pub(crate) fn truncate_from_end(&mut self, end: Offset) -> bool {
        let before = self.0.len();
        self.0.retain(|(_, start)| *start < end);
        self.0.len() != before
    }

    /// Forgets epochs that ended before `log_start`; the one that holds it now begins there.
    pub(crate) fn truncate_from_start(&mut self, log_start: Offset) -> bool {
        let gone = self
            .0
            .partition_point(|(_, start)| *start <= log_start)
            .saturating_sub(1);
        self.0.drain(..gone);
        match self.0.first_mut() {
            Some((_, start)) if *start < log_start => {
                *start = log_start;
                true
            }
            _ => gone > 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The largest epoch at most `epoch` and where it ends; for an epoch older than all, `epoch` itself and where the
    /// first begins. `None` when the epoch is newer than all, or none is known: never a guess.
    pub(crate) fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let (latest, _) = self.0.last()?;
        if epoch > *latest || epoch.get() < 0 {
            return None;
        }
        let next = self.0.partition_point(|(e, _)| *e <= epoch);
        let end = self.0.get(next).map_or(log_end, |(_, start)| *start);
        let floor = next
            .checked_sub(1)
            .and_then(|at| self.0.get(at))
            .map_or(epoch, |(e, _)| *e);
        Some((floor, end))
    }
}

/// What a partition's own small file holds: its epochs, and changes newer than the directory's checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct StateFile {
    pub(crate) epochs: EpochCache,
    /// The checkpoint the two values below amend; a later checkpoint includes them.
    pub(crate) checkpoint_seq: u64,
    /// The log was truncated to here: the recovery point is no higher.
    pub(crate) recovery_cap: Option<Offset>,
    pub(crate) log_start: Option<Offset>,
    /// The log was emptied and begins anew here: older segments are leftovers.
    pub(crate) reset_at: Option<Offset>,
    /// The directory's journal of epoch starts is included up to here.
    pub(crate) journal_seq: u64,
}

impl StateFile {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut text = format!(
            "{VERSION_LINE}\ncheckpoint-seq {}\nrecovery-cap {}\nlog-start {}\nreset-at {}\njournal-seq {}\nepochs {}\n",
            self.checkpoint_seq,
            self.recovery_cap.unwrap_or(-1),
            self.log_start.unwrap_or(-1),
            self.reset_at.unwrap_or(-1),
            self.journal_seq,
            self.epochs.0.len()
        );
        for (epoch, start) in &self.epochs.0 {
            let _ = writeln!(text, "{epoch} {start}");
        }
        seal(text)
    }

    pub(crate) fn amendment(&self) -> Amendment {
        Amendment {
            seq: self.checkpoint_seq,
            recovery_cap: self.recovery_cap,
            log_start: self.log_start,
            reset_at: self.reset_at,
        }
    }

    /// `None` when the bytes are not exactly what [`encode`](Self::encode) makes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = unseal(bytes)?;
        if lines.next()? != VERSION_LINE {
            return None;
        }
        let checkpoint_seq = number(lines.next(), "checkpoint-seq")?;
        let recovery_cap: Offset = number(lines.next(), "recovery-cap")?;
        let log_start: Offset = number(lines.next(), "log-start")?;
        let reset_at: Offset = number(lines.next(), "reset-at")?;
        let journal_seq = number(lines.next(), "journal-seq")?;
        let count: usize = number(lines.next(), "epochs")?;
        let mut entries: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for line in lines {
            let (epoch, start) = line.split_once(' ')?;
            let entry = (LeaderEpoch(epoch.parse().ok()?), start.parse().ok()?);
            if entries
                .last()
                .is_some_and(|last| last.0 >= entry.0 || last.1 >= entry.1)
            {
                return None;
            }
            entries.push(entry);
        }
        (entries.len() == count).then_some(StateFile {
            epochs: EpochCache(entries),
            checkpoint_seq,
            recovery_cap: (recovery_cap >= 0).then_some(recovery_cap),
            log_start: (log_start >= 0).then_some(log_start),
            reset_at: (reset_at >= 0).then_some(reset_at),
            journal_seq,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(i32, i64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, start) in entries {
            assert!(cache.assign(LeaderEpoch(*epoch), *start));
        }
        cache
    }

    #[test]
    fn end_offsets() {
        let cache = cache(&[(2, 10), (4, 20), (7, 20 + 5)]);
        for (asked, want) in [
            (7, Some((7, 99))),
            (8, None),
            (6, Some((4, 25))),
            (4, Some((4, 25))),
            (3, Some((2, 20))),
            (2, Some((2, 20))),
            (1, Some((1, 10))),
            (-1, None),
        ] {
            let want = want.map(|(epoch, end)| (LeaderEpoch(epoch), end));
            assert_eq!(
                cache.end_offset_for(LeaderEpoch(asked), 99),
                want,
                "epoch {asked}"
            );
        }
        assert_eq!(EpochCache::default().end_offset_for(LeaderEpoch(0), 5), None);
    }

    #[test]
    fn epochs_without_records_vanish() {
        let cache = cache(&[(1, 0), (2, 10), (3, 10)]);
        assert_eq!(cache.entries(), [(LeaderEpoch(1), 0), (LeaderEpoch(3), 10)]);
    }

    #[test]
    fn batches_correct_a_stale_file() {
        let mut cache = cache(&[(0, 0), (1, 1), (4, 9)]);
        assert!(!cache.observe(LeaderEpoch(0), 0));
        assert!(cache.observe(LeaderEpoch(1), 0));
        assert_eq!(cache.entries(), [(LeaderEpoch(1), 0), (LeaderEpoch(4), 9)]);
        assert!(cache.observe(LeaderEpoch(2), 5));
        assert_eq!(
            cache.entries(),
            [(LeaderEpoch(1), 0), (LeaderEpoch(2), 5), (LeaderEpoch(4), 9)]
        );
    }

    #[test]
    fn truncation() {
        let mut cache = cache(&[(1, 0), (2, 10), (3, 20)]);
        assert!(cache.truncate_from_start(15));
        assert_eq!(cache.entries(), [(LeaderEpoch(2), 15), (LeaderEpoch(3), 20)]);
        assert!(!cache.truncate_from_start(15));
        assert!(cache.truncate_from_end(20));
        assert_eq!(cache.entries(), [(LeaderEpoch(2), 15)]);
    }

    #[test]
    fn the_file_reads_back_or_is_refused() {
        let file = StateFile {
            epochs: cache(&[(1, 0), (5, 7)]),
            checkpoint_seq: 9,
            recovery_cap: Some(3),
            log_start: None,
            reset_at: Some(0),
            journal_seq: 6,
        };
        let bytes = file.encode();
        assert_eq!(StateFile::decode(&bytes), Some(file));
        for at in 0..bytes.len() {
            assert_eq!(StateFile::decode(&bytes[..at]), None, "cut at {at}");
        }
        assert_eq!(StateFile::decode(&seal(format!("{VERSION_LINE}\n"))), None);
    }
}
