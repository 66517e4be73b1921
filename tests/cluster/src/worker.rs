//! A group member that polls in the background and keeps what it has read and how its assignment changed.

use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use tokio::task::JoinHandle;

use crate::librdkafka::{Read, group_config};

type Shared<T> = Arc<std::sync::Mutex<Vec<T>>>;

fn lock<T>(shared: &Shared<T>) -> std::sync::MutexGuard<'_, Vec<T>> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A change of the assignment; partitions in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

/// Notes what the group does with this member.
#[derive(Clone, Default)]
pub struct Notes(Shared<Change>);

impl ClientContext for Notes {}

impl ConsumerContext for Notes {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let change = match rebalance {
            Rebalance::Assign(list) => Change::Assigned(partitions(list)),
            Rebalance::Revoke(list) => Change::Revoked(partitions(list)),
            Rebalance::Error(_) => return,
        };
        lock(&self.0).push(change);
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    let mut partitions: Vec<i32> = list
        .elements()
        .iter()
        .map(|element| element.partition())
        .collect();
    partitions.sort_unstable();
    partitions
}

/// Leaves the group when dropped, unless it is a static member.
pub struct Worker {
    consumer: Arc<StreamConsumer<Notes>>,
    notes: Notes,
    read: Shared<Read>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Subscribes and polls.
    pub fn start(bootstrap: &str, group: &str, topic: &str, settings: &[(&str, &str)]) -> Self {
        let notes = Notes::default();
        let config = group_config(bootstrap, group, settings);
        let consumer: StreamConsumer<Notes> = config.create_with_context(notes.clone()).expect("a consumer");
        consumer.subscribe(&[topic]).expect("a subscription");
        let consumer = Arc::new(consumer);
        let read = Shared::default();
        let (polled, into) = (Arc::clone(&consumer), Arc::clone(&read));
        let task = tokio::spawn(async move {
            loop {
                // Errors such as a lost connection pass by themselves.
                if let Ok(message) = polled.recv().await {
                    lock(&into).push(Read::of(&message));
                }
            }
        });
        Worker {
            consumer,
            notes,
            read,
            task,
        }
    }

    /// The partitions it has now, in order.
    pub fn assigned(&self) -> Vec<i32> {
        self.consumer
            .assignment()
            .map(|list| partitions(&list))
            .unwrap_or_default()
    }

    pub fn changes(&self) -> Vec<Change> {
        lock(&self.notes.0).clone()
    }

    pub fn read(&self) -> Vec<Read> {
        lock(&self.read).clone()
    }

    pub fn consumer(&self) -> &StreamConsumer<Notes> {
        &self.consumer
    }

    /// Leaves the group (a static member only goes away) and waits until that is done.
    pub async fn stop(self) {
        self.task.abort();
        // Its clone of the consumer is gone then.
        let _ = self.task.await;
        let consumer = self.consumer;
        // Closing blocks until the group has been left.
        tokio::task::spawn_blocking(move || drop(consumer))
            .await
            .expect("a closed consumer");
    }
}

/// Waits until the workers have so many partitions, in any order, each partition once.
pub async fn settled(workers: &[&Worker], counts: &[usize]) {
    let mut wanted = counts.to_vec();
    wanted.sort_unstable();
    crate::until("a settled group", || async {
        let assigned: Vec<Vec<i32>> = workers.iter().map(|worker| worker.assigned()).collect();
        let mut have: Vec<usize> = assigned.iter().map(Vec::len).collect();
        have.sort_unstable();
        let mut all: Vec<i32> = assigned.into_iter().flatten().collect();
        let total = all.len();
        all.sort_unstable();
        all.dedup();
        (have == wanted && all.len() == total).then_some(())
    })
    .await;
}
