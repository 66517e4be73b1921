//! Durable appends on a real disk: MB/s and CPU-s/GB by batch size and number of logs; and starts with 10,000 logs.
//!
//! `cargo run --release -p strom-log --example append_bench -- DIR [many]`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use strom_log::{LeaderAppend, LogConfig, LogDir, LogDirConfig, LogError, LogListener};
use strom_records::{BatchBuilder, NewRecord};
use strom_types::{BrokerEpoch, LeaderEpoch, Offset, TopicId, TopicIdPartition, WallMs};
use uuid::Uuid;

type Done = Result<(), Box<dyn Error>>;

#[derive(Default)]
struct Counter {
    rounds: AtomicUsize,
}

impl LogListener for Counter {
    fn written(&self, _: &[(TopicIdPartition, Offset)]) {}
    fn flushed(&self, _: &[(TopicIdPartition, Offset)]) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }
    fn stalled(&self, _: &[TopicIdPartition]) {}
    fn failed(&self, error: &LogError) {
        eprintln!("failed: {error}");
    }
}

fn id(n: i32) -> TopicIdPartition {
    TopicIdPartition::new(TopicId(Uuid::from_u128(1)), n)
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn batch(size: usize) -> Result<Bytes, Box<dyn Error>> {
    let mut builder = BatchBuilder::new();
    builder.push(&NewRecord {
        timestamp: 1,
        key: None,
        value: Some(&vec![7; size]),
        headers: &[],
    })?;
    Ok(builder.build()?)
}

fn open(dir: &Path) -> Result<(LogDir, Arc<Counter>), LogError> {
    let counter = Arc::new(Counter::default());
    let config = LogDirConfig {
        node_id: 1,
        disk_reserve_bytes: 0,
        ..LogDirConfig::default()
    };
    Ok((LogDir::open(dir, config, counter.clone())?, counter))
}

fn append(dir: &Path, logs: i32, size: usize, seconds: f64) -> Done {
    let (log_dir, counter) = open(dir)?;
    let handles = (0..logs)
        .map(|n| log_dir.log(id(n), "topic", LogConfig::default()))
        .collect::<Result<Vec<_>, _>>()?;
    let batch = batch(size)?;
    let by = LeaderAppend {
        leader_epoch: LeaderEpoch(0),
        now: WallMs(1),
        log_append_time: false,
    };
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let (mut bytes, mut appends) = (0usize, 0usize);
    while started.elapsed().as_secs_f64() < seconds {
        for log in &handles {
            // A shared buffer, as from a socket.
            while log.append_as_leader(batch.clone(), by).is_err() {
                std::thread::sleep(Duration::from_micros(200));
            }
            bytes += batch.len();
            appends += 1;
        }
    }
    while handles
        .iter()
        .any(|log| log.durable_offset() < log.log_end_offset())
    {
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = started.elapsed().as_secs_f64();
    println!(
        "{logs} logs, batches of {size}: {:.0} MB/s durable, {:.2} CPU-s/GB, {:.0} appends/s, {} flush rounds",
        bytes as f64 / took / 1e6,
        (cpu_seconds() - cpu) / (bytes as f64 / 1e9),
        appends as f64 / took,
        counter.rounds.load(Ordering::Relaxed)
    );
    drop(log_dir);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// What one durable append of `size` bytes takes, alone.
fn latency(dir: &Path, size: usize) -> Done {
    let (log_dir, _) = open(dir)?;
    let log = log_dir.log(id(0), "topic", LogConfig::default())?;
    let batch = batch(size)?;
    let by = LeaderAppend {
        leader_epoch: LeaderEpoch(0),
        now: WallMs(1),
        log_append_time: false,
    };
    let mut took: Vec<f64> = Vec::new();
    for _ in 0..2_000 {
        let started = Instant::now();
        let end = log.append_as_leader(batch.clone(), by)?.last_offset;
        while log.durable_offset() <= end {
            std::hint::spin_loop();
        }
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    println!(
        "append of {size} to durable: p50 {:.2} ms, p99 {:.2} ms",
        took[1_000], took[1_980]
    );
    drop(log_dir);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn many(dir: &Path, logs: i32) -> Done {
    let (log_dir, _) = open(dir)?;
    let by = LeaderAppend {
        leader_epoch: LeaderEpoch(0),
        now: WallMs(1),
        log_append_time: false,
    };
    let batch = batch(1_000)?;
    let step = Instant::now();
    let mut handles = Vec::new();
    for n in 0..logs {
        handles.push(log_dir.log(id(n), "topic", LogConfig::default())?);
    }
    println!("{logs} empty logs: {:?}", step.elapsed());
    let step = Instant::now();
    for log in &handles {
        log.append_as_leader(batch.clone(), by)?;
    }
    while handles.iter().any(|log| log.durable_offset() < 1) {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("first append to each, durable: {:?}", step.elapsed());
    drop(handles);
    let step = Instant::now();
    log_dir.close(BrokerEpoch(1))?;
    println!("clean stop: {:?}", step.elapsed());
    drop(log_dir);
    for clean in [true, false] {
        let step = Instant::now();
        let (log_dir, _) = open(dir)?;
        let mut starts = Vec::new();
        for (id, topic) in log_dir.partitions() {
            let log = log_dir.log(id, topic.as_deref().unwrap_or_default(), LogConfig::default())?;
            starts.push((log, LeaderEpoch(if clean { 1 } else { 2 })));
        }
        println!(
            "{} logs opened, clean {clean}: {:?}",
            starts.len(),
            step.elapsed()
        );
        let step = Instant::now();
        log_dir.assign_epoch_starts(&starts)?;
        println!("an epoch start for each: {:?}", step.elapsed());
        // Dropped, not closed: the next start finds a crash.
        drop(log_dir);
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn main() -> Done {
    let dir = PathBuf::from(
        std::env::args()
            .nth(1)
            .unwrap_or_else(|| "append-bench.tmp".to_owned()),
    );
    if std::env::args().nth(2).as_deref() == Some("many") {
        return many(&dir, 10_000);
    }
    latency(&dir, 1_000)?;
    for (logs, size) in [
        (1, 1 << 20),
        (1, 64 << 10),
        (6, 16 << 10),
        (1, 200),
        (100, 16 << 10),
        (1_000, 4 << 10),
    ] {
        append(&dir, logs, size, 1.5)?;
    }
    many(&dir, 10_000)
}
