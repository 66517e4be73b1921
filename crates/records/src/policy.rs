//! What a topic, a request and the clock demand of a produced batch.

use strom_types::WallMs;

use crate::attributes::TimestampType;
use crate::compression::{Codec, Compression};
use crate::record::MAX_DECOMPRESSED_BYTES;

/// The rules for one append; topic configs unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducePolicy {
    /// The leader's clock: for the timestamp window, and the append time itself under LogAppendTime.
    pub now: WallMs,
    /// `max.message.bytes`: of the batch as it came, and again as it is stored.
    pub max_message_bytes: usize,
    /// `segment.bytes`.
    pub segment_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`; `i64::MAX` = any age.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `compression.type` and its level; `None` = `producer`, keep what came.
    pub recompress: Option<Compression>,
    /// Whether `cleanup.policy` holds `compact`: every record then needs a key.
    pub compacted: bool,
    /// Whether the produce request is of version 7 or later (KIP-110).
    pub zstd_allowed: bool,
    /// Whether the request names a transactional id.
    pub transactional_allowed: bool,
    /// Cap on what the batch may decompress to.
    pub decompressed_bytes_max: usize,
}

impl ProducePolicy {
    /// Kafka 4.3's defaults, for a current producer that may use transactions.
    pub const fn defaults(now: WallMs) -> Self {
        ProducePolicy {
            now,
            max_message_bytes: 1_048_588,
            segment_bytes: 1 << 30,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            recompress: None,
            compacted: false,
            zstd_allowed: true,
            transactional_allowed: true,
            decompressed_bytes_max: MAX_DECOMPRESSED_BYTES,
        }
    }

    /// What the batch must be stored with, if it came with something else.
    pub(crate) fn target_for(&self, codec: Codec) -> Option<Compression> {
        self.recompress.filter(|target| target.codec != codec)
    }

    /// Whether `timestamp` is acceptable: -1 (none), or inside the window round `now`.
    pub(crate) fn accepts(&self, timestamp: i64) -> bool {
        if timestamp < 0 {
            return timestamp == crate::header::NO_TIMESTAMP;
        }
        let age = self.now.0.saturating_sub(timestamp);
        age <= self.timestamp_before_max_ms && age.saturating_neg() <= self.timestamp_after_max_ms
    }

    /// The earliest and latest timestamp accepted, for messages.
    pub(crate) fn window(&self) -> (i64, i64) {
        (
            self.now.0.saturating_sub(self.timestamp_before_max_ms).max(0),
            self.now.0.saturating_add(self.timestamp_after_max_ms),
        )
    }
}
