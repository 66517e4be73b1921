//! What the tests of the log share: batches, a listener that remembers, directories on a faulty disk.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use strom_log::{
    AppendError, AppendInfo, FaultStorage, FollowerAppend, LeaderAppend, Log, LogConfig, LogDir,
    LogDirConfig, LogError, LogListener,
};
use strom_records::{BatchBuilder, BatchIter, NewRecord};
use strom_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, TopicIdPartition, WallMs};
use uuid::Uuid;

#[derive(Default, Debug)]
pub struct Heard {
    pub written: Vec<(TopicIdPartition, Offset)>,
    pub flushed: Vec<(TopicIdPartition, Offset)>,
    pub stalled: Vec<TopicIdPartition>,
    pub failures: Vec<String>,
}

#[derive(Default, Debug)]
pub struct Ear(pub Mutex<Heard>);

impl LogListener for Ear {
    fn written(&self, logs: &[(TopicIdPartition, Offset)]) {
        self.0.lock().written.extend_from_slice(logs);
    }

    fn flushed(&self, logs: &[(TopicIdPartition, Offset)]) {
        self.0.lock().flushed.extend_from_slice(logs);
    }

    fn stalled(&self, logs: &[TopicIdPartition]) {
        self.0.lock().stalled.extend_from_slice(logs);
    }

    fn failed(&self, error: &LogError) {
        self.0.lock().failures.push(error.to_string());
    }
}

impl Ear {
    /// The newest durable end heard of.
    pub fn durable(&self, id: TopicIdPartition) -> Offset {
        self.0
            .lock()
            .flushed
            .iter()
            .rev()
            .find(|(log, _)| *log == id)
            .map_or(0, |(_, offset)| *offset)
    }
}

pub fn id(n: u128) -> TopicIdPartition {
    TopicIdPartition::new(TopicId(Uuid::from_u128(n + 1)), 0)
}

pub fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 1_000,
        index_interval_bytes: 200,
        ..LogConfig::default()
    }
}

pub fn manual() -> LogDirConfig {
    LogDirConfig {
        cluster_id: Some("c1".to_owned()),
        node_id: 1,
        disk_reserve_bytes: 0,
        wal_bytes_max: 0,
        threads: false,
        ..LogDirConfig::default()
    }
}

/// The same with a write-ahead log of four small files.
pub fn with_wal() -> LogDirConfig {
    LogDirConfig {
        wal_bytes_max: 4 * 32 * 1024,
        wal_file_bytes: 32 * 1024,
        ..manual()
    }
}

pub fn on(disk: &FaultStorage, config: LogDirConfig) -> (LogDir, Arc<Ear>) {
    let ear = Arc::new(Ear::default());
    let dir = LogDir::open_on(Arc::new(disk.clone()), &root(), config, ear.clone()).unwrap();
    (dir, ear)
}

pub fn root() -> PathBuf {
    PathBuf::from("/data")
}

/// `count` records of `size` bytes each, the first at `timestamp`, one millisecond apart.
pub fn batch(count: i64, size: usize, timestamp: i64, fill: u8) -> Bytes {
    fill_batch(BatchBuilder::new(), count, size, timestamp, fill)
}

pub fn producer_batch(id: i64, epoch: i16, sequence: i32, count: i64) -> Bytes {
    let builder = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    fill_batch(builder, count, 10, 1_000, 7)
}

pub fn fill_batch(mut builder: BatchBuilder, count: i64, size: usize, timestamp: i64, fill: u8) -> Bytes {
    let value = vec![fill; size];
    for i in 0..count {
        let record = NewRecord {
            timestamp: timestamp + i,
            key: None,
            value: Some(&value),
            headers: &[],
        };
        builder.push(&record).unwrap();
    }
    builder.build().unwrap()
}

pub fn lead(epoch: i32) -> LeaderAppend {
    LeaderAppend {
        leader_epoch: LeaderEpoch(epoch),
        now: WallMs(5_000),
        log_append_time: false,
    }
}

pub fn follow(epoch: i32) -> FollowerAppend {
    FollowerAppend {
        leader_epoch: LeaderEpoch(epoch),
        now: WallMs(5_000),
    }
}

pub fn append(log: &Log, count: i64, size: usize) -> Result<AppendInfo, AppendError> {
    log.append_as_leader(batch(count, size, 1_000, 3), lead(0))
}

/// Writes and flushes everything.
pub fn settle(dir: &LogDir) {
    dir.write_round();
    dir.flush_round();
}

/// All batches from the log's start to `bound`, read in pieces of `max_bytes`: (base offset, last offset, bytes).
pub fn read_all(log: &Log, bound: Offset, max_bytes: usize) -> Vec<(Offset, Offset, Bytes)> {
    let mut all = Vec::new();
    let mut from = log.log_start_offset();
    loop {
        let chunk = log.read(from, max_bytes, bound, true).unwrap();
        if chunk.records.is_empty() {
            return all;
        }
        let mut walk = BatchIter::new(chunk.records.clone());
        for batch in &mut walk {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            all.push((
                batch.header.base_offset,
                batch.header.last_offset(),
                batch.bytes.clone(),
            ));
        }
        assert!(walk.tail().is_empty(), "only whole batches");
        assert_eq!(all.last().map(|(_, last, _)| last + 1), Some(chunk.next_offset));
        from = chunk.next_offset;
    }
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
