//! The proof that the simulator notices: rules that are switched off, and within how many seeds each is found.

use strom_replication::Rules;

use crate::run::{Settings, run};

/// A rule that is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// Of `strom_replication::Rules`, by name.
    Rule(&'static str),
    /// Controllers lose what they have synced: messages that vouched for a write were sent before it was safe.
    RaftSync,
}

/// Name, fault of reliability.md's table that it brings back, seeds within which it must be found.
pub struct Claim {
    pub name: &'static str,
    pub fault: &'static str,
    pub seeds: u64,
}

const fn claim(name: &'static str, fault: &'static str, seeds: u64) -> Claim {
    Claim { name, fault, seeds }
}

/// Claims of at most so many seeds are checked by every `cargo test`.
pub const QUICK_SEEDS_MAX: u64 = 200;

pub const CLAIMS: &[Claim] = &[
    claim("truncate_by_epoch", "1", 50),
    claim("floor_on_both_sides", "2", 3000),
    claim("fence_fetch_epoch", "3", 2000),
    claim("persist_epoch_start", "5", 200),
    claim("check_divergence", "7", 50),
    claim("act_only_when_registered", "12", 3000),
    claim("refuse_unverifiable", "[+]", 1000),
    claim("hw_needs_min_isr", "15", 50),
    claim("hw_over_maximal_isr", "16", 50),
    claim("roll_back_only_when_refused", "17", 200),
    claim("latest_waits_for_epoch_start", "18", 200),
    claim("lease_fences_acks", "19", 100),
    claim("lease_fences_reads", "20", 100),
    claim("count_durable_only", "22", 50),
    claim("restart_at_log_start", "31", 50),
    claim("match_replies", "F1", 50),
    claim("propose_only_eligible", "10", 4000),
    claim("fail_waiters_of_old_epochs", "8", 1000),
    claim("raft_sync", "raft-rs: send before sync", 50),
];

impl Mutant {
    /// By a rule's name, or `raft_sync`.
    pub fn named(name: &str) -> Option<Mutant> {
        if name == "raft_sync" {
            return Some(Mutant::RaftSync);
        }
        let rule = Rules::NAMES.iter().find(|rule| **rule == name)?;
        Some(Mutant::Rule(rule))
    }

    pub(crate) fn rules(self) -> Rules {
        match self {
            Mutant::Rule(name) => Rules::without(name).unwrap_or_default(),
            Mutant::RaftSync => Rules::default(),
        }
    }

    /// All that there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Rules::NAMES.iter().copied().chain(["raft_sync"])
    }

    /// The first of so many seeds that notices, and what it noticed.
    pub fn found_within(self, seeds: u64) -> Option<(u64, String)> {
        (0..seeds).find_map(|seed| {
            let settings = Settings {
                seed,
                mutant: Some(self),
                print: false,
            };
            run(settings).err().map(|what| (seed, what))
        })
    }
}
