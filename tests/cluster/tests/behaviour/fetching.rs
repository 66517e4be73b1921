//! Fetching: long polls, size limits, offsets by time, deleted records.

use std::time::{Duration, Instant};

use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_kafka_codec::messages::fetch_request::FetchPartition;
use strom_kafka_codec::messages::{FetchResponse, ListOffsetsRequest};
use strom_records::{BatchBuilder, NewRecord};
use strom_testkit::{Cluster, Member, Wiring};

in_both_wirings!(
    a_fetch_at_the_end_waits_for_bytes_but_not_longer_than_it_said,
    the_first_batch_comes_whole_however_small_the_limits,
    deleted_records_stay_deleted_over_a_crash,
);

async fn a_fetch_at_the_end_waits_for_bytes_but_not_longer_than_it_said(wiring: Wiring) {
    let cluster = Cluster::builder().wiring(wiring).start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "polled", 2, &[]).await;
    let mut request = fetch_request("polled", 0, 0);
    request.max_wait_ms = 400;
    let asked = Instant::now();
    let reply = raw.call(FETCH, &request).await;
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_millis(390), "answered after {waited:?}");
    assert!(waited < Duration::from_secs(5), "answered after {waited:?}");
    let data = reply.responses.first().unwrap().partitions.first().unwrap();
    assert_eq!((data.error_code, records_of(data).len()), (NONE, 0));
    // A partition that does not exist is told of then too, not at once.
    let mut with_unknown = request.clone();
    let unknown = FetchPartition {
        partition: 9,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    with_unknown.topics.first_mut().unwrap().partitions.push(unknown);
    let asked = Instant::now();
    let reply = raw.call(FETCH, &with_unknown).await;
    assert!(
        asked.elapsed() >= Duration::from_millis(390),
        "answered after {:?}",
        asked.elapsed()
    );
    let codes = reply.responses[0].partitions.iter().map(|data| data.error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [NONE, UNKNOWN_TOPIC_OR_PARTITION]);

    // Two partitions, and more bytes wanted than one record brings: the second record ends the wait.
    let one = batch(&["0123456789"]).len();
    request.max_wait_ms = 15_000;
    request.min_bytes = i32::try_from(one + 1).unwrap();
    request
        .topics
        .first_mut()
        .unwrap()
        .partitions
        .push(FetchPartition {
            partition: 1,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        });
    let mut producer = Raw::connect(&cluster.bootstrap()).await;
    raw.send(FETCH, &request).await;
    produce_values(&mut producer, "polled", 0, &["0123456789"]).await;
    let early = tokio::time::timeout(Duration::from_millis(300), raw.frame()).await;
    assert!(early.is_err(), "answered with {one} bytes of {}", one + 1);
    let asked = Instant::now();
    produce_values(&mut producer, "polled", 1, &["0123456789"]).await;
    let (_, reply) = raw.receive::<FetchResponse>(FETCH).await;
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "answered after {:?}",
        asked.elapsed()
    );
    let partitions = &reply.responses.first().unwrap().partitions;
    assert_eq!(
        partitions
            .iter()
            .map(|data| records_of(data).len())
            .sum::<usize>(),
        2
    );
}

async fn the_first_batch_comes_whole_however_small_the_limits(wiring: Wiring) {
    let cluster = Cluster::builder().wiring(wiring).start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "large", 2, &[]).await;
    let value = "v".repeat(20_000);
    for partition in [0, 1] {
        for _ in 0..3 {
            produce_values(&mut raw, "large", partition, &[&value]).await;
        }
    }
    let mut request = fetch_request("large", 0, 0);
    request
        .topics
        .first_mut()
        .unwrap()
        .partitions
        .push(FetchPartition {
            partition: 1,
            partition_max_bytes: 50 << 20,
            ..Default::default()
        });
    let counts = |reply: &FetchResponse| -> Vec<usize> {
        let partitions = reply.responses.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|data| records_of(data).len()).collect()
    };
    request.max_bytes = 1;
    let reply = raw.call(FETCH, &request).await;
    assert_eq!(
        counts(&reply).iter().sum::<usize>(),
        1,
        "one batch over max_bytes, in one partition"
    );
    request.max_bytes = 50_000;
    let reply = raw.call(FETCH, &request).await;
    assert_eq!(
        counts(&reply).iter().sum::<usize>(),
        2,
        "as many as max_bytes hold"
    );
    request.max_bytes = 50 << 20;
    for partition in &mut request.topics.first_mut().unwrap().partitions {
        partition.partition_max_bytes = 1;
    }
    let reply = raw.call(FETCH, &request).await;
    let total: usize = counts(&reply).iter().sum();
    assert!(
        (1..=2).contains(&total),
        "the first batch over partition_max_bytes, not {total}"
    );
    // The middle of a batch gives the whole batch.
    produce_values(&mut raw, "large", 0, &["a", "b", "c"]).await;
    let data = fetch(&mut raw, "large", 0, 4).await;
    let offsets: Vec<i64> = records_of(&data).iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [3, 4, 5]);
}

