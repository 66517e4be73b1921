//! Leader changes with logs that part: followers cut what the new leader has not.

use std::sync::Arc;
use std::time::Duration;

use strom_replication::{Acks, RoleKind};
use strom_types::LeaderEpoch;

use super::cluster::{Cluster, Settings, eventually};
use super::writing::Writer;
use crate::partition::{Marks, Pushable};
use crate::replication::push::{Push, StreamQueue};

#[tokio::test(flavor = "multi_thread")]
async fn a_former_leader_drops_what_was_never_committed() {
    let cluster = Cluster::start(Settings::default());
    let mut writer = Writer::new();
    for i in 0..10u8 {
        writer.write(&cluster.partition(1, 0), Acks::All, &[i]).unwrap();
        writer.outcome().await.unwrap();
    }
    // The leader is cut off, in both directions, and writes on.
    for other in [2, 3] {
        cluster.cut(other, 1).await;
        cluster.cut(1, other).await;
    }
    cluster.make_deaf(1);
    // A follower that is woken by all that and gets nothing.
    let stalled = Push::new(cluster.partition(1, 0), Arc::default());
    stalled.serve(LeaderEpoch(1), 10, true);
    for i in 0..20u8 {
        let old = cluster.partition(1, 0);
        writer.write(&old, Acks::All, &[100 + i; 50]).unwrap();
    }
    cluster.elect(2, &[2, 3]);
    let new = cluster.partition(2, 0);
    eventually(|| "2 leads".into(), || new.role() == RoleKind::Leader).await;
    let mut other_writer = Writer::new();
    for i in 0..5u8 {
        other_writer.write(&new, Acks::All, &[200 + i]).unwrap();
        assert_eq!(
            other_writer.outcome().await.unwrap().base_offset,
            i64::from(i) + 10
        );
    }
    assert_eq!(cluster.partition(1, 0).log().log_end_offset(), 30);
    stalled.close();

    cluster.make_hear(1);
    for other in [2, 3] {
        cluster.heal(other, 1);
        cluster.heal(1, other);
    }
    for _ in 0..20 {
        assert!(writer.outcome().await.is_err(), "never committed");
    }
    cluster.converge().await;
    assert_eq!(cluster.partition(1, 0).high_watermark(), 15);

    // Its log is shorter now than it was when it led before.
    cluster.kill(3, None);
    cluster.elect(1, &[1, 2]);
    let again = cluster.partition(1, 0);
    eventually(|| "1 leads again".into(), || again.push_count() == 1).await;
    writer.write(&again, Acks::All, b"x").unwrap();
    assert_eq!(writer.outcome().await.unwrap().base_offset, 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pushed_in_an_epoch_that_is_over() {
    let cluster = Cluster::start(Settings::default());
    let mut writer = Writer::new();
    let first = cluster.partition(1, 0);
    writer.write(&first, Acks::All, b"x").unwrap();
    writer.outcome().await.unwrap();
    let is_pushed = |epoch| {
        let epoch = LeaderEpoch(epoch);
        let found = [
            first.pushable(epoch, 0, 1000),
            first.pushable_from_disk(epoch, 0, 1000),
        ];
        let records = found
            .iter()
            .filter(|found| matches!(found, Pushable::Records { .. }));
        (records.count(), first.marks_in(epoch).is_some())
    };
    assert_eq!(is_pushed(1), (2, true));
    cluster.elect(2, &[1, 2, 3]);
    assert_eq!((is_pushed(1), is_pushed(2)), ((0, false), (0, false)));
    cluster.elect(1, &[1, 2, 3]);
    assert_eq!((is_pushed(1), is_pushed(3)), ((0, false), (2, true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_restart_is_not_sent_after_it() {
    let cluster = Cluster::start(Settings::default());
    let queue = Arc::new(StreamQueue::default());
    let push = Push::new(cluster.partition(1, 0), queue.clone());
    push.serve(LeaderEpoch(1), 5, true);
    let before = push.progress();
    push.serve(LeaderEpoch(1), 5, true);
    let marks = Marks::default();
    assert!(!push.sent(before.generation, 5, 8, marks));
    let now = push.progress();
    assert!(push.sent(now.generation, 5, 8, marks));
    assert!(!push.sent(now.generation, 5, 8, marks), "sent already");
    push.serve(LeaderEpoch(1), 6, false);
    assert_eq!(push.progress().next, 8, "an acknowledgement restarts nothing");
    assert!(!push.park_if(before.generation) && push.park_if(now.generation));
    push.serve(LeaderEpoch(1), 6, false);
    assert_eq!(push.progress().next, 6);
    push.close();
    queue.clear();
    assert_eq!(Arc::strong_count(&push), 1, "nobody holds what is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn quick_leader_changes_leave_one_history() {
    let cluster = Cluster::start(Settings {
        partitions: 3,
        ..Settings::default()
    });
    let writer = Writer::new();
    for round in 0..12i32 {
        let leader = 1 + round % 3;
        cluster.elect(leader, &[1, 2, 3]);
        for i in 0..10u8 {
            for partition in 0..3 {
                // It may not lead yet, or the members may be too few for a moment.
                let _ = writer.write(&cluster.partition(leader, partition), Acks::Leader, &[i; 100]);
            }
        }
        if round % 4 == 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_leader_returns_as_a_follower() {
    let cluster = Cluster::start(Settings::default());
    let mut writer = Writer::new();
    for i in 0..10u8 {
        writer.write(&cluster.partition(1, 0), Acks::All, &[i]).unwrap();
        writer.outcome().await.unwrap();
    }
    cluster.cut(2, 1).await;
    cluster.cut(3, 1).await;
    for i in 0..10u8 {
        writer
            .write(&cluster.partition(1, 0), Acks::Leader, &[i; 9])
            .unwrap();
        writer.outcome().await.unwrap();
    }
    let disk = cluster.kill(1, Some(1));
    cluster.elect(3, &[2, 3]);
    let new = cluster.partition(3, 0);
    assert_eq!(new.log().log_end_offset(), 10);
    for i in 0..3u8 {
        eventually(|| "3 leads".into(), || new.role() == RoleKind::Leader).await;
        writer.write(&new, Acks::All, &[i]).unwrap();
        writer.outcome().await.unwrap();
    }
    cluster.restart(1, disk);
    cluster.converge().await;
    assert_eq!(cluster.partition(1, 0).high_watermark(), 13);
}
