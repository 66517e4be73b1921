//! Supervised tasks: policies, panics, the order of the stop, the deadline.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use strom_runtime::supervisor::SupervisorError;
use strom_runtime::{OnFailure, Shutdown, Supervisor, TaskGroup};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_failure_stops_the_process_or_not_as_declared() {
    let shutdown = Shutdown::new();
    let mut supervisor = Supervisor::new(shutdown.clone());
    let group = supervisor.stage("all");
    group.spawn("harmless", OnFailure::Log, |_| async { Err("lost a packet") });
    group.spawn("harmless panic", OnFailure::Log, |_| async {
        if true {
            panic!("ouch");
        }
        Ok::<(), Infallible>(())
    });
    group.spawn("short", OnFailure::Shutdown, |_| async {
        Ok::<(), Infallible>(())
    });
    while !group.running().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!shutdown.is_triggered());
    group.spawn("disk writer", OnFailure::Shutdown, |_| async {
        Err("no space left")
    });
    shutdown.cancelled().await;
    let error = supervisor.run(LONG).await.unwrap_err();
    assert_eq!(error.to_string(), "the task disk writer failed: no space left");
    assert_eq!(shutdown.reason().unwrap(), error.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure() {
    let shutdown = Shutdown::new();
    let mut supervisor = Supervisor::new(shutdown.clone());
    let group = supervisor.stage("all");
    group.spawn("raft", OnFailure::Shutdown, |_| async {
        let nothing: Option<i32> = None;
        assert!(nothing.is_some(), "term went back from {} to {}", 3, 2);
        Ok::<(), Infallible>(())
    });
    let error = supervisor.run(LONG).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the task raft failed: panic: term went back from 3 to 2"
    );
}

#[tokio::test(start_paused = true)]
async fn stages_stop_in_the_order_of_their_declaration() {
    let shutdown = Shutdown::new();
    let mut supervisor = Supervisor::new(shutdown.clone());
    let log = Arc::new(Mutex::new(Vec::new()));
    for name in ["gateway", "broker", "controller"] {
        let log = Arc::clone(&log);
        supervisor
            .stage(name)
            .spawn(name, OnFailure::Shutdown, move |stop: Shutdown| async move {
                stop.cancelled().await;
                log.lock().push(format!("{name} stops"));
                tokio::time::sleep(Duration::from_secs(1)).await;
                log.lock().push(format!("{name} stopped"));
                Ok::<(), Infallible>(())
            });
    }
    shutdown.trigger("test");
    supervisor.run(LONG).await.unwrap();
    assert_eq!(
        *log.lock(),
        [
            "gateway stops",
            "gateway stopped",
            "broker stops",
            "broker stopped",
            "controller stops",
            "controller stopped"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_does_not_stop_is_dropped_and_the_rest_still_gets_its_time() {
    let shutdown = Shutdown::new();
    let mut supervisor = Supervisor::new(shutdown.clone());
    let dropped = Arc::new(());
    let held = Arc::clone(&dropped);
    supervisor
        .stage("first")
        .spawn("stuck", OnFailure::Log, move |_| async move {
            let _held = held;
            pending::<()>().await;
            Ok::<(), Infallible>(())
        });
    let saved = Arc::new(Mutex::new(false));
    let flag = Arc::clone(&saved);
    supervisor
        .stage("second")
        .spawn("store", OnFailure::Log, move |stop: Shutdown| async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            *flag.lock() = true;
            Ok::<(), Infallible>(())
        });
    shutdown.trigger("test");
    let begun = tokio::time::Instant::now();
    let error = supervisor.run(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error, SupervisorError::Deadline(vec!["stuck".to_owned()]));
    assert!(begun.elapsed() <= Duration::from_secs(5));
    assert!(*saved.lock());
    while Arc::strong_count(&dropped) > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_by_itself() {
    let process = Shutdown::new();
    let group = TaskGroup::detached("tool", process.clone());
    for _ in 0..3 {
        group.spawn("worker", OnFailure::Log, |stop: Shutdown| async move {
            stop.cancelled().await;
            Ok::<(), Infallible>(())
        });
    }
    assert_eq!(group.running(), ["worker", "worker", "worker"]);
    assert!(group.stop(LONG).await.is_empty());
    assert!(group.running().is_empty() && !process.is_triggered());
}

#[tokio::test(start_paused = true)]
async fn a_stage_without_tasks_takes_no_time_from_the_others() {
    let shutdown = Shutdown::new();
    let mut supervisor = Supervisor::new(shutdown.clone());
    let stages: Vec<_> = ["gateway", "broker", "grpc", "controller", "admin"]
        .into_iter()
        .map(|name| supervisor.stage(name))
        .collect();
    stages[1].spawn("broker", OnFailure::Shutdown, |stop| async move {
        stop.cancelled().await;
        tokio::time::sleep(Duration::from_millis(900)).await;
        Ok::<(), Infallible>(())
    });
    shutdown.trigger("test");
    assert_eq!(supervisor.run(Duration::from_secs(1)).await, Ok(()));
}
