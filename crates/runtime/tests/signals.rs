//! Signals, in a process of their own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use strom_runtime::Shutdown;
use strom_runtime::shutdown::listen_for_signals;

const CHILD: &str = "SIGNALS_TEST_CHILD";

/// What the parent tests run: waits for the shutdown, says so, and then does not stop by itself.
#[tokio::test]
async fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let shutdown = Shutdown::new();
    listen_for_signals(shutdown.clone()).unwrap();
    println!("\nready");
    shutdown.cancelled().await;
    println!("\nstopping: {}", shutdown.reason().unwrap());
    std::future::pending::<()>().await;
}

fn start() -> (Child, impl FnMut(&str)) {
    let exe = std::env::current_exe().expect("this test");
    let mut child = Command::new(exe)
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let wait_for = move |wanted: &str| {
        let found = lines.by_ref().map_while(Result::ok).any(|line| line == wanted);
        assert!(found, "the child ended before it said {wanted}");
    };
    (child, wait_for)
}

#[test]
fn the_first_signal_asks_and_the_second_ends() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let (mut child, mut wait_for) = start();
        let pid = Pid::from_child(&child);
        wait_for("ready");
        kill_process(pid, signal).unwrap();
        wait_for(&format!("stopping: signal {name}"));
        assert!(child.try_wait().unwrap().is_none());
        kill_process(pid, signal).unwrap();
        let limit = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < limit,
                "the second signal did not end the process"
            );
            std::thread::yield_now();
        };
        assert_eq!(status.code(), Some(130));
    }
}
