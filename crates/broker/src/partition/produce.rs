//! Produce: the check outside the lock, admission and append under it, the acknowledgement when it is due.

use bytes::Bytes;
use strom_config::{Compression as ConfigCompression, TimestampType, TopicConfig};
use strom_log::{AppendInfo, LeaderAppend};
use strom_records::{
    BatchHeader, Codec, Compression, CompressionError, InvalidBatch, MAX_DECOMPRESSED_BYTES, ProducePolicy,
    RecordError, validate_produce,
};
use strom_replication::{AckWait, Acks, AcksState, Event};
use strom_types::{ErrorCode, LeaderEpoch, Offset, WallMs, is_internal_topic};

use super::{Ack, Partition};

/// A batch of at most this size is checked in a millisecond or two, if it is not compressed.
const SHORT_BATCH_BYTES: usize = 2 << 20;
/// A compressed batch is, if it is no larger than this, nor what comes out of it.
const SHORT_COMPRESSED_BYTES: usize = 64 << 10;

/// What a produce request says of all its partitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProduceTerms {
    pub acks: Acks,
    pub zstd_allowed: bool,
}

/// A batch of a client that may be appended.
pub(crate) struct CheckedBatch {
    records: Bytes,
    terms: Appending,
}

impl Partition {
    /// Checks a batch of a client, as [`check_produced`](Self::check_produced), unless that would take long.
    pub(crate) fn check_if_short(
        &self,
        records: &Bytes,
        terms: ProduceTerms,
    ) -> Option<Result<CheckedBatch, ProduceError>> {
        let config = self.config();
        let compressed = BatchHeader::parse(records).is_ok_and(|header| header.codec() != Ok(Codec::None));
        let short_bytes = if compressed {
            SHORT_COMPRESSED_BYTES
        } else {
            SHORT_BATCH_BYTES
        };
        if records.len() > short_bytes || config.compression != ConfigCompression::Producer {
            return None;
        }
        match self.check_capped(records, terms, &config, SHORT_COMPRESSED_BYTES) {
            Err(ProduceError::Invalid(InvalidBatch::Records(RecordError::Compression(
                CompressionError::TooLarge { .. },
            )))) => None,
            checked => Some(checked),
        }
    }

    /// Checks a batch of a client, and re-compresses it if the topic wants that: up to a second's work.
    pub(crate) fn check_produced(
        &self,
        records: &Bytes,
        terms: ProduceTerms,
    ) -> Result<CheckedBatch, ProduceError> {
        let config = self.config();
        let cap = MAX_DECOMPRESSED_BYTES.max(size(config.max_message_bytes));
        self.check_capped(records, terms, &config, cap)
    }

    fn check_capped(
        &self,
        records: &Bytes,
        terms: ProduceTerms,
        config: &TopicConfig,
        decompressed_bytes_max: usize,
    ) -> Result<CheckedBatch, ProduceError> {
        if is_internal_topic(&self.topic) {
            // Coordinators write these; what a client wrote would be taken for theirs.
            return Err(ErrorCode::InvalidTopicException.into());
        }
        let now = self.shared.clock().wall();
        let policy = ProducePolicy {
            decompressed_bytes_max,
            ..policy(config, terms, now)
        };
        let batch = validate_produce(records, &policy)?;
        let log_append_time = config.timestamp_type == TimestampType::LogAppendTime;
        // The log stamps the append time itself, beside the offset, without touching the records.
        let records = match config.compression {
            ConfigCompression::Producer if log_append_time => records.clone(),
            _ => batch.into_bytes(),
        };
        let terms = Appending {
            acks: terms.acks,
            leader_epoch: None,
            now,
            log_append_time,
        };
        Ok(CheckedBatch { records, terms })
    }

    /// Appends a checked batch; `ack` is completed when its terms are met. `Err` = refused before anything was written,
    /// with `ack` untouched.
    pub(crate) fn append_produced(&self, batch: CheckedBatch, ack: Ack) -> Result<(), ProduceError> {
        self.append(batch.records, batch.terms, ack)?;
        Ok(())
    }

