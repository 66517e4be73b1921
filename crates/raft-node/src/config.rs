//! How a raft node is set up: who it is, who votes first, where its data lies, and its limits.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use strom_types::NodeId;
use thiserror::Error;

use crate::identity::RaftId;

/// Settings of one node. `cluster_id` and `initial_voters` must be the same on every voter.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    pub node_id: NodeId,
    pub cluster_id: String,
    /// Holds `storage.marker` and the RocksDB directory `raft`.
    pub data_dir: PathBuf,
    /// The voters of a new quorum with their endpoints. Ids count at the first start only; changing them later is a
    /// membership change, which a config file cannot make.
    pub initial_voters: Vec<(NodeId, String)>,
    pub tick: Duration,
    pub tuning: Tuning,
}

impl RaftConfig {
    pub fn new(
        node_id: NodeId,
        cluster_id: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        initial_voters: Vec<(NodeId, String)>,
    ) -> Self {
        RaftConfig {
            node_id,
            cluster_id: cluster_id.into(),
            data_dir: data_dir.into(),
            initial_voters,
            tick: Duration::from_millis(50),
            tuning: Tuning::default(),
        }
    }

    pub fn voter_ids(&self) -> Vec<NodeId> {
        self.initial_voters.iter().map(|(node, _)| *node).collect()
    }
}

/// Timings in ticks and limits in bytes and counts. The raft switches themselves (pre-vote, check-quorum, safe reads,
/// no forwarding of proposals) are not options: members that differ in them deadlock.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// An election starts after this many to twice as many ticks without a leader.
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    /// A snapshot is made after this many applied entries, or after `snapshot_every_bytes` of them.
    pub snapshot_every_entries: u64,
    pub snapshot_every_bytes: u64,
    /// Entries kept below the snapshot, so that a slow follower is fed from the log.
    pub keep_entries: u64,
    pub message_bytes_max: u64,
    pub inflight_messages_max: usize,
    pub uncommitted_bytes_max: u64,
    pub committed_bytes_per_ready_max: u64,
    pub proposal_bytes_max: usize,
    pub proposals_pending_max: usize,
    pub reads_pending_max: usize,
    /// A read that no quorum confirmed is asked again after this many ticks, and given up after `read_ticks_max`.
    pub read_retry_ticks: u64,
    pub read_ticks_max: u64,
    pub snapshot_bytes_max: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            election_ticks: 12,
            heartbeat_ticks: 2,
            snapshot_every_entries: 10_000,
            snapshot_every_bytes: 64 << 20,
            keep_entries: 10_000,
            message_bytes_max: 256 << 10,
            inflight_messages_max: 256,
            uncommitted_bytes_max: 4 << 20,
            committed_bytes_per_ready_max: 4 << 20,
            proposal_bytes_max: 2 << 20,
            proposals_pending_max: 4096,
            reads_pending_max: 4096,
            read_retry_ticks: 6,
            read_ticks_max: 60,
            snapshot_bytes_max: 4 << 30,
        }
    }
}

/// A configuration no quorum can be started from.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("node id {0} is negative")]
    NegativeNodeId(NodeId),
    #[error("node {0} is not among the initial voters; joining a running quorum is not supported yet")]
    NotAVoter(NodeId),
    #[error("voter {0} is listed twice")]
    DuplicateVoter(NodeId),
    #[error("the cluster id is empty")]
    NoClusterId,
    #[error("{0}")]
    Raft(#[from] raft::Error),
}

/// The first-generation raft ids of `voters`, ascending.
pub(crate) fn voter_ids(me: NodeId, voters: &[NodeId]) -> Result<BTreeSet<RaftId>, ConfigError> {
    let mut ids = BTreeSet::new();
    for &node in voters {
        let id = RaftId::first(node).ok_or(ConfigError::NegativeNodeId(node))?;
        if !ids.insert(id) {
            return Err(ConfigError::DuplicateVoter(node));
        }
    }
    let own = RaftId::first(me).ok_or(ConfigError::NegativeNodeId(me))?;
    if ids.contains(&own) {
        Ok(ids)
    } else {
        Err(ConfigError::NotAVoter(me))
    }
}

/// raft-rs's settings: every default that is unsafe or unbounded is replaced.
pub(crate) fn raft_config(id: RaftId, applied: u64, tuning: &Tuning) -> Result<raft::Config, ConfigError> {
    let config = raft::Config {
        id: id.get(),
        election_tick: tuning.election_ticks,
        heartbeat_tick: tuning.heartbeat_ticks,
        applied,
        max_size_per_msg: tuning.message_bytes_max,
        max_inflight_msgs: tuning.inflight_messages_max,
        check_quorum: true,
        pre_vote: true,
        read_only_option: raft::ReadOnlyOption::Safe,
        max_uncommitted_size: tuning.uncommitted_bytes_max,
        max_committed_size_per_ready: tuning.committed_bytes_per_ready_max,
        ..raft::Config::default()
    };
    config.validate()?;
    Ok(config)
}
