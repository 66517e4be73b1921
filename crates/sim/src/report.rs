//! Runs many seeds, shows how far it is, and tells how a failing one is replayed.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::run::{Outcome, Settings, run};

/// Sums over seeds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub seeds: u64,
    pub total: Outcome,
    /// (seed, what was violated), lowest seed first.
    pub failed: Vec<(u64, String)>,
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: Result<Outcome, String>) {
        self.seeds += 1;
        match outcome {
            Ok(outcome) => {
                let total = &mut self.total;
                total.hash ^= outcome.hash.rotate_left(u32::try_from(seed % 64).unwrap_or(0));
                total.events += outcome.events;
                total.nanos += outcome.nanos;
                total.acked += outcome.acked;
                total.polled += outcome.polled;
                total.commits += outcome.commits;
                total.strikes += outcome.strikes;
                total.leader_epochs += outcome.leader_epochs;
                total.terms += outcome.terms;
            }
            Err(what) => {
                self.failed.push((seed, what));
                self.failed.sort_by_key(|(seed, _)| *seed);
            }
        }
    }

    pub fn line(&self) -> String {
        let total = &self.total;
        format!(
            "{} seeds, {} s simulated: {} faults, {} leader epochs, {} controller terms, {} acked, {} read, {} commits, \
             {} failed",
            self.seeds,
            total.nanos / 1_000_000_000,
            total.strikes,
            total.leader_epochs,
            total.terms,
            total.acked,
            total.polled,
            total.commits,
            self.failed.len()
        )
    }
}

fn first_line(what: &str) -> &str {
    what.lines().next().unwrap_or_default()
}

/// How to see a seed again.
pub fn replay(settings: Settings) -> String {
    let mutant = match settings.mutant {
        Some(crate::Mutant::Rule(name)) => format!(" --without {name}"),
        Some(crate::Mutant::RaftSync) => " --without raft_sync".to_owned(),
        None => String::new(),
    };
    format!(
        "cargo run -p strom-sim -- --seed {}{mutant} --trace",
        settings.seed
    )
}

/// Runs `seeds` seeds from `first` on, on so many threads; each run is a world of its own. Stops at `failures_max`.
pub fn run_many(
    first: u64,
    seeds: u64,
    threads: usize,
    failures_max: usize,
    out: &mut (dyn Write + Send),
) -> Summary {
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let shared = Mutex::new((Summary::default(), out));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let settings = Settings {
                        seed,
                        ..Settings::default()
                    };
                    let outcome = run(settings);
                    let Ok(mut shared) = shared.lock() else { return };
                    let (summary, out) = &mut *shared;
                    if let Err(what) = &outcome {
                        // Whoever does not listen misses it.
                        let _ = writeln!(
                            out,
                            "seed {seed}: {}\nreplay: {}",
                            first_line(what),
                            replay(settings)
                        );
                    }
                    summary.add(seed, outcome);
                    if summary.seeds % 100 == 0 {
                        let _ = writeln!(out, "{}", summary.line());
                    }
                    if summary.failed.len() >= failures_max {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    shared
        .into_inner()
        .map(|(summary, _)| summary)
        .unwrap_or_default()
}
