//! One seed: bootstrap, a phase with faults, healing, and a phase in which everything must come to rest.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use strom_types::{LeaderEpoch, TopicIdPartition};

use crate::broker_node::broker_index;
use crate::checker::{Final, check};
use crate::clients::ClientNode;
use crate::clock::{MS, SECOND};
use crate::env::Env;
use crate::mutants::Mutant;
use crate::world::World;

const BOOT_MAX: u64 = 20 * SECOND;
const HEAL_MAX: u64 = 60 * SECOND;
/// After the healing producers go on for so long, and each must get some acknowledgements.
const LOAD_AFTER: u64 = 2 * SECOND;
const ACKED_AFTER_MIN: u64 = 5;

#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    pub seed: u64,
    /// The rule that is switched off.
    pub mutant: Option<Mutant>,
    pub print: bool,
}

/// What a seed came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Of everything that happened.
    pub hash: u64,
    pub events: u64,
    /// Simulated.
    pub nanos: u64,
    pub acked: u64,
    pub polled: u64,
    pub commits: u64,
    pub strikes: u64,
    pub leader_epochs: u64,
    pub terms: u64,
}

/// Runs a seed. `Err` = what was violated, and how things stood then.
pub fn run(settings: Settings) -> Result<Outcome, String> {
    let played = catch_unwind(AssertUnwindSafe(|| play(settings)));
    played.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

fn play(settings: Settings) -> Result<Outcome, String> {
    let rules = settings.mutant.map(Mutant::rules).unwrap_or_default();
    let env = Env::new(settings.seed, rules, settings.print);
    let mut world = World::new(env, settings.mutant == Some(Mutant::RaftSync));
    world.boot_up()?;
    world.rage();
    let storm = world.env.rng.range(6, 14) * SECOND;
    let end = world.env.now + storm;
    world.go_to(end)?;
    world.heal();
    world.converge()?;
    world.judge_history()?;
    Ok(world.outcome())
}

impl World {
    fn go_to(&mut self, end: u64) -> Result<(), String> {
        if self.run_until(end) {
            return Ok(());
        }
        let what = self.env.judge.violation.clone().unwrap_or_default();
        Err(self.describe(&what))
    }

    fn describe(&self, what: &str) -> String {
        let mut text = format!("at {:.3} s: {what}", self.env.now as f64 / 1e9);
        for (key, state) in self.env.judge.image.partitions() {
            text.push_str(&format!(
                "\n{key}: leader {:?} epoch {} ({}) isr {:?} elr {:?}",
                state.leader, state.leader_epoch, state.partition_epoch, state.isr, state.elr
            ));
        }
        for node in &self.controllers {
            text.push_str(&format!("\n{}", node.describe()));
        }
        for node in &self.brokers {
            text.push_str(&format!("\n{}", node.describe()));
        }
        for client in &self.clients {
            text.push_str(&client.describe());
        }
        text
    }

    /// Topics are there, and led.
    fn boot_up(&mut self) -> Result<(), String> {
        let wanted = self.scenario.keys();
        self.until(BOOT_MAX, "the topics have leaders", |world| {
            let image = &world.env.judge.image;
            wanted.iter().all(|key| {
                image
                    .partition(*key)
                    .is_some_and(|state| state.leader.is_some() && state.isr.len() == 3)
            })
        })
    }

    fn until(&mut self, limit: u64, what: &str, done: impl Fn(&World) -> bool) -> Result<(), String> {
        let end = self.env.now + limit;
        while !done(self) {
            if self.env.now >= end {
                return Err(self.describe(&format!("Liveness: not within {} s: {what}", limit / SECOND)));
            }
            self.go_to(self.env.now + 50 * MS)?;
        }
        Ok(())
    }

    fn converge(&mut self) -> Result<(), String> {
        let before = self.acked();
        let settle = self.env.now + LOAD_AFTER;
        self.go_to(settle)?;
        self.until(
            HEAL_MAX,
            "every partition is led, with everybody in sync",
            World::is_in_sync,
        )?;
        self.until(HEAL_MAX, "every producer is acknowledged again", |world| {
            let now = world.acked();
            now.iter().all(|(client, acked)| {
                before
                    .get(client)
                    .is_some_and(|was| acked - was >= ACKED_AFTER_MIN)
            })
        })?;
        for client in &mut self.clients {
            if let ClientNode::Producer(producer) = client {
                producer.load = false;
            }
        }
        self.until(HEAL_MAX, "nothing is under way", World::is_drained)?;
        self.until(HEAL_MAX, "everything is read", World::is_read)?;
        self.until(
            HEAL_MAX,
            "the group has read and committed everything",
            World::group_is_done,
        )?;
        self.until(HEAL_MAX, "all replicas are alike", World::replicas_are_equal)
    }

    fn acked(&self) -> BTreeMap<usize, u64> {
        let of = |(at, client): (usize, &ClientNode)| match client {
            ClientNode::Producer(producer) => Some((at, producer.acked_least())),
            _ => None,
        };
        self.clients.iter().enumerate().filter_map(of).collect()
    }

    fn is_in_sync(&self) -> bool {
        self.env.judge.image.partitions().all(|(key, state)| {
            let leads = state.leader.and_then(|id| self.brokers.get(broker_index(id)));
            state.isr.len() == state.replicas.len()
                && leads.is_some_and(|node| node.leads(key, state.leader_epoch))
        })
    }

    fn is_drained(&self) -> bool {
        self.clients.iter().all(|client| match client {
            ClientNode::Producer(producer) => producer.is_idle(),
            _ => true,
        })
    }

    fn end_of(&self, key: TopicIdPartition) -> i64 {
        let logs = self.brokers.iter().filter_map(|node| node.disk.logs.get(&key));
        logs.map(crate::disk::ModelLog::end).max().unwrap_or(0)
    }

    fn is_read(&self) -> bool {
        self.clients.iter().all(|client| match client {
            ClientNode::Consumer(consumer) => consumer
                .positions()
                .all(|(key, position)| position >= self.end_of(key)),
            _ => true,
        })
    }

    fn group_is_done(&self) -> bool {
        let mut committed = BTreeMap::new();
        let mut generations = Vec::new();
        for client in &self.clients {
            if let ClientNode::Member(member) = client {
                generations.push(member.generation());
                committed.extend(member.progress());
            }
        }
        let ends = (0..).zip(&self.scenario.ordered);
        let first = generations.first().copied().flatten();
        first.is_some()
            && generations.iter().all(|generation| *generation == first)
            && ends
                .into_iter()
                .all(|(partition, key)| committed.get(&partition) == Some(&self.end_of(*key)))
    }

    /// After everything has come to rest every replica holds the same, to the end.
    fn replicas_are_equal(&self) -> bool {
        self.env.judge.image.partitions().all(|(key, state)| {
            let logs = state.replicas.iter().map(|id| {
                let node = self.brokers.get(broker_index(*id))?;
                node.disk.logs.get(&key)
            });
            let logs: Vec<_> = logs.collect();
            let Some(Some(first)) = logs.first() else {
                return false;
            };
            logs.iter().all(|log| {
                log.is_some_and(|log| {
                    log.end() == first.end()
                        && (log.start().max(first.start())..log.end()).all(|offset| {
                            match (log.get(offset), first.get(offset)) {
                                (Some(a), Some(b)) => a.same_as(b),
                                _ => false,
                            }
                        })
                })
            })
        })
    }

    fn judge_history(&self) -> Result<(), String> {
        let mut last = Final::default();
        for key in self.scenario.ordered.iter().chain(&self.scenario.plain) {
            let leader = self
                .env
                .judge
                .image
                .partition(*key)
                .and_then(|state| state.leader);
            let node = leader.and_then(|id| self.brokers.get(broker_index(id)));
            if let Some(log) = node.and_then(|node| node.disk.logs.get(key)) {
                let values = log.read(log.start(), log.end(), usize::MAX);
                let values = values.iter().map(|entry| entry.id).collect();
                last.logs.insert(*key, (log.start(), values));
            }
        }
        let found = check(&self.env.history, &last);
        match found.first() {
            None => Ok(()),
            Some(first) => {
                let what = format!("{:?}: {} ({} anomalies)", first.kind, first.what, found.len());
                Err(self.describe(&what))
            }
        }
    }

    fn outcome(&self) -> Outcome {
        let epochs = self
            .env
            .judge
            .image
            .partitions()
            .map(|(_, state)| state.leader_epoch);
        let epochs = epochs.map(LeaderEpoch::get).sum::<i32>();
        Outcome {
            hash: self.env.trace.hash(),
            events: self.env.trace.lines(),
            nanos: self.env.now,
            acked: self.env.history.acked,
            polled: self.env.history.polled,
            commits: self.env.history.committed,
            strikes: self.strikes,
            leader_epochs: u64::try_from(epochs).unwrap_or(0),
            terms: u64::try_from(self.env.judge.terms()).unwrap_or(0),
        }
    }
}
