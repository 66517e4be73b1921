//! Kills under load: whatever was acknowledged is there once and in order, and no client sees a fatal error.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use strom_cluster::load::{History, Load};
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::{codes, librdkafka};
use strom_testkit::{Cluster, Member, Wiring};

const PARTITIONS: i32 = 3;
const ROUNDS: usize = 3;
const PER_ROUND: u64 = 300;

async fn judge(cluster: &Cluster, history: &History) {
    assert_eq!(history.failed, Vec::<String>::new(), "errors at the client");
    for partition in 0..PARTITIONS {
        let read = librdkafka::read_partition(&cluster.bootstrap(), "load", partition);
        history.check(partition, &read);
    }
    let total: usize = history.acknowledged.values().map(Vec::len).sum();
    assert!(
        total as u64 >= PER_ROUND * ROUNDS as u64,
        "only {total} acknowledged"
    );
}

/// Kills `member` in each round while a producer sends.
async fn every_acknowledged_record_survives_kills_of(member: Member, wiring: Wiring) {
    let mut cluster = Cluster::builder().wiring(wiring).start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "load", PARTITIONS, &[]).await;
    let load = Load::start(&cluster.bootstrap(), "load", PARTITIONS, 0);
    for _ in 0..ROUNDS {
        load.wait_for(PER_ROUND).await;
        cluster.kill(member).await;
        cluster.restart(member).await;
    }
    load.wait_for(PER_ROUND).await;
    let history = load.stop().await;
    cluster.wait_ready().await;
    judge(&cluster, &history).await;
}

#[tokio::test]
async fn every_acknowledged_record_survives_kills_of_the_standalone() {
    every_acknowledged_record_survives_kills_of(Member::Broker(0), Wiring::InProcess).await;
}

#[tokio::test]
async fn every_acknowledged_record_survives_kills_of_the_broker() {
    every_acknowledged_record_survives_kills_of(Member::Broker(0), Wiring::Grpc).await;
}

#[tokio::test]
async fn every_acknowledged_record_survives_kills_of_the_gateway() {
    every_acknowledged_record_survives_kills_of(Member::Gateway(0), Wiring::Grpc).await;
}

#[tokio::test]
async fn every_acknowledged_record_survives_kills_of_the_controller() {
    every_acknowledged_record_survives_kills_of(Member::Controller(0), Wiring::Grpc).await;
}

#[tokio::test]
async fn every_acknowledged_record_survives_orderly_restarts() {
    let mut cluster = Cluster::builder().start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "load", PARTITIONS, &[]).await;
    let load = Load::start(&cluster.bootstrap(), "load", PARTITIONS, 0);
    for _ in 0..ROUNDS {
        load.wait_for(PER_ROUND).await;
        cluster.restart(Member::Broker(0)).await;
    }
    load.wait_for(PER_ROUND).await;
    let history = load.stop().await;
    cluster.wait_ready().await;
    judge(&cluster, &history).await;
}

/// The newest segment of the only topic in a broker's directory that holds records.
fn segment(broker: &Path) -> PathBuf {
    let partitions = std::fs::read_dir(broker)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = partitions.filter(|path| path.is_dir()).flat_map(|dir| {
        let files = std::fs::read_dir(dir).unwrap();
        files.map(|file| file.unwrap().path())
    });
    let segments = files.filter(|path| path.extension().is_some_and(|end| end == "log"));
    let longest = segments.max_by_key(|path| path.metadata().unwrap().len());
    longest.expect("a segment with records")
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_nothing_else() {
    let half_batch = batch(&["torn"]);
    let half_batch = &half_batch[..half_batch.len() / 2];
    // A batch whose last bytes never reached the disk, one that is zero where it never did, and noise.
    let whole_with_zeros = {
        let mut bytes = batch(&["zeroed"]).to_vec();
        let from = bytes.len() - 6;
        bytes[from..].fill(0);
        bytes
    };
    for torn in [half_batch, &whole_with_zeros, &[0; 4096], &[0xa5; 1000]] {
        let mut cluster = Cluster::builder().start().await;
        let mut raw = Raw::connect(&cluster.bootstrap()).await;
        create_topic(&mut raw, "torn", 1, &[]).await;
        for n in 0..10 {
            produce_values(&mut raw, "torn", 0, &[&format!("record {n}")]).await;
        }
        cluster.kill(Member::Broker(0)).await;
        let segment = segment(&cluster.data_dir(Member::Broker(0)).join("broker"));
        let before = segment.metadata().unwrap().len();
        OpenOptions::new()
            .append(true)
            .open(&segment)
            .unwrap()
            .write_all(torn)
            .unwrap();
        cluster.restart(Member::Broker(0)).await;
        cluster.wait_ready().await;
        let mut raw = Raw::connect(&cluster.bootstrap()).await;
        wait_served(&mut raw, "torn", 0).await;
        assert_eq!(
            segment.metadata().unwrap().len(),
            before,
            "the tail is cut where it was good"
        );
        let read = read_all(&mut raw, "torn", 0, 0).await;
        let expected: Vec<_> = (0..10).map(|n| (n, format!("record {n}"))).collect();
        assert_eq!(read, expected);
        assert_eq!(produce_values(&mut raw, "torn", 0, &["next"]).await, 10);
    }
}

#[tokio::test]
async fn damage_below_the_flushed_end_is_not_served() {
    let mut cluster = Cluster::builder()
        .allow_log("quarantined")
        .allow_log("replica is out of service")
        .allow_log("cannot assign an epoch in the log")
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "damaged", 1, &[]).await;
    create_topic(&mut raw, "sound", 1, &[]).await;
    produce_values(&mut raw, "sound", 0, &["s"]).await;
    for n in 0..10 {
        produce_values(&mut raw, "damaged", 0, &[&format!("record {n}")]).await;
    }
    // The clean stop vouches for everything; the damage comes later.
    cluster.stop(Member::Broker(0)).await;
    let segment = segment(&cluster.data_dir(Member::Broker(0)).join("broker"));
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&segment, &bytes).unwrap();
    cluster.restart(Member::Broker(0)).await;
    cluster.wait_ready().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    wait_served(&mut raw, "sound", 0).await;
    assert_eq!(read_all(&mut raw, "sound", 0, 0).await, [(0, "s".to_owned())]);
    // Never wrong bytes as if they were right: an error, or batches that a client's CRC check refuses.
    let data = fetch(&mut raw, "damaged", 0, 0).await;
    if data.error_code == codes::NONE {
        let batches = strom_records::BatchIter::new(data.records.clone().unwrap());
        let bad = batches.filter(|batch| batch.as_ref().is_ok_and(|batch| batch.verify_crc().is_err()));
        assert!(bad.count() <= 1, "only the damaged batch");
    }
}
