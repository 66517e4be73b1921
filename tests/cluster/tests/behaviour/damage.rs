//! Bit rot below what was flushed: the replica goes out of service, is fetched anew, and nothing is lost meanwhile.

use std::path::PathBuf;

use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::until;
use strom_kafka_codec::messages::ElectLeadersRequest;
use strom_testkit::{Cluster, Member, Wiring};

const TOPIC: &str = "rotten";
const RECORDS: i64 = 20;
const ELECT_LEADERS: i16 = 2;
/// In a batch: what a read without a CRC check notices.
const MAGIC_AT: usize = 16;

async fn cluster_with_records() -> Cluster {
    let cluster = Cluster::builder()
        .wiring(Wiring::Grpc)
        .brokers(3)
        .setting("default.replication.factor", "3")
        .setting("min.insync.replicas", "2")
        // Else the write-ahead log puts right what is spoilt here.
        .setting("strom.log.wal.bytes", "0")
        .allow_log("quarantined")
        .allow_log("replica is out of service")
        .allow_log("a log cannot be used")
        .allow_log("cannot read the log")
        .allow_log("cannot read for a follower")
        .allow_log("a log is set aside")
        .allow_log("a replica is fetched anew")
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, TOPIC, 1, &[("segment.bytes", "1048576")]).await;
    for n in 0..RECORDS {
        produce_values(&mut raw, TOPIC, 0, &[&value(n)]).await;
    }
    wait_in_sync(&cluster).await;
    cluster
}

/// Long enough for two segments: the active one is looked through when it is opened.
fn value(n: i64) -> String {
    format!("{n:0>60000}")
}

/// The leader's id, once all three replicas are in sync.
async fn wait_in_sync(cluster: &Cluster) -> i32 {
    let bootstrap = cluster.bootstrap();
    until("three replicas in sync", || async {
        let mut raw = Raw::connect(&bootstrap).await;
        let topic = describe_topic(&mut raw, TOPIC, false).await;
        let partition = topic.partitions.first()?;
        let settled = partition.isr_nodes.len() == 3 && partition.leader_id >= 0;
        settled.then_some(partition.leader_id)
    })
    .await
}

fn member(broker: i32) -> Member {
    Member::Broker(u16::try_from(broker).unwrap())
}

/// The topic's directories on one broker, those that were set aside apart.
fn directories(cluster: &Cluster, broker: i32) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let dir = cluster.data_dir(member(broker)).join("broker");
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let partitions = entries.filter(|path| segment(path).exists());
    partitions.partition(|path| !path.to_string_lossy().ends_with("-stray"))
}

fn segment(partition: &std::path::Path) -> PathBuf {
    partition.join("00000000000000000000.log")
}

fn stored(cluster: &Cluster, broker: i32) -> Vec<u8> {
    let (logs, _) = directories(cluster, broker);
    assert_eq!(logs.len(), 1, "one log on broker {broker}");
    std::fs::read(segment(&logs[0])).unwrap()
}

/// Spoils the byte that `choose` picks of the stopped broker's log.
fn spoil(cluster: &Cluster, broker: i32, choose: impl Fn(&[u8]) -> usize) {
    let mut bytes = stored(cluster, broker);
    let at = choose(&bytes);
    bytes[at] ^= 0xff;
    let (logs, _) = directories(cluster, broker);
    std::fs::write(segment(&logs[0]), bytes).unwrap();
}

/// Where the `nth` batch begins.
fn batch_at(bytes: &[u8], nth: usize) -> usize {
    (0..nth).fold(0, |at, _| {
        let length: [u8; 4] = bytes[at + 8..at + 12].try_into().unwrap();
        at + 12 + usize::try_from(u32::from_be_bytes(length)).unwrap()
    })
}

async fn check_all_read(cluster: &Cluster) {
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    // A leader is known to clients a little before it is in office.
    until("the leader serves", || async {
        let mut raw = Raw::connect(&cluster.bootstrap()).await;
        (fetch(&mut raw, TOPIC, 0, 0).await.error_code == NONE).then_some(())
    })
    .await;
    let expected: Vec<_> = (0..RECORDS).map(|n| (n, value(n))).collect();
    assert_eq!(read_all(&mut raw, TOPIC, 0, 0).await, expected);
}

#[tokio::test]
async fn a_replica_found_damaged_by_recovery_is_fetched_anew() {
    let mut cluster = cluster_with_records().await;
    let leader = wait_in_sync(&cluster).await;
    let follower = (leader + 1) % 3;
    cluster.kill(member(follower)).await;
    spoil(&cluster, follower, |bytes| bytes.len() / 2);
    cluster.restart(member(follower)).await;
    until("the damaged log is set aside", || async {
        (directories(&cluster, follower).1.len() == 1).then_some(())
    })
    .await;
    let leader = wait_in_sync(&cluster).await;
    assert_eq!(stored(&cluster, follower), stored(&cluster, leader));
    check_all_read(&cluster).await;
    // Not taken for damaged again: what the checkpoint said of the old log is forgotten.
    cluster.kill(member(follower)).await;
    cluster.restart(member(follower)).await;
    wait_in_sync(&cluster).await;
    assert_eq!(directories(&cluster, follower).1.len(), 1);
}

#[tokio::test]
async fn a_leader_found_damaged_by_a_read_hands_over_and_is_fetched_anew() {
    let mut cluster = cluster_with_records().await;
    let preferred = wait_in_sync(&cluster).await;
    // A clean stop vouches for everything, so that nothing looks at the bytes before they are read.
    cluster.stop(member(preferred)).await;
    spoil(&cluster, preferred, |bytes| batch_at(bytes, 10) + MAGIC_AT);
    cluster.restart(member(preferred)).await;
    wait_in_sync(&cluster).await;
    let bootstrap = cluster.bootstrap();
    until("the preferred leader leads again", || async {
        let mut raw = Raw::connect(&bootstrap).await;
        let request = ElectLeadersRequest {
            topic_partitions: None,
            timeout_ms: 5_000,
            ..Default::default()
        };
        raw.call(ELECT_LEADERS, &request).await;
        (wait_in_sync(&cluster).await == preferred).then_some(())
    })
    .await;
    // What an election left behind at the gateway is refused as well, without a read.
    until("a read meets the damage", || async {
        let mut raw = Raw::connect(&bootstrap).await;
        let read = fetch(&mut raw, TOPIC, 0, 10).await;
        (read.error_code == KAFKA_STORAGE_ERROR).then_some(())
    })
    .await;
    until("another leads", || async {
        let mut raw = Raw::connect(&bootstrap).await;
        let leader = describe_topic(&mut raw, TOPIC, false).await.partitions[0].leader_id;
        (leader >= 0 && leader != preferred).then_some(())
    })
    .await;
    check_all_read(&cluster).await;
    let leader = wait_in_sync(&cluster).await;
    assert_eq!(stored(&cluster, preferred), stored(&cluster, leader));
}
