//! Rows 35 and 36: many connections, and one that sends without reading.

use std::time::Duration;

use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::until;
use strom_kafka_codec::encode_request_frame;
use strom_kafka_codec::messages::MetadataRequest;
use strom_testkit::{Cluster, Member};

use crate::target::Target;

#[tokio::test]
async fn row_35_half_open_connections_and_connect_storms() {
    let mut target = Target::start().await;
    let bootstrap = target.cluster.bootstrap();
    let mut open = Vec::new();
    target
        .survives("400 connections with half a request each", async {
            for _ in 0..400 {
                let mut raw = Raw::connect(&bootstrap).await;
                raw.send_bytes(&[0, 0, 1]).await;
                open.push(raw);
            }
        })
        .await;
    drop(open);
    target
        .survives("2,000 connections that come and go", async {
            for _ in 0..2_000 {
                drop(Raw::connect(&bootstrap).await);
            }
        })
        .await;
    let count = || {
        let name = "kafka_server_socket_server_metrics_connection_count";
        target.cluster.metric(Member::Gateway(0), name, &[])
    };
    until("only the healthy client is left", || async {
        (count() == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn row_36_requests_without_end_whose_replies_are_never_read() {
    let builder = Cluster::builder().tune_gateway(|config| config.send_timeout = Duration::from_secs(1));
    let mut target = Target::build(builder.allow_log("the client does not take its replies")).await;
    let mut raw = target.known().await;
    create_topic(&mut raw, "bulk", 200, &[]).await;
    let request = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let frame = encode_request_frame(1, METADATA, None, &request)
        .unwrap()
        .into_contiguous();
    // Far more than the system's own buffers hold.
    let (thousand, most) = (frame.repeat(1_000), 3_000_000);
    let mut sent = 0;
    target
        .survives("requests without end, no reply read", async {
            while sent < most && raw.send_within(Duration::from_secs(5), &thousand).await {
                sent += 1_000;
            }
        })
        .await;
    assert!(
        sent < most,
        "the server reads on although nobody takes its replies"
    );
    let closed = || {
        let name = "strom_gateway_connections_closed";
        target
            .cluster
            .metric(Member::Gateway(0), name, &[("reason", "send_timeout")])
    };
    until("the connection is closed", || async {
        (closed() == 1.0).then_some(())
    })
    .await;
}
