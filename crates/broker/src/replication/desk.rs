//! The follower side's outbox: what this broker's replicas want their leaders told, by leader, newest state only.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use strom_replication::FetchPosition;
use strom_types::{BrokerId, ErrorCode, Offset, TopicIdPartition};
use tokio::sync::Notify;

/// Written by partitions under their locks, emptied by the fetchers.
#[derive(Default)]
pub(crate) struct FetchDesk {
    state: Mutex<State>,
    leader_added: Notify,
}

#[derive(Default)]
struct State {
    leaders: BTreeMap<BrokerId, Leader>,
    following: HashMap<TopicIdPartition, Followed>,
}

struct Followed {
    leader: BrokerId,
    /// As of the last position.
    durable_offset: Offset,
}

#[derive(Default)]
struct Leader {
    followed: HashSet<TopicIdPartition>,
    told: HashMap<TopicIdPartition, Told>,
    retries: Vec<(TopicIdPartition, ErrorCode)>,
    wake: Arc<Notify>,
}

/// What a leader is to be told of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    Position { position: FetchPosition, restart: bool },
    Stop,
}

/// What has gathered for one leader.
#[derive(Default)]
pub(super) struct Gathered {
    pub told: HashMap<TopicIdPartition, Told>,
    pub retries: Vec<(TopicIdPartition, ErrorCode)>,
}

impl FetchDesk {
    /// What a flush will move again soon can wait for it (`flush_follows`), as long as nothing was flushed: the leader then
    /// hears of both at once.
    pub(crate) fn position(
        &self,
        key: TopicIdPartition,
        leader: BrokerId,
        position: FetchPosition,
        restart: bool,
        flush_follows: bool,
    ) {
        let mut state = self.state.lock();
        let durable_offset = position.durable_offset;
        let followed = Followed {
            leader,
            durable_offset,
        };
        let before = state.following.insert(key, followed);
        let flushed = before
            .as_ref()
            .is_none_or(|before| before.durable_offset != durable_offset);
        if before.is_none_or(|before| before.leader != leader) {
            // Whoever was followed before has been told to stop.
            if !state.leaders.contains_key(&leader) {
                self.leader_added.notify_one();
            }
            state.leaders.entry(leader).or_default().followed.insert(key);
        }
        let Some(slot) = state.leaders.get_mut(&leader) else {
            return;
        };
        let restart_due = matches!(slot.told.get(&key), Some(Told::Position { restart: true, .. }));
        let restart = restart || restart_due;
        slot.told.insert(key, Told::Position { position, restart });
        if restart || flushed || !flush_follows {
            slot.wake.notify_one();
        }
    }

    /// The leader's answer was of no use: ask again after a while.
    pub(crate) fn retry(&self, key: TopicIdPartition, error: ErrorCode) {
        let mut state = self.state.lock();
        let Some(leader) = state.following.get(&key).map(|followed| followed.leader) else {
            return;
        };
        if let Some(slot) = state.leaders.get_mut(&leader) {
            slot.retries.push((key, error));
            slot.wake.notify_one();
        }
    }

    pub(crate) fn stop(&self, key: TopicIdPartition) {
        let mut state = self.state.lock();
        let Some(Followed { leader, .. }) = state.following.remove(&key) else {
            return;
        };
        if let Some(slot) = state.leaders.get_mut(&leader) {
            slot.followed.remove(&key);
            slot.told.insert(key, Told::Stop);
            slot.wake.notify_one();
        }
    }

    /// Waits until there are leaders that are not among the `known`, and returns them.
    pub(super) async fn leaders_beyond(&self, known: &HashSet<BrokerId>) -> Vec<(BrokerId, Arc<Notify>)> {
        loop {
            let added = self.leader_added.notified();
            let new: Vec<_> = {
                let state = self.state.lock();
                let new = state.leaders.iter().filter(|(id, _)| !known.contains(id));
                new.map(|(id, leader)| (*id, leader.wake.clone())).collect()
            };
            if !new.is_empty() {
                return new;
            }
            added.await;
        }
    }

    pub(super) fn gathered(&self, leader: BrokerId) -> Gathered {
        let mut state = self.state.lock();
        let Some(slot) = state.leaders.get_mut(&leader) else {
            return Gathered::default();
        };
        Gathered {
            told: std::mem::take(&mut slot.told),
            retries: std::mem::take(&mut slot.retries),
        }
    }

    /// Forgets what has gathered, since a new stream begins with the present positions of all these.
    pub(super) fn begin_anew(&self, leader: BrokerId) -> Vec<TopicIdPartition> {
        let mut state = self.state.lock();
        let Some(slot) = state.leaders.get_mut(&leader) else {
            return Vec::new();
        };
        slot.told.clear();
        slot.retries.clear();
        slot.followed.iter().copied().collect()
    }

    pub(super) fn follows_any(&self, leader: BrokerId) -> bool {
        let state = self.state.lock();
        state
            .leaders
            .get(&leader)
            .is_some_and(|slot| !slot.followed.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use strom_types::{LeaderEpoch, TopicId};

    use super::*;

    const LEADER: BrokerId = BrokerId(1);

    fn key(partition: i32) -> TopicIdPartition {
        TopicIdPartition::new(TopicId::from_bytes([7; 16]), partition)
    }

    fn at(fetch_offset: i64) -> FetchPosition {
        FetchPosition {
            leader_epoch: LeaderEpoch(3),
            fetch_offset,
            last_fetched_epoch: LeaderEpoch(3),
            durable_offset: 0,
            log_start: 0,
        }
    }

    #[test]
    fn positions_coalesce_and_a_restart_is_not_lost() {
        let desk = FetchDesk::default();
        desk.position(key(0), LEADER, at(5), true, false);
        desk.position(key(0), LEADER, at(6), false, false);
        desk.position(key(1), LEADER, at(1), false, false);
        let gathered = desk.gathered(LEADER);
        let told = |restart, offset| Told::Position {
            position: at(offset),
            restart,
        };
        assert_eq!(gathered.told[&key(0)], told(true, 6));
        assert_eq!(gathered.told[&key(1)], told(false, 1));
        assert!(desk.gathered(LEADER).told.is_empty());
    }

    #[test]
    fn a_partition_moves_to_another_leader() {
        let desk = FetchDesk::default();
        desk.position(key(0), LEADER, at(5), true, false);
        desk.stop(key(0));
        desk.position(key(0), BrokerId(2), at(5), true, false);
        desk.retry(key(0), ErrorCode::NotLeaderOrFollower);
        assert!(!desk.follows_any(LEADER));
        let old = desk.gathered(LEADER);
        assert_eq!((old.told[&key(0)], old.retries.len()), (Told::Stop, 0));
        assert_eq!(desk.gathered(BrokerId(2)).retries.len(), 1);
        assert_eq!(desk.begin_anew(BrokerId(2)), [key(0)]);
    }

    #[tokio::test]
    async fn leaders_are_announced_once_each() {
        let desk = FetchDesk::default();
        desk.position(key(0), LEADER, at(5), true, false);
        desk.position(key(1), BrokerId(2), at(5), true, false);
        let all = desk.leaders_beyond(&HashSet::new()).await;
        assert_eq!(all.len(), 2);
        let new = desk.leaders_beyond(&HashSet::from([LEADER])).await;
        assert_eq!(new[0].0, BrokerId(2));
    }
}
