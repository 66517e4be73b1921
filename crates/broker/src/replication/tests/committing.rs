//! When the high watermark moves, and that followers learn of it.

use strom_log::LogDirConfig;
use strom_replication::Acks;

use super::cluster::{Cluster, Settings, eventually};
use super::writing::Writer;

/// Nothing is written or fsynced until the test says so.
fn by_hand() -> Settings {
    Settings {
        log_dir: LogDirConfig {
            threads: false,
            ..Settings::default().log_dir
        },
        ..Settings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_committed_when_every_member_has_fsynced_it() {
    let cluster = Cluster::start(by_hand());
    let mut writer = Writer::new();
    let leader = cluster.partition(1, 0);
    writer.write(&leader, Acks::All, b"one").unwrap();
    let ends = || [1, 2, 3].map(|id| cluster.partition(id, 0).log().log_end_offset());
    // Replication does not wait for the disks.
    eventually(|| format!("fetched: {:?}", ends()), || ends() == [1, 1, 1]).await;

    for id in [1, 2] {
        cluster.node(id).dir.write_round();
        cluster.node(id).dir.flush_round();
    }
    let durable = || leader.with_replica(|replica| replica.log_position().durable);
    eventually(|| "the leader is durable".into(), || durable() == 1).await;
    // Broker 2's position goes out at once; give it every chance to be taken for enough.
    let more = Writer::new();
    for i in 0..50 {
        more.write(&leader, Acks::Leader, &[i]).unwrap();
        let caught_up = || cluster.partition(2, 0).log().log_end_offset() == i64::from(i) + 2;
        eventually(|| "2 follows".into(), caught_up).await;
    }
    assert_eq!(leader.high_watermark(), 0, "broker 3 has fsynced nothing");
    assert!(writer.outcome_now().is_none());

    cluster.node(3).dir.write_round();
    cluster.node(3).dir.flush_round();
    let info = writer.outcome().await.unwrap();
    assert_eq!((info.base_offset, leader.high_watermark()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_learn_the_high_watermark_without_further_records() {
    let cluster = Cluster::start(Settings::default());
    let mut writer = Writer::new();
    for i in 0..3u8 {
        writer.write(&cluster.partition(1, 0), Acks::All, &[i]).unwrap();
        assert_eq!(writer.outcome().await.unwrap().base_offset, i64::from(i));
        cluster.converge().await;
        assert_eq!(cluster.partition(3, 0).high_watermark(), i64::from(i) + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_cache_topics_do_not_wait_for_disks() {
    let cluster = Cluster::start(Settings {
        topic_configs: vec![("strom.durability", "page_cache")],
        ..by_hand()
    });
    let mut writer = Writer::new();
    writer.write(&cluster.partition(1, 0), Acks::All, b"x").unwrap();
    assert_eq!(writer.outcome().await.unwrap().base_offset, 0);
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_partitions_share_a_stream() {
    let cluster = Cluster::start(Settings {
        partitions: 100,
        ..Settings::default()
    });
    let mut writer = Writer::new();
    for round in 0..20usize {
        for partition in 0..100 {
            let value = vec![u8::try_from(partition).unwrap(); 10 + round * 100];
            writer
                .write(&cluster.partition(1, partition), Acks::All, &value)
                .unwrap();
        }
    }
    for _ in 0..2000 {
        writer.outcome().await.unwrap();
    }
    cluster.converge().await;
    for id in 1..=3 {
        assert_eq!(cluster.partition(id, 99).high_watermark(), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_away_leaves_the_isr_and_comes_back() {
    let cluster = Cluster::start(Settings::default());
    let mut writer = Writer::new();
    cluster.cut(3, 1).await;
    writer.write(&cluster.partition(1, 0), Acks::All, b"x").unwrap();
    // Replica lag: two seconds.
    writer.outcome().await.unwrap();
    let isr = || {
        cluster
            .partition(1, 0)
            .with_replica(|replica| replica.isr().len())
    };
    assert_eq!(isr(), 2);
    cluster.heal(3, 1);
    eventually(|| format!("back in an ISR of {}", isr()), || isr() == 3).await;
    cluster.converge().await;
}
