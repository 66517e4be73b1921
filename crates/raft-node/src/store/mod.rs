//! Durable raft state behind one trait: RocksDB in production, memory with a crash model in tests and the simulator.

mod failing;
mod header;
mod keys;
mod log_index;
mod memory;
mod options;
mod recover;
mod rocks;
mod transaction;
mod wal_tail;

use std::sync::Arc;

use bytes::Bytes;
use raft::Storage;
use raft::eraftpb::Entry;
use thiserror::Error;

pub use failing::{FailAt, Failing};
pub use header::Header;
pub use memory::{MemoryDisk, MemoryStore};
pub use rocks::RocksStore;
pub use transaction::Transaction;

use crate::snapshot::{SnapshotMeta, SnapshotSource};

/// A failed or damaged store. None of them is survived: the node stops, and a restart recovers from what is durable.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("rocksdb: {0}")]
    Rocks(#[from] rocksdb::Error),
    #[error("another process holds the database: {0}")]
    Locked(rocksdb::Error),
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    #[error("entries from {first} do not continue a log that spans {log_first}..={log_last}")]
    Hole {
        first: u64,
        log_first: u64,
        log_last: u64,
    },
    #[error("snapshot {0} is not stored (any more)")]
    NoSnapshot(u64),
    #[error("a snapshot chunk of {0} bytes is over the limit")]
    ChunkTooLarge(usize),
    #[error("codec: {0}")]
    Codec(#[from] protobuf::ProtobufError),
    #[error("injected failure")]
    Injected,
}

impl From<StoreError> for raft::Error {
    fn from(error: StoreError) -> Self {
        raft::Error::Store(raft::StorageError::Other(Box::new(error)))
    }
}

/// A snapshot chunk travels as one message, so it is bounded.
pub(crate) const SNAPSHOT_CHUNK_BYTES_MAX: usize = 16 << 20;

/// What the driver needs beside raft-rs's reads. Each [`Store::commit`] is atomic: after a crash all of it or nothing
/// is there, commits come back in order, and a synced one brings everything before it.
pub trait Store: Storage + Send + 'static {
    fn header(&self) -> &Header;

    /// Writes a snapshot's chunks under `index` without making it the current one. Not synced.
    fn stage_snapshot(&mut self, index: u64, term: u64, chunks: &[Bytes])
    -> Result<SnapshotMeta, StoreError>;

    fn commit(&mut self, transaction: Transaction) -> Result<(), StoreError>;

    /// The current snapshot's reader.
    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource>>;
}

/// The checks every store makes before it appends: no hole, nothing compacted overwritten, one unbroken chain.
fn check_chain(entries: &[Entry], log_first: u64, log_last: u64) -> Result<(), StoreError> {
    let Some(first) = entries.first() else {
        return Ok(());
    };
    let hole = StoreError::Hole {
        first: first.index,
        log_first,
        log_last,
    };
    if first.index < log_first || first.index > log_last.saturating_add(1) {
        return Err(hole);
    }
    for pair in entries.windows(2) {
        if let [a, b] = pair
            && (b.index != a.index + 1 || b.term < a.term)
        {
            return Err(hole);
        }
    }
    Ok(())
}

/// Stops before the entry that would take the sum over `bytes_max`; the first one always fits.
struct SizeLimit {
    left: Option<u64>,
    any: bool,
}

impl SizeLimit {
    fn new(bytes_max: Option<u64>) -> Self {
        SizeLimit {
            left: bytes_max,
            any: false,
        }
    }

    fn admits(&mut self, entry: &Entry) -> bool {
        let size = u64::from(protobuf::Message::compute_size(entry));
        let Some(left) = self.left.as_mut() else {
            return true;
        };
        if size > *left && self.any {
            return false;
        }
        *left = left.saturating_sub(size);
        self.any = true;
        true
    }
}
