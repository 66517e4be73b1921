//! Table tests of single rules on one replica: each test is named after its rule.

mod divergence;
mod follower;
mod isr;
mod leader;
mod produce;
mod roles;
mod switched_off;

use std::time::Duration;

use strom_types::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Mono, Offset, PartitionEpoch, TopicId, TopicIdPartition,
};

use crate::toy_log::ToyLog;
use crate::*;

const ME: BrokerId = BrokerId(1);
const B2: BrokerId = BrokerId(2);
const B3: BrokerId = BrokerId(3);
const SESSION: Duration = Duration::from_secs(6);
const TOPIC: TopicId = TopicId::from_bytes([7; 16]);

/// The epoch each broker is registered with at first.
fn life(id: BrokerId) -> BrokerEpoch {
    BrokerEpoch(i64::from(id.get()) * 100)
}

fn registration(id: BrokerId) -> BrokerState {
    BrokerState {
        id,
        epoch: life(id),
        fenced: false,
        shutting_down: false,
    }
}

/// Replica 1 with its log, a clock and a lease.
struct Bench {
    log: ToyLog,
    replica: Replica,
    at: Moment,
    partition: PartitionState,
}

impl Bench {
    fn new(log: ToyLog) -> Self {
        Bench::with(log, Rules::default(), |_| {})
    }

    fn with(log: ToyLog, rules: Rules, tune: impl FnOnce(&mut ReplicaConfig)) -> Self {
        let mut config = ReplicaConfig::new(TopicIdPartition::new(TOPIC, 0), ME, life(ME));
        tune(&mut config);
        let mut lease = Lease::NONE;
        lease.renewed(Mono(0), SESSION);
        Bench {
            replica: Replica::with_rules(config, &log, 0, rules),
            log,
            at: Moment { now: Mono(0), lease },
            partition: PartitionState {
                leader: None,
                leader_epoch: LeaderEpoch(0),
                partition_epoch: PartitionEpoch(0),
                replicas: vec![ME, B2, B3],
                isr: vec![ME, B2, B3],
                elr: vec![],
                recovery_state: RecoveryState::Recovered,
                min_isr: 2,
            },
        }
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.replica.step(self.at, &self.log, event, &mut effects);
        effects
    }

    /// Applies the record after `change`, with the next partition epoch.
    fn apply(&mut self, change: impl FnOnce(&mut PartitionState)) -> Vec<Effect> {
        change(&mut self.partition);
        self.partition.partition_epoch = PartitionEpoch(self.partition.partition_epoch.get() + 1);
        let brokers = [ME, B2, B3].map(registration).to_vec();
        self.step(Event::MetadataApplied {
            partition: self.partition.clone(),
            brokers,
        })
    }

    /// Leads in `epoch` with this ISR, ready.
    fn lead(&mut self, epoch: i32, isr: &[BrokerId]) -> Vec<Effect> {
        self.apply(|p| {
            p.leader = Some(ME);
            p.leader_epoch = LeaderEpoch(epoch);
            p.isr = isr.to_vec();
        });
        let epoch = LeaderEpoch(epoch);
        let end = self.log.end();
        self.log.assign_epoch(epoch, end);
        self.step(Event::EpochStartPersisted { epoch })
    }

    fn follow(&mut self, leader: BrokerId, epoch: i32) -> Vec<Effect> {
        self.apply(|p| {
            p.leader = Some(leader);
            if !p.isr.contains(&leader) {
                p.isr.push(leader);
            }
            p.leader_epoch = LeaderEpoch(epoch);
        })
    }

    fn append(&mut self, epoch: i32, count: usize) -> Vec<Effect> {
        for _ in 0..count {
            self.log.append(LeaderEpoch(epoch), 0);
        }
        self.step(Event::LogAdvanced)
    }

    fn flush(&mut self) -> Vec<Effect> {
        self.log.flush();
        self.step(Event::LogAdvanced)
    }

    fn pass(&mut self, time: Duration) {
        self.at.now = self.at.now + time;
        self.at.lease.renewed(self.at.now, SESSION);
    }

    fn hw(&self) -> Offset {
        self.replica.high_watermark()
    }

    /// A follower's position in `epoch`: everything up to `fetched` of `last`, of it `durable` synced.
    fn fetch(
        &mut self,
        follower: BrokerId,
        epoch: i32,
        last: i32,
        fetched: Offset,
        durable: Offset,
    ) -> Vec<Effect> {
        self.step(Event::FollowerFetch(fetch(
            follower, epoch, last, fetched, durable,
        )))
    }
}

fn fetch(follower: BrokerId, epoch: i32, last: i32, fetched: Offset, durable: Offset) -> FollowerFetch {
    FollowerFetch {
        topic_id: TOPIC,
        follower,
        broker_epoch: life(follower),
        position: FetchPosition {
            leader_epoch: LeaderEpoch(epoch),
            fetch_offset: fetched,
            last_fetched_epoch: LeaderEpoch(last),
            durable_offset: durable,
            log_start: 0,
        },
    }
}

/// The error a follower is refused with.
fn refusal(effects: &[Effect]) -> Option<ErrorCode> {
    effects.iter().find_map(|effect| match effect {
        Effect::AnswerFetch {
            answer: FetchAnswer::Refuse { error, .. },
            ..
        } => Some(*error),
        _ => None,
    })
}

/// The proposed ISR and its attempt.
fn proposal(effects: &[Effect]) -> Option<(Vec<IsrMember>, u32)> {
    effects.iter().find_map(|effect| match effect {
        Effect::AlterPartition { new_isr, attempt, .. } => Some((new_isr.clone(), *attempt)),
        _ => None,
    })
}

fn proposed_ids(effects: &[Effect]) -> Option<Vec<BrokerId>> {
    proposal(effects).map(|(members, _)| members.iter().map(|member| member.broker).collect())
}

fn quarantined(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Quarantine { .. }))
}
