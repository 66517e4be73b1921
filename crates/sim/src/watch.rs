//! Looks at all brokers after every step: those invariants that are about several logs and the committed metadata.

use std::collections::BTreeMap;

use strom_metadata::PartitionState;
use strom_replication::Durability;
use strom_types::{LeaderEpoch, MetadataOffset, Offset, TopicIdPartition};

use crate::broker_node::{BrokerNode, broker_index};
use crate::clients::Keys;
use crate::clock::MS;
use crate::env::Env;
use crate::invariants::{logs_match, quorum_is_superset};

/// The logs are compared with one another this often.
const COMPARE_EVERY: u64 = 100 * MS;

pub(crate) struct Watch {
    keys: Keys,
    seen: MetadataOffset,
    ends: BTreeMap<TopicIdPartition, Offset>,
    next_compare: u64,
}

impl Watch {
    pub(crate) fn new(keys: Keys) -> Self {
        Watch {
            keys,
            seen: MetadataOffset(0),
            ends: BTreeMap::new(),
            next_compare: 0,
        }
    }

    pub(crate) fn look(&mut self, env: &mut Env, brokers: &[BrokerNode]) {
        let index = env.judge.image.index;
        let changed = index != self.seen;
        self.seen = index;
        for key in &self.keys {
            let end = env.judge.facts(*key).end();
            let grown = self.ends.insert(*key, end) != Some(end);
            if !grown && !changed {
                continue;
            }
            let Some(state) = env.judge.image.partition(*key).cloned() else {
                continue;
            };
            candidates_are_complete(env, brokers, *key, &state);
            maximal_isr_covers(env, brokers, *key, &state);
        }
        if env.now >= self.next_compare {
            self.next_compare = env.now + COMPARE_EVERY;
            self.compare(env, brokers);
        }
    }

    fn compare(&self, env: &mut Env, brokers: &[BrokerNode]) {
        for key in &self.keys {
            for (at, a) in brokers.iter().enumerate() {
                for b in brokers.iter().skip(at + 1) {
                    if let (Some(x), Some(y)) = (a.disk.logs.get(key), b.disk.logs.get(key)) {
                        let verdict = logs_match(x, y);
                        env.judge
                            .take(format_args!("brokers {} and {}, {key}", a.id(), b.id()), verdict);
                    }
                }
            }
        }
    }
}

/// LeaderCandidateComplete: each member of ISR ∪ ELR has everything committed on its disk, whatever happens to it now.
fn candidates_are_complete(
    env: &mut Env,
    brokers: &[BrokerNode],
    key: TopicIdPartition,
    state: &PartitionState,
) {
    for id in state.isr.iter().chain(&state.elr) {
        let Some(node) = brokers.get(broker_index(*id)).filter(|node| !node.disk.wiped) else {
            continue;
        };
        let facts = env.judge.facts(key);
        let verdict = match node.disk.logs.get(&key) {
            Some(log) => {
                let safe = match node.durability() {
                    Durability::Durable => log.durable(),
                    Durability::PageCache => log.end(),
                };
                facts.is_held_by(log, LeaderEpoch(i32::MAX), safe)
            }
            None if facts.end() == 0 => Ok(()),
            None => Err("has no log".to_owned()),
        };
        env.judge.take(
            format_args!("LeaderCandidateComplete: broker {id}, {key}"),
            verdict,
        );
    }
}

fn maximal_isr_covers(env: &mut Env, brokers: &[BrokerNode], key: TopicIdPartition, state: &PartitionState) {
    let leader = state.leader.and_then(|id| brokers.get(broker_index(id)));
    let maximal = leader.and_then(|node| node.maximal_isr(key, state.leader_epoch));
    if let Some(maximal) = maximal {
        let verdict = quorum_is_superset(state, &maximal);
        env.judge.take(format_args!("{key}"), verdict);
    }
}
