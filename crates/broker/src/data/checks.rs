//! The checks of produced batches: short ones at once, long ones (large compressed batches) on threads of their own, one
//! at a time for a partition. What comes for a partition is appended in the order it came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use strom_types::{ErrorCode, TopicIdPartition};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tracing::error;

use super::assembly::Assembly;
use crate::partition::{CheckedBatch, Partition, ProduceError, ProduceTerms};

/// A stream takes no more requests while more bytes than this wait for their check.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// What a request holds for one partition.
pub(super) struct Part {
    pub partition: Arc<Partition>,
    pub records: Bytes,
    pub terms: ProduceTerms,
    pub assembly: Arc<Assembly>,
    /// The partition's place in the reply.
    pub place: usize,
}

type Outcome = Result<CheckedBatch, ProduceError>;

/// A part whose turn it is to be appended, or refused.
pub(super) type Ready = (Part, Outcome);

struct Waiting {
    part: Part,
    /// Known already if the check was short.
    outcome: Option<Outcome>,
}

/// The checks of one stream.
pub(super) struct Checks {
    /// Bounds the long checks that run at a time on this broker.
    permits: Arc<Semaphore>,
    /// One for each queue below, of its first part. Permits are given in turn, so a client that floods a partition with
    /// long checks is not much in the way of other partitions.
    running: JoinSet<(TopicIdPartition, Outcome)>,
    waiting: HashMap<TopicIdPartition, VecDeque<Waiting>>,
    waiting_bytes: usize,
}

impl Checks {
    pub(super) fn new(permits: Arc<Semaphore>) -> Self {
        Checks {
            permits,
            running: JoinSet::new(),
            waiting: HashMap::new(),
            waiting_bytes: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting_bytes < WAITING_BYTES_MAX
    }

    /// Takes a part in; it comes back at once if it was checked and nothing is before it.
    pub(super) fn begin(&mut self, part: Part) -> Option<Ready> {
        let key = part.partition.key();
        let outcome = part.partition.check_if_short(&part.records, part.terms);
        if !self.waiting.contains_key(&key) {
            match outcome {
                Some(outcome) => return Some((part, outcome)),
                None => self.start(&part),
            }
        }
        self.waiting_bytes += part.records.len();
        let queue = self.waiting.entry(key).or_default();
        queue.push_back(Waiting { part, outcome });
        None
    }

    fn start(&mut self, part: &Part) {
        let (partition, records, terms) = (part.partition.clone(), part.records.clone(), part.terms);
        let permits = self.permits.clone();
        self.running.spawn(async move {
            let key = partition.key();
            let _permit = permits.acquire_owned().await;
            let checked = spawn_blocking(move || partition.check_produced(&records, terms)).await;
            let outcome = checked.unwrap_or_else(|error| {
                error!(%error, "the check of a batch failed");
                Err(ErrorCode::UnknownServerError.into())
            });
            (key, outcome)
        });
    }

    /// Waits for a check to end, and hands out the parts whose turn it is by that. Nothing is lost if dropped.
    pub(super) async fn next(&mut self) -> Vec<Ready> {
        let Some(Ok((key, outcome))) = self.running.join_next().await else {
            return Vec::new();
        };
        let mut queue = self.waiting.remove(&key).unwrap_or_default();
        let mut ready = Vec::new();
        let mut outcome = Some(outcome);
        while let Some(Waiting { part, outcome: known }) = queue.pop_front() {
            let Some(outcome) = outcome.take().or(known) else {
                self.start(&part);
                queue.push_front(Waiting { part, outcome: None });
                self.waiting.insert(key, queue);
                break;
            };
            self.waiting_bytes -= part.records.len();
            ready.push((part, outcome));
        }
        ready
    }
}
