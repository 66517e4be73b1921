//! The bounded run of every `cargo test`: seeds without a violation, the same run for the same seed, mutants found.
//! `make sim SEEDS=…` runs more.

use strom_sim::mutants::{CLAIMS, QUICK_SEEDS_MAX};
use strom_sim::report::run_many;
use strom_sim::{Mutant, Settings, run};

const SEEDS: u64 = 500;
const THREADS: usize = 2;

#[test]
fn no_seed_violates_anything() {
    let mut text = Vec::new();
    let summary = run_many(0, SEEDS, THREADS, 3, &mut text);
    assert!(summary.failed.is_empty(), "{}", String::from_utf8_lossy(&text));
    println!("{}", summary.line());
    // The generator's coverage: a world in which nothing happens proves nothing.
    let total = &summary.total;
    assert!(total.acked > 200 * SEEDS && total.polled > 300 * SEEDS && total.commits > 10 * SEEDS);
    assert!(total.strikes > 8 * SEEDS && total.leader_epochs > 5 * SEEDS && total.terms > 2 * SEEDS);
}

#[test]
fn a_seed_repeats_itself() {
    let hash = |seed| {
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        run(settings).expect("no violation").hash
    };
    for seed in 0..10 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(1), hash(2));
}

#[test]
fn rules_that_are_switched_off_are_noticed() {
    let quick = CLAIMS.iter().filter(|claim| claim.seeds <= QUICK_SEEDS_MAX);
    let mut found = 0;
    for claim in quick {
        let mutant = Mutant::named(claim.name).expect("a rule of that name");
        let noticed = mutant.found_within(claim.seeds);
        let (seed, what) = noticed.unwrap_or_else(|| panic!("{} is not noticed", claim.name));
        println!(
            "{}: seed {seed}: {}",
            claim.name,
            what.lines().next().unwrap_or_default()
        );
        found += 1;
    }
    assert!(found >= 12, "only {found} mutants are looked for");
}
