//! A randomized model of three replicas, a controller and a lossy network: safety under faults, then convergence;
//! and the proof that it notices rules that are switched off.

mod checks;
mod controller;
mod net;
mod node;
mod rng;
mod shell;
mod world;

use std::time::Duration;

use strom_types::LeaderEpoch;

use crate::{Durability, RoleKind, Rules};
use node::Node;
use world::World;

const SESSION: Duration = Duration::from_millis(200);
const SEEDS: u64 = 300;
const SEEDS_OF_A_MUTANT: u64 = 2000;
const TURNS: usize = 800;
const TURNS_TO_HEAL: usize = 4000;

#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    acked: u64,
    committed: i64,
    epochs: i32,
}

/// One seed: faults, then a healed cluster that must converge.
fn run(seed: u64, rules: Rules, durability: Durability) -> Result<Outcome, String> {
    let mut world = World::new(seed, rules, durability);
    for turn in 0..TURNS {
        world.turn().map_err(|e| format!("turn {turn}: {e}"))?;
    }
    let acked = world.checks.acked;
    world.heal();
    for turn in 0..TURNS_TO_HEAL {
        // The toy follower is too slow for the toy client: it need not catch up under load.
        world.load = turn < 200;
        world.turn().map_err(|e| format!("healing turn {turn}: {e}"))?;
        if turn > 200 && has_converged(&world) {
            return Ok(Outcome {
                acked,
                committed: world.checks.committed_end(),
                epochs: world.controller.partition.leader_epoch.get(),
            });
        }
    }
    let nodes: Vec<_> = world.nodes.iter().map(Node::describe).collect();
    Err(format!(
        "no convergence: {:?}\n{}",
        world.controller.partition,
        nodes.join("\n")
    ))
}

/// All three are in sync, and hold everything that was committed.
fn has_converged(world: &World) -> bool {
    let leaders = world.nodes.iter().filter(|node| {
        node.replica
            .as_ref()
            .is_some_and(|r| r.role() == RoleKind::Leader)
    });
    world.controller.partition.isr.len() == world.nodes.len()
        && leaders.count() == 1
        && world.nodes.iter().all(|node| {
            world
                .checks
                .holds_committed(&node.log, LeaderEpoch(i32::MAX))
                .is_ok()
        })
}

#[test]
fn the_rules_keep_every_invariant_and_converge() {
    keep_every_invariant(Durability::Durable);
}

#[test]
fn in_page_cache_mode_the_death_of_processes_loses_nothing() {
    keep_every_invariant(Durability::PageCache);
}

fn keep_every_invariant(durability: Durability) {
    let (mut acked, mut committed, mut epochs) = (0, 0, 0);
    for seed in 0..SEEDS {
        match run(seed, Rules::default(), durability) {
            Ok(outcome) => {
                acked += outcome.acked;
                committed += outcome.committed;
                epochs += outcome.epochs;
            }
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    // The generator's coverage: a model in which nothing happens proves nothing.
    println!("{SEEDS} seeds: {acked} acked under faults, {committed} committed, {epochs} leader epochs");
    assert!(acked > 20 * SEEDS, "only {acked} acknowledged");
    assert!(
        epochs > i32::try_from(5 * SEEDS).unwrap(),
        "only {epochs} leader epochs"
    );
}

/// The first seed that notices that `rule` is off.
fn found(rule: &str, seeds: u64) -> Option<(u64, String)> {
    let rules = Rules::without(rule).unwrap();
    (0..seeds).find_map(|seed| {
        run(seed, rules, Durability::Durable)
            .err()
            .map(|violation| (seed, violation))
    })
}

/// Rules whose absence one replica's table tests show, for nothing in this model breaks them: damaged records, leaders
/// that break the protocol, errors that only clients feel.
const UNSEEN_BY_THE_MODEL: [&str; 6] = [
    "verify_records",
    "stop_truncation_below_hw",
    "batch_epoch_order",
    "min_isr_before_append",
    "min_isr_after_append",
    "propose_only_eligible",
];

#[test]
fn each_rule_that_is_switched_off_is_noticed() {
    let missed: Vec<_> = Rules::NAMES
        .iter()
        .filter(|rule| !UNSEEN_BY_THE_MODEL.contains(rule))
        .filter(|rule| match found(rule, SEEDS_OF_A_MUTANT) {
            Some((seed, violation)) => {
                println!(
                    "{rule}: seed {seed}: {}",
                    violation.lines().next().unwrap_or_default()
                );
                false
            }
            None => true,
        })
        .collect();
    assert!(
        missed.is_empty(),
        "no seed below {SEEDS_OF_A_MUTANT} notices that these are off: {missed:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let outcome = |seed| run(seed, Rules::default(), Durability::Durable).unwrap();
    for seed in 0..10 {
        assert_eq!(outcome(seed), outcome(seed), "seed {seed}");
    }
}
