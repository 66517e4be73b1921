//! The checks of produced batches: short ones at once, long ones (large compressed batches) on threads of their own. What
//! comes for one partition is appended in the order it came, also where a later check is done first.

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
    check: u64,
    part: Part,
    outcome: Option<Outcome>,
}

/// The checks of one stream.
pub(super) struct Checks {
    /// Bounds the long checks that run at a time on this broker.
    permits: Arc<Semaphore>,
    /// One for each part below without an outcome; the first of a queue has none.
    running: JoinSet<(TopicIdPartition, u64, Outcome)>,
    waiting: HashMap<TopicIdPartition, VecDeque<Waiting>>,
    waiting_bytes: usize,
    next_check: u64,
}

impl Checks {
    pub(super) fn new(permits: Arc<Semaphore>) -> Self {
        Checks {
            permits,
            running: JoinSet::new(),
            waiting: HashMap::new(),
            waiting_bytes: 0,
            next_check: 0,
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
        let outcome = match part.partition.check_if_short(&part.records, part.terms) {
            Some(outcome) if !self.waiting.contains_key(&key) => return Some((part, outcome)),
            outcome => outcome,
        };
        self.next_check += 1;
        let check = self.next_check;
        if outcome.is_none() {
            let (partition, records, terms) = (part.partition.clone(), part.records.clone(), part.terms);
            let permits = self.permits.clone();
            self.running.spawn(async move {
                let _permit = permits.acquire_owned().await;
                let checked = spawn_blocking(move || partition.check_produced(&records, terms)).await;
                let outcome = checked.unwrap_or_else(|error| {
                    error!(%error, "the check of a batch failed");
                    Err(ErrorCode::UnknownServerError.into())
                });
                (key, check, outcome)
            });
        }
        self.waiting_bytes += part.records.len();
        self.waiting
            .entry(key)
            .or_default()
            .push_back(Waiting { check, part, outcome });
        None
    }

    /// Waits for a check to end, and hands out the parts whose turn it is by that. Nothing is lost if dropped.
    pub(super) async fn next(&mut self) -> Vec<Ready> {
        let Some(Ok((key, check, outcome))) = self.running.join_next().await else {
            return Vec::new();
        };
        let Some(queue) = self.waiting.get_mut(&key) else {
            return Vec::new();
        };
        if let Some(waiting) = queue.iter_mut().find(|waiting| waiting.check == check) {
            waiting.outcome = Some(outcome);
        }
        let mut ready = Vec::new();
        while let Some(Waiting { check, part, outcome }) = queue.pop_front() {
            let Some(outcome) = outcome else {
                queue.push_front(Waiting {
                    check,
                    part,
                    outcome: None,
                });
                break;
            };
            self.waiting_bytes -= part.records.len();
            ready.push((part, outcome));
        }
        if queue.is_empty() {
            self.waiting.remove(&key);
        }
        ready
    }
}
