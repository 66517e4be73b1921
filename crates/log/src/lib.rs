//! Partition logs on disk: Kafka's segments, one writer and one group-commit flusher per directory, crash recovery.
//!
//! [`LogDir`] owns a data directory, [`Log`] is one partition in it. *Written* (in the page cache) and *flushed* (on the
//! disk) are different things everywhere: a [`LogListener`] hears of both. `OVERVIEW.md` beside this crate's manifest has
//! the whole picture.

mod aborted;
mod config;
mod dir;
mod epoch_cache;
mod error;
mod index;
mod listener;
mod log;
mod producers;
mod sealed_text;
mod segment;
mod storage;
mod tail;
mod walk;

pub use config::{
    AppendInfo, FollowerAppend, LeaderAppend, LogConfig, LogDirConfig, ReadChunk, SyncMode, TailChunk,
};
pub use dir::LogDir;
pub use error::{AppendError, LogError, ReadError};
pub use listener::LogListener;
pub use log::Log;
pub use producers::{AbortedTransaction, ProducerError, ProducerState};
pub use storage::{DirEntry, DiskStorage, FaultStorage, Storage, StorageFile, StorageLock};
