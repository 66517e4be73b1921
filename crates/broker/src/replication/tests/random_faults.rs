//! Random writes, breaks, restarts and leader changes; what was acknowledged with acks=all stays, everywhere.

use std::collections::HashMap;
use std::time::Duration;

use strom_replication::{Acks, RoleKind};
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, Settings, key, read_all};
use super::writing::Writer;

const PARTITIONS: i32 = 5;
const SEEDS: u64 = 8;

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
    /// One writer per partition, and the values whose outcome is open.
    writers: Vec<(Writer, HashMap<usize, String>)>,
    written: u32,
    acknowledged: Vec<(i32, i64, String)>,
}

impl World {
    fn leader(&self, partition: i32) -> i32 {
        let image = self.cluster.image();
        let state = image.partition(key(partition)).unwrap();
        state.leader.unwrap().get()
    }

    fn write(&mut self) {
        for _ in 0..self.random.below(30) {
            let partition = i32::try_from(self.random.below(5)).unwrap();
            let len = usize::try_from(self.random.below(4000)).unwrap();
            let value = format!("{}:{}", self.written, "x".repeat(len));
            self.written += 1;
            let replica = self.cluster.partition(self.leader(partition), partition);
            let (writer, waiting) = &mut self.writers[usize::try_from(partition).unwrap()];
            if let Ok(place) = writer.write(&replica, Acks::All, value.as_bytes()) {
                waiting.insert(place, value);
            }
        }
    }

    /// Outcomes carry offsets, which name the values.
    fn collect(&mut self) {
        for (partition, (writer, waiting)) in (0..).zip(&mut self.writers) {
            while let Some((place, outcome)) = writer.outcome_now() {
                let value = waiting.remove(&place).expect("answered twice");
                if let Ok(info) = outcome {
                    self.acknowledged.push((partition, info.base_offset, value));
                }
            }
        }
    }

    /// Lets most writes be answered.
    async fn pause(&mut self) {
        let deadline = Instant::now() + Duration::from_millis(100);
        while Instant::now() < deadline && self.writers.iter().any(|(_, waiting)| !waiting.is_empty()) {
            sleep(Duration::from_millis(1)).await;
            self.collect();
        }
    }

    /// Makes any member of each ISR leader; false when some partition has nobody but `without`.
    fn elect(&mut self, without: Option<i32>) -> bool {
        let mut all = true;
        let random = &mut self.random;
        self.cluster.change(|record| {
            let candidates: Vec<i32> = record
                .isr
                .iter()
                .copied()
                .filter(|id| Some(*id) != without)
                .collect();
            let at = usize::try_from(random.below(6)).unwrap();
            match candidates.get(at % candidates.len().max(1)) {
                Some(leader) => {
                    record.leader = *leader;
                    record.leader_epoch += 1;
                }
                None => all = false,
            }
        });
        all
    }

    /// Any broker, if others can lead what it leads.
    fn restart(&mut self) {
        let victim = 1 + i32::try_from(self.random.below(3)).unwrap();
        if !self.elect(Some(victim)) {
            return;
        }
        let power_loss = (self.random.below(2) == 0).then(|| self.random.below(1000));
        let disk = self.cluster.kill(victim, power_loss);
        self.write();
        self.cluster.restart(victim, disk);
    }
}

/// How much was acknowledged.
async fn run(seed: u64) -> usize {
    let cluster = Cluster::start(Settings {
        partitions: PARTITIONS,
        ..Settings::default()
    });
    let writers = (0..PARTITIONS).map(|_| (Writer::new(), HashMap::new()));
    let mut world = World {
        cluster,
        random: Random(seed),
        writers: writers.collect(),
        written: 0,
        acknowledged: Vec::new(),
    };
    for _ in 0..60 {
        match world.random.below(10) {
            0 => assert!(world.elect(None)),
            1 => world.restart(),
            2 => world
                .cluster
                .node(world.leader(0))
                .replication
                .streams
                .break_all(),
            3 | 4 => world.pause().await,
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
    world.acknowledged.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost() {
    let mut acknowledged = 0;
    for seed in 0..SEEDS {
        acknowledged += run(seed).await;
    }
    assert!(acknowledged > 100, "only {acknowledged} writes were acknowledged");
}
