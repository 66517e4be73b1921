//! How a flush round syncs: each dirty file by itself, or the whole file system at once; docs/durability.md has the figures.

use std::time::Duration;

use crate::config::SyncMode;

/// Weight of the newest sample in a running estimate: an eighth.
const SHIFT: u32 = 3;
/// So few are synced one by one whatever that costs: they hold much each, or are synced in the background (small appends
/// become durable in the write-ahead log), while the price of a sync of the file system has no bound: it writes what
/// others have dirtied there too.
const FEW_FILES: usize = 16;
/// Rounds after which the estimate of the way not taken is halved, so that it gets another chance.
const FORGET_ROUNDS: u32 = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SyncWay {
    EachFile,
    FileSystem,
}

/// Running estimates, in nanoseconds.
#[derive(Debug)]
pub(crate) struct SyncPolicy {
    per_file: u64,
    file_system: u64,
    rounds: u32,
}

impl Default for SyncPolicy {
    /// What a quiet NVMe-like disk showed.
    fn default() -> Self {
        SyncPolicy {
            per_file: 150_000,
            file_system: 300_000,
            rounds: 0,
        }
    }
}

impl SyncPolicy {
    pub(crate) fn choose(&self, mode: SyncMode, files: usize) -> SyncWay {
        match mode {
            SyncMode::Auto => {}
            SyncMode::EachFile => return SyncWay::EachFile,
            SyncMode::FileSystem => return SyncWay::FileSystem,
        }
        let each = self.per_file.saturating_mul(files as u64);
        if files <= FEW_FILES || each <= self.file_system {
            SyncWay::EachFile
        } else {
            SyncWay::FileSystem
        }
    }

    pub(crate) fn learn(&mut self, way: SyncWay, files: usize, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX >> 8);
        let mix = |old: u64, new: u64| (old - (old >> SHIFT)).saturating_add(new >> SHIFT).max(1_000);
        self.rounds = self.rounds.wrapping_add(1);
        let forget = self.rounds.is_multiple_of(FORGET_ROUNDS);
        match way {
            SyncWay::EachFile => {
                self.per_file = mix(self.per_file, took / (files as u64).max(1));
                self.file_system >>= u32::from(forget && files > 1);
            }
            SyncWay::FileSystem => {
                self.file_system = mix(self.file_system, took);
                self.per_file >>= u32::from(forget);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_cost() {
        let mut policy = SyncPolicy::default();
        assert_eq!(policy.choose(SyncMode::Auto, FEW_FILES), SyncWay::EachFile);
        assert_eq!(policy.choose(SyncMode::Auto, 30), SyncWay::FileSystem);
        // Somebody else fills the file system.
        for _ in 0..20 {
            policy.learn(SyncWay::FileSystem, 30, Duration::from_millis(80));
        }
        assert_eq!(policy.choose(SyncMode::Auto, 30), SyncWay::EachFile);
        assert_eq!(policy.choose(SyncMode::Auto, 1_000), SyncWay::FileSystem);
        // And stops: the dearer way is tried again in the end.
        let tried = (0..2_000).any(|_| {
            policy.learn(SyncWay::EachFile, 30, Duration::from_millis(6));
            policy.choose(SyncMode::Auto, 30) == SyncWay::FileSystem
        });
        assert!(tried);
    }
}
