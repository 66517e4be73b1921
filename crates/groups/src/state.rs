//! The states of a classic group (Kafka's `ClassicGroupState`).

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GroupState {
    /// No members; may hold offsets.
    Empty,
    /// Members are (re)joining.
    PreparingRebalance,
    /// All have joined; the leader's assignment is awaited or being stored.
    CompletingRebalance,
    Stable,
    /// Its tombstone is on the way to the log.
    Dead,
}

impl GroupState {
    /// As Kafka's tools print it.
    pub const fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }

    /// Whether a rebalance may start from here.
    pub(crate) const fn can_rebalance(self) -> bool {
        matches!(
            self,
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable
        )
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
