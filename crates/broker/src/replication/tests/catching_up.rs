//! Followers that come late: from the disk, after breaks and restarts, from a log that begins inside of a batch.

use std::sync::Arc;

use strom_log::LogDirConfig;
use strom_replication::Acks;

use super::cluster::{Cluster, Settings, eventually};
use super::writing::{Writer, batch};
use crate::partition::{Ack, AckSink, Acknowledged, ProduceTerms};

#[tokio::test(flavor = "multi_thread")]
async fn a_laggard_reads_from_the_disk() {
    let cluster = Cluster::start(Settings {
        log_dir: LogDirConfig {
            tail_cache_bytes_max: 64 << 10,
            ..Settings::default().log_dir
        },
        ..Settings::default()
    });
    cluster.cut(3, 1).await;
    let mut writer = Writer::new();
    let leader = cluster.partition(1, 0);
    let value = vec![7; 100_000];
    for _ in 0..300 {
        writer.write(&leader, Acks::Leader, &value).unwrap();
        writer.outcome().await.unwrap();
    }
    let in_memory = || leader.log().read_tail(0, 1, i64::MAX, true).unwrap().is_some();
    eventually(|| "the first batches are out of memory".into(), || !in_memory()).await;
    cluster.heal(3, 1);
    cluster.converge().await;
    assert_eq!(cluster.partition(3, 0).log().log_end_offset(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_streams_are_opened_again() {
    let cluster = Cluster::start(Settings {
        partitions: 4,
        ..Settings::default()
    });
    let mut writer = Writer::new();
    for round in 0..60u8 {
        for partition in 0..4 {
            let leader = cluster.partition(1, partition);
            writer.write(&leader, Acks::All, &[round; 3000]).unwrap();
        }
        if round % 3 == 0 {
            cluster.node(1).replication.streams.break_all();
        }
        if round % 7 == 0 {
            writer.outcome().await.unwrap();
        }
    }
    cluster.converge().await;
    assert_eq!(cluster.partition(2, 3).high_watermark(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_go_over_tcp_too() {
    let cluster = Cluster::start(Settings {
        partitions: 4,
        over_tcp: true,
        ..Settings::default()
    });
    let mut writer = Writer::new();
    for round in 0..100u8 {
        for partition in 0..4u8 {
            let leader = cluster.partition(1, i32::from(partition));
            let value = vec![round; 100 << (3 * partition)];
            writer.write(&leader, Acks::All, &value).unwrap();
        }
        if round == 50 {
            cluster.node(1).replication.streams.break_all();
        }
    }
    for _ in 0..400 {
        writer.outcome().await.unwrap();
    }
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_follower_goes_on_where_its_disk_ends() {
    let cluster = Cluster::start(Settings::default());
    let writer = Writer::new();
    for seed in 0..4 {
        for i in 0..50u8 {
            writer
                .write(&cluster.partition(1, 0), Acks::All, &[i; 500])
                .unwrap();
        }
        let disk = cluster.kill(2, (seed % 2 == 0).then_some(seed));
        for i in 0..50u8 {
            writer
                .write(&cluster.partition(1, 0), Acks::Leader, &[i; 500])
                .unwrap();
        }
        cluster.restart(2, disk);
        cluster.converge().await;
    }
    let isr = || {
        cluster
            .partition(1, 0)
            .with_replica(|replica| replica.isr().len())
    };
    eventually(|| format!("ISR of {}", isr()), || isr() == 3).await;
}

struct Nobody;

impl AckSink for Nobody {
    fn acknowledge(&self, _: usize, _: Acknowledged) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_begins_inside_of_a_batch_is_followed() {
    let cluster = Cluster::start(Settings::default());
    cluster.cut(3, 1).await;
    let leader = cluster.partition(1, 0);
    for _ in 0..3 {
        let ack = Ack {
            sink: Arc::new(Nobody),
            place: 0,
        };
        let terms = ProduceTerms {
            acks: Acks::Leader,
            zstd_allowed: true,
        };
        let checked = leader.check_produced(&batch(&[b"a", b"b", b"c", b"d"]), terms);
        leader.append_produced(checked.unwrap(), ack).unwrap();
    }
    eventually(
        || format!("committed without broker 3: {}", leader.high_watermark()),
        || leader.high_watermark() == 12,
    )
    .await;
    leader.delete_records(6).unwrap();
    cluster.heal(3, 1);
    cluster.converge().await;
    let follower = cluster.partition(3, 0);
    assert_eq!(follower.log().log_start_offset(), 6);
    assert_eq!(follower.log().log_end_offset(), 12);
    let first = follower.log().read(6, 1, 12, true).unwrap();
    assert_eq!(first.base_offset, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_are_deleted_everywhere() {
    let cluster = Cluster::start(Settings::default());
    let mut writer = Writer::new();
    for _ in 0..10 {
        writer.write(&cluster.partition(1, 0), Acks::All, b"x").unwrap();
        writer.outcome().await.unwrap();
    }
    let leader = cluster.partition(1, 0);
    leader.delete_records(4).unwrap();
    eventually(
        || "all log starts move".into(),
        || leader.with_replica(strom_replication::Replica::low_watermark) == 4,
    )
    .await;
    cluster.converge().await;
}
