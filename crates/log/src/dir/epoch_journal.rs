//! Epoch starts of many logs in one file: a node that becomes leader of thousands of partitions at once would otherwise
//! write and sync thousands of files (measured: 2 to 14 s for 10,000, against milliseconds).
//!
//! An entry counts for its log until the log's own state file, or the checkpoint, says that it includes it.

use std::collections::HashMap;
use std::fmt::Write;

use strom_types::{LeaderEpoch, Offset, TopicIdPartition};

use crate::error::LogError;
use crate::sealed_text::{number, seal, unseal};
use crate::storage::{Storage, read_file, replace_file};

use crate::log::wall_now;

use super::checkpoint_file::CHECKPOINT_BYTES_MAX;

pub(crate) const EPOCH_JOURNAL_FILE: &str = "leader-epoch-starts";
const VERSION_LINE: &str = "strom-epoch-starts 1";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EpochStart {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) start: Offset,
    /// Of the write that brought it; grows with every one, beginning at 1.
    pub(crate) seq: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct EpochJournal {
    pub(crate) seq: u64,
    /// Oldest first.
    pub(crate) starts: HashMap<TopicIdPartition, Vec<EpochStart>>,
}

impl EpochJournal {
    /// A damaged file counts as empty: what is lost are epochs that no record was written in. Its sequence then begins
    /// at the present time in milliseconds, so that no state file takes a new entry for an old one.
    pub(crate) fn read(storage: &dyn Storage, dir: &std::path::Path) -> Result<Self, LogError> {
        let path = dir.join(EPOCH_JOURNAL_FILE);
        let bytes = read_file(storage, &path, CHECKPOINT_BYTES_MAX)
            .map_err(|error| LogError::io("read", &path, error))?;
        let journal = bytes.as_deref().map(EpochJournal::decode);
        if matches!(journal, Some(None)) {
            tracing::warn!(path = %path.display(), "ignoring a damaged file of epoch starts");
        }
        Ok(journal.flatten().unwrap_or_else(|| EpochJournal {
            seq: u64::try_from(wall_now().0).unwrap_or(0),
            starts: HashMap::new(),
        }))
    }

    pub(crate) fn write(&self, storage: &dyn Storage, dir: &std::path::Path) -> Result<(), LogError> {
        let path = dir.join(EPOCH_JOURNAL_FILE);
        replace_file(storage, &path, &self.encode(), true)
            .map_err(|error| LogError::io("write", &path, error))
    }

    fn encode(&self) -> Vec<u8> {
        let mut text = format!("{VERSION_LINE}\nseq {}\nlogs {}\n", self.seq, self.starts.len());
        for (id, starts) in &self.starts {
            for EpochStart { epoch, start, seq } in starts {
                let _ = writeln!(text, "{id} {epoch} {start} {seq}");
            }
        }
        seal(text)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = unseal(bytes)?;
        if lines.next()? != VERSION_LINE {
            return None;
        }
        let seq = number(lines.next(), "seq")?;
        let count: usize = number(lines.next(), "logs")?;
        let mut starts: HashMap<_, Vec<EpochStart>> = HashMap::new();
        for line in lines {
            let mut fields = line.split(' ');
            let id = fields.next()?.parse().ok()?;
            let start = EpochStart {
                epoch: LeaderEpoch(fields.next()?.parse().ok()?),
                start: fields.next()?.parse().ok()?,
                seq: fields.next()?.parse().ok()?,
            };
            if fields.next().is_some() || start.epoch.get() < 0 || start.start < 0 {
                return None;
            }
            starts.entry(id).or_default().push(start);
        }
        (starts.len() == count).then_some(EpochJournal { seq, starts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strom_types::TopicId;
    use uuid::Uuid;

    #[test]
    fn reads_back_or_is_refused() {
        let id = TopicIdPartition::new(TopicId(Uuid::from_u128(4)), 3);
        let start = |seq| EpochStart {
            epoch: LeaderEpoch(3),
            start: 40,
            seq,
        };
        let journal = EpochJournal {
            seq: 2,
            starts: [(id, vec![start(1), start(2)])].into_iter().collect(),
        };
        let bytes = journal.encode();
        assert_eq!(EpochJournal::decode(&bytes), Some(journal));
        for at in 0..bytes.len() {
            assert_eq!(EpochJournal::decode(&bytes[..at]), None, "cut at {at}");
        }
    }
}
