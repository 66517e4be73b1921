//! Heartbeats, fencing, fast death, gateways: what lives as long as a stream.

use std::time::Duration;

use strom_proto::v1;
use strom_types::ErrorCode;
use tokio::net::TcpListener;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Heart, LIMIT, Node, eventually};

#[tokio::test]
async fn a_silent_broker_is_fenced_after_its_session_and_comes_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    // An address that accepts connections: silence alone proves nothing before the session ends.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let endpoint = listener.local_addr().expect("bound").to_string();
    let epoch = node.register(1, &endpoint).await;
    let mut heart = Heart::open(&node.client, 1, epoch).await;
    heart.come_into_service().await;
    let last = Instant::now();
    eventually("fenced", || (node.is_fenced(1) == Some(true)).then_some(())).await;
    assert!(
        last.elapsed() >= Duration::from_millis(850),
        "{:?}",
        last.elapsed()
    );
    heart.come_into_service().await;
    eventually("unfenced", || (node.is_fenced(1) == Some(false)).then_some(())).await;
    node.stop().await;
}

#[tokio::test]
async fn a_dead_process_is_fenced_before_its_session_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = super::config(1, dir.path(), vec![]);
    config.core.session_timeout = Duration::from_secs(3600);
    let node = Node::start_with(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let endpoint = listener.local_addr().expect("bound").to_string();
    let epoch = node.register(1, &endpoint).await;
    let mut heart = Heart::open(&node.client, 1, epoch).await;
    heart.come_into_service().await;
    // The stream breaks but the address answers: alive.
    drop(heart);
    let mut heart = Heart::open(&node.client, 1, epoch).await;
    assert!(!heart.beat().await.fenced);
    eventually("unfenced", || (node.is_fenced(1) == Some(false)).then_some(())).await;
    drop(listener);
    drop(heart);
    eventually("fenced", || (node.is_fenced(1) == Some(true)).then_some(())).await;
    node.stop().await;
}

#[tokio::test]
async fn heartbeats_of_another_life_are_told_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let first = node.register(1, "local:broker").await;
    let second = node.register(1, "local:broker").await;
    assert!(second > first, "the same disk takes over");
    let mut old = Heart::open(&node.client, 1, first).await;
    assert_eq!(old.beat().await.error, ErrorCode::StaleBrokerEpoch as i32);
    let mut unknown = Heart::open(&node.client, 9, 1).await;
    assert_eq!(
        unknown.beat().await.error,
        ErrorCode::BrokerIdNotRegistered as i32
    );
    node.stop().await;
}

#[tokio::test]
async fn a_gateway_is_known_while_its_stream_lives() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let id = Uuid::new_v4();
    let request = |host: &str| v1::RegisterGatewayRequest {
        gateway_id: bytes::Bytes::copy_from_slice(id.as_bytes()),
        listeners: vec![v1::GatewayListener {
            name: "PLAINTEXT".into(),
            host: host.into(),
            bootstrap_port: 9092,
            per_broker_port_base: 0,
        }],
        rack: String::new(),
    };
    eventually("a leader", || node.health.ready().ok()).await;
    let (requests, stream) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let mut stub = node.client.stub().expect("a stub");
    let mut replies = stub.register_gateway(stream).await.expect("opens").into_inner();
    for host in ["a", "b"] {
        requests.send(request(host)).await.expect("open");
        let reply = replies.message().await.expect("open").expect("a reply");
        let index = strom_types::MetadataOffset(reply.metadata_offset);
        assert!(node.metadata.wait_for(index, LIMIT).await);
        let image = node.metadata.image();
        let known = image.gateway(id).expect("known");
        assert_eq!(known.listeners[0].host, host);
    }
    requests.send(request("")).await.expect("open");
    let refused = replies.message().await.expect_err("no host");
    assert_eq!(
        strom_proto::status::from_status(&refused).code,
        ErrorCode::InvalidRequest as i32
    );
    eventually("gone", || {
        node.metadata.image().gateway(id).is_none().then_some(())
    })
    .await;
    node.stop().await;
}
