//! Random writes, breaks, restarts and leader changes; what was acknowledged with acks=all stays, everywhere.

use std::time::Duration;

use strom_replication::{Acks, RoleKind};

use super::cluster::{Cluster, Settings, read_all};
use super::writing::Writer;

const PARTITIONS: i32 = 5;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

struct World {
    cluster: Cluster,
    random: Random,
    /// One writer per partition; (value, outcome) in order.
    writers: Vec<(Writer, Vec<String>)>,
    written: u32,
    acknowledged: Vec<(i32, i64, String)>,
}

impl World {
    fn leader(&self) -> i32 {
        let image = self.cluster.image();
        let state = image.partition(super::cluster::key(0)).unwrap();
        state.leader.unwrap().get()
    }

    fn write(&mut self) {
        let leader = self.leader();
        for _ in 0..self.random.below(30) {
            let partition = i32::try_from(self.random.below(5)).unwrap();
            let len = usize::try_from(self.random.below(4000)).unwrap();
            let value = format!("{}:{}", self.written, "x".repeat(len));
            self.written += 1;
            let replica = self.cluster.partition(leader, partition);
            let (writer, waiting) = &mut self.writers[usize::try_from(partition).unwrap()];
            if writer.write(&replica, Acks::All, value.as_bytes()).is_ok() {
                waiting.push(value);
            }
        }
    }

    /// Outcomes carry offsets, which name the values.
    fn collect(&mut self) {
        for (partition, (writer, waiting)) in (0..).zip(&mut self.writers) {
            while let Some(outcome) = writer.outcome_now() {
                // All waiters of a partition are answered in the order of their writes.
                let value = waiting.remove(0);
                if let Ok(info) = outcome {
                    self.acknowledged.push((partition, info.base_offset, value));
                }
            }
        }
    }

    /// A leader that every member of its ISR can follow: somebody of the ISR.
    fn elect(&mut self) {
        let image = self.cluster.image();
        let mut candidates = vec![1, 2, 3];
        for partition in 0..PARTITIONS {
            let state = image.partition(super::cluster::key(partition)).unwrap();
            candidates.retain(|id| state.isr.iter().any(|member| member.get() == *id));
        }
        let at = usize::try_from(self.random.below(3)).unwrap() % candidates.len();
        let leader = candidates[at];
        self.cluster.change(|record| {
            record.leader = leader;
            record.leader_epoch += 1;
        });
    }

    async fn restart(&mut self) {
        let leader = self.leader();
        let others: Vec<i32> = (1..=3).filter(|id| *id != leader).collect();
        let victim = others[usize::try_from(self.random.below(2)).unwrap()];
        let disk = self.cluster.kill(victim);
        self.write();
        let disk = if self.random.below(2) == 0 {
            disk.after_kill()
        } else {
            disk.after_power_loss(self.random.below(1000))
        };
        self.cluster.restart(victim, disk);
    }
}

async fn run(seed: u64) {
    let cluster = Cluster::start(Settings {
        partitions: PARTITIONS,
        ..Settings::default()
    });
    let writers = (0..PARTITIONS).map(|_| (Writer::new(), Vec::new()));
    let mut world = World {
        cluster,
        random: Random(seed),
        writers: writers.collect(),
        written: 0,
        acknowledged: Vec::new(),
    };
    for _ in 0..40 {
        match world.random.below(10) {
            0 => world.elect(),
            1 => world.restart().await,
            2 => world.cluster.node(world.leader()).replication.streams.break_all(),
            3 => tokio::time::sleep(Duration::from_millis(world.random.below(20))).await,
            _ => world.write(),
        }
        world.collect();
    }
    world.cluster.converge().await;
    world.collect();
    for id in 1..=3 {
        for partition in 0..PARTITIONS {
            assert_ne!(
                world.cluster.partition(id, partition).role(),
                RoleKind::Quarantined
            );
        }
    }
    for (partition, offset, value) in &world.acknowledged {
        let replica = world
            .cluster
            .partition(1 + i32::try_from(seed % 3).unwrap(), *partition);
        let bytes = read_all(&replica, *offset, offset + 1);
        let holds = bytes
            .windows(value.len())
            .any(|window| window == value.as_bytes());
        assert!(holds, "seed {seed}: partition {partition} lost offset {offset}");
    }
    assert!(!world.acknowledged.is_empty(), "seed {seed} acknowledged nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost() {
    for seed in 0..6 {
        run(seed).await;
    }
}
