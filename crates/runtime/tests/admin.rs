//! The admin server over real HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use strom_runtime::admin::{Admin, BuildInfo};
use strom_runtime::{Clock, Health, ManualClock, Metrics, Shutdown};
use strom_types::{Mono, WallMs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

struct Server {
    address: SocketAddr,
    health: Health,
    metrics: Metrics,
    hand: ManualClock,
    shutdown: Shutdown,
    task: JoinHandle<std::io::Result<()>>,
}

async fn server() -> Server {
    let (clock, hand) = Clock::manual(Mono(0), WallMs(1_700_000_000_500));
    let build = BuildInfo {
        version: "1.2.3",
        roles: "broker,gateway".to_owned(),
    };
    let (health, metrics) = (Health::new(clock.clone()), Metrics::new(&clock, build));
    let status = Arc::new(|| serde_json::json!({ "node": 7 }));
    let admin = Admin {
        health: health.clone(),
        metrics: metrics.clone(),
        status: Some(status),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let shutdown = Shutdown::new();
    let task = tokio::spawn(admin.run(listener, shutdown.clone()));
    Server {
        address,
        health,
        metrics,
        hand,
        shutdown,
        task,
    }
}

/// Status line, headers and body.
async fn fetch(address: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head
        .split(' ')
        .nth(1)
        .expect("a status")
        .parse()
        .expect("a number");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn probes_follow_the_health() {
    let server = server().await;
    let probe = async |path| {
        let (status, _, body) = fetch(server.address, path).await;
        (status, body)
    };
    assert_eq!(probe("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(probe("/startupz").await, (503, "starting\n".to_owned()));
    server.health.set_not_ready("broker", "no controller");
    server.health.set_started();
    assert_eq!(probe("/startupz").await.0, 200);
    assert_eq!(
        probe("/readyz").await,
        (503, "broker: no controller\n".to_owned())
    );
    server.health.set_ready("broker");
    assert_eq!(probe("/readyz").await, (200, "ok\n".to_owned()));
    server.health.pulse("raft", Duration::from_secs(1));
    server.hand.advance(Duration::from_secs(2));
    assert_eq!(
        probe("/livez").await,
        (503, "raft: no sign of life for 2000 ms\n".to_owned())
    );
    assert_eq!(probe("/nothing").await.0, 404);
}

#[tokio::test]
async fn metrics_are_open_metrics_text() {
    let server = server().await;
    let requests = Counter::<u64>::default();
    server.metrics.register(|registry| {
        registry.register("strom_requests", "Requests", requests.clone());
    });
    requests.inc_by(3);
    let (status, head, body) = fetch(server.address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    for line in [
        "strom_requests_total 3",
        "strom_build_info{version=\"1.2.3\",roles=\"broker,gateway\"} 1",
        "process_start_time_seconds 1700000000.5",
    ] {
        assert!(body.lines().any(|found| found == line), "{line} in {body}");
    }
    for name in [
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
        "process_open_fds ",
        "process_max_fds ",
    ] {
        let value = body.lines().find_map(|line| line.strip_prefix(name));
        assert!(
            value
                .and_then(|value| value.parse::<f64>().ok())
                .is_some_and(|value| value > 0.0),
            "{name} in {body}"
        );
    }
    assert!(body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn status_is_json() {
    let server = server().await;
    server.health.set_started();
    let (status, head, body) = fetch(server.address, "/status").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"));
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&body["ready"], &body["process"]["node"]),
        (&serde_json::json!(true), &serde_json::json!(7))
    );
}

#[tokio::test]
async fn the_server_stops_with_the_process() {
    let server = server().await;
    assert_eq!(fetch(server.address, "/livez").await.0, 200);
    server.shutdown.trigger("test");
    tokio::time::timeout(Duration::from_secs(10), server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
