//! A clean stop: at once where there is nothing to hand over, with the leaderships handed over where there is.

use std::time::{Duration, Instant};

use strom_cluster::load::Load;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::{librdkafka, until};
use strom_testkit::{Cluster, ClusterBuilder, Member, Wiring};

/// Heartbeats are ten seconds apart: whoever waits for the next one is seen to.
fn with_rare_heartbeats(builder: ClusterBuilder) -> ClusterBuilder {
    builder.setting("strom.broker.session.timeout.ms", "60000")
}

in_both_wirings!(a_node_alone_stops_at_once);

async fn a_node_alone_stops_at_once(wiring: Wiring) {
    let mut cluster = with_rare_heartbeats(Cluster::builder().wiring(wiring))
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "a", 3, &[]).await;
    create_topic(&mut raw, "b", 5, &[]).await;
    produce_values(&mut raw, "a", 1, &["v"]).await;
    drop(raw);
    let asked = Instant::now();
    // A stop without the controllers' word warns, which fails the test.
    cluster.stop(Member::Broker(0)).await;
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn brokers_that_stop_one_after_the_other_hand_their_leaderships_over() {
    let builder = Cluster::builder().wiring(Wiring::Grpc).brokers(3);
    let mut cluster = with_rare_heartbeats(builder)
        .setting("default.replication.factor", "3")
        .setting("min.insync.replicas", "2")
        .start()
        .await;
    let bootstrap = cluster.bootstrap();
    let mut raw = Raw::connect(&bootstrap).await;
    create_topic(&mut raw, "rolling", 6, &[]).await;
    let load = Load::start(&bootstrap, "rolling", 6, 0);
    for id in 0..3u16 {
        load.wait_for(200).await;
        let asked = Instant::now();
        cluster.stop(Member::Broker(id)).await;
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(1), "broker {id} took {took:?}");
        let led = describe_topic(&mut raw, "rolling", false).await;
        for partition in &led.partitions {
            let leader = partition.leader_id;
            assert!(leader >= 0 && leader != i32::from(id), "{partition:?}");
        }
        load.wait_for(200).await;
        cluster.restart(Member::Broker(id)).await;
        until("all replicas are in sync", || async {
            let mut raw = Raw::connect(&bootstrap).await;
            let topic = describe_topic(&mut raw, "rolling", false).await;
            topic
                .partitions
                .iter()
                .all(|p| p.isr_nodes.len() == 3)
                .then_some(())
        })
        .await;
    }
    let history = load.stop().await;
    assert_eq!(history.failed, Vec::<String>::new());
    for partition in 0..6 {
        let read = librdkafka::read_partition(&bootstrap, "rolling", partition);
        history.check(partition, &read);
    }
}
