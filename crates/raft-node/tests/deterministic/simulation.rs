//! Seeded runs of three drivers in a rough world: loss, repetition, reordering, partitions, crashes in mid-write.

use std::panic::catch_unwind;

use crate::world::{Weather, World};

const SEEDS: u64 = 150;
const STEPS: u64 = 1500;

fn run(seed: u64, weather: Weather) -> World {
    let mut world = World::new(seed, 3, weather);
    for _ in 0..STEPS {
        world.step();
    }
    world.converge();
    world
}

#[test]
fn nothing_acknowledged_is_lost() {
    let (mut acknowledged, mut indeterminate, mut reads, mut snapshots, mut elections) = (0, 0, 0, 0, 0);
    for seed in 0..SEEDS {
        let world = run(seed, Weather::STORM);
        let oracle = world.oracle.lock();
        acknowledged += oracle.acknowledged();
        indeterminate += oracle.indeterminate;
        reads += oracle.reads_served;
        snapshots += oracle.snapshots_restored;
        elections += oracle.elections;
    }
    println!(
        "{SEEDS} seeds: {acknowledged} acked, {indeterminate} indeterminate, {reads} reads, {snapshots} snapshots \
         restored, {elections} elections"
    );
    // The world must be rough, but not so rough that nothing happens in it.
    assert!(
        acknowledged > 50 * 150 && indeterminate > 100 && reads > 1000 && snapshots > 500 && elections > 300
    );
}

#[test]
fn a_seed_repeats_itself() {
    let hash = |seed| run(seed, Weather::STORM).oracle.lock().hash;
    for seed in [3, 77] {
        assert_eq!(hash(seed), hash(seed));
    }
    assert_ne!(hash(3), hash(77));
}

/// The mutant: acknowledgements leave before anything is on the disk.
#[test]
fn a_disk_that_does_not_sync_is_caught() {
    let caught = (0..40)
        .filter(|seed| {
            let seed = *seed;
            catch_unwind(move || {
                run(
                    seed,
                    Weather {
                        lying_disks: true,
                        ..Weather::STORM
                    },
                )
            })
            .is_err()
        })
        .count();
    println!("caught in {caught} of 40 seeds");
    assert!(caught >= 10, "only {caught} of 40 seeds noticed");
}
