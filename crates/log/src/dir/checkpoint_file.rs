//! The directory's checkpoint: up to where each log is fsynced, so that a restart need not look at everything.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use strom_types::{LeaderEpoch, Offset, TopicIdPartition};

use crate::sealed_text::{number, seal, unseal};
use crate::segment::LogPosition;

pub(crate) const CHECKPOINT_FILE: &str = "log-checkpoint";
pub(crate) const HIGH_WATERMARK_FILE: &str = "replication-offset-checkpoint";
pub(crate) const CHECKPOINT_BYTES_MAX: u64 = 1 << 30;
const VERSION_LINE: &str = "strom-log-checkpoint 1";
const HIGH_WATERMARK_VERSION_LINE: &str = "strom-high-watermarks 1";

/// One log as of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CheckpointEntry {
    pub(crate) topic: Arc<str>,
    pub(crate) log_start: Offset,
    /// Everything before it was fsynced; after a clean stop it is the log's end.
    pub(crate) recovery: LogPosition,
    pub(crate) latest_epoch: LeaderEpoch,
    /// The journal of epoch starts up to here is included.
    pub(crate) journal_seq: u64,
    pub(crate) size_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Checkpoint {
    /// Grows with every checkpoint, beginning at 1.
    pub(crate) seq: u64,
    pub(crate) logs: HashMap<TopicIdPartition, CheckpointEntry>,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut text = format!("{VERSION_LINE}\nseq {}\nlogs {}\n", self.seq, self.logs.len());
        for (id, entry) in &self.logs {
            let LogPosition {
                offset,
                segment_base,
                position,
            } = entry.recovery;
            let _ = writeln!(
                text,
                "{id} {} {} {offset} {segment_base} {position} {} {} {}",
                entry.topic, entry.log_start, entry.latest_epoch, entry.journal_seq, entry.size_bytes
            );
        }
        seal(text)
    }

    /// `None` when the bytes are not exactly what [`encode`](Self::encode) makes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = unseal(bytes)?;
        if lines.next()? != VERSION_LINE {
            return None;
        }
        let seq = number(lines.next(), "seq")?;
        let count: usize = number(lines.next(), "logs")?;
        let mut logs = HashMap::new();
        for line in lines {
            let (id, entry) = decode_entry(line)?;
            logs.insert(id, entry);
        }
        (logs.len() == count).then_some(Checkpoint { seq, logs })
    }
}

fn decode_entry(line: &str) -> Option<(TopicIdPartition, CheckpointEntry)> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let topic = fields.next()?.into();
    let log_start = fields.next()?.parse().ok()?;
    let recovery = LogPosition {
        offset: fields.next()?.parse().ok()?,
        segment_base: fields.next()?.parse().ok()?,
        position: fields.next()?.parse().ok()?,
    };
    let latest_epoch = LeaderEpoch(fields.next()?.parse().ok()?);
    let journal_seq = fields.next()?.parse().ok()?;
    let size_bytes = fields.next()?.parse().ok()?;
    let sane = 0 <= log_start && 0 <= recovery.segment_base && recovery.segment_base <= recovery.offset;
    let entry = CheckpointEntry {
        topic,
        log_start,
        recovery,
        latest_epoch,
        journal_seq,
        size_bytes,
    };
    (sane && fields.next().is_none()).then_some((id, entry))
}

/// Kafka's file of the same name holds the same by topic name.
pub(crate) fn encode_high_watermarks(offsets: &HashMap<TopicIdPartition, Offset>) -> Vec<u8> {
    let mut text = format!("{HIGH_WATERMARK_VERSION_LINE}\nlogs {}\n", offsets.len());
    for (id, offset) in offsets {
        let _ = writeln!(text, "{id} {offset}");
    }
    seal(text)
}

pub(crate) fn decode_high_watermarks(bytes: &[u8]) -> Option<HashMap<TopicIdPartition, Offset>> {
    let mut lines = unseal(bytes)?;
    if lines.next()? != HIGH_WATERMARK_VERSION_LINE {
        return None;
    }
    let count: usize = number(lines.next(), "logs")?;
    let mut offsets = HashMap::new();
    for line in lines {
        let (id, offset) = line.split_once(' ')?;
        offsets.insert(
            id.parse().ok()?,
            offset.parse().ok().filter(|offset| *offset >= 0)?,
        );
    }
    (offsets.len() == count).then_some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use strom_types::TopicId;
    use uuid::Uuid;

    #[test]
    fn files_read_back_or_are_refused() {
        let id = |n| TopicIdPartition::new(TopicId(Uuid::from_u128(n)), 3);
        let entry = CheckpointEntry {
            topic: "a.b_c".into(),
            log_start: 5,
            recovery: LogPosition {
                offset: 30,
                segment_base: 20,
                position: 1_000,
            },
            latest_epoch: LeaderEpoch(-1),
            journal_seq: 4,
            size_bytes: 2_000,
        };
        let logs = [(id(1), entry.clone()), (id(2), entry)].into_iter().collect();
        let checkpoint = Checkpoint { seq: 8, logs };
        let bytes = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&bytes), Some(checkpoint));
        let offsets: HashMap<_, _> = [(id(1), 7), (id(2), 0)].into_iter().collect();
        let offset_bytes = encode_high_watermarks(&offsets);
        assert_eq!(decode_high_watermarks(&offset_bytes), Some(offsets));
        for at in 0..bytes.len() {
            assert_eq!(Checkpoint::decode(&bytes[..at]), None, "cut at {at}");
        }
        assert_eq!(decode_high_watermarks(&bytes), None);
        assert_eq!(Checkpoint::decode(&offset_bytes), None);
        assert_eq!(Checkpoint::decode(&[0; 500]), None);
    }
}
