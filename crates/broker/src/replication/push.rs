//! What one follower stream pushes of one partition, and the queue through which partitions wake the stream.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use strom_proto::convert::topic_id_bytes;
use strom_proto::v1;
use strom_types::{LeaderEpoch, Offset, TopicIdPartition};
use tokio::sync::Notify;

use crate::partition::{Marks, Partition};

/// One partition on one follower stream. Registered with the partition, which marks it as its log grows.
pub(crate) struct Push {
    partition: Arc<Partition>,
    /// On the wire.
    topic_id: Bytes,
    queue: Arc<StreamQueue>,
    progress: Mutex<Progress>,
    /// In the queue of those with records.
    has_records: AtomicBool,
    /// In the queue of those whose high watermark or log start has moved.
    has_news: AtomicBool,
    /// Waits for, or is at, the disk: what is marked meanwhile is looked at afterwards.
    on_disk: AtomicBool,
}

/// Where pushing stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Progress {
    /// The leader epoch that the follower's position was checked in; `None` = nothing is pushed until it asks again.
    pub epoch: Option<LeaderEpoch>,
    pub next: Offset,
    /// What the follower was sent last.
    pub told: Option<Marks>,
    /// Counts restarts: a read begun before one is of no use after it.
    pub generation: u64,
}

impl Push {
    pub(super) fn new(partition: Arc<Partition>, queue: Arc<StreamQueue>) -> Arc<Self> {
        Arc::new(Push {
            topic_id: topic_id_bytes(partition.key().topic_id),
            partition,
            queue,
            progress: Mutex::new(Progress {
                epoch: None,
                next: 0,
                told: None,
                generation: 0,
            }),
            has_records: AtomicBool::new(false),
            has_news: AtomicBool::new(false),
            on_disk: AtomicBool::new(false),
        })
    }

    pub(super) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    pub(super) fn key(&self) -> TopicIdPartition {
        self.partition.key()
    }

    pub(super) fn progress(&self) -> Progress {
        *self.progress.lock()
    }

    /// The leader serves a position: pushing begins there, unless it goes on already.
    pub(super) fn serve(self: &Arc<Self>, epoch: LeaderEpoch, from: Offset, restart: bool) {
        {
            let mut progress = self.progress.lock();
            if !restart && progress.epoch == Some(epoch) {
                return;
            }
            *progress = Progress {
                epoch: Some(epoch),
                next: from,
                told: None,
                generation: progress.generation + 1,
            };
        }
        self.partition.add_push(self);
        self.mark_records();
    }

    /// Nothing more until the follower asks again.
    pub(super) fn park(&self) {
        let mut progress = self.progress.lock();
        progress.epoch = None;
        progress.generation += 1;
    }

    /// Parks unless pushing was restarted meanwhile.
    pub(super) fn park_if(&self, generation: u64) -> bool {
        let mut progress = self.progress.lock();
        let same = progress.generation == generation;
        if same {
            progress.epoch = None;
            progress.generation += 1;
        }
        same
    }

    /// The stream or the follower's interest has ended.
    pub(super) fn close(self: &Arc<Self>) {
        self.park();
        self.partition.remove_push(self);
    }

    pub(super) fn is_read_from_disk(&self) -> bool {
        self.on_disk.load(Ordering::Acquire)
    }

    pub(super) fn begin_disk_read(&self) {
        self.on_disk.store(true, Ordering::Release);
    }

    pub(super) fn end_disk_read(self: &Arc<Self>) {
        self.on_disk.store(false, Ordering::Release);
        self.mark_records();
    }

    /// Notes that `from..next` is on its way; false when pushing was restarted or has come further meanwhile.
    pub(super) fn sent(&self, generation: u64, from: Offset, next: Offset, marks: Marks) -> bool {
        let mut progress = self.progress.lock();
        if progress.generation != generation || progress.next != from {
            return false;
        }
        progress.next = next;
        progress.told = Some(marks);
        true
    }

