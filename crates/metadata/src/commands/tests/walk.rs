//! A seeded random walk: commands in any order, with the invariants checked after each.

use super::super::{BrokerChange, Command};
use crate::image::{Delta, Image};
use crate::testing::{World, uuid_bytes};
use crate::v1;
use bytes::Bytes;
use strom_types::{BrokerId, Mono, TopicIdPartition};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

const BROKERS: u64 = 4;

fn register(random: &mut Random, world: &World) -> Command {
    let id = 1 + random.below(BROKERS);
    let disk = if random.chance(15) {
        id + 10 * (1 + random.below(3))
    } else {
        id
    };
    let broker_id = i32::try_from(id).expect("small");
    let clean = world
        .image
        .broker(BrokerId(broker_id))
        .filter(|_| random.chance(50))
        .map_or(-1, |broker| broker.epoch.get());
    Command::RegisterBroker(v1::RegisterBrokerRequest {
        cluster_id: String::new(),
        broker_id,
        incarnation: uuid_bytes(u128::from(random.below(u64::MAX - 1)) + 1),
        rack: String::new(),
        endpoint: "h:1".into(),
        directories: vec![v1::LogDirectory {
            directory_id: uuid_bytes(u128::from(disk)),
            online: true,
        }],
        previous_clean_epoch: clean,
    })
}

fn change_broker(random: &mut Random, world: &World) -> Option<Command> {
    let brokers: Vec<_> = world.image.brokers().collect();
    let at = usize::try_from(random.below(brokers.len().max(1) as u64)).ok()?;
    let broker = brokers.get(at)?;
    Some(Command::ChangeBroker(BrokerChange {
        broker: broker.id,
        epoch: broker.epoch,
        fenced: random.chance(40),
        in_controlled_shutdown: random.chance(10),
        disk_full: random.chance(50).then(|| random.chance(30)),
        offline_directories: Vec::new(),
    }))
}

fn create(random: &mut Random, step: u64) -> Command {
    let configs: &[(&str, &str)] = &[
        ("min.insync.replicas", "2"),
        ("unclean.leader.election.enable", "true"),
        ("strom.durability", "page_cache"),
    ];
    let chosen = configs.iter().filter(|_| random.chance(40));
    let configs = chosen.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Command::CreateTopics(v1::CreateTopicsRequest {
        topics: vec![v1::NewTopic {
            name: format!("t{}", random.below(6)),
            partitions: 1 + i32::try_from(random.below(4)).expect("small"),
            replication_factor: 1 + i32::try_from(random.below(4)).expect("small"),
            configs,
            topic_id: uuid_bytes(u128::from(step) + 1_000_000),
            ..Default::default()
        }],
        validate_only: random.chance(5),
    })
}

fn some_partition(random: &mut Random, world: &World) -> Option<TopicIdPartition> {
    let all: Vec<_> = world.image.partitions().map(|(key, _)| key).collect();
    let at = random.below(all.len().max(1) as u64);
    all.get(usize::try_from(at).ok()?).copied()
}

fn alter_partition(random: &mut Random, world: &World) -> Option<Command> {
    let key = some_partition(random, world)?;
    let state = world.image.partition(key)?;
    let leader = state.leader?;
    let member = |id: &BrokerId| v1::IsrMember {
        broker_id: id.get(),
        broker_epoch: world.image.broker(*id).map_or(-1, |broker| broker.epoch.get()),
    };
    let isr = state
        .replicas
        .iter()
        .filter(|id| **id == leader || random.chance(60));
    Some(Command::AlterPartition(v1::AlterPartitionRequest {
        broker_id: leader.get(),
        broker_epoch: world.epoch(leader.get()).get(),
        partitions: vec![v1::AlterPartition {
            topic_id: Bytes::copy_from_slice(key.topic_id.as_bytes()),
            partition: key.partition,
            leader_epoch: state.leader_epoch.get(),
            partition_epoch: state.partition_epoch.get(),
            new_isr: isr.map(member).collect(),
            recovery_state: 0,
        }],
    }))
}

