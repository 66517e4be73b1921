//! Both sides of replication at the partition: a follower's positions and what is pushed to it, a leader's replies and
//! the append of their records.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::MutexGuard;
use strom_log::{AppendError, FollowerAppend, LogError, ReadError};
use strom_records::BatchIter;
use strom_replication::{Event, FetchAnswer, FetchPosition, FetchReply, FollowerFetch, ReplyBody, RoleKind};
use strom_types::{BrokerId, ErrorCode, LeaderEpoch, Offset};
use tracing::warn;

use super::{Inner, Partition};
use crate::replication::Push;

/// What a leader tells beside records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Marks {
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// What there is to push.
pub(crate) enum Pushable {
    /// Whole batches; the first contains the offset asked for.
    Records {
        pieces: Vec<Bytes>,
        len: usize,
        next: Offset,
        marks: Marks,
        /// W3C trace context of a request that waits for them.
        traceparent: Option<String>,
    },
    /// No more records than the follower was sent.
    Nothing(Marks),
    /// The records are not in memory any more: see [`Partition::pushable_from_disk`].
    OnDisk,
    /// This replica does not lead in that epoch any more.
    NotLeader,
    Refused {
        error: ErrorCode,
        log_start: Offset,
    },
}

/// The follower streams of a partition, and what they were woken for last.
#[derive(Default)]
pub(super) struct Pushes {
    streams: Vec<Arc<Push>>,
    end: Offset,
    marks: Marks,
}

/// The records of a reply, while the replica decides on them.
pub(super) struct Arrived {
    records: Bytes,
    base_offset: Offset,
}

impl Partition {
    /// Leader: takes a follower's position. `None` = this replica answers nothing.
    pub(crate) fn follower_fetch(&self, fetch: FollowerFetch) -> Option<FetchAnswer> {
        let mut inner = self.inner.lock();
        inner.answer = None;
        self.step_locked(&mut inner, Event::FollowerFetch(fetch));
        inner.answer.take()
    }

    pub(crate) fn add_push(&self, push: &Arc<Push>) {
        let streams = &mut self.inner.lock().pushes.streams;
        if !streams.iter().any(|known| Arc::ptr_eq(known, push)) {
            streams.push(push.clone());
        }
    }

    pub(crate) fn remove_push(&self, push: &Arc<Push>) {
        let streams = &mut self.inner.lock().pushes.streams;
        streams.retain(|known| !Arc::ptr_eq(known, push));
    }

    /// For tests: how many streams are woken.
    #[cfg(test)]
    pub(crate) fn push_count(&self) -> usize {
        self.inner.lock().pushes.streams.len()
    }

    /// Wakes the follower streams when a step has found more to send. Ends also fall: a leader's, between two
    /// leaderships.
    pub(super) fn wake_pushes(&self, inner: &mut MutexGuard<'_, Inner>) {
        let end = inner.replica.log_position().end;
        let marks = inner.marks();
        let pushes = &mut inner.pushes;
        if end != pushes.end {
            pushes.streams.iter().for_each(Push::mark_records);
        } else if marks != pushes.marks {
            pushes.streams.iter().for_each(Push::mark_news);
        }
        (pushes.end, pushes.marks) = (end, marks);
    }

    /// What a follower of `epoch` that has everything before `from` lacks, up to about `bytes_max`: from memory.
    pub(crate) fn pushable(&self, epoch: LeaderEpoch, from: Offset, bytes_max: usize) -> Pushable {
        let inner = self.inner.lock();
        if !inner.leads_in(epoch) {
            return Pushable::NotLeader;
        }
        let marks = inner.marks();
        let end = inner.replica.log_position().end;
        if from >= end {
            return Pushable::Nothing(marks);
        }
        // Under the lock, so that what is read is surely this leadership's.
        match self.log.read_tail(from, bytes_max, end, true) {
            Ok(Some(chunk)) if chunk.size_bytes > 0 => Pushable::Records {
                pieces: chunk.pieces,
                len: chunk.size_bytes,
                next: chunk.next_offset,
                marks,
                traceparent: inner.acks.traceparent_in(from..chunk.next_offset),
            },
            Ok(_) => Pushable::OnDisk,
            Err(error) => {
                drop(inner);
                self.unreadable(&error, marks)
            }
        }
    }

    /// The same from the page cache or the disk; blocks.
    pub(crate) fn pushable_from_disk(&self, epoch: LeaderEpoch, from: Offset, bytes_max: usize) -> Pushable {
        let end = self.inner.lock().replica.log_position().end;
        let read = self.log.read(from, bytes_max, end, true);
        // A leadership in the same epoch that still holds has held all along.
        let inner = self.inner.lock();
        if !inner.leads_in(epoch) {
            return Pushable::NotLeader;
        }
        let marks = inner.marks();
        match read {
            Ok(chunk) if chunk.records.is_empty() => Pushable::Nothing(marks),
            Ok(chunk) => Pushable::Records {
                len: chunk.records.len(),
                pieces: vec![chunk.records],
                next: chunk.next_offset,
                marks,
                // Of followers that lag behind, no request's trace tells.
                traceparent: None,
            },
            Err(error) => {
                drop(inner);
                self.unreadable(&error, marks)
            }
        }
    }

    /// What there is to tell a follower of `epoch`, as long as this leads in it.
    pub(crate) fn marks_in(&self, epoch: LeaderEpoch) -> Option<Marks> {
        let inner = self.inner.lock();
        inner.leads_in(epoch).then(|| inner.marks())
    }

