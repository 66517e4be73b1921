//! Connections: how many there may be, how long they may be silent, and how slow.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::until;
use strom_kafka_codec::messages::{ApiVersionsRequest, MetadataRequest};
use strom_testkit::{Cluster, Member};

const CLOSED: &str = "strom_gateway_connections_closed";
const REFUSED: &str = "strom_gateway_connections_refused";

fn closed(cluster: &Cluster, reason: &str) -> f64 {
    cluster.metric(Member::Gateway(0), CLOSED, &[("reason", reason)])
}

/// A connection that has been served, so that it counts.
async fn served(address: &str) -> Raw {
    let mut raw = Raw::connect(address).await;
    raw.call(0, &ApiVersionsRequest::default()).await;
    raw
}

async fn room_again(cluster: &Cluster) {
    let bootstrap = cluster.bootstrap();
    until("room for another connection", || async {
        let mut raw = Raw::connect(&bootstrap).await;
        raw.send(0, &ApiVersionsRequest::default()).await;
        raw.frame().await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_counted() {
    let cluster = Cluster::builder().setting("max.connections", "3").start().await;
    let bootstrap = cluster.bootstrap();
    let mut open = vec![
        served(&bootstrap).await,
        served(&bootstrap).await,
        served(&bootstrap).await,
    ];
    for _ in 0..2 {
        Raw::connect(&bootstrap).await.expect_close().await;
    }
    assert_eq!(cluster.metric(Member::Gateway(0), REFUSED, &[]), 2.0);
    for raw in &mut open {
        raw.call(METADATA, &MetadataRequest::default()).await;
    }
    drop(open.pop());
    room_again(&cluster).await;
}

#[tokio::test]
async fn connections_over_the_limit_of_one_address_leave_others_room() {
    let cluster = Cluster::builder()
        .setting("max.connections.per.ip", "2")
        .start()
        .await;
    let bootstrap = cluster.bootstrap();
    let mut open = vec![served(&bootstrap).await, served(&bootstrap).await];
    Raw::connect(&bootstrap).await.expect_close().await;
    let mut other = Raw::connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), &bootstrap).await;
    other.call(METADATA, &MetadataRequest::default()).await;
    assert_eq!(cluster.metric(Member::Gateway(0), REFUSED, &[]), 1.0);
    drop(open.pop());
    room_again(&cluster).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_one_that_waits_for_an_answer_is_not() {
    let cluster = Cluster::builder()
        .setting("connections.max.idle.ms", "500")
        .start()
        .await;
    let bootstrap = cluster.bootstrap();
    let mut waiting = served(&bootstrap).await;
    create_topic(&mut waiting, "quiet", 1, &[]).await;
    let mut parked = fetch_request("quiet", 0, 0);
    parked.max_wait_ms = 2_000;
    let asked = Instant::now();
    waiting.send(FETCH, &parked).await;
    let mut idle = served(&bootstrap).await;
    let since = Instant::now();
    idle.expect_close().await;
    assert!(
        since.elapsed() >= Duration::from_millis(450),
        "closed after {:?}",
        since.elapsed()
    );
    until("the closed connection is counted", || async {
        (closed(&cluster, "idle") >= 1.0).then_some(())
    })
    .await;
    let (_, reply) = waiting
        .receive::<strom_kafka_codec::messages::FetchResponse>(FETCH)
        .await;
    assert_eq!(reply.error_code, 0);
    assert!(
        asked.elapsed() >= Duration::from_millis(1_900),
        "a parked fetch is no idleness"
    );
}

#[tokio::test]
async fn a_request_that_trickles_in_is_closed_one_that_flows_is_not() {
    let cluster = Cluster::builder()
        .tune_gateway(|config| config.partial_frame_grace = Duration::from_secs(1))
        .allow_log("a half-sent request came in too slowly")
        .start()
        .await;
    let bootstrap = cluster.bootstrap();
    let mut slow = served(&bootstrap).await;
    let began = Instant::now();
    // 1 MiB announced, then a few bytes.
    slow.send_bytes(&(1_i32 << 20).to_be_bytes()).await;
    slow.send_bytes(&[0; 100]).await;
    // A second one comes in pieces, but fast enough, while the first is waited out.
    let mut flowing = served(&bootstrap).await;
    let request = produce_request("nowhere", 0, batch(&[&"x".repeat(40_000)]), -1);
    let frame = strom_kafka_codec::encode_request_frame(1, PRODUCE, None, &request)
        .unwrap()
        .into_contiguous();
    for piece in frame.chunks(frame.len() / 16 + 1) {
        flowing.send_bytes(piece).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert!(flowing.frame().await.is_some(), "the flowing one is answered");
    slow.expect_close().await;
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "after {:?} of 1 s",
        began.elapsed()
    );
    until("the closed connection is counted", || async {
        (closed(&cluster, "slow_frame") == 1.0).then_some(())
    })
    .await;
}
