//! Model clients against the coordinator under random crashes, restarts, failovers and a log that delays, refuses and
//! hangs; then quiet, in which everybody must come to rest. `SEED=n cargo test --test random` runs one seed.

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harness::model::{Client, Phase, Rng};
use harness::{Shell, subscription};
use strom_groups::{
    Config, Coordinator, Event, FetchedOffset, GroupFilter, GroupState, Heartbeat, JoinGroup, LeaveGroup,
    LeavingMember, MemberAssignment, OffsetCommit, OffsetCommitPartition, Protocol, Record, Reply, RequestId,
    SyncGroup,
};
use strom_types::{ErrorCode, LeaderEpoch, TopicId};

const GROUPS: [&str; 2] = ["g", "h"];
const CLIENTS: usize = 8;

/// Who asked what: to judge each answer, and to hand it to a client that still waits for it.
#[derive(Clone)]
struct Asked {
    client: usize,
    generation: i32,
}

struct World {
    rng: Rng,
    shell: Shell,
    clients: Vec<Client>,
    asked: BTreeMap<RequestId, Asked>,
    read_replies: usize,
    /// Group, and how often it has begun anew: by a failover or a deletion.
    lives: BTreeMap<&'static str, u32>,
    rosters: BTreeMap<(&'static str, u32, i32), BTreeSet<String>>,
    generations: BTreeMap<(&'static str, u32), i32>,
    suffix: u32,
    next_offset: i64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng(seed);
        let config = Config {
            group_initial_rebalance_delay_ms: i32::try_from(rng.below(3_000)).expect("in range"),
            ..Config::default()
        };
        let clients = (0..CLIENTS).map(|index| Client {
            group: GROUPS[index % GROUPS.len()],
            name: format!("c{index}"),
            instance: rng.chance(50).then(|| format!("i{index}")),
            require_known_member_id: rng.chance(70),
            member_id: String::new(),
            generation: -1,
            topics: vec!["t"],
            phase: Phase::Dead,
        });
        let clients = clients.collect();
        World {
            rng,
            shell: Shell::new(config),
            clients,
            asked: BTreeMap::new(),
            read_replies: 0,
            lives: BTreeMap::new(),
            rosters: BTreeMap::new(),
            generations: BTreeMap::new(),
            suffix: 0,
            next_offset: 0,
        }
    }

    fn ask(&mut self, index: usize) -> RequestId {
        let request = self.shell.request();
        let generation = self.clients[index].generation;
        let asked = Asked {
            client: index,
            generation,
        };
        self.asked.insert(request, asked);
        request
    }

    /// What the client's protocol wants next.
    fn act(&mut self, index: usize) {
        match self.clients[index].phase.clone() {
            Phase::Dead | Phase::Joining(_) | Phase::Syncing(_) => {}
            Phase::Out => self.join(index),
            Phase::Joined(assignments) => self.sync(index, assignments),
            Phase::Settled => self.heartbeat(index),
        }
    }

    fn join(&mut self, index: usize) {
        let request = self.ask(index);
        self.suffix += 1;
        let client = &mut self.clients[index];
        client.phase = Phase::Joining(request);
        let metadata = subscription(&client.topics);
        let protocols = ["range", "cooperative-sticky"].map(|name| Protocol {
            name: name.to_owned(),
            metadata: metadata.clone(),
        });
        let join = JoinGroup {
            group_id: client.group.to_owned(),
            member_id: client.member_id.clone(),
            group_instance_id: client.instance.clone(),
            client_id: client.name.clone(),
            client_host: "/host".to_owned(),
            protocol_type: "consumer".to_owned(),
            protocols: protocols.to_vec(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 30_000,
            require_known_member_id: client.require_known_member_id,
            supports_skipping_assignment: true,
            member_id_suffix: self.suffix.to_string(),
            reason: String::new(),
        };
        self.shell.step(Event::JoinGroup(request, join));
    }

    fn sync(&mut self, index: usize, assignments: Vec<MemberAssignment>) {
        let request = self.ask(index);
        let client = &mut self.clients[index];
        client.phase = Phase::Syncing(request);
        let sync = SyncGroup {
            group_id: client.group.to_owned(),
            member_id: client.member_id.clone(),
            group_instance_id: client.instance.clone(),
            generation: client.generation,
            protocol_type: Some("consumer".to_owned()),
            protocol_name: None,
            assignments,
        };
        self.shell.step(Event::SyncGroup(request, sync));
    }

    fn heartbeat(&mut self, index: usize) {
        let request = self.ask(index);
        let client = &self.clients[index];
        let heartbeat = Heartbeat {
            group_id: client.group.to_owned(),
            member_id: client.member_id.clone(),
            group_instance_id: client.instance.clone(),
            generation: client.generation,
        };
        self.shell.step(Event::Heartbeat(request, heartbeat));
    }

    fn commit(&mut self, index: usize) {
        let request = self.ask(index);
        self.next_offset += 1;
        let client = &self.clients[index];
        let partition = OffsetCommitPartition {
            topic: "t".to_owned(),
            topic_id: TopicId::ZERO,
            partition: i32::try_from(self.rng.below(3)).expect("in range"),
            offset: self.next_offset,
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
        };
        let commit = OffsetCommit {
            group_id: client.group.to_owned(),
            member_id: client.member_id.clone(),
            group_instance_id: client.instance.clone(),
            generation: client.generation,
            partitions: vec![partition],
            retention_ms: -1,
        };
        self.shell.step(Event::OffsetCommit(request, commit));
    }

    fn leave(&mut self, index: usize) {
        let request = self.ask(index);
        let client = &mut self.clients[index];
        client.phase = Phase::Dead;
        let leaving = LeavingMember {
            member_id: client.member_id.clone(),
            group_instance_id: client.instance.clone(),
            reason: String::new(),
        };
        let leave = LeaveGroup {
            group_id: client.group.to_owned(),
            members: vec![leaving],
        };
        self.shell.step(Event::LeaveGroup(request, leave));
    }

    /// A new process: what its predecessor had parked stays parked.
    fn restart(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.member_id.clear();
        client.generation = -1;
        client.phase = Phase::Out;
    }

    fn failover(&mut self) {
        self.shell.reload();
        for group in GROUPS {
            *self.lives.entry(group).or_default() += 1;
        }
    }

    fn chaos_step(&mut self) {
        let index = usize::try_from(self.rng.below(CLIENTS as u64)).expect("in range");
        match self.rng.below(100) {
            0..30 => self.act(index),
            30..45 => {
                self.shell.append_one();
            }
            45..48 => {
                let error = match self.rng.below(3) {
                    0 => ErrorCode::NotEnoughReplicas,
                    1 => ErrorCode::NotLeaderOrFollower,
                    _ => ErrorCode::MessageTooLarge,
                };
                if self.rng.chance(50) {
                    self.shell.in_flight.make_contiguous().reverse();
                    self.shell.fail_one(error);
                    self.shell.in_flight.make_contiguous().reverse();
                } else {
                    self.shell.fail_one(error);
                }
            }
            48..66 => {
                let ms = self.rng.below(1_500);
                self.shell.advance(Duration::from_millis(ms));
            }
            66 => self.shell.advance(Duration::from_secs(12)),
            67..70 => self.clients[index].phase = Phase::Dead,
            70..78 => self.restart(index),
            78..80 => self.leave(index),
            80..90 => self.commit(index),
            90 => self.failover(),
            91..94 => {
                self.clients[index].topics = if self.rng.chance(50) {
                    vec!["t"]
                } else {
                    vec!["t", "u"]
                }
            }
            // The subscription changed, the leader saw new partitions, or the client lost patience with a join.
            94..97 if matches!(self.clients[index].phase, Phase::Settled | Phase::Joining(_)) => {
                self.join(index);
            }
            97 => {
                let request = self.ask(index);
                let groups = GROUPS.map(str::to_owned).to_vec();
                self.shell.step(Event::DeleteGroups(request, groups));
            }
            _ => self.act(index),
        }
        self.settle();
    }

    /// Reads new answers and checks what must hold after every step.
    fn settle(&mut self) {
        while let Some((request, reply)) = self.shell.replies.get(self.read_replies).cloned() {
            self.read_replies += 1;
            if let Some(asked) = self.asked.get(&request).cloned() {
                self.judge(&asked, &reply);
                self.deliver(request, &asked, reply);
            }
        }
        for group in GROUPS {
            if self.shell.coordinator.describe(group).error != ErrorCode::None {
                let life = self.lives.entry(group).or_default();
                if self.generations.contains_key(&(group, *life)) {
                    *life += 1;
                }
            }
            // KAFKA-9666: what is read is what the log says.
            let dead = self.shell.coordinator.describe(group).state == GroupState::Dead;
            if !dead {
                let read: BTreeMap<i32, i64> = self
                    .shell
                    .coordinator
                    .fetch_all_offsets(group)
                    .into_iter()
                    .map(|o: FetchedOffset| (o.partition, o.offset))
                    .collect();
                assert_eq!(read, offsets_of(&self.shell.log, group), "offsets of {group}");
            }
        }
    }

    fn judge(&mut self, asked: &Asked, reply: &Reply) {
        let group = self.clients[asked.client].group;
        let life = self.lives.get(group).copied().unwrap_or(0);
        match reply {
            Reply::JoinGroup(join) if join.error == ErrorCode::None => {
                let last = self.generations.entry((group, life)).or_insert(join.generation);
                assert!(
                    join.generation >= *last,
                    "generation of {group} fell from {last}: {join:?}"
                );
                *last = join.generation;
                if !join.members.is_empty() && !join.skip_assignment {
                    assert_eq!(join.leader, join.member_id);
                    let rosters = self.rosters.entry((group, life, join.generation)).or_default();
                    rosters.insert(join.member_id.to_string());
                    assert_eq!(
                        rosters.len(),
                        1,
                        "leaders of {group} {}: {rosters:?}",
                        join.generation
                    );
                }
            }
            Reply::SyncGroup(sync) if sync.error == ErrorCode::None => {
                let text = String::from_utf8_lossy(&sync.assignment).into_owned();
                let (generation, owner) = text.split_once('/').expect("an assignment");
                assert_eq!(
                    generation,
                    asked.generation.to_string(),
                    "assignment of another generation"
                );
                let client = &self.clients[asked.client];
                let ours = client.instance.as_deref().map_or_else(
                    || owner.starts_with(&format!("{}-", client.name)),
                    |id| id == owner,
                );
                assert!(ours, "{} got the assignment {text}", client.name);
            }
            _ => {}
        }
    }

    fn deliver(&mut self, request: RequestId, asked: &Asked, reply: Reply) {
        let client = &mut self.clients[asked.client];
        match reply {
            Reply::JoinGroup(join) if client.phase == Phase::Joining(request) => client.joined(&join),
            Reply::SyncGroup(sync) if client.phase == Phase::Syncing(request) => {
                client.phase = Phase::Settled;
                client.obey(sync.error);
            }
            Reply::Heartbeat(error) if client.phase == Phase::Settled => client.obey(error),
            _ => {}
        }
    }

    fn quiet(&mut self) {
        for index in 0..CLIENTS {
            if self.clients[index].phase == Phase::Dead {
                self.restart(index);
            }
        }
        for _ in 0..150 {
            for index in 0..CLIENTS {
                self.act(index);
                self.shell.append_all();
                self.settle();
            }
            self.shell.advance(Duration::from_secs(1));
            self.shell.append_all();
            self.settle();
        }
        for group in GROUPS {
            assert_eq!(
                self.shell.coordinator.describe(group).state,
                GroupState::Stable,
                "{group}"
            );
        }
        for client in &self.clients {
            assert_eq!(client.phase, Phase::Settled, "{}", client.name);
        }
        let answers = self.shell.answers();
        for request in self.asked.keys() {
            assert_eq!(answers.get(request), Some(&1), "answers to {request:?}");
        }
        let mut again = Coordinator::new(self.shell.config.clone());
        for record in &self.shell.log {
            again.replay(record);
        }
        let wall = self.shell.wall();
        again.loaded(self.shell.now, wall, &mut Vec::new());
        let all = GroupFilter::default();
        assert_eq!(again.list(&all), self.shell.coordinator.list(&all));
        for group in GROUPS {
            assert_eq!(again.describe(group), self.shell.coordinator.describe(group));
            assert_eq!(
                again.fetch_all_offsets(group),
                self.shell.coordinator.fetch_all_offsets(group)
            );
        }
    }
}

fn offsets_of(log: &[Record], group: &str) -> BTreeMap<i32, i64> {
    let mut offsets = BTreeMap::new();
    for record in log {
        match record {
            Record::OffsetCommit { key, value } if &*key.group == group => {
                offsets.insert(key.partition, value.offset);
            }
            Record::OffsetTombstone { key } if &*key.group == group => {
                offsets.remove(&key.partition);
            }
            _ => {}
        }
    }
    offsets
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..600 {
        world.chaos_step();
    }
    world.quiet();
}

#[test]
fn random_clients_come_to_rest() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        return run(seed);
    }
    for seed in 0..300 {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("failed with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
