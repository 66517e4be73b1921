//! From the messages of `strom.v1.Replication` to the replica's terms and back, with the checks of what comes in.

use bytes::Bytes;
use strom_proto::convert::{error_code, topic_id_bytes, topic_id_partition};
use strom_proto::v1;
use strom_records::BatchIter;
use strom_replication::{EpochEnd, FetchAnswer, FetchPosition, FetchReply, FetchedRecords, ReplyBody};
use strom_types::{ErrorCode, LeaderEpoch, Offset, TopicIdPartition};
use thiserror::Error;

/// Offsets beyond this are nobody's honest ones.
const OFFSET_MAX: Offset = i64::MAX / 2;

/// The peer breaks the protocol; its stream is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("malformed message: {0}")]
pub(super) struct Malformed(pub &'static str);

pub(super) fn key(topic_id: &[u8], partition: i32) -> Result<TopicIdPartition, Malformed> {
    topic_id_partition(topic_id, partition).map_err(|e| Malformed(e.field))
}

fn offset(offset: i64, field: &'static str) -> Result<Offset, Malformed> {
    if (0..=OFFSET_MAX).contains(&offset) {
        Ok(offset)
    } else {
        Err(Malformed(field))
    }
}

fn epoch(epoch: i32, field: &'static str) -> Result<LeaderEpoch, Malformed> {
    if epoch >= LeaderEpoch::NONE.get() {
        Ok(LeaderEpoch(epoch))
    } else {
        Err(Malformed(field))
    }
}

/// A follower's position as the leader takes it.
pub(super) fn position(from: &v1::FollowerPosition) -> Result<FetchPosition, Malformed> {
    let position = FetchPosition {
        leader_epoch: epoch(from.leader_epoch, "leader_epoch")?,
        fetch_offset: offset(from.fetch_offset, "fetch_offset")?,
        last_fetched_epoch: epoch(from.last_fetched_epoch, "last_fetched_epoch")?,
        durable_offset: offset(from.durable_offset, "durable_offset")?,
        log_start: offset(from.log_start_offset, "log_start_offset")?,
    };
    if position.durable_offset > position.fetch_offset || position.log_start > position.fetch_offset {
        return Err(Malformed("fetch_offset"));
    }
    Ok(position)
}

pub(super) fn follower_position(
    key: TopicIdPartition,
    position: &FetchPosition,
    restart: bool,
) -> v1::FollowerPosition {
    v1::FollowerPosition {
        topic_id: topic_id_bytes(key.topic_id),
        partition: key.partition,
        leader_epoch: position.leader_epoch.get(),
        fetch_offset: position.fetch_offset,
        last_fetched_epoch: position.last_fetched_epoch.get(),
        durable_offset: position.durable_offset,
        log_start_offset: position.log_start,
        restart,
        stop: false,
    }
}

pub(super) fn follower_stop(key: TopicIdPartition) -> v1::FollowerPosition {
    v1::FollowerPosition {
        topic_id: topic_id_bytes(key.topic_id),
        partition: key.partition,
        stop: true,
        ..Default::default()
    }
}

/// An answer without records to a position in `leader_epoch`; `None` for what is served by pushing.
pub(super) fn answer(
    key: TopicIdPartition,
    leader_epoch: LeaderEpoch,
    answer: FetchAnswer,
) -> Option<v1::LeaderPartition> {
    let part = v1::LeaderPartition {
        topic_id: topic_id_bytes(key.topic_id),
        partition: key.partition,
        leader_epoch: leader_epoch.get(),
        ..Default::default()
    };
    match answer {
        FetchAnswer::Serve { .. } => None,
        FetchAnswer::Diverging {
            fetch_offset,
            last_fetched_epoch,
            end,
        } => Some(v1::LeaderPartition {
            base_offset: fetch_offset,
            last_fetched_epoch: last_fetched_epoch.get(),
            diverging_epoch: Some(v1::EpochEnd {
                epoch: end.epoch.get(),
                end_offset: end.end_offset,
            }),
            ..part
        }),
        FetchAnswer::Refuse {
            fetch_offset,
            error,
            log_start,
        } => Some(v1::LeaderPartition {
            base_offset: fetch_offset,
            error: error as i32,
            log_start_offset: log_start,
            ..part
        }),
    }
}

/// One partition of a leader's message, with its records looked through.
pub(super) fn reply(part: &v1::LeaderPartition, records: &Bytes) -> Result<FetchReply, Malformed> {
    let body = match (error_code(part.error), &part.diverging_epoch) {
        (ErrorCode::None, Some(end)) => ReplyBody::Diverging {
            last_fetched_epoch: epoch(part.last_fetched_epoch, "last_fetched_epoch")?,
            end: EpochEnd {
                epoch: epoch(end.epoch, "diverging_epoch")?,
                end_offset: offset(end.end_offset, "diverging_epoch")?,
            },
        },
        (ErrorCode::None, None) if records.is_empty() => ReplyBody::Empty,
        (ErrorCode::None, None) => examine(records).map_or(ReplyBody::Corrupt, ReplyBody::Records),
        (error, _) => ReplyBody::Error(error),
    };
    Ok(FetchReply {
        leader_epoch: epoch(part.leader_epoch, "leader_epoch")?,
        fetch_offset: offset(part.base_offset, "base_offset")?,
        high_watermark: offset(part.high_watermark, "high_watermark")?,
        log_start: offset(part.log_start_offset, "log_start_offset")?,
        body,
    })
}

/// F3 and the first half of E5: whole batches with good CRCs, contiguous, of epochs that do not fall.
fn examine(records: &Bytes) -> Option<FetchedRecords> {
    let mut found: Option<(FetchedRecords, Offset)> = None;
    let mut walk = BatchIter::new(records.clone());
    for batch in &mut walk {
        let batch = batch.ok()?;
        let header = &batch.header;
        let epoch = header.partition_leader_epoch;
        if header.last_offset_delta < 0 || !(0..=OFFSET_MAX).contains(&header.base_offset) {
            return None;
        }
        batch.verify_crc().ok()?;
        let next = header.next_offset();
        found = Some(match found {
            None => {
                let records = FetchedRecords {
                    base_offset: header.base_offset,
                    first_epoch: epoch,
                    last_epoch: epoch,
                };
                (records, next)
            }
            Some((records, expected)) => {
                if header.base_offset != expected || epoch < records.last_epoch {
                    return None;
                }
                let records = FetchedRecords {
                    last_epoch: epoch,
                    ..records
                };
                (records, next)
            }
        });
    }
    found
        .filter(|_| walk.tail().is_empty())
        .map(|(records, _)| records)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use strom_records::{BatchBuilder, NewRecord, patch_in_place};

    use super::*;

    fn batch(offset: Offset, epoch: i32) -> Bytes {
        let mut batch = BatchBuilder::new();
        for value in [b"a", b"b"] {
            let record = NewRecord {
                value: Some(value),
                ..NewRecord::default()
            };
            batch.push(&record).unwrap();
        }
        let own = BytesMut::from(&batch.build().unwrap()[..]);
        patch_in_place(own, offset, LeaderEpoch(epoch)).unwrap()
    }

    fn all(batches: &[Bytes]) -> Option<FetchedRecords> {
        examine(&batches.concat().into())
    }

    #[test]
    fn whole_contiguous_batches_of_rising_epochs_pass() {
        let found = all(&[batch(4, 2), batch(6, 2), batch(8, 5)]).unwrap();
        assert_eq!(found.base_offset, 4);
        assert_eq!(
            (found.first_epoch, found.last_epoch),
            (LeaderEpoch(2), LeaderEpoch(5))
        );
    }

    #[test]
    fn anything_else_is_damage() {
        assert_eq!(all(&[batch(4, 2), batch(7, 2)]), None, "a gap");
        assert_eq!(all(&[batch(4, 2), batch(5, 2)]), None, "an overlap");
        assert_eq!(all(&[batch(4, 2), batch(6, 1)]), None, "a falling epoch");
        assert_eq!(all(&[batch(OFFSET_MAX + 1, 2)]), None, "an impossible offset");
        assert_eq!(all(&[batch(-1, 2)]), None, "a negative offset");
        let good = batch(0, 1);
        for at in 0..good.len() {
            assert_eq!(examine(&good.slice(..at)), None, "cut at {at}");
            // Offset and epoch are not under the CRC.
            if at >= 16 {
                let mut flipped = good.to_vec();
                flipped[at] ^= 1;
                assert_eq!(examine(&flipped.into()), None, "bit flipped in byte {at}");
            }
        }
    }
}
