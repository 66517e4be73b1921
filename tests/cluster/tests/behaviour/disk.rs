//! A full disk: appends are refused, nothing is lost, reads and deletions go on, and the node stays up.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::until;
use strom_testkit::{Cluster, Member, Wiring};

in_both_wirings!(
    with_the_reserve_touched_appends_are_refused_and_the_rest_goes_on,
    the_reserve_can_be_altered_while_the_broker_runs,
);

const FULL: &str = "disk is full";

async fn with_the_reserve_touched_appends_are_refused_and_the_rest_goes_on(wiring: Wiring) {
    let mut cluster = Cluster::builder().wiring(wiring).allow_log(FULL).start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "kept", 1, &[]).await;
    create_topic(&mut raw, "dropped", 1, &[]).await;
    for n in 0..5 {
        produce_values(&mut raw, "kept", 0, &[&format!("record {n}")]).await;
    }
    cluster.set("strom.disk.reserve.bytes", &i64::MAX.to_string());
    cluster.restart(Member::Broker(0)).await;
    cluster.wait_ready().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    wait_served(&mut raw, "kept", 0).await;
    for _ in 0..3 {
        let refused = produce(&mut raw, "kept", 0, batch(&["too much"])).await;
        assert_eq!(
            (refused.error_code, refused.base_offset),
            (KAFKA_STORAGE_ERROR, -1)
        );
    }
    let read = read_all(&mut raw, "kept", 0, 0).await;
    assert_eq!(
        read.len(),
        5,
        "reads go on, and nothing refused is there: {read:?}"
    );
    assert_eq!(delete_records(&mut raw, "kept", 0, 2).await, (2, NONE));
    assert_eq!(delete_topic(&mut raw, "dropped").await, NONE);

    cluster.set("strom.disk.reserve.bytes", "0");
    cluster.restart(Member::Broker(0)).await;
    cluster.wait_ready().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    wait_served(&mut raw, "kept", 0).await;
    assert_eq!(produce_values(&mut raw, "kept", 0, &["room again"]).await, 5);
    assert_eq!(read_all(&mut raw, "kept", 0, 2).await.len(), 4);
}

#[tokio::test]
async fn a_leader_whose_disk_is_full_hands_over_to_one_with_room() {
    let cluster = Cluster::builder()
        .wiring(Wiring::Grpc)
        .brokers(3)
        .setting("default.replication.factor", "3")
        .setting("min.insync.replicas", "2")
        // The full one takes no records as a follower either, and leaves the ISR after this.
        .setting("replica.lag.time.max.ms", "2000")
        .allow_log(FULL)
        .start()
        .await;
    let bootstrap = cluster.bootstrap();
    let mut raw = Raw::connect(&bootstrap).await;
    create_topic(&mut raw, "t", 1, &[]).await;
    produce_values(&mut raw, "t", 0, &["first"]).await;
    let leader_of = async || {
        let mut raw = Raw::connect(&bootstrap).await;
        describe_topic(&mut raw, "t", false).await.partitions[0].leader_id
    };
    let full = leader_of().await;
    let (of, huge) = (full.to_string(), i64::MAX.to_string());
    let reserve = "strom.disk.reserve.bytes";
    assert_eq!(
        alter_config(&mut raw, (BROKER_RESOURCE, &of), reserve, &huge).await,
        NONE
    );
    until("another broker leads", || async {
        let leader = leader_of().await;
        (leader >= 0 && leader != full).then_some(())
    })
    .await;
    until("records are taken again", || async {
        let mut raw = Raw::connect(&bootstrap).await;
        let code = produce(&mut raw, "t", 0, batch(&["second"])).await.error_code;
        (code == NONE).then_some(())
    })
    .await;
    let mut raw = Raw::connect(&bootstrap).await;
    let read = read_all(&mut raw, "t", 0, 0).await;
    assert_eq!(read[0], (0, "first".to_owned()));
}

