//! Disks whose syncs fail: such a directory is dead for its process's life, and nothing rests on it any more.

use std::time::Duration;

use strom_replication::{Acks, RoleKind};
use strom_types::ErrorCode;

use super::cluster::{Cluster, Settings, eventually};
use super::writing::Writer;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_sync_acknowledges_nothing_more_and_another_goes_on() {
    let cluster = Cluster::start(Settings::default());
    let mut writer = Writer::new();
    let leader = cluster.partition(1, 0);
    for i in 0..5u8 {
        writer.write(&leader, Acks::All, &[i]).unwrap();
        writer.outcome().await.unwrap();
    }
    cluster.node(1).disk.fail_syncs();
    for acks in [Acks::All, Acks::Leader] {
        let refused = match writer.write(&leader, acks, b"x") {
            Ok(_) => writer.outcome().await.unwrap_err(),
            Err(code) => code,
        };
        assert_eq!(refused, ErrorCode::KafkaStorageError);
    }
    assert!(cluster.node(1).dir.failure().is_some());
    // Not even what only the followers' disks would be needed for.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(leader.high_watermark(), 5);
    assert!(writer.outcome_now().is_none());

    cluster.elect(2, &[2, 3]);
    let next = cluster.partition(2, 0);
    eventually(|| "2 leads".into(), || next.role() == RoleKind::Leader).await;
    writer.write(&next, Acks::All, b"y").unwrap();
    let offset = writer.outcome().await.unwrap().base_offset;
    assert!(offset >= 5, "{offset}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_cannot_sync_counts_for_nothing() {
    let cluster = Cluster::start(Settings::default());
    let mut writer = Writer::new();
    let leader = cluster.partition(1, 0);
    cluster.node(3).disk.fail_syncs();
    writer.write(&leader, Acks::All, b"x").unwrap();
    // Committed only without it: after the replica lag of two seconds.
    writer.outcome().await.unwrap();
    let isr = || leader.with_replica(|replica| replica.isr().len());
    assert_eq!(isr(), 2);
    let failed = cluster.partition(3, 0);
    assert_eq!(failed.log().durable_offset(), 0);
    for _ in 0..20 {
        writer.write(&leader, Acks::All, b"y").unwrap();
        writer.outcome().await.unwrap();
    }
    assert_eq!((isr(), failed.log().durable_offset()), (2, 0));
}
