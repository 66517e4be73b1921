//! What the log is replayed into: an in-memory state machine that can be dumped and restored.

use bytes::Bytes;
use thiserror::Error;

/// A snapshot that the state machine cannot be rebuilt from: damage, or a newer format.
#[derive(Debug, Error)]
#[error("the snapshot cannot be restored: {0}")]
pub struct RestoreError(pub String);

/// Lives in memory on the raft thread; the durable truth is the latest snapshot and the log above it.
///
/// Every member applies the same entries in the same order, so `apply` must be deterministic: no clock, no
/// randomness, no dependence on the node.
pub trait StateMachine: Send + 'static {
    /// Applies one committed entry, exactly once and in index order since the last restore. Entries that raft itself
    /// adds (the empty one of a new leader) are not shown.
    fn apply(&mut self, index: u64, data: &[u8]);

    /// The whole state as chunks, at best of 64 KiB to 1 MiB. Runs on the raft thread, so it should be quick.
    fn snapshot(&self) -> Vec<Bytes>;

    /// Replaces the whole state by the snapshot taken after `index` was applied.
    fn restore(&mut self, index: u64, chunks: Vec<Bytes>) -> Result<(), RestoreError>;
}