    /// Appends a batch that a coordinator of this broker has built, with acks=all, as long as this leads under
    /// `leader_epoch`. An error is definite.
    pub(crate) fn append_own(
        &self,
        batch: Bytes,
        leader_epoch: LeaderEpoch,
        ack: Ack,
    ) -> Result<AppendInfo, ErrorCode> {
        let terms = Appending {
            acks: Acks::All,
            leader_epoch: Some(leader_epoch),
            now: self.shared.clock().wall(),
            log_append_time: self.config().timestamp_type == TimestampType::LogAppendTime,
        };
        self.append(batch, terms, ack)
    }

    /// What has become of an append of [`Partition::append_own`] up to `last_offset`.
    pub(crate) fn own_append_state(&self, leader_epoch: LeaderEpoch, last_offset: Offset) -> AcksState {
        let wait = AckWait {
            acks: Acks::All,
            leader_epoch,
            last_offset,
        };
        self.inner.lock().replica.acks_state(self.moment(), &wait)
    }

    fn append(&self, records: Bytes, terms: Appending, ack: Ack) -> Result<AppendInfo, ErrorCode> {
        let mut inner = self.inner.lock();
        let leader_epoch = inner
            .replica
            .admit_produce(self.moment(), terms.acks, terms.leader_epoch)?;
        let by = LeaderAppend {
            leader_epoch,
            now: terms.now,
            log_append_time: terms.log_append_time,
        };
        let info = match self.log.append_as_leader(records, by) {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(topic = %self.topic, partition = self.key.partition, %error, "append refused");
                drop(inner);
                self.notice_damage();
                return Err(error.code());
            }
        };
        let wait = AckWait {
            acks: terms.acks,
            leader_epoch,
            last_offset: info.last_offset,
        };
        inner.acks.push(wait, info, ack);
        self.step_locked(&mut inner, Event::LogAdvanced);
        if info.duplicate || terms.acks != Acks::All {
            // What it waits for may have happened already.
            self.settle(&mut inner);
        }
        drop(inner);
        self.shared
            .metrics()
            .appended(records_len(info.base_offset, info.last_offset));
        Ok(info)
    }
}

/// Under what a batch is appended.
#[derive(Clone, Copy)]
struct Appending {
    acks: Acks,
    /// `None` = whatever this leads under.
    leader_epoch: Option<LeaderEpoch>,
    now: WallMs,
    log_append_time: bool,
}

/// A refusal before anything was written: definite.
#[derive(Debug)]
pub(crate) enum ProduceError {
    Invalid(InvalidBatch),
    Refused(ErrorCode),
}

impl ProduceError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            ProduceError::Invalid(error) => error.code(),
            ProduceError::Refused(code) => *code,
        }
    }
}

impl From<InvalidBatch> for ProduceError {
    fn from(error: InvalidBatch) -> Self {
        ProduceError::Invalid(error)
    }
}

impl From<ErrorCode> for ProduceError {
    fn from(code: ErrorCode) -> Self {
        ProduceError::Refused(code)
    }
}

fn records_len(base: i64, last: i64) -> u64 {
    u64::try_from(last - base + 1).unwrap_or(0)
}

fn size(bytes: i64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn policy(config: &TopicConfig, terms: ProduceTerms, now: WallMs) -> ProducePolicy {
    ProducePolicy {
        max_message_bytes: size(config.max_message_bytes),
        segment_bytes: size(config.segment_bytes),
        timestamp_type: match config.timestamp_type {
            TimestampType::CreateTime => strom_records::TimestampType::CreateTime,
            TimestampType::LogAppendTime => strom_records::TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: config.timestamp_before_max_ms,
        timestamp_after_max_ms: config.timestamp_after_max_ms,
        recompress: recompress(config.compression),
        compacted: config.cleanup_policy.compact,
        zstd_allowed: terms.zstd_allowed,
        transactional_allowed: false,
        ..ProducePolicy::defaults(now)
    }
}

fn recompress(compression: ConfigCompression) -> Option<Compression> {
    let with = |codec, level: i32| {
        Some(Compression {
            codec,
            level: (level != -1).then_some(level),
        })
    };
    match compression {
        ConfigCompression::Producer => None,
        ConfigCompression::Uncompressed => Some(Compression::NONE),
        ConfigCompression::Gzip { level } => with(Codec::Gzip, level),
        ConfigCompression::Snappy => with(Codec::Snappy, -1),
        ConfigCompression::Lz4 { level } => with(Codec::Lz4, level),
        ConfigCompression::Zstd { level } => with(Codec::Zstd, level),
    }
}
