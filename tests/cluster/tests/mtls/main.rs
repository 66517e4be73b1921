//! Certificates between services: what works with them, and who is refused (reliability, bad inputs 15 and 38).
#![allow(clippy::unwrap_used)]

mod callers;
mod identities;
mod strangers;

use rdkafka::Message as _;
use rdkafka::consumer::Consumer;
use rdkafka::producer::FutureRecord;
use strom_cluster::{PATIENCE, librdkafka};
use strom_testkit::{Cluster, ClusterBuilder, Member, Wiring};

const REFUSED: &str = "a caller of internal services was refused";

fn builder() -> ClusterBuilder {
    Cluster::builder().wiring(Wiring::Mtls).allow_log(REFUSED)
}

fn refused(cluster: &Cluster, member: Member, reason: &str) -> f64 {
    cluster.metric(member, "strom_grpc_refused_total", &[("reason", reason)])
}

/// The lines that tell of refusals.
fn told(cluster: &Cluster) -> Vec<String> {
    let lines = cluster.logs().into_iter().map(|line| line.to_string());
    lines.filter(|line| line.contains(REFUSED)).collect()
}

#[tokio::test]
async fn a_cluster_with_certificates_serves_its_clients() {
    let mut cluster = builder()
        .controllers(3)
        .brokers(2)
        .gateways(2)
        .setting("default.replication.factor", "2")
        .setting("min.insync.replicas", "2")
        .start()
        .await;
    let bootstrap = cluster.bootstrap();
    librdkafka::create_topic(&bootstrap, "secured", 2, &[]).await;
    let producer = librdkafka::producer_with(&bootstrap, &[("acks", "all")]);
    let send =
        |value: &'static str| producer.send(FutureRecord::to("secured").key("k").payload(value), PATIENCE);
    send("first").await.unwrap();
    cluster.restart(Member::Broker(1)).await;
    cluster.wait_ready().await;
    send("second").await.unwrap();
    let consumer = librdkafka::consumer(&bootstrap, "readers");
    consumer.subscribe(&["secured"]).unwrap();
    for expected in ["first", "second"] {
        let message = tokio::time::timeout(PATIENCE, consumer.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(message.payload_view::<str>().unwrap().unwrap(), expected);
    }
    for member in [Member::Controller(0), Member::Broker(0), Member::Broker(1)] {
        for reason in ["handshake", "identity", "role", "broker"] {
            assert_eq!(refused(&cluster, member, reason), 0.0, "{member:?}: {reason}");
        }
    }
}
