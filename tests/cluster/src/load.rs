//! A load of numbered records with acks=all, and the judge of what is read back: everything acknowledged once, in
//! order, nothing twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use rdkafka::producer::FutureRecord;
use tokio::task::JoinHandle;

use crate::librdkafka::{self, Read};

/// Records in flight.
const WINDOW: usize = 200;
const ENQUEUE_MAX: Duration = Duration::from_secs(20);

/// A running load on the partitions of one topic.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: JoinHandle<History>,
}

/// What was acknowledged, by partition: number and offset, in the order they were sent.
#[derive(Debug, Default)]
pub struct History {
    pub acknowledged: BTreeMap<i32, Vec<(u64, i64)>>,
    /// Errors that the client gave up with.
    pub failed: Vec<String>,
}

impl Load {
    /// Sends numbered records from `first` on, round robin over the partitions, until stopped.
    pub fn start(bootstrap: &str, topic: &str, partitions: i32, first: u64) -> Self {
        let producer = librdkafka::producer(bootstrap);
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(send(
            producer,
            topic.to_owned(),
            partitions,
            first,
            (Arc::clone(&stop), Arc::clone(&acknowledged)),
        ));
        Load {
            stop,
            acknowledged,
            task,
        }
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` further records are acknowledged.
    pub async fn wait_for(&self, more: u64) {
        let goal = self.acknowledged() + more;
        crate::until("acknowledgements", || async {
            (self.acknowledged() >= goal).then_some(())
        })
        .await;
    }

    /// Ends the load: what is in flight is waited for.
    pub async fn stop(self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the load's task")
    }
}

async fn send(
    producer: librdkafka::Producer,
    topic: String,
    partitions: i32,
    first: u64,
    (stop, acknowledged): (Arc<AtomicBool>, Arc<AtomicU64>),
) -> History {
    let mut history = History::default();
    let mut in_flight = FuturesUnordered::new();
    let mut number = first;
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        if stopping && in_flight.is_empty() {
            break;
        }
        while !stopping && in_flight.len() < WINDOW {
            let partition = i32::try_from(number % u64::from(partitions.unsigned_abs())).unwrap_or(0);
            let (producer, topic, sent) = (producer.clone(), topic.clone(), number);
            number += 1;
            // Enqueued here, so that the numbers of a partition are sent in order.
            let text = sent.to_string();
            let record = FutureRecord::to(&topic)
                .partition(partition)
                .key("k")
                .payload(&text);
            match producer.send_result(record) {
                Ok(delivery) => in_flight.push(async move { (sent, delivery.await) }),
                Err((error, _)) => {
                    history.failed.push(format!("{sent}: {error}"));
                    break;
                }
            }
        }
        if let Ok(Some((sent, delivery))) = tokio::time::timeout(ENQUEUE_MAX, in_flight.next()).await {
            match delivery {
                Ok(Ok(delivery)) => {
                    let of = history.acknowledged.entry(delivery.partition).or_default();
                    of.push((sent, delivery.offset));
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Err((error, _))) => history.failed.push(format!("{sent}: {error}")),
                Err(_) => history.failed.push(format!("{sent}: the producer went away")),
            }
        }
    }
    for of in history.acknowledged.values_mut() {
        of.sort_unstable();
    }
    history
}

impl History {
    /// Judges one partition as it was read back.
    ///
    /// # Panics
    ///
    /// When an acknowledged record is missing or elsewhere, one is there twice, or the order is not the sender's.
    pub fn check(&self, partition: i32, read: &[Read]) {
        let numbers: Vec<u64> = read
            .iter()
            .map(|read| read.value.parse().expect("a number"))
            .collect();
        for pair in numbers.windows(2) {
            if let [earlier, later] = pair {
                assert!(
                    earlier < later,
                    "partition {partition}: {earlier} comes before {later}"
                );
            }
        }
        let offsets: Vec<i64> = read.iter().map(|read| read.offset).collect();
        for pair in offsets.windows(2) {
            if let [earlier, later] = pair {
                assert_eq!(
                    earlier + 1,
                    *later,
                    "partition {partition}: a hole in the offsets"
                );
            }
        }
        let by_number: BTreeMap<u64, i64> = numbers.into_iter().zip(offsets).collect();
        for (number, offset) in self.acknowledged.get(&partition).into_iter().flatten() {
            let found = by_number.get(number);
            assert_eq!(
                found,
                Some(offset),
                "partition {partition}: record {number} was acknowledged"
            );
        }
    }
}
