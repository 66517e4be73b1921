//! A topic's effective configuration as one typed value: what the log and the broker read.

use crate::effective::Effective;
use crate::layers::{BrokerLayers, ConfigMap};

/// `cleanup.policy`; both may be set, or neither (everything is kept).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    pub compact: bool,
    pub delete: bool,
}

/// `compression.type` with the level of that codec.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Keep what the client sent.
    Producer,
    Uncompressed,
    /// Level 1 to 9, or -1 for the codec's default.
    Gzip {
        level: i32,
    },
    Snappy,
    Lz4 {
        level: i32,
    },
    Zstd {
        level: i32,
    },
}

/// `message.timestamp.type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// `strom.durability`: what "acknowledged" means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Flushed on `min.insync.replicas` members.
    Durable,
    /// Written on them, as in Kafka.
    PageCache,
}

/// Times are milliseconds, sizes bytes. `None` is "no limit" (Kafka's -1 or 2^63-1, as the key has it).
#[derive(Clone, PartialEq, Debug)]
pub struct TopicConfig {
    pub cleanup_policy: CleanupPolicy,
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<i64>,
    pub local_retention_ms: Option<i64>,
    pub local_retention_bytes: Option<i64>,
    pub delete_retention_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
    pub segment_bytes: i64,
    pub segment_ms: i64,
    pub segment_jitter_ms: i64,
    pub segment_index_bytes: i64,
    pub index_interval_bytes: i64,
    pub file_delete_delay_ms: i64,
    pub preallocate: bool,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub max_message_bytes: i64,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub compression: Compression,
    pub min_insync_replicas: i32,
    pub unclean_leader_election: bool,
    pub remote_storage: bool,
    pub durability: Durability,
}

impl TopicConfig {
    /// `own` are the topic's overrides.
    pub fn resolve(own: &ConfigMap, layers: BrokerLayers<'_>) -> Self {
        let from = Effective::topic(own, layers);
        let retention_ms = limit(from.int("retention.ms"));
        let retention_bytes = limit(from.int("retention.bytes"));
        TopicConfig {
            cleanup_policy: cleanup_policy(&from),
            retention_ms,
            retention_bytes,
            local_retention_ms: local_limit(from.int("local.retention.ms"), retention_ms),
            local_retention_bytes: local_limit(from.int("local.retention.bytes"), retention_bytes),
            delete_retention_ms: from.int("delete.retention.ms"),
            min_compaction_lag_ms: from.int("min.compaction.lag.ms"),
            max_compaction_lag_ms: from.int("max.compaction.lag.ms"),
            min_cleanable_dirty_ratio: from.double("min.cleanable.dirty.ratio"),
            segment_bytes: from.int("segment.bytes"),
            segment_ms: from.int("segment.ms"),
            segment_jitter_ms: from.int("segment.jitter.ms"),
            segment_index_bytes: from.int("segment.index.bytes"),
            index_interval_bytes: from.int("index.interval.bytes"),
            file_delete_delay_ms: from.int("file.delete.delay.ms"),
            preallocate: from.bool("preallocate"),
            flush_messages: from.int("flush.messages"),
            flush_ms: from.int("flush.ms"),
            max_message_bytes: from.int("max.message.bytes"),
            timestamp_type: timestamp_type(&from),
            timestamp_before_max_ms: from.int("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: from.int("message.timestamp.after.max.ms"),
            compression: compression(&from),
            min_insync_replicas: int32(&from, "min.insync.replicas"),
            unclean_leader_election: from.bool("unclean.leader.election.enable"),
            remote_storage: from.bool("remote.storage.enable"),
            durability: durability(&from),
        }
    }
}

impl Default for TopicConfig {
    /// Kafka's defaults, durable.
    fn default() -> Self {
        TopicConfig::resolve(&ConfigMap::new(), BrokerLayers::default())
    }
}

fn limit(value: i64) -> Option<i64> {
    (value >= 0).then_some(value)
}

/// -2 is "as the whole log".
fn local_limit(value: i64, whole: Option<i64>) -> Option<i64> {
    match value {
        -2 => whole,
        other => limit(other),
    }
}

fn int32(from: &Effective<'_>, name: &'static str) -> i32 {
    // The registry holds INT values within 32 bits.
    i32::try_from(from.int(name)).unwrap_or(i32::MAX)
}

fn cleanup_policy(from: &Effective<'_>) -> CleanupPolicy {
    let policies = from.list("cleanup.policy");
    let has = |name: &str| policies.iter().any(|policy| policy.eq_ignore_ascii_case(name));
    CleanupPolicy {
        compact: has("compact"),
        delete: has("delete"),
    }
}

fn timestamp_type(from: &Effective<'_>) -> TimestampType {
    match from.text("message.timestamp.type").as_deref() {
        Some("LogAppendTime") => TimestampType::LogAppendTime,
        _ => TimestampType::CreateTime,
    }
}

fn compression(from: &Effective<'_>) -> Compression {
    match from.text("compression.type").as_deref() {
        Some("uncompressed") => Compression::Uncompressed,
        Some("gzip") => Compression::Gzip {
            level: int32(from, "compression.gzip.level"),
        },
        Some("snappy") => Compression::Snappy,
        Some("lz4") => Compression::Lz4 {
            level: int32(from, "compression.lz4.level"),
        },
        Some("zstd") => Compression::Zstd {
            level: int32(from, "compression.zstd.level"),
        },
        _ => Compression::Producer,
    }
}

fn durability(from: &Effective<'_>) -> Durability {
    match from.text("strom.durability").as_deref() {
        Some("page_cache") => Durability::PageCache,
        _ => Durability::Durable,
    }
}
