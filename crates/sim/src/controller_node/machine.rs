//! The quorum's state machine as the controller has it: the image, and the recent entries for those who watch.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message;
use strom_metadata::Image;
use strom_proto::v1;
use strom_raft_node::{RestoreError, StateMachine};
use strom_types::MetadataOffset;

use crate::message::Controlled;

const RECENT_MAX: usize = 60;
const AT_ONCE_MAX: usize = 16;
const CHUNK_RECORDS: usize = 8;

#[derive(Default)]
pub(crate) struct Machine {
    image: Image,
    recent: VecDeque<(u64, v1::MetadataBatch)>,
    /// Everything above this index is in `recent`.
    floor: u64,
    /// An entry could not be applied: nothing after it may be.
    stuck: Option<String>,
}

impl Machine {
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    pub(crate) fn stuck(&self) -> Option<&str> {
        self.stuck.as_deref()
    }

    /// What follows an index; `None` = nothing yet.
    pub(crate) fn following(&self, applied: u64) -> Option<Controlled> {
        let index = self.image.index.get();
        if applied >= index {
            return None;
        }
        if applied == 0 || applied < self.floor {
            return Some(Controlled::Image {
                index,
                records: self.image.to_records().collect(),
            });
        }
        let later = self.recent.iter().filter(|(at, _)| *at > applied);
        Some(Controlled::Entries {
            from: applied,
            entries: later.take(AT_ONCE_MAX).cloned().collect(),
        })
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, index: u64, data: &[u8]) {
        if self.stuck.is_some() {
            return;
        }
        let applied = v1::MetadataBatch::decode(data)
            .map_err(|error| error.to_string())
            .and_then(|batch| match self.image.apply(MetadataOffset(index), &batch) {
                Ok(_) => Ok(batch),
                Err(error) => Err(error.to_string()),
            });
        match applied {
            Ok(batch) => {
                self.recent.push_back((index, batch));
                while self.recent.len() > RECENT_MAX {
                    self.floor = self.recent.pop_front().map_or(self.floor, |(at, _)| at);
                }
            }
            Err(why) => self.stuck = Some(format!("entry {index}: {why}")),
        }
    }

    fn snapshot(&self) -> Vec<Bytes> {
        let records: Vec<_> = self.image.to_records().collect();
        let chunk = |records: &[v1::MetadataRecord]| {
            let chunk = v1::SnapshotChunk {
                records: records.to_vec(),
            };
            Bytes::from(chunk.encode_to_vec())
        };
        records.chunks(CHUNK_RECORDS).map(chunk).collect()
    }

    fn restore(&mut self, index: u64, chunks: Vec<Bytes>) -> Result<(), RestoreError> {
        let refuse = |error: &dyn std::fmt::Display| RestoreError(error.to_string());
        let mut records = Vec::new();
        for chunk in chunks {
            records.extend(v1::SnapshotChunk::decode(chunk).map_err(|e| refuse(&e))?.records);
        }
        self.image = Image::from_records(MetadataOffset(index), records).map_err(|e| refuse(&e))?;
        self.recent.clear();
        self.floor = index;
        Ok(())
    }
}
