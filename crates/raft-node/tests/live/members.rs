//! Three nodes with RocksDB and threads over the in-memory network.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strom_raft_node::transport::memory::{Faults, MemoryNetwork};
use strom_raft_node::{ProposeError, RaftConfig, RaftId, RaftNode, RaftStatus, Tuning};
use strom_types::NodeId;
use tempfile::TempDir;

use crate::{Running, Tally, until};

struct Group {
    network: MemoryNetwork,
    dirs: BTreeMap<i32, TempDir>,
    running: BTreeMap<i32, Running>,
}

fn id(node: i32) -> RaftId {
    RaftId::first(NodeId(node)).unwrap()
}

impl Group {
    fn new() -> Self {
        let mut group = Group {
            network: MemoryNetwork::new(9),
            dirs: BTreeMap::new(),
            running: BTreeMap::new(),
        };
        for node in 0..3 {
            group.dirs.insert(node, tempfile::tempdir().unwrap());
            group.start(node);
        }
        group
    }

    fn config(&self, node: i32) -> RaftConfig {
        let voters = (0..3).map(|voter| (NodeId(voter), String::new())).collect();
        let mut config = RaftConfig::new(NodeId(node), "three", self.dirs[&node].path(), voters);
        config.tick = Duration::from_millis(20);
        config.tuning = Tuning {
            snapshot_every_entries: 50,
            keep_entries: 10,
            ..Tuning::default()
        };
        config
    }

    fn start(&mut self, node: i32) {
        let transport = self.network.transport(id(node));
        let (raft, handle) = RaftNode::open(&self.config(node), Tally::default(), transport).unwrap();
        self.network.connect(id(node), handle.clone());
        self.running.insert(node, Running::start(raft, handle));
    }

    async fn stop(&mut self, node: i32) {
        self.network.disconnect(id(node));
        self.running.remove(&node).unwrap().stop().await;
    }

    /// The node that leads, once there is one among those that run.
    async fn leader(&self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let leads = |running: &&Running| running.handle.status().borrow().ready_to_lead;
            let leading = self.running.iter().filter(|(_, running)| leads(running));
            let newest = leading.max_by_key(|(_, running)| running.handle.status().borrow().term);
            if let Some((node, _)) = newest {
                return *node;
            }
            assert!(Instant::now() < deadline, "no leader");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Proposes until `count` are acknowledged, by whoever leads.
    async fn propose(&self, count: usize) -> u64 {
        let mut last = 0;
        let mut done = 0;
        while done < count {
            let leader = self.leader().await;
            match self.running[&leader]
                .handle
                .propose(Bytes::from(format!("{done}")))
                .await
            {
                Ok(index) => {
                    last = index;
                    done += 1;
                }
                Err(ProposeError::NotLeader { .. } | ProposeError::Indeterminate) => {}
                Err(error) => panic!("{error}"),
            }
        }
        last
    }

    async fn all_applied(&self, index: u64) {
        for running in self.running.values() {
            until(&running.handle, "applied", |status: &RaftStatus| {
                status.applied >= index
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_is_lost_and_a_laggard_catches_up_by_snapshot() {
    let mut group = Group::new();
    group.propose(20).await;
    let old = group.leader().await;
    group.stop(old).await;
    let begin = Instant::now();
    let new = group.leader().await;
    println!("a new leader after {:?}", begin.elapsed());
    assert_ne!(new, old);
    // Far enough for the log to be cut above what the stopped one has.
    let last = group.propose(200).await;
    group.start(old);
    group.all_applied(last).await;
    let description = group.running[&old].handle.describe().await.unwrap();
    assert!(description.snapshot > 100, "{description:?}");
    // Followers answer linearizable reads too.
    let follower = (0..3).find(|node| *node != new).unwrap();
    assert!(group.running[&follower].handle.read_index().await.unwrap() >= last);
    let leader = group.leader().await;
    let seen = group.running[&leader].handle.describe().await.unwrap();
    assert!(
        seen.voters.iter().all(|member| member.matched >= Some(last)),
        "{seen:?}"
    );
    assert!(seen.voters.iter().all(|member| member.last_contact.is_some()));
    for node in 0..3 {
        group.stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_leader_answers_indeterminate() {
    let mut group = Group::new();
    group.propose(3).await;
    let old = group.leader().await;
    group.network.isolate(id(old), true);
    let handle = group.running[&old].handle.clone();
    assert_eq!(
        handle.propose(Bytes::from_static(b"lost?")).await,
        Err(ProposeError::Indeterminate)
    );
    assert!(matches!(
        handle.propose(Bytes::new()).await,
        Err(ProposeError::NotLeader { .. })
    ));
    assert!(handle.read_index().await.is_err(), "a read without a quorum");
    group.network.isolate(id(old), false);
    let last = group.propose(3).await;
    group.all_applied(last).await;
    for node in 0..3 {
        group.stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over() {
    let mut group = Group::new();
    group.propose(3).await;
    let old = group.leader().await;
    let target = (old + 1) % 3;
    let handle = group.running[&old].handle.clone();
    assert!(handle.transfer_leadership(NodeId(9)).await.is_err());
    handle.transfer_leadership(NodeId(target)).await.unwrap();
    until(&group.running[&target].handle, "leading", |status| {
        status.ready_to_lead
    })
    .await;
    assert!(matches!(
        handle.propose(Bytes::new()).await,
        Err(ProposeError::NotLeader { leader: Some(NodeId(leader)) }) if leader == target
    ));
    for node in 0..3 {
        group.stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lossy_network_only_slows_it_down() {
    let mut group = Group::new();
    group.propose(1).await;
    group.network.set_faults(Faults {
        drop_percent: 5,
        repeat_percent: 10,
        delay_percent: 10,
    });
    let last = group.propose(150).await;
    group.network.set_faults(Faults::default());
    group.all_applied(last).await;
    for node in 0..3 {
        group.stop(node).await;
    }
}
