//! Topics: made on demand, deleted, and made again under the same name.

use std::collections::BTreeSet;

use rdkafka::consumer::Consumer;
use rdkafka::producer::FutureRecord;
use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::{PATIENCE, librdkafka, until};
use strom_kafka_codec::messages::MetadataRequest;
use strom_testkit::{Cluster, Member, Wiring};

use crate::refusals::{fetch_by_id, produce_by_id};

in_both_wirings!(
    a_topic_made_again_under_one_name_never_mixes_with_the_old_one,
    an_unknown_topic_is_made_on_demand,
);

async fn a_topic_made_again_under_one_name_never_mixes_with_the_old_one(wiring: Wiring) {
    let mut cluster = Cluster::builder()
        .wiring(wiring)
        .allow_log("is set aside")
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    let mut ids = BTreeSet::new();
    for life in 0..4 {
        let id = create_topic(&mut raw, "phoenix", 1, &[]).await;
        assert!(ids.insert(id), "a new topic has a new id");
        assert_eq!(
            read_all(&mut raw, "phoenix", 0, 0).await,
            [],
            "nothing of an earlier life"
        );
        for n in 0..5 {
            assert_eq!(
                produce_values(&mut raw, "phoenix", 0, &[&format!("life {life}")]).await,
                n
            );
        }
        let read = read_all(&mut raw, "phoenix", 0, 0).await;
        assert!(
            read.iter().all(|(_, value)| *value == format!("life {life}")),
            "{read:?}"
        );
        assert_eq!(fetch_by_id(&mut raw, id).await, (NONE, 5));
        if life == 1 {
            // With the deletion hardly done.
            assert_eq!(delete_topic(&mut raw, "phoenix").await, NONE);
            cluster.kill(Member::Broker(0)).await;
            cluster.restart(Member::Broker(0)).await;
            cluster.wait_ready().await;
            raw = Raw::connect(&cluster.bootstrap()).await;
        } else {
            assert_eq!(delete_topic(&mut raw, "phoenix").await, NONE);
        }
        assert_eq!(
            produce_by_id(&mut raw, id, batch(&["late"])).await,
            UNKNOWN_TOPIC_ID
        );
        assert_eq!(fetch_by_id(&mut raw, id).await.0, UNKNOWN_TOPIC_ID);
    }
}

/// With acks=0 nobody would tell of records that came too early.
#[tokio::test]
async fn what_is_told_as_created_can_be_written_at_once() {
    let cluster = Cluster::builder()
        .wiring(Wiring::Grpc)
        .brokers(2)
        .gateways(2)
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.gateway(0)).await;
    for n in 0..60 {
        let name = format!("new-{n}");
        try_create_topic(&mut raw, &name, 1, &[]).await.unwrap();
        let reply = produce(&mut raw, &name, 0, batch(&["first"])).await;
        assert_eq!(reply.error_code, NONE, "{name}");
    }
}

