//! Measures how to make many appended segment files durable at once: the evidence behind docs/durability.md.
//!
//! `cargo run -p strom-log --example sync_strategies -- DIR [SECONDS_PER_CASE]`

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, FallocateFlags};

const JOURNAL_BYTES: u64 = 256 << 20;
/// Rounds of one strategy before the next one has its turn, so that all see the same noise.
const BLOCK_ROUNDS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Strategy {
    Sequential,
    Threads(usize),
    StartThenSequential,
    StartThenThreads(usize),
    Syncfs,
    Journal,
}

const STRATEGIES: [Strategy; 7] = [
    Strategy::Sequential,
    Strategy::Threads(4),
    Strategy::Threads(16),
    Strategy::StartThenSequential,
    Strategy::StartThenThreads(4),
    Strategy::Syncfs,
    Strategy::Journal,
];

struct Case {
    segments: Vec<(File, u64)>,
    journal: File,
    journal_at: u64,
    filesystem: File,
    payload: Vec<u8>,
}

impl Case {
    fn open(dir: &Path, files: usize, bytes: usize) -> io::Result<Case> {
        let mut segments = Vec::with_capacity(files);
        for i in 0..files {
            let partition = dir.join(format!("p-{i}"));
            std::fs::create_dir_all(&partition)?;
            let path = partition.join("00000000000000000000.log");
            let file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .open(path)?;
            segments.push((file, 0));
        }
        let journal = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(dir.join("journal"))?;
        rustix::fs::fallocate(&journal, FallocateFlags::empty(), 0, JOURNAL_BYTES)?;
        let zeros = vec![0u8; 1 << 20];
        for chunk in 0..(JOURNAL_BYTES >> 20) {
            journal.write_all_at(&zeros, chunk << 20)?;
        }
        rustix::fs::syncfs(&journal)?;
        Ok(Case {
            segments,
            journal,
            journal_at: 0,
            filesystem: File::open(dir)?,
            payload: vec![0x5a; bytes],
        })
    }

    /// Appends one payload to each segment and makes all durable; the time of both together.
    fn round(&mut self, strategy: Strategy) -> io::Result<Duration> {
        let started = Instant::now();
        if matches!(strategy, Strategy::Journal) {
            self.write_journal()?;
        }
        for (file, at) in &mut self.segments {
            file.write_all_at(&self.payload, *at)?;
            *at += self.payload.len() as u64;
        }
        match strategy {
            Strategy::Sequential => sync_each(&self.segments)?,
            Strategy::Threads(n) => self.sync_from_threads(n)?,
            Strategy::StartThenSequential => {
                self.start_writeback()?;
                sync_each(&self.segments)?;
            }
            Strategy::StartThenThreads(n) => {
                self.start_writeback()?;
                self.sync_from_threads(n)?;
            }
            Strategy::Syncfs => rustix::fs::syncfs(&self.filesystem)?,
            Strategy::Journal => {}
        }
        Ok(started.elapsed())
    }

    fn sync_from_threads(&self, threads: usize) -> io::Result<()> {
        let share = self.segments.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let workers: Vec<_> = self
                .segments
                .chunks(share)
                .map(|chunk| scope.spawn(|| sync_each(chunk)))
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(io::Error::other("panic"))))
        })
    }

    /// `sync_file_range(SYNC_FILE_RANGE_WRITE)` has no safe binding; `POSIX_FADV_DONTNEED` starts the same
    /// asynchronous write-back of dirty pages (mm/fadvise.c) and finds no clean pages worth dropping here.
    fn start_writeback(&self) -> io::Result<()> {
        for (file, at) in &self.segments {
            let from = at - self.payload.len() as u64;
            let len = std::num::NonZeroU64::new(self.payload.len() as u64);
            rustix::fs::fadvise(file, from, len, Advice::DontNeed)?;
        }
        Ok(())
    }

    fn write_journal(&mut self) -> io::Result<()> {
        let total = (self.payload.len() * self.segments.len()) as u64;
        if self.journal_at + total > JOURNAL_BYTES {
            self.journal_at = 0;
        }
        let mut left = self.segments.len();
        while left > 0 {
            let slices = vec![IoSlice::new(&self.payload); left.min(1024)];
            let written = rustix::io::pwritev(&self.journal, &slices, self.journal_at)?;
            left -= written / self.payload.len();
            self.journal_at += written as u64;
        }
        rustix::fs::fdatasync(&self.journal)?;
        Ok(())
    }
}

fn sync_each(segments: &[(File, u64)]) -> io::Result<()> {
    segments.iter().try_for_each(|(file, _)| file.sync_data())
}

fn percentile(sorted: &[Duration], p: f64) -> f64 {
    let at = ((sorted.len() as f64 - 1.0) * p).round() as usize;
    sorted.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
}

fn measure(dir: &Path, files: usize, bytes: usize, budget: Duration) -> io::Result<()> {
    let mut case = Case::open(dir, files, bytes)?;
    let mut samples: Vec<Vec<Duration>> = vec![Vec::new(); STRATEGIES.len()];
    let started = Instant::now();
    while started.elapsed() < budget || samples.iter().any(|s| s.len() < 6) {
        for (strategy, samples) in STRATEGIES.iter().zip(&mut samples) {
            rustix::fs::syncfs(&case.filesystem)?;
            for _ in 0..BLOCK_ROUNDS {
                samples.push(case.round(*strategy)?);
            }
        }
    }
    for (strategy, mut samples) in STRATEGIES.iter().zip(samples) {
        samples.sort();
        let mean = samples.iter().sum::<Duration>().as_secs_f64() / samples.len() as f64;
        println!(
            "| {files} | {} KiB | {strategy:?} | {:.2} | {:.2} | {:.1} | {} |",
            bytes >> 10,
            percentile(&samples, 0.5),
            percentile(&samples, 0.99),
            (files * bytes) as f64 / mean / 1e6,
            samples.len()
        );
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "sync-strategies.tmp".to_owned()));
    let seconds: u64 = args.next().and_then(|s| s.parse().ok()).unwrap_or(8);
    println!(
        "| files | append | strategy | p50 ms | p99 ms | MB/s | rounds |\n|---|---|---|---|---|---|---|"
    );
    for bytes in [4 << 10, 16 << 10] {
        for files in [1, 10, 100, 1000] {
            let case = dir.join(format!("{files}-{bytes}"));
            std::fs::create_dir_all(&case)?;
            measure(&case, files, bytes, Duration::from_secs(seconds))?;
            std::fs::remove_dir_all(&case)?;
        }
    }
    std::fs::remove_dir(&dir)
}