#[tokio::test]
async fn offsets_are_found_by_time_and_by_every_special_name() {
    let cluster = Cluster::builder().start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "offsets", 1, &[]).await;
    let empty = |code: i64| (NONE, code, -1);
    let ask = async |raw: &mut Raw, at: i64| {
        let found = list_offset(raw, "offsets", 0, at).await;
        (found.error_code, found.offset, found.timestamp)
    };
    assert_eq!(ask(&mut raw, -1).await, empty(0));
    assert_eq!(ask(&mut raw, -2).await, empty(0));
    assert_eq!(ask(&mut raw, -3).await, empty(-1));
    let now = now_ms();
    for (at, count) in [(now, 2), (now + 100, 2), (now + 50, 1)] {
        let mut builder = BatchBuilder::new();
        for n in 0..count {
            let record = NewRecord {
                timestamp: at + n,
                key: None,
                value: Some(b"v"),
                headers: &[],
            };
            builder.push(&record).unwrap();
        }
        assert_eq!(
            produce(&mut raw, "offsets", 0, builder.build().unwrap())
                .await
                .error_code,
            NONE
        );
    }
    let (low, error) = delete_records(&mut raw, "offsets", 0, 1).await;
    assert_eq!((low, error), (1, NONE));
    assert_eq!(ask(&mut raw, -1).await, empty(5), "latest");
    assert_eq!(ask(&mut raw, -2).await, empty(1), "earliest");
    assert_eq!(
        ask(&mut raw, -3).await,
        (NONE, 3, now + 101),
        "of the largest timestamp"
    );
    assert_eq!(ask(&mut raw, -4).await, empty(1), "earliest local");
    assert_eq!(ask(&mut raw, -5).await, empty(-1), "latest tiered");
    assert_eq!(ask(&mut raw, now + 1).await, (NONE, 1, now + 1));
    assert_eq!(ask(&mut raw, now + 2).await, (NONE, 2, now + 100));
    assert_eq!(
        ask(&mut raw, 0).await,
        (NONE, 1, now + 1),
        "deleted records are not found"
    );
    assert_eq!(ask(&mut raw, now + 102).await, empty(-1), "after the last");
    // An older version of the request knows fewer names.
    let request = ListOffsetsRequest::default();
    assert!(raw.call(1, &request).await.topics.is_empty());
}

async fn deleted_records_stay_deleted_over_a_crash(wiring: Wiring) {
    let mut cluster = Cluster::builder().wiring(wiring).start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "trimmed", 1, &[]).await;
    for n in 0..10 {
        produce_values(&mut raw, "trimmed", 0, &[&format!("record {n}")]).await;
    }
    assert_eq!(delete_records(&mut raw, "trimmed", 0, 4).await, (4, NONE));
    assert_eq!(
        delete_records(&mut raw, "trimmed", 0, 2).await,
        (4, NONE),
        "never backwards"
    );
    assert_eq!(
        delete_records(&mut raw, "trimmed", 0, 11).await.1,
        OFFSET_OUT_OF_RANGE
    );
    assert_eq!(
        delete_records(&mut raw, "trimmed", 0, -2).await.1,
        OFFSET_OUT_OF_RANGE
    );
    assert_eq!(
        fetch(&mut raw, "trimmed", 0, 3).await.error_code,
        OFFSET_OUT_OF_RANGE
    );
    assert_eq!(
        fetch(&mut raw, "trimmed", 0, 11).await.error_code,
        OFFSET_OUT_OF_RANGE
    );

    cluster.kill(Member::Broker(0)).await;
    cluster.restart(Member::Broker(0)).await;
    cluster.wait_ready().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    wait_served(&mut raw, "trimmed", 0).await;
    assert_eq!(list_offset(&mut raw, "trimmed", 0, -2).await.offset, 4);
    let left = read_all(&mut raw, "trimmed", 0, 4).await;
    assert_eq!(left.first().unwrap(), &(4, "record 4".to_owned()));
    assert_eq!(left.len(), 6);
    // -1 = everything.
    assert_eq!(delete_records(&mut raw, "trimmed", 0, -1).await, (10, NONE));
    let data = fetch(&mut raw, "trimmed", 0, 10).await;
    assert_eq!(
        (data.error_code, data.log_start_offset, data.high_watermark),
        (NONE, 10, 10)
    );
    assert_eq!(produce_values(&mut raw, "trimmed", 0, &["next"]).await, 10);
}