/// Waits until nothing of the topic is left in the broker's directory.
async fn gone_from_disk(cluster: &Cluster, id: uuid::Uuid) {
    let dir = cluster.data_dir(Member::Broker(0)).join("broker");
    until("the deleted log is gone from the disk", || async {
        let names = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let mut names = names.map(|name| name.to_string_lossy().into_owned());
        (!names.any(|name| name.contains(&id.to_string()))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deleted_topic_leaves_nothing_on_the_disk() {
    let cluster = Cluster::builder().start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    let id = create_topic(&mut raw, "deleted", 1, &[]).await;
    produce_values(&mut raw, "deleted", 0, &["a"]).await;
    assert_eq!(delete_topic(&mut raw, "deleted").await, NONE);
    gone_from_disk(&cluster, id).await;
}

#[tokio::test]
async fn a_topic_deleted_while_its_broker_was_away_leaves_nothing_on_the_disk() {
    let builder = Cluster::builder().wiring(Wiring::Grpc);
    let mut cluster = builder
        .setting("log.segment.delete.delay.ms", "100")
        .allow_log("is set aside")
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    let id = create_topic(&mut raw, "deleted", 1, &[]).await;
    produce_values(&mut raw, "deleted", 0, &["a"]).await;
    cluster.stop(Member::Broker(0)).await;
    assert_eq!(delete_topic(&mut raw, "deleted").await, NONE);
    cluster.restart(Member::Broker(0)).await;
    cluster.wait_ready().await;
    gone_from_disk(&cluster, id).await;
}

async fn an_unknown_topic_is_made_on_demand(wiring: Wiring) {
    let cluster = Cluster::builder()
        .wiring(wiring)
        .setting("num.partitions", "4")
        .start()
        .await;
    let bootstrap = cluster.bootstrap();
    let mut raw = Raw::connect(&bootstrap).await;
    let described = describe_topic(&mut raw, "wished", false).await;
    assert_eq!(
        described.error_code, UNKNOWN_TOPIC_OR_PARTITION,
        "not without being allowed to"
    );
    let made = until("the topic is there", || async {
        let mut raw = Raw::connect(&bootstrap).await;
        let described = describe_topic(&mut raw, "wished", true).await;
        match described.error_code {
            NONE => Some(described),
            UNKNOWN_TOPIC_OR_PARTITION | LEADER_NOT_AVAILABLE => None,
            code => panic!("error {code}"),
        }
    });
    assert_eq!(made.await.partitions.len(), 4);
    for name in ["", ".", "..", "a/b", "ünicode", &"x".repeat(250)] {
        let described = describe_topic(&mut raw, name, true).await;
        assert_eq!(described.error_code, INVALID_TOPIC_EXCEPTION, "{name:?}");
    }

    // As a producer that knows nothing does it.
    let producer = librdkafka::producer(&bootstrap);
    let record = FutureRecord::to("sent-to").key("k").payload("v");
    producer.send(record, PATIENCE).await.unwrap();
    let consumer = librdkafka::consumer(&bootstrap, "wishes");
    consumer.subscribe(&["sent-to"]).unwrap();
    assert_eq!(librdkafka::take(&consumer, 1).await.first().unwrap().value, "v");
}

#[tokio::test]
async fn a_topic_that_was_answered_as_made_is_seen_at_every_gateway() {
    let cluster = Cluster::builder().wiring(Wiring::Grpc).gateways(2).start().await;
    let (mut one, mut other) = (
        Raw::connect(&cluster.gateway(0)).await,
        Raw::connect(&cluster.gateway(1)).await,
    );
    for n in 0..20 {
        let name = format!("topic-{n}");
        try_create_topic(&mut one, &name, 2, &[]).await.unwrap();
        let here = describe_topic(&mut one, &name, false).await;
        assert_eq!(
            (here.error_code, here.partitions.len()),
            (NONE, 2),
            "at the gateway that was asked"
        );
        let there = until("the topic at the other gateway", || async {
            let mut other = Raw::connect(&cluster.gateway(1)).await;
            Some(describe_topic(&mut other, &name, false).await).filter(|topic| topic.error_code == NONE)
        });
        assert_eq!(there.await.topic_id, here.topic_id);
    }
    assert_eq!(
        try_create_topic(&mut other, "topic-3", 1, &[]).await,
        Err(TOPIC_ALREADY_EXISTS)
    );
}

/// A client that is told of no node at all has nobody left to ask: librdkafka closes every connection and stays away.
#[tokio::test]
async fn clients_are_told_whom_to_ask_while_the_only_broker_is_away() {
    let mut cluster = Cluster::builder().wiring(Wiring::Grpc).start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "orphan", 1, &[]).await;
    let before = raw.call(METADATA, &MetadataRequest::default()).await;
    cluster.kill(Member::Broker(0)).await;
    let bootstrap = cluster.bootstrap();
    let during = until("the broker is fenced", || async {
        let mut raw = Raw::connect(&bootstrap).await;
        let reply = raw
            .call(
                METADATA,
                &MetadataRequest {
                    topics: None,
                    ..Default::default()
                },
            )
            .await;
        let orphan = reply
            .topics
            .iter()
            .find(|topic| topic.name.as_deref() == Some("orphan"));
        let leaderless = orphan.unwrap().partitions.first().unwrap().error_code == LEADER_NOT_AVAILABLE;
        leaderless.then_some(reply)
    })
    .await;
    assert_eq!(
        (during.brokers, during.controller_id),
        (before.brokers, before.controller_id)
    );
    // What is sent now arrives once the broker is back.
    let producer = librdkafka::producer(&bootstrap);
    let sent = tokio::spawn(async move {
        let record = FutureRecord::to("orphan").key("k").payload("v");
        producer.send(record, PATIENCE).await
    });
    cluster.restart(Member::Broker(0)).await;
    cluster.wait_ready().await;
    assert_eq!(sent.await.unwrap().unwrap().offset, 0);
}