async fn the_reserve_can_be_altered_while_the_broker_runs(wiring: Wiring) {
    let cluster = Cluster::builder().wiring(wiring).allow_log(FULL).start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "t", 1, &[]).await;
    let huge = i64::MAX.to_string();
    // All brokers', then this one's own above it.
    for (of, reserve, expected) in [
        ("", huge.as_str(), KAFKA_STORAGE_ERROR),
        ("0", "0", NONE),
        ("0", &huge, KAFKA_STORAGE_ERROR),
        ("0", "1000", NONE),
    ] {
        let key = "strom.disk.reserve.bytes";
        assert_eq!(
            alter_config(&mut raw, (BROKER_RESOURCE, of), key, reserve).await,
            NONE
        );
        let bootstrap = cluster.bootstrap();
        until(&format!("error {expected} with {reserve}"), || async {
            let mut raw = Raw::connect(&bootstrap).await;
            let code = produce(&mut raw, "t", 0, batch(&["v"])).await.error_code;
            assert!(
                [NONE, KAFKA_STORAGE_ERROR].contains(&code),
                "error {code} with {reserve}"
            );
            (code == expected).then_some(())
        })
        .await;
    }
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| SmallDisk(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a file may still be open when a test fails.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_to_its_reserve_loses_nothing_and_serves_again_once_there_is_room() {
    fill_up(12 << 20, &[KAFKA_STORAGE_ERROR]).await;
}

/// Without a reserve the write itself fails: whether those records are kept is open, and their producer is told so at
/// once. What comes after them is refused.
#[tokio::test]
async fn a_disk_that_fills_up_to_the_last_byte_loses_nothing_and_serves_again_once_there_is_room() {
    fill_up(0, &[KAFKA_STORAGE_ERROR, NOT_ENOUGH_REPLICAS_AFTER_APPEND]).await;
}

async fn fill_up(reserve: u64, refusals: &[i16]) {
    let Some(disk) = SmallDisk::mount(40) else {
        eprintln!("SKIPPED: a small tmpfs cannot be mounted here; this test needs root");
        return;
    };
    let occupied = disk.path().join("somebody-elses");
    std::fs::write(&occupied, vec![1; 8 << 20]).unwrap();
    let builder = Cluster::builder().wiring(Wiring::Grpc).data_dir(disk.path());
    let mut cluster = builder
        .setting("strom.disk.reserve.bytes", &reserve.to_string())
        .allow_log(FULL)
        .allow_log("No space left on device")
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "kept", 1, &[]).await;
    create_topic(&mut raw, "ballast", 1, &[]).await;
    let mut acknowledged = Vec::new();
    produce_until_full(&mut raw, &mut acknowledged, refusals).await;
    assert!(acknowledged.len() > 20, "only {} records fit", acknowledged.len());
    check(&mut raw, &acknowledged).await;

    std::fs::remove_file(&occupied).unwrap();
    let fitted = acknowledged.len();
    takes_writes_again(&cluster, "room without a restart").await;
    produce_until_full(&mut raw, &mut acknowledged, refusals).await;
    assert!(
        acknowledged.len() > fitted + 5,
        "{} after {fitted}",
        acknowledged.len()
    );
    check(&mut raw, &acknowledged).await;

    // Over a crash on the full disk, too.
    cluster.kill(Member::Broker(0)).await;
    cluster.restart(Member::Broker(0)).await;
    cluster.wait_ready().await;
    wait_served(&mut raw, "kept", 0).await;
    check(&mut raw, &acknowledged).await;
    assert_eq!(delete_topic(&mut raw, "ballast").await, NONE);
    let end = takes_writes_again(&cluster, "room after a deletion").await;
    check(&mut raw, &acknowledged).await;
    assert_eq!(fetch(&mut raw, "kept", 0, end).await.error_code, NONE);
    drop(cluster);
}

/// Three of four records go to the topic that is deleted later. A full disk is answered at once, not after the request's
/// time-out.
async fn produce_until_full(raw: &mut Raw, acknowledged: &mut Vec<(i64, usize)>, refusals: &[i16]) {
    let large = "x".repeat(100_000);
    let first = acknowledged.len() * 4;
    let mut refused = 0;
    for n in first.. {
        assert!(n < first + 500, "50 MB on a disk of 40 MiB");
        let topic = if n % 4 == 0 { "kept" } else { "ballast" };
        let mut request = produce_request(topic, 0, batch(&[&format!("{n} {large}")]), -1);
        request.timeout_ms = 120_000;
        let started = Instant::now();
        let reply = raw.call(PRODUCE, &request).await;
        let reply = reply
            .responses
            .first()
            .unwrap()
            .partition_responses
            .first()
            .unwrap();
        match (reply.error_code, topic) {
            (NONE, "kept") => acknowledged.push((reply.base_offset, n)),
            (NONE, _) => {}
            (code, _) => {
                assert!(refusals.contains(&code), "error {code} after {n}");
                assert!(
                    started.elapsed() < Duration::from_secs(10),
                    "{:?}",
                    started.elapsed()
                );
                assert!(
                    refused == 0 || code == KAFKA_STORAGE_ERROR,
                    "error {code} on a disk known to be full"
                );
                refused += 1;
                if refused == 3 {
                    return;
                }
            }
        }
    }
}

/// The offset of the first record that fits again.
async fn takes_writes_again(cluster: &Cluster, what: &str) -> i64 {
    let bootstrap = cluster.bootstrap();
    let reply = until(what, || async {
        let mut raw = Raw::connect(&bootstrap).await;
        Some(produce(&mut raw, "kept", 0, batch(&["room again"])).await)
            .filter(|reply| reply.error_code == NONE)
    });
    reply.await.base_offset
}

/// Every acknowledged record lies where it was said to.
async fn check(raw: &mut Raw, acknowledged: &[(i64, usize)]) {
    let read = read_all(raw, "kept", 0, 0).await;
    for (offset, n) in acknowledged {
        let found = read.iter().find(|(at, _)| at == offset);
        let (_, value) = found.unwrap_or_else(|| panic!("record {n} at {offset} is lost"));
        assert!(
            value.starts_with(&format!("{n} ")),
            "another record than {n} at {offset}"
        );
    }
}
