//! A toy broker: a log, a replica, a lease and what is under way between them.

use std::time::Duration;

use strom_types::{BrokerEpoch, BrokerId, LeaderEpoch, Mono, Offset, TopicId, TopicIdPartition};

use super::rng::Rng;
use crate::toy_log::{ToyLog, ToyRecord};
use crate::{AckWait, Durability, Lease, Moment, Replica, ReplicaConfig, Rules};

/// A change of the log that was asked for and is carried out some time later.
pub(super) enum LogWork {
    Append(Vec<ToyRecord>),
    Truncate(Offset),
    Restart(Offset),
    EpochStart(LeaderEpoch, Offset),
}

pub(super) struct Node {
    pub(super) id: BrokerId,
    durability: Durability,
    pub(super) life: BrokerEpoch,
    pub(super) log: ToyLog,
    /// `None` = the process is down until `up_at`.
    pub(super) replica: Option<Replica>,
    pub(super) up_at: Mono,
    pub(super) paused_until: Mono,
    /// Its metadata stands still until then.
    pub(super) blind_until: Mono,
    pub(super) wiped: bool,
    /// Metadata entries applied.
    pub(super) applied: usize,
    pub(super) lease: Lease,
    pub(super) incoming: Vec<ToyRecord>,
    pub(super) work: Option<LogWork>,
    pub(super) waiters: Vec<(AckWait, u64)>,
    checkpoint: Offset,
    /// The high watermark as the checks saw it last.
    pub(super) seen_hw: Offset,
}

pub(super) const TOPIC: TopicId = TopicId::from_bytes([1; 16]);

impl Node {
    pub(super) fn new(id: BrokerId, rules: Rules, durability: Durability) -> Self {
        let mut node = Node {
            id,
            durability,
            life: BrokerEpoch(0),
            log: ToyLog::default(),
            replica: None,
            up_at: Mono(0),
            paused_until: Mono(0),
            blind_until: Mono(0),
            wiped: false,
            applied: 0,
            lease: Lease::NONE,
            incoming: vec![],
            work: None,
            waiters: vec![],
            checkpoint: 0,
            seen_hw: 0,
        };
        node.start(BrokerEpoch(0), 0, rules);
        node
    }

    pub(super) fn start(&mut self, life: BrokerEpoch, applied: usize, rules: Rules) {
        let mut config = ReplicaConfig::new(TopicIdPartition::new(TOPIC, 0), self.id, life);
        config.durability = self.durability;
        config.lag_time_max = Duration::from_millis(400);
        config.alter_timeout = Duration::from_millis(60);
        config.alter_retry_backoff = Duration::from_millis(10);
        config.alter_expiry = Duration::from_millis(800);
        self.life = life;
        self.applied = applied;
        self.wiped = false;
        let replica = Replica::with_rules(config, &self.log, self.checkpoint, rules);
        self.seen_hw = replica.high_watermark();
        self.replica = Some(replica);
    }

    /// In durable mode the machine loses power: of the unsynced tail a part survives. In page-cache mode only the process
    /// dies, which the mode promises to survive.
    pub(super) fn crash(&mut self, rng: &mut Rng, up_at: Mono) {
        let unsynced = u64::try_from(self.log.end() - self.log.durable).unwrap();
        if self.durability == Durability::Durable {
            let kept = Offset::try_from(rng.range(0, unsynced + 1)).unwrap();
            let to = self.log.durable + kept;
            self.log.truncate(to);
        }
        self.log.flush();
        self.replica = None;
        self.up_at = up_at;
        self.lease = Lease::NONE;
        self.work = None;
        self.waiters.clear();
    }

    pub(super) fn wipe(&mut self) {
        self.log = ToyLog::default();
        self.checkpoint = 0;
        self.wiped = true;
    }

    pub(super) fn is_running(&self, now: Mono) -> bool {
        self.replica.is_some() && now >= self.paused_until
    }

    pub(super) fn moment(&self, now: Mono) -> Moment {
        Moment {
            now,
            lease: self.lease,
        }
    }

    /// What its disk will show after a crash.
    pub(super) fn safe_end(&self) -> Offset {
        match self.durability {
            Durability::Durable => self.log.durable,
            Durability::PageCache => self.log.end(),
        }
    }

    pub(super) fn describe(&self) -> String {
        let Some(replica) = &self.replica else {
            return format!("{} is down", self.id);
        };
        let log = &self.log;
        format!(
            "{} {:?} of {:?}, log {}..{} synced {} epochs {:?}, hw {}, asks {:?}",
            self.id,
            replica.role(),
            replica.leader(),
            log.start,
            log.end(),
            log.durable,
            log.epochs,
            replica.high_watermark(),
            replica.fetch_position()
        )
    }

    pub(super) fn write_checkpoint(&mut self) {
        if let Some(replica) = &self.replica {
            self.checkpoint = replica.high_watermark();
        }
    }
}