    fn unreadable(&self, error: &ReadError, marks: Marks) -> Pushable {
        if !matches!(error, ReadError::OffsetOutOfRange { .. }) {
            warn!(topic = %self.topic, partition = self.key.partition, %error, "cannot read for a follower");
        }
        Pushable::Refused {
            error: self.read_failed(error),
            log_start: marks.log_start,
        }
    }

    /// Follower: what to ask `leader` for, as long as this replica follows it.
    pub(crate) fn position_for(&self, leader: BrokerId) -> Option<FetchPosition> {
        let inner = self.inner.lock();
        let (followed, position) = inner.replica.fetch_position()?;
        (followed == leader).then_some(position)
    }

    /// Follower: takes a reply of `leader` and appends its records, which have been checked, if the replica wants them.
    /// True when it was of use.
    pub(crate) fn follower_reply(&self, leader: BrokerId, mut reply: FetchReply, mut records: Bytes) -> bool {
        let mut inner = self.inner.lock();
        let (followed, epoch) = inner.replica.leader();
        if followed != Some(leader) {
            return false;
        }
        let log = inner.replica.log_position();
        let is_push = reply.leader_epoch == epoch
            && inner.replica.role() == RoleKind::Follower
            && matches!(reply.body, ReplyBody::Records(_) | ReplyBody::Empty);
        if is_push && reply.fetch_offset > log.end {
            // What comes between was dropped here, so nothing that follows on it is of use.
            self.shared
                .fetch_desk()
                .retry(self.key, ErrorCode::OffsetNotAvailable);
            return false;
        }
        if let ReplyBody::Records(found) = &mut reply.body {
            if is_push && reply.fetch_offset < log.end {
                // Pushing was begun again before its answers had arrived: they overlap.
                let Some((rest, first_epoch)) = beyond(&records, log.end) else {
                    return false;
                };
                (found.base_offset, found.first_epoch) = (log.end, first_epoch);
                (reply.fetch_offset, records) = (log.end, rest);
            }
            inner.arrived = Some(Arrived {
                records,
                base_offset: found.base_offset,
            });
            // The leader's log begins inside of a batch (DeleteRecords): so does this one, begun there.
            if found.base_offset < log.end && log.start == log.end {
                found.base_offset = log.end;
            }
        }
        self.step_locked(&mut inner, Event::FetchReply(reply));
        inner.arrived = None;
        let end = inner.replica.log_position().end;
        end > log.end || (reply.body == ReplyBody::Empty && reply.fetch_offset == end)
    }

    /// Appends the records of the reply in hand; the event that tells the replica so.
    pub(super) fn append_arrived(&self, inner: &mut MutexGuard<'_, Inner>) -> Event {
        let Some(arrived) = inner.arrived.take() else {
            return self.log_failed("append to", &"no records are at hand");
        };
        let by = FollowerAppend {
            leader_epoch: inner.replica.leader().1,
            now: self.shared.clock().wall(),
        };
        let len = arrived.records.len();
        let refused = match self.append_at(&arrived, by) {
            Ok(()) => {
                self.shared.metrics().replicated_in(len);
                return Event::LogMutated;
            }
            Err(AppendError::Log(LogError::Deleted(_))) => ErrorCode::UnknownTopicOrPartition,
            Err(AppendError::Log(error)) => return self.log_failed("append to", &error),
            // The directory has told of it, once for all its partitions.
            Err(error) if error.is_disk_full() => error.code(),
            Err(error) => {
                warn!(topic = %self.topic, partition = self.key.partition, %error, "a leader's records are refused");
                error.code()
            }
        };
        // Nothing was appended, which is no fault of the log: the same records are asked for again, later.
        self.shared.fetch_desk().retry(self.key, refused);
        Event::LogMutated
    }

    fn append_at(&self, arrived: &Arrived, by: FollowerAppend) -> Result<(), AppendError> {
        let start = self.log.log_end_offset();
        if arrived.base_offset >= start {
            return self.log.append_as_follower(&arrived.records, by).map(drop);
        }
        // As Kafka does (UnexpectedAppendOffsetException): the batch that contains the log's start is kept whole.
        self.log.truncate_fully_and_start_at(arrived.base_offset)?;
        let appended = self.log.append_as_follower(&arrived.records, by);
        if appended.is_ok() && self.log.log_end_offset() > start {
            self.log.set_log_start_offset(start)?;
        } else {
            self.log.truncate_fully_and_start_at(start)?;
        }
        appended.map(drop)
    }
}

/// The batches from `offset` on, if one begins there, and the first one's epoch.
fn beyond(records: &Bytes, offset: Offset) -> Option<(Bytes, LeaderEpoch)> {
    let mut walk = BatchIter::new(records.clone());
    loop {
        let position = walk.position();
        let header = walk.next()?.ok()?.header;
        if header.base_offset >= offset {
            let rest = records.slice(position..);
            return (header.base_offset == offset).then_some((rest, header.partition_leader_epoch));
        }
    }
}

impl Inner {
    fn leads_in(&self, epoch: LeaderEpoch) -> bool {
        self.replica.role() == RoleKind::Leader && self.replica.leader().1 == epoch
    }

    fn marks(&self) -> Marks {
        Marks {
            high_watermark: self.replica.high_watermark(),
            log_start: self.replica.log_position().start,
        }
    }
}
