//! Processes of a test cluster live, die and come back as real ones do.
#![allow(clippy::unwrap_used)]

use strom_testkit::{Cluster, Member, Wiring};

const EACH: [Member; 3] = [Member::Controller(0), Member::Broker(0), Member::Gateway(0)];

#[tokio::test]
async fn every_process_stops_in_order_and_comes_back_in_both_wirings() {
    for wiring in [Wiring::InProcess, Wiring::Grpc] {
        let mut cluster = Cluster::builder().wiring(wiring).start().await;
        for member in EACH {
            cluster.restart(member).await;
            cluster.wait_ready().await;
        }
        cluster.stop_all().await;
        cluster.restart_all().await;
    }
}

#[tokio::test]
async fn three_of_each_form_one_cluster() {
    for wiring in [Wiring::InProcess, Wiring::Grpc] {
        let builder = Cluster::builder()
            .wiring(wiring)
            .controllers(3)
            .brokers(3)
            .gateways(2);
        let mut cluster = builder.start().await;
        assert_eq!(cluster.bootstrap().split(',').count(), 2);
        cluster.kill(Member::Broker(2)).await;
        cluster.restart(Member::Broker(2)).await;
        cluster.wait_ready().await;
    }
}

#[tokio::test]
#[should_panic(expected = "has stopped")]
async fn a_process_that_cannot_start_fails_the_test() {
    let mut cluster = Cluster::builder().start().await;
    cluster.kill(Member::Broker(0)).await;
    let dir = cluster.data_dir(Member::Broker(0)).join("broker");
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, b"no directory").unwrap();
    cluster.restart(Member::Broker(0)).await;
    cluster.wait_ready().await;
}
