//! Takes a leader's message in: checks its records and hands each partition its part.

use bytes::Bytes;
use strom_proto::convert::error_code;
use strom_proto::splice::{Payload, Spliced};
use strom_proto::v1::{LeaderHead, LeaderPartition};
use strom_runtime::continued_span;
use strom_types::{BrokerId, ErrorCode, TopicIdPartition};

use super::super::Parts;
use super::super::wire::{self, Malformed};

/// Larger messages are taken in away from the async workers.
const INLINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Records up to this size are copied: cheaper than holding on to the whole message they came in.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// What one partition's part came to.
pub(super) struct Outcome {
    pub key: TopicIdPartition,
    /// It was of use: the partition is not in trouble.
    pub taken: bool,
    /// Records between the log's end and the leader's high watermark.
    pub lag: i64,
}

/// Whether a message truncates a log, moves its start, or is a long piece of work.
pub(super) fn may_block(parts: &Parts, message: &Spliced<LeaderHead>) -> bool {
    let moves_start = |part: &LeaderPartition| {
        let key = wire::key(&part.topic_id, part.partition).ok();
        let partition = key.and_then(|key| parts.partitions.get(key));
        partition.is_some_and(|partition| partition.log().log_start_offset() < part.log_start_offset)
    };
    message.payload.len() > INLINE_BYTES_MAX
        || message.head.partitions.iter().any(|part| {
            part.diverging_epoch.is_some()
                || error_code(part.error) == ErrorCode::OffsetOutOfRange
                || (part.log_start_offset > 0 && moves_start(part))
        })
}

pub(super) fn take_message(
    parts: &Parts,
    leader: BrokerId,
    message: Spliced<LeaderHead>,
) -> Result<Vec<Outcome>, Malformed> {
    let Spliced { head, mut payload } = message;
    let mut outcomes = Vec::with_capacity(head.partitions.len());
    for part in &head.partitions {
        let key = wire::key(&part.topic_id, part.partition)?;
        let records = records(&mut payload, part.length)?;
        let reply = wire::reply(part, &records)?;
        // One that has left this broker meanwhile.
        let Some(partition) = parts.partitions.get(key) else {
            continue;
        };
        let span = continued_span!(&part.traceparent, "replicate", otel.kind = "server", partition = %key);
        outcomes.push(Outcome {
            key,
            taken: span.in_scope(|| partition.follower_reply(leader, reply, records)),
            lag: part.high_watermark - partition.log().log_end_offset(),
        });
    }
    if payload.is_empty() {
        Ok(outcomes)
    } else {
        Err(Malformed("payload"))
    }
}

fn records(payload: &mut Payload, length: u32) -> Result<Bytes, Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed("length"))?;
    let records = payload.take_bytes(length).map_err(|_| Malformed("length"))?;
    Ok(if records.len() <= COPY_BYTES_MAX {
        Bytes::copy_from_slice(&records)
    } else {
        records
    })
}
