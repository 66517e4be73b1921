//! One fetch query: which partitions, on what terms, and what they have for it now.

use std::sync::Arc;

use strom_proto::convert::topic_id_partition;
use strom_proto::splice::{Payload, Spliced};
use strom_proto::v1::{
    AbortedTransaction, EpochEnd, FetchHead, FetchPartition, FetchPartitionReply, FetchQuery, LeaderHint,
};
use strom_replication::FetchBounds;
use strom_runtime::continued_span;
use strom_types::{ErrorCode, LeaderEpoch, Mono, Offset, TopicIdPartition};
use tracing::Span;

use crate::partition::{Partition, ReadPart, ReadTerms, Wake, WakeAt};
use crate::partitions::Partitions;

/// A query, looked up and checked.
pub(super) struct Query {
    pub correlation: u64,
    pub deadline: Mono,
    min_bytes: usize,
    max_bytes: usize,
    read_committed: bool,
    wants: Vec<Want>,
    /// Ends with the query.
    _span: Span,
}

struct Want {
    partition: Result<Arc<Partition>, ErrorCode>,
    offset: Offset,
    max_bytes: usize,
    current_leader_epoch: Option<LeaderEpoch>,
    last_fetched_epoch: Option<LeaderEpoch>,
}

/// What a look at all partitions says.
pub(super) enum Look {
    /// There may be enough, or something that must be told at once.
    Ready(Vec<Result<FetchBounds, ErrorCode>>),
    /// Nothing yet; the wake-ups are registered.
    Wait,
}

/// The outcome of reading.
pub(super) enum Answer {
    Reply(Spliced<FetchHead>),
    /// Less than `min_bytes`, and nothing else to tell.
    TooLittle,
    /// The data is not in memory.
    NeedsDisk,
}

impl Query {
    pub(super) fn new(query: &FetchQuery, partitions: &Partitions, now: Mono) -> Self {
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let wants = query.partitions.iter().map(|want| Want::new(want, partitions));
        let span = continued_span!(
            &query.traceparent,
            "fetch",
            otel.kind = "server",
            partitions = query.partitions.len()
        );
        Query {
            correlation: query.correlation,
            deadline: now + std::time::Duration::from_millis(u64::from(query.max_wait_ms)),
            min_bytes: size(query.min_bytes),
            max_bytes: size(query.max_bytes),
            read_committed: query.read_committed,
            wants: wants.collect(),
            _span: span,
        }
    }

    /// Whether there is anything to answer with. With `wake`, partitions that have nothing will wake it.
    pub(super) fn look(&self, wake: Option<&Arc<dyn Wake>>) -> Look {
        let mut ready = self.min_bytes == 0 || self.wants.is_empty();
        let mut bounds = Vec::with_capacity(self.wants.len());
        for want in &self.wants {
            let admitted = match &want.partition {
                Ok(partition) => {
                    let always = self.min_bytes > 1;
                    let wake = wake.map(|wake| WakeAt {
                        offset: want.offset,
                        always,
                        wake,
                    });
                    partition.admit_read(want.current_leader_epoch, wake)
                }
                Err(code) => Err(*code),
            };
            ready |= match &admitted {
                Ok(bounds) => want.offset != bounds.high_watermark,
                Err(_) => true,
            };
            bounds.push(admitted);
        }
        if ready { Look::Ready(bounds) } else { Look::Wait }
    }

    /// The bounds of all partitions as they are.
    pub(super) fn bounds(&self) -> Vec<Result<FetchBounds, ErrorCode>> {
        let admit = |want: &Want| match &want.partition {
            Ok(partition) => partition.admit_read(want.current_leader_epoch, None),
            Err(code) => Err(*code),
        };
        self.wants.iter().map(admit).collect()
    }

    /// Reads all partitions. `final_answer` = reply even with less than `min_bytes`.
    pub(super) fn read(
        &self,
        bounds: &[Result<FetchBounds, ErrorCode>],
        final_answer: bool,
        from_memory: bool,
    ) -> Answer {
        let mut left = self.max_bytes;
        let mut must_tell = final_answer;
        let mut total = 0;
        let mut head = FetchHead {
            correlation: self.correlation,
            partitions: Vec::with_capacity(bounds.len()),
        };
        let mut payload = Payload::new();
        for (want, bounds) in self.wants.iter().zip(bounds) {
            let part = match (&want.partition, bounds) {
                (Ok(partition), Ok(bounds)) => {
                    let terms = ReadTerms {
                        offset: want.offset,
                        last_fetched_epoch: want.last_fetched_epoch,
                        read_committed: self.read_committed,
                        max_bytes: want.max_bytes.min(left),
                        min_one: total == 0,
                    };
                    partition.read(*bounds, &terms, from_memory)
                }
                (Err(code), _) | (_, Err(code)) => Err(*code),
            };
            match part {
                Ok(None) => return Answer::NeedsDisk,
                Ok(Some(part)) => {
                    must_tell |= part.diverging.is_some();
                    total += part.len;
                    left = left.saturating_sub(part.len);
                    head.partitions.push(reply(&part));
                    part.pieces.into_iter().for_each(|piece| payload.push(piece));
                }
                Err(code) => {
                    must_tell = true;
                    head.partitions.push(want.failed(code));
                }
            }
        }
        if must_tell || total >= self.min_bytes {
            Answer::Reply(Spliced::new(head, payload))
        } else {
            Answer::TooLittle
        }
    }
}

impl Want {
    fn new(want: &FetchPartition, partitions: &Partitions) -> Self {
        let epoch = |epoch: i32| (epoch >= 0).then_some(LeaderEpoch(epoch));
        let partition = topic_id_partition(&want.topic_id, want.partition)
            .map_err(|_| ErrorCode::InvalidRequest)
            .and_then(|key: TopicIdPartition| partitions.get(key).ok_or(ErrorCode::NotLeaderOrFollower));
        Want {
            partition,
            offset: want.fetch_offset,
            max_bytes: usize::try_from(want.max_bytes).unwrap_or(usize::MAX),
            current_leader_epoch: epoch(want.current_leader_epoch),
            last_fetched_epoch: epoch(want.last_fetched_epoch),
        }
    }

    fn failed(&self, code: ErrorCode) -> FetchPartitionReply {
        let leader = match code {
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch => self.partition.as_ref().ok(),
            _ => None,
        };
        FetchPartitionReply {
            error: code as i32,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            preferred_read_replica: -1,
            current_leader: leader.map(|partition| {
                let (leader, epoch) = partition.leader();
                LeaderHint {
                    leader_id: leader.map_or(-1, |id| id.get()),
                    leader_epoch: epoch.get(),
                }
            }),
            ..Default::default()
        }
    }
}

fn reply(part: &ReadPart) -> FetchPartitionReply {
    FetchPartitionReply {
        error: 0,
        high_watermark: part.high_watermark,
        last_stable_offset: part.last_stable_offset,
        log_start_offset: part.log_start,
        diverging_epoch: part.diverging.map(|end| EpochEnd {
            epoch: end.epoch.get(),
            end_offset: end.end_offset,
        }),
        aborted: part
            .aborted
            .iter()
            .map(|&(producer_id, first_offset)| AbortedTransaction {
                producer_id,
                first_offset,
            })
            .collect(),
        preferred_read_replica: -1,
        length: u32::try_from(part.len).unwrap_or(u32::MAX),
        ..Default::default()
    }
}
