//! Settings of a log directory and of one log, and what an append or a read asks for and gives back.

use bytes::Bytes;
use strom_types::{LeaderEpoch, Offset, WallMs};

/// How a flush round makes many files durable; docs/durability.md has the figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncMode {
    /// Whichever of the two is cheaper just now.
    #[default]
    Auto,
    /// `fdatasync` of each file.
    EachFile,
    /// One `syncfs`.
    FileSystem,
}

/// Settings of a data directory. `Default` suits a broker; `node_id` must be set.
#[derive(Clone, Debug)]
pub struct LogDirConfig {
    /// `None` while the cluster is not known yet: then see [`crate::LogDir::registered`].
    pub cluster_id: Option<String>,
    pub node_id: i32,
    /// Appends are refused when fewer bytes than this are left on the file system.
    pub disk_reserve_bytes: u64,
    /// Appended bytes that may wait for the writer, over all logs.
    pub queue_bytes_max: usize,
    /// Recently written bytes kept in memory for readers, over all logs.
    pub tail_cache_bytes_max: usize,
    /// Age after which idle bytes leave the tail cache.
    pub tail_cache_ms_max: u64,
    /// Segment files held open, over all logs.
    pub open_files_max: usize,
    /// Time between two recovery checkpoints, six times as long where little is appended.
    pub checkpoint_interval_ms: u64,
    pub sync_mode: SyncMode,
    /// Disk space for the write-ahead log of small appends; 0 = none: every flush syncs the segments.
    pub wal_bytes_max: u64,
    pub wal_file_bytes: u64,
    /// Off, nothing happens by itself: tests call `LogDir::{write_round, flush_round, housekeep}`.
    pub threads: bool,
}

impl Default for LogDirConfig {
    fn default() -> Self {
        LogDirConfig {
            cluster_id: None,
            node_id: 0,
            disk_reserve_bytes: 256 << 20,
            queue_bytes_max: 128 << 20,
            tail_cache_bytes_max: 32 << 20,
            tail_cache_ms_max: 2_000,
            open_files_max: 4_096,
            checkpoint_interval_ms: 10_000,
            sync_mode: SyncMode::Auto,
            wal_bytes_max: 64 << 20,
            wal_file_bytes: 16 << 20,
            threads: true,
        }
    }
}

/// Settings of one log, under Kafka's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    pub segment_bytes: u32,
    pub segment_ms: i64,
    pub index_interval_bytes: u32,
    pub segment_index_bytes: u32,
    pub producer_id_expiration_ms: i64,
    /// Whether appends are fsynced as they come (group commit), or left to the page cache until the segment rolls.
    pub durable: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            index_interval_bytes: 4_096,
            segment_index_bytes: 10 << 20,
            producer_id_expiration_ms: 24 * 3_600_000,
            durable: true,
        }
    }
}

/// Under what the leader appends.
#[derive(Clone, Copy, Debug)]
pub struct LeaderAppend {
    pub leader_epoch: LeaderEpoch,
    pub now: WallMs,
    /// `message.timestamp.type = LogAppendTime`: `now` replaces the batch's timestamps.
    pub log_append_time: bool,
}

/// Under what a follower appends.
#[derive(Clone, Copy, Debug)]
pub struct FollowerAppend {
    /// The epoch of the leader the batches come from.
    pub leader_epoch: LeaderEpoch,
    pub now: WallMs,
}

/// Where an append went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppendInfo {
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// The batch was appended before: the offsets are those of the first time, and nothing was written now.
    pub duplicate: bool,
    /// In `LogAppendTime` mode only.
    pub log_append_time: Option<WallMs>,
    pub log_start: Offset,
}

/// Whole batches, contiguous in memory and in offsets, the first of which contains the offset asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadChunk {
    pub records: Bytes,
    /// Offset of the first batch, or the offset asked for when there are no records.
    pub base_offset: Offset,
    /// The offset to read from next.
    pub next_offset: Offset,
    /// The log's ends as they were before the read.
    pub log_start: Offset,
    pub log_end: Offset,
}

/// The same in pieces, without a copy: see [`crate::Log::read_tail`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TailChunk {
    pub pieces: Vec<Bytes>,
    pub size_bytes: usize,
    pub base_offset: Offset,
    pub next_offset: Offset,
    pub log_start: Offset,
    pub log_end: Offset,
}
