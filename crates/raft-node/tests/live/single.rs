//! A quorum of one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strom_raft_node::transport::NoPeers;
use strom_raft_node::{OpenError, ProposeError, RaftConfig, RaftNode, RaftRole, ReadError, Stopped, Tuning};
use strom_types::NodeId;

use crate::{Running, Tally, until};

fn config(dir: &std::path::Path) -> RaftConfig {
    let mut config = RaftConfig::new(
        NodeId(1),
        "single",
        dir,
        vec![(NodeId(1), "localhost:1".to_owned())],
    );
    config.tuning = Tuning {
        snapshot_every_entries: 100,
        keep_entries: 20,
        ..Tuning::default()
    };
    config
}

fn open(config: &RaftConfig) -> Result<(RaftNode<Tally>, strom_raft_node::RaftHandle), OpenError> {
    RaftNode::open(config, Tally::default(), Arc::new(NoPeers))
}

#[tokio::test]
async fn proposes_restarts_and_replays() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut total = 0;
    for round in 0..4u64 {
        let (node, handle) = open(&config).unwrap();
        let running = Running::start(node, handle);
        // A read in the first millisecond: asked before anything is committed in this term.
        let index = running.handle.read_index().await.unwrap();
        let status = until(&running.handle, "leading", |status| status.ready_to_lead).await;
        assert_eq!((status.role, status.leader), (RaftRole::Leader, Some(NodeId(1))));
        assert!(status.applied >= index);
        let mut last = 0;
        for number in 0..70u64 {
            let index = running
                .handle
                .propose(Bytes::from(format!("{round}/{number}")))
                .await
                .unwrap();
            assert!(index > last);
            last = index;
            total += 1;
        }
        assert!(running.handle.read_index().await.unwrap() >= last);
        let description = running.handle.describe().await.unwrap();
        assert_eq!(description.voters.len(), 1);
        assert_eq!(description.voters[0].matched, Some(last));
        running.stop().await;
        let (node, _handle) = open(&config).unwrap();
        assert!(node.machine().applied <= total);
    }
    let (node, handle) = open(&config).unwrap();
    assert!(node.machine().applied >= 190, "no snapshot was made");
    let running = Running::start(node, handle);
    let status = until(&running.handle, "replay", |status| status.ready_to_lead).await;
    assert!(status.applied > total);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_proposals_share_disk_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (node, handle) = open(&config(dir.path())).unwrap();
    let running = Running::start(node, handle);
    until(&running.handle, "leading", |status| status.ready_to_lead).await;
    let begin = Instant::now();
    let clients: Vec<_> = (0..64)
        .map(|client| {
            let handle = running.handle.clone();
            tokio::spawn(async move {
                for number in 0..50 {
                    handle
                        .propose(Bytes::from(format!("{client}:{number}")))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    println!("3200 proposals by 64 clients in {:?}", begin.elapsed());
    // The status is told after the proposers.
    until(&running.handle, "all applied", |status| status.applied >= 3200).await;
    running.stop().await;
}

#[tokio::test]
async fn limits_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (node, handle) = open(&config).unwrap();
    // Two processes on one data dir: the second is kept out.
    assert!(
        open(&config)
            .err()
            .unwrap()
            .to_string()
            .contains("another process")
    );
    let running = Running::start(node, handle);
    let handle = running.handle.clone();
    until(&handle, "leading", |status| status.ready_to_lead).await;
    let huge = Bytes::from(vec![0; (2 << 20) + 1]);
    assert!(matches!(
        handle.propose(huge).await,
        Err(ProposeError::TooLarge { .. })
    ));
    // The largest one fits, and so does an empty one, which only the index shows.
    let index = handle.propose(Bytes::from(vec![0; 2 << 20])).await.unwrap();
    assert_eq!(handle.propose(Bytes::new()).await, Ok(index + 1));
    running.stop().await;
    assert_eq!(
        handle.propose(Bytes::new()).await,
        Err(ProposeError::ShuttingDown)
    );
    assert_eq!(handle.read_index().await, Err(ReadError::ShuttingDown));
    assert_eq!(handle.describe().await, Err(Stopped));
    let other = RaftConfig {
        node_id: NodeId(2),
        initial_voters: vec![(NodeId(2), String::new())],
        ..config
    };
    assert!(
        open(&other)
            .err()
            .unwrap()
            .to_string()
            .contains("belongs to node 1")
    );
}

#[tokio::test]
async fn a_lost_database_is_not_started_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    drop(open(&config).unwrap());
    std::fs::remove_dir_all(dir.path().join("raft")).unwrap();
    for _ in 0..2 {
        assert!(
            open(&config)
                .err()
                .unwrap()
                .to_string()
                .contains("must not vote again")
        );
        std::fs::create_dir_all(dir.path().join("raft")).unwrap();
    }
    // A marker that was not yet written is only an interrupted first start.
    let fresh = tempfile::tempdir().unwrap();
    let config = RaftConfig {
        data_dir: fresh.path().into(),
        ..config
    };
    drop(open(&config).unwrap());
    std::fs::remove_file(fresh.path().join("storage.marker")).unwrap();
    drop(open(&config).unwrap());
    assert!(fresh.path().join("storage.marker").exists());
}

#[tokio::test]
async fn a_dropped_run_stops_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (node, handle) = open(&config).unwrap();
    let run = tokio::time::timeout(Duration::from_millis(300), node.run(std::future::pending()));
    assert!(run.await.is_err());
    let deadline = Instant::now() + Duration::from_secs(10);
    while handle.describe().await.is_ok() {
        assert!(Instant::now() < deadline);
    }
    // The lock is free again once the thread is gone.
    while open(&config).is_err() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
