//! The quorum's state machine: the metadata image on the raft thread, and what the rest of the process sees of it.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use strom_metadata::Image;
use strom_proto::v1;
use strom_raft_node::{RestoreError, StateMachine};
use strom_types::MetadataOffset;
use tokio::sync::watch;

/// Encoded records in one chunk of a snapshot.
const CHUNK_BYTES: usize = 512 * 1024;
/// Recent entries kept for watchers; one that is further behind gets a snapshot.
const RECENT_ENTRIES_MAX: usize = 4096;
const RECENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The newest image and the recent entries; cheap to clone.
#[derive(Clone)]
pub(crate) struct MetadataLog {
    shared: Arc<Shared>,
}

struct Shared {
    published: Mutex<Published>,
    index: watch::Sender<MetadataOffset>,
    failure: watch::Sender<Option<String>>,
}

struct Published {
    image: Image,
    /// Everything above this index is in `recent`.
    floor: MetadataOffset,
    recent: VecDeque<Recent>,
    recent_bytes: usize,
}

struct Recent {
    index: MetadataOffset,
    batch: Arc<v1::MetadataBatch>,
    bytes: usize,
}

/// What follows an index.
pub(crate) enum Following {
    Nothing,
    Entries(Vec<(MetadataOffset, Arc<v1::MetadataBatch>)>),
    /// The entries are no longer there: start again from this.
    Snapshot(Image),
}

impl MetadataLog {
    pub(crate) fn image(&self) -> Image {
        self.shared.published.lock().image.clone()
    }

    /// Changes with every applied entry.
    pub(crate) fn changes(&self) -> watch::Receiver<MetadataOffset> {
        self.shared.index.subscribe()
    }

    /// Resolves when an entry could not be applied, with the reason.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.shared.failure.subscribe();
        let reason = failure
            .wait_for(Option::is_some)
            .await
            .map(|reason| reason.clone());
        match reason {
            Ok(reason) => reason.unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// At most `max` entries after `position`; 0 asks for a snapshot.
    pub(crate) fn following(&self, position: MetadataOffset, max: usize) -> Following {
        let published = self.shared.published.lock();
        if position >= published.image.index {
            return Following::Nothing;
        }
        if position.get() == 0 || position < published.floor {
            return Following::Snapshot(published.image.clone());
        }
        let from = published.recent.partition_point(|entry| entry.index <= position);
        let entries = published.recent.iter().skip(from).take(max);
        Following::Entries(
            entries
                .map(|entry| (entry.index, Arc::clone(&entry.batch)))
                .collect(),
        )
    }

    fn publish(&self, image: Image, batch: v1::MetadataBatch, bytes: usize) {
        let index = image.index;
        let mut published = self.shared.published.lock();
        published.image = image;
        published.recent_bytes += bytes;
        published.recent.push_back(Recent {
            index,
            batch: Arc::new(batch),
            bytes,
        });
        while published.recent.len() > RECENT_ENTRIES_MAX || published.recent_bytes > RECENT_BYTES_MAX {
            let Some(oldest) = published.recent.pop_front() else {
                break;
            };
            published.recent_bytes = published.recent_bytes.saturating_sub(oldest.bytes);
            published.floor = oldest.index;
        }
        drop(published);
        self.shared.index.send_replace(index);
    }

    fn reset(&self, image: Image) {
        let index = image.index;
        *self.shared.published.lock() = Published::at(image);
        self.shared.index.send_replace(index);
    }
}

impl Published {
    fn at(image: Image) -> Self {
        Published {
            floor: image.index,
            image,
            recent: VecDeque::new(),
            recent_bytes: 0,
        }
    }
}

/// Lives on the raft thread.
pub(crate) struct MetadataMachine {
    image: Image,
    log: MetadataLog,
    /// An entry could not be applied: nothing after it may be.
    stuck: bool,
}

impl MetadataMachine {
    pub(crate) fn new() -> (Self, MetadataLog) {
        let log = MetadataLog {
            shared: Arc::new(Shared {
                published: Mutex::new(Published::at(Image::empty())),
                index: watch::channel(MetadataOffset(0)).0,
                failure: watch::channel(None).0,
            }),
        };
        let machine = MetadataMachine {
            image: Image::empty(),
            log: log.clone(),
            stuck: false,
        };
        (machine, log)
    }

    fn fail(&mut self, index: u64, reason: &str) {
        self.stuck = true;
        let reason = format!("entry {index}: {reason}");
        self.log.shared.failure.send_replace(Some(reason));
    }
}

impl StateMachine for MetadataMachine {
    /// Batches were applied to a draft by the leader before it proposed them, so an entry that does not fit comes
    /// from damage or from a newer version; the controller then stops.
    fn apply(&mut self, index: u64, data: &[u8]) {
        if self.stuck {
            return;
        }
        let batch = match v1::MetadataBatch::decode(data) {
            Ok(batch) => batch,
            Err(error) => return self.fail(index, &error.to_string()),
        };
        match self.image.apply(MetadataOffset(index), &batch) {
            Ok(_delta) => self.log.publish(self.image.clone(), batch, data.len()),
            Err(error) => self.fail(index, &error.to_string()),
        }
    }

    fn snapshot(&self) -> Vec<Bytes> {
        chunks(&self.image)
            .map(|chunk| Bytes::from(chunk.encode_to_vec()))
            .collect()
    }

    fn restore(&mut self, index: u64, data: Vec<Bytes>) -> Result<(), RestoreError> {
        let mut records = Vec::new();
        for bytes in data {
            let chunk = v1::SnapshotChunk::decode(bytes).map_err(|error| RestoreError(error.to_string()))?;
            records.extend(chunk.records);
        }
        self.image = Image::from_records(MetadataOffset(index), records)
            .map_err(|error| RestoreError(error.to_string()))?;
        self.log.reset(self.image.clone());
        Ok(())
    }
}

/// The image in chunks of bounded size, made as they are drawn.
pub(crate) fn chunks(image: &Image) -> impl Iterator<Item = v1::SnapshotChunk> + '_ {
    let mut records = image.to_records().peekable();
    std::iter::from_fn(move || {
        records.peek()?;
        let mut chunk = v1::SnapshotChunk::default();
        let mut bytes = 0;
        while bytes < CHUNK_BYTES {
            let Some(record) = records.next() else { break };
            bytes += record.encoded_len();
            chunk.records.push(record);
        }
        Some(chunk)
    })
}
