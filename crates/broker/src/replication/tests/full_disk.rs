//! Disks that fill up: who is told what, and that all goes on once there is room.

use strom_replication::{Acks, RoleKind};
use strom_types::ErrorCode;

use super::cluster::{Cluster, Settings, eventually};
use super::writing::Writer;

/// Fills a broker's disk but for `left` bytes.
fn fill(cluster: &Cluster, id: i32, left: u64) {
    let disk = &cluster.node(id).disk;
    disk.set_capacity(disk.used_bytes() + left);
}

fn make_room(cluster: &Cluster, id: i32) {
    cluster.node(id).disk.set_capacity(u64::MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_fills_up_says_so_at_once_and_goes_on_when_there_is_room() {
    let cluster = Cluster::start(Settings::default());
    let mut writer = Writer::new();
    let leader = cluster.partition(1, 0);
    writer.write(&leader, Acks::All, b"fits").unwrap();
    writer.outcome().await.unwrap();
    fill(&cluster, 1, 100);
    for acks in [Acks::All, Acks::Leader] {
        match writer.write(&leader, acks, &[1; 1000]) {
            // It is in the log, and followers may have it: open.
            Ok(_) => assert_eq!(
                writer.outcome().await.unwrap_err(),
                ErrorCode::NotEnoughReplicasAfterAppend
            ),
            Err(code) => assert_eq!(code, ErrorCode::KafkaStorageError),
        }
    }
    eventually(|| "full".into(), || cluster.node(1).dir.is_full()).await;
    let refused = writer.write(&leader, Acks::All, b"x").unwrap_err();
    assert_eq!(refused, ErrorCode::KafkaStorageError);
    assert_eq!(leader.high_watermark(), 1, "the leader's own copy counts, too");

    make_room(&cluster, 1);
    eventually(|| "room".into(), || !cluster.node(1).dir.is_full()).await;
    writer.write(&leader, Acks::All, b"after").unwrap();
    writer.outcome().await.unwrap();
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_disk_is_full_counts_for_nothing_and_catches_up_when_there_is_room() {
    let cluster = Cluster::start(Settings::default());
    let mut writer = Writer::new();
    let leader = cluster.partition(1, 0);
    fill(&cluster, 3, 100);
    for _ in 0..5 {
        writer.write(&leader, Acks::All, &[1; 1000]).unwrap();
    }
    // Until it has left the ISR, after the replica lag of two seconds, nothing is committed.
    writer.outcome().await.unwrap();
    let isr = || leader.with_replica(|replica| replica.isr().len());
    assert_eq!(isr(), 2);
    for _ in 0..4 {
        writer.outcome().await.unwrap();
    }
    assert_eq!(cluster.partition(3, 0).log().durable_offset(), 0);

    make_room(&cluster, 3);
    eventually(|| format!("back in an ISR of {}", isr()), || isr() == 3).await;
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leadership_that_a_full_disk_cannot_note_begins_when_there_is_room() {
    // One, and so many that their starts are noted together.
    for partitions in [1, 20] {
        let cluster = Cluster::start(Settings {
            partitions,
            ..Settings::default()
        });
        let mut writer = Writer::new();
        for partition in 0..partitions {
            writer
                .write(&cluster.partition(1, partition), Acks::All, b"x")
                .unwrap();
            writer.outcome().await.unwrap();
        }
        cluster.converge().await;
        fill(&cluster, 2, 0);
        cluster.elect(2, &[1, 2, 3]);
        let next = cluster.partition(2, 0);
        assert_eq!(next.role(), RoleKind::LeaderPreparing);
        assert!(writer.write(&next, Acks::All, b"too early").is_err());
        make_room(&cluster, 2);
        for partition in 0..partitions {
            let next = cluster.partition(2, partition);
            eventually(|| "2 leads".into(), || next.role() == RoleKind::Leader).await;
            eventually(|| "room".into(), || !cluster.node(2).dir.is_full()).await;
            writer.write(&next, Acks::All, b"y").unwrap();
            assert_eq!(writer.outcome().await.unwrap().base_offset, 1);
        }
        cluster.converge().await;
    }
}
