//! What a killed process held is free again. Alone in its file, since it counts the threads of the whole test process.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use strom_testkit::{Cluster, Member, Wiring};

const EACH: [Member; 3] = [Member::Controller(0), Member::Broker(0), Member::Gateway(0)];
const NAMES: &[&str] = &["log-", "raft", "node-", "broker-", "controller-", "gateway-"];

/// What a killed process held must be free again: the directory's lock, the database's lock, the port, the threads.
#[tokio::test]
async fn a_killed_process_leaves_no_lock_and_no_thread_behind() {
    for wiring in [Wiring::InProcess, Wiring::Grpc] {
        let mut cluster = Cluster::builder().wiring(wiring).start().await;
        for _ in 0..2 {
            for member in EACH {
                cluster.kill(member).await;
                cluster.restart(member).await;
                cluster.wait_ready().await;
            }
        }
        cluster.kill_all().await;
        let deadline = Instant::now() + Duration::from_secs(10);
        while let left = threads(NAMES)
            && !left.is_empty()
        {
            assert!(Instant::now() < deadline, "threads of killed processes: {left:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cluster.restart_all().await;
    }
}

fn threads(names: &[&str]) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let running = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    running
        .map(|name| name.trim().to_owned())
        .filter(|name| names.iter().any(|known| name.starts_with(known)))
        .collect()
}