fn topic_command(random: &mut Random) -> Command {
    let name = format!("t{}", random.below(6));
    match random.below(4) {
        0 => Command::DeleteTopics(v1::DeleteTopicsRequest {
            topics: vec![v1::TopicName {
                name,
                topic_id: Bytes::new(),
            }],
        }),
        1 => Command::CreatePartitions(v1::CreatePartitionsRequest {
            topics: vec![v1::NewPartitions {
                name,
                count: 1 + i32::try_from(random.below(6)).expect("small"),
                assignments: vec![],
            }],
            validate_only: false,
        }),
        2 => Command::ElectLeaders(v1::ElectLeadersRequest {
            unclean: random.chance(30),
            partitions: vec![],
            all: true,
        }),
        _ => {
            let everywhere = random.chance(30);
            let resource_type = if everywhere {
                v1::ConfigResourceType::Broker
            } else {
                v1::ConfigResourceType::Topic
            };
            Command::AlterConfigs(v1::AlterConfigsRequest {
                resources: vec![v1::AlterConfigsResource {
                    resource_type: resource_type.into(),
                    resource_name: if everywhere { String::new() } else { name },
                    ops: vec![v1::ConfigOp {
                        key: "min.insync.replicas".into(),
                        kind: 0,
                        value: Some((1 + random.below(3)).to_string()),
                    }],
                    replace_all: false,
                }],
                validate_only: false,
            })
        }
    }
}

fn command(random: &mut Random, world: &World, step: u64) -> Option<Command> {
    match random.below(100) {
        0..15 => Some(register(random, world)),
        15..45 => change_broker(random, world),
        45..55 => Some(create(random, step)),
        55..80 => alter_partition(random, world),
        80..82 => Some(Command::UnregisterBroker(v1::UnregisterBrokerRequest {
            broker_id: 1 + i32::try_from(random.below(BROKERS)).expect("small"),
        })),
        82..84 => Some(Command::RebalanceLeaders),
        84..86 => some_partition(random, world).and_then(|key| {
            let broker = world.image.broker(world.image.partition(key)?.leader?)?;
            Some(Command::DropDamaged {
                broker: broker.id,
                epoch: broker.epoch,
                replicas: vec![(key, world.image.partition(key)?.leader_epoch)],
            })
        }),
        _ => Some(topic_command(random)),
    }
}

fn check(before: &Image, world: &World, delta: &Delta, what: &str) {
    let image = &world.image;
    for (key, state) in image.partitions() {
        assert_eq!(state.check(), Ok(()), "{key} {what}");
        for id in &state.isr {
            let broker = image
                .broker(*id)
                .unwrap_or_else(|| panic!("{key} {what}: {id} is unknown"));
            assert!(
                broker.is_active(),
                "{key} {what}: {id} is out of service but in the ISR"
            );
        }
        assert_eq!(state.leader.is_none(), state.isr.is_empty(), "{key} {what}");
        if let Some(old) = before.partition(key) {
            assert!(state.leader_epoch >= old.leader_epoch && state.partition_epoch >= old.partition_epoch);
            if state != old {
                assert_eq!(
                    state.partition_epoch.get(),
                    old.partition_epoch.get() + 1,
                    "{key} {what}"
                );
                assert!(delta.partitions.contains(&key), "{key} {what}");
            }
            if state.leader != old.leader {
                assert_eq!(
                    state.leader_epoch.get(),
                    old.leader_epoch.get() + 1,
                    "{key} {what}"
                );
            }
            if !state.recovering || old.recovering {
                let was = |id: &BrokerId| old.isr.contains(id) || old.elr.contains(id);
                assert!(
                    state.elr.iter().all(was),
                    "{key} {what}: nobody becomes eligible from nowhere"
                );
            }
        }
    }
    let count: usize = image.topics().map(|topic| topic.partitions.len()).sum();
    assert_eq!(image.partition_count(), count);
    let again = Image::from_records(image.index, image.to_records()).expect("rebuilds");
    assert_eq!(&again, image, "{what}");
    assert_eq!(&Delta::between(before, &again), delta, "{what}");
    assert_eq!(&Delta::between(before, image), delta, "{what}");
}

fn walk(seed: u64, steps: u64) -> Image {
    let mut random = Random(seed);
    let mut world = World::with_active(&[1, 2, 3]);
    for step in 0..steps {
        world.now = Mono(world.now.0 + random.below(3_000_000_000));
        let Some(command) = command(&mut random, &world, step) else {
            continue;
        };
        let what = format!("seed {seed} step {step}: {command:?}");
        let outcome = world.evaluate(command.clone());
        let before = world.image.clone();
        let mut applied = before.clone();
        let batch = v1::MetadataBatch {
            records: outcome.records,
            timestamp_ms: 0,
        };
        let delta = applied
            .apply(strom_types::MetadataOffset(before.index.get() + 1), &batch)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        drop(world.run(command));
        check(&before, &world, &delta, &what);
    }
    world.image
}

#[test]
fn random_walks_keep_the_invariants() {
    let mut partitions = 0;
    for seed in 0..40 {
        partitions += walk(seed, 250).partition_count();
    }
    assert!(partitions > 40, "the walks did something");
    assert_eq!(walk(7, 250), walk(7, 250), "the same seed, the same image");
}
