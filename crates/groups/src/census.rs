//! How many groups a coordinator has, by state, and what they hold: for metrics.

use crate::coordinator::Coordinator;
use crate::state::GroupState;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    pub empty: usize,
    pub preparing_rebalance: usize,
    pub completing_rebalance: usize,
    pub stable: usize,
    pub dead: usize,
    /// Committed offsets of all groups.
    pub offsets: usize,
    /// Members dropped for their silence since the coordinator was made.
    pub expired_sessions: u64,
}

impl Census {
    /// In all states.
    pub fn groups(&self) -> usize {
        self.empty + self.preparing_rebalance + self.completing_rebalance + self.stable + self.dead
    }
}

impl Coordinator {
    /// Walks over all groups.
    pub fn census(&self) -> Census {
        let mut census = Census {
            expired_sessions: self.expired_sessions(),
            ..Census::default()
        };
        for group in self.groups() {
            let of_state = match group.state {
                GroupState::Empty => &mut census.empty,
                GroupState::PreparingRebalance => &mut census.preparing_rebalance,
                GroupState::CompletingRebalance => &mut census.completing_rebalance,
                GroupState::Stable => &mut census.stable,
                GroupState::Dead => &mut census.dead,
            };
            *of_state += 1;
            census.offsets += group.offsets.len();
        }
        census
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use strom_types::{LeaderEpoch, Mono, TopicId, WallMs};

    use super::*;
    use crate::config::Config;
    use crate::event::Event;
    use crate::record::{GroupMetadataValue, MemberMetadata, OffsetCommitValue, OffsetKey, Record};

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[test]
    fn a_member_that_falls_silent_is_counted() {
        let mut coordinator = Coordinator::new(Config::default());
        let member = MemberMetadata {
            member_id: name("m"),
            group_instance_id: None,
            client_id: name("c"),
            client_host: name("h"),
            rebalance_timeout_ms: 1000,
            session_timeout_ms: 1000,
            subscription: Bytes::new(),
            assignment: Bytes::new(),
        };
        coordinator.replay(&Record::GroupMetadata {
            group: name("g"),
            value: GroupMetadataValue {
                protocol_type: name("consumer"),
                generation: 1,
                protocol: Some(name("range")),
                leader: Some(name("m")),
                current_state_timestamp: None,
                members: vec![member],
            },
        });
        for partition in 0..2 {
            let key = OffsetKey {
                group: name("simple"),
                topic: name("t"),
                partition,
            };
            let value = OffsetCommitValue {
                offset: 7,
                leader_epoch: LeaderEpoch::NONE,
                metadata: name(""),
                commit_timestamp: WallMs(0),
                expire_timestamp: None,
                topic_id: TopicId::ZERO,
            };
            coordinator.replay(&Record::OffsetCommit { key, value });
        }
        let mut effects = Vec::new();
        coordinator.loaded(Mono(0), WallMs(0), &mut effects);
        let loaded = Census {
            empty: 1,
            stable: 1,
            offsets: 2,
            ..Census::default()
        };
        assert_eq!(coordinator.census(), loaded);
        let due = coordinator.next_deadline().unwrap();
        coordinator.step(due, WallMs(0), Event::Tick, &mut effects);
        let after = coordinator.census();
        assert_eq!((after.groups(), after.stable, after.expired_sessions), (2, 0, 1));
    }
}
