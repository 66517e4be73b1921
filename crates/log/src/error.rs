//! What can go wrong: opening and changing logs, appending, reading; and the service code of each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strom_types::{ErrorCode, LeaderEpoch, Offset, TopicIdPartition};
use thiserror::Error;

/// A failure of the directory or of one log. Cheap to clone, since many waiters may get the same one.
#[derive(Clone, Debug, Error)]
pub enum LogError {
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: Arc<io::Error>,
    },
    #[error("{} is in use by another process", path.display())]
    Locked { path: PathBuf },
    #[error("{}: {key} is {found}, but this process was told {expected}; is it another node's directory?", path.display())]
    MetaMismatch {
        path: PathBuf,
        key: &'static str,
        found: String,
        expected: String,
    },
    #[error("{}: {what}", path.display())]
    Malformed { path: PathBuf, what: String },
    /// Bytes that were fsynced before are gone or wrong. The files are left as they are.
    #[error("{partition}: damaged at offset {offset}: {what}")]
    Corrupt {
        partition: TopicIdPartition,
        offset: Offset,
        what: String,
    },
    #[error("log directory {} failed: {reason}", path.display())]
    DirFailed { path: PathBuf, reason: String },
    #[error("{0} is deleted")]
    Deleted(TopicIdPartition),
    #[error("{partition}: offset {offset} lies outside {log_start}..={log_end}")]
    OutOfRange {
        partition: TopicIdPartition,
        offset: Offset,
        log_start: Offset,
        log_end: Offset,
    },
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        LogError::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    /// Whether the disk (or the quota) is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, LogError::Io { source, .. } if is_disk_full(source))
    }

    pub fn code(&self) -> ErrorCode {
        match self {
            LogError::Deleted(_) => ErrorCode::UnknownTopicOrPartition,
            LogError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            _ => ErrorCode::KafkaStorageError,
        }
    }
}

pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Why an append was refused. Every variant is *definite*: nothing was appended.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the disk is full up to its reserve")]
    DiskFull,
    #[error("too many bytes are waiting to be written")]
    Overloaded,
    #[error("not one whole valid batch: {0}")]
    Invalid(String),
    #[error("batch of {len} bytes is larger than a segment of {max}")]
    BatchTooLarge { len: usize, max: usize },
    #[error("leader epoch {epoch} is older than the log's {latest}")]
    FencedEpoch { epoch: LeaderEpoch, latest: LeaderEpoch },
    #[error("batch of leader epoch {epoch} from the leader of epoch {leader}")]
    FutureEpoch { epoch: LeaderEpoch, leader: LeaderEpoch },
    #[error("batch at offset {found} where {expected} is next")]
    UnexpectedOffset { expected: Offset, found: Offset },
    #[error(transparent)]
    Producer(#[from] crate::producers::ProducerError),
}

impl AppendError {
    pub fn code(&self) -> ErrorCode {
        match self {
            AppendError::Log(error) => error.code(),
            AppendError::DiskFull => ErrorCode::KafkaStorageError,
            AppendError::Overloaded => ErrorCode::Overloaded,
            AppendError::Invalid(_) => ErrorCode::CorruptMessage,
            AppendError::BatchTooLarge { .. } => ErrorCode::RecordListTooLarge,
            AppendError::FencedEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            AppendError::FutureEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            AppendError::UnexpectedOffset { .. } => ErrorCode::OffsetOutOfRange,
            AppendError::Producer(error) => error.code(),
        }
    }
}

impl AppendError {
    /// Whether the disk (or the quota) is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, AppendError::DiskFull)
            || matches!(self, AppendError::Log(error) if error.is_disk_full())
    }
}

#[derive(Clone, Debug, Error)]
pub enum ReadError {
    #[error("offset {offset} lies outside {log_start}..={log_end}")]
    OffsetOutOfRange {
        offset: Offset,
        log_start: Offset,
        log_end: Offset,
    },
    #[error(transparent)]
    Log(#[from] LogError),
}

impl ReadError {
    pub fn code(&self) -> ErrorCode {
        match self {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            ReadError::Log(error) => error.code(),
        }
    }
}