    /// The log has grown. Called under the partition's lock.
    pub(crate) fn mark_records(self: &Arc<Self>) {
        if !self.has_records.swap(true, Ordering::AcqRel) {
            self.queue.state.lock().records.push_back(self.clone());
            self.queue.wake.notify_one();
        }
    }

    /// The high watermark or the log start has moved. Called under the partition's lock.
    pub(crate) fn mark_news(self: &Arc<Self>) {
        if !self.has_news.swap(true, Ordering::AcqRel) {
            self.queue.state.lock().news.push_back(self.clone());
            if self.queue.is_idle.swap(false, Ordering::AcqRel) {
                self.queue.wake.notify_one();
            }
        }
    }

    /// The head of what is sent from `base_offset` on.
    pub(super) fn part(
        &self,
        epoch: LeaderEpoch,
        base_offset: Offset,
        marks: Marks,
        len: usize,
    ) -> v1::LeaderPartition {
        v1::LeaderPartition {
            topic_id: self.topic_id.clone(),
            partition: self.key().partition,
            leader_epoch: epoch.get(),
            high_watermark: marks.high_watermark,
            log_start_offset: marks.log_start,
            base_offset,
            length: u32::try_from(len).unwrap_or(u32::MAX),
            ..Default::default()
        }
    }
}

/// What waits to be sent on one follower stream.
#[derive(Default)]
pub(crate) struct StreamQueue {
    state: Mutex<Waiting>,
    consumed_bytes: AtomicU64,
    /// The stream's sender waits without looking for news by itself.
    is_idle: AtomicBool,
    pub(super) wake: Notify,
}

#[derive(Default)]
struct Waiting {
    records: VecDeque<Arc<Push>>,
    news: VecDeque<Arc<Push>>,
    /// The newest answer of each partition.
    answers: HashMap<TopicIdPartition, v1::LeaderPartition>,
}

impl StreamQueue {
    /// Queues an answer without records; how many wait now.
    pub(super) fn answer(&self, key: TopicIdPartition, part: v1::LeaderPartition) -> usize {
        let mut state = self.state.lock();
        state.answers.insert(key, part);
        self.wake.notify_one();
        state.answers.len()
    }

    pub(super) fn take_answers(&self, max: usize) -> Vec<v1::LeaderPartition> {
        let mut state = self.state.lock();
        if state.answers.len() <= max {
            return std::mem::take(&mut state.answers).into_values().collect();
        }
        let keys: Vec<_> = state.answers.keys().take(max).copied().collect();
        keys.iter().filter_map(|key| state.answers.remove(key)).collect()
    }

    /// The next partition with records. It is marked anew by records that come after this.
    pub(super) fn next_with_records(&self) -> Option<Arc<Push>> {
        let push = self.state.lock().records.pop_front()?;
        push.has_records.store(false, Ordering::Release);
        Some(push)
    }

    pub(super) fn next_with_news(&self) -> Option<Arc<Push>> {
        let push = self.state.lock().news.pop_front()?;
        push.has_news.store(false, Ordering::Release);
        Some(push)
    }

    pub(super) fn has_news(&self) -> bool {
        !self.state.lock().news.is_empty()
    }

    /// From now on news wake the sender; whether there is none yet.
    pub(super) fn go_idle(&self) -> bool {
        self.is_idle.store(true, Ordering::Release);
        !self.has_news()
    }

    pub(super) fn consumed(&self, bytes: u64) {
        if bytes > 0 {
            // A sum that wraps would only fool the follower's own back-pressure.
            self.consumed_bytes.fetch_add(bytes, Ordering::AcqRel);
            self.wake.notify_one();
        }
    }

    pub(super) fn consumed_bytes(&self) -> u64 {
        self.consumed_bytes.load(Ordering::Acquire)
    }

    /// Forgets everything, since the partitions and the queue hold each other.
    pub(super) fn clear(&self) {
        let waiting = std::mem::take(&mut *self.state.lock());
        drop(waiting);
    }
}
