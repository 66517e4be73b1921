//! Producing: codecs, idempotence, order, acks, time stamps.

use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::message::{Header, Headers, OwnedHeaders, Timestamp};
use rdkafka::producer::FutureRecord;
use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::{PATIENCE, librdkafka, until};
use strom_kafka_codec::messages::{MetadataRequest, ProduceResponse};
use strom_records::{BatchBuilder, BatchIter, Codec, Compression, TimestampType};
use strom_testkit::{Cluster, Member, Wiring};
use strom_types::{ProducerEpoch, ProducerId};

in_both_wirings!(
    records_of_every_codec_are_read_back,
    sequences_are_checked_also_after_a_crash,
    replies_keep_the_order_of_pipelined_requests,
    batches_are_appended_in_order_however_long_their_check_takes,
    a_large_batch_may_be_the_first_thing_on_a_connection,
);

/// Clients from before KIP-35, and those that are told the broker's version, do not ask for API versions.
async fn a_large_batch_may_be_the_first_thing_on_a_connection(wiring: Wiring) {
    let cluster = Cluster::builder().wiring(wiring).start().await;
    let bootstrap = cluster.bootstrap();
    create_topic(&mut Raw::connect(&bootstrap).await, "large", 1, &[]).await;
    let value = "v".repeat(900_000);
    produce_values(&mut Raw::connect(&bootstrap).await, "large", 0, &[&value]).await;
    let read = read_all(&mut Raw::connect(&bootstrap).await, "large", 0, 0).await;
    assert_eq!(read, [(0, value)]);
}

async fn records_of_every_codec_are_read_back(wiring: Wiring) {
    let cluster = Cluster::builder().wiring(wiring).start().await;
    let bootstrap = cluster.bootstrap();
    librdkafka::create_topic(&bootstrap, "codecs", 1, &[]).await;
    let codecs = [
        ("none", Codec::None),
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
    ];
    for (name, _) in codecs {
        let producer =
            librdkafka::producer_with(&bootstrap, &[("compression.codec", name), ("linger.ms", "20")]);
        let values: Vec<String> = (0..50).map(|n| format!("{name}-{n:0>200}")).collect();
        let sends = values.iter().map(|value| {
            let header = Header {
                key: "codec",
                value: Some(name),
            };
            let record = FutureRecord::to("codecs").key("k").payload(value);
            producer.send(record.headers(OwnedHeaders::new().insert(header)), PATIENCE)
        });
        for sent in futures::future::join_all(sends).await {
            sent.unwrap();
        }
    }
    let consumer = librdkafka::consumer(&bootstrap, "codecs");
    consumer.subscribe(&["codecs"]).unwrap();
    for (name, _) in codecs {
        for n in 0..50 {
            let message = tokio::time::timeout(PATIENCE, consumer.recv())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                message.payload_view::<str>().unwrap().unwrap(),
                format!("{name}-{n:0>200}")
            );
            let headers = message.headers().unwrap();
            assert_eq!(
                (headers.count(), headers.get(0).value),
                (1, Some(name.as_bytes()))
            );
        }
    }
    // The batches lie in the log as they were sent.
    let mut raw = Raw::connect(&bootstrap).await;
    let data = fetch(&mut raw, "codecs", 0, 0).await;
    let batches = BatchIter::new(data.records.unwrap()).map(|batch| batch.unwrap().header.codec().unwrap());
    let mut found: Vec<Codec> = batches.collect();
    found.dedup();
    assert_eq!(found, codecs.map(|(_, codec)| codec));
}

async fn sequences_are_checked_also_after_a_crash(wiring: Wiring) {
    let mut cluster = Cluster::builder().wiring(wiring).start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "sequences", 1, &[]).await;
    let (id, epoch) = init_producer_id(&mut raw).await;
    let batch = |epoch, sequence| sequenced(id, epoch, sequence, &["a", "b", "c"]);
    for (sequence, expected) in [(0, 0), (3, 3), (6, 6), (3, 3), (6, 6)] {
        let reply = produce(&mut raw, "sequences", 0, batch(epoch, sequence)).await;
        assert_eq!(
            (reply.error_code, reply.base_offset),
            (NONE, expected),
            "sequence {sequence}"
        );
    }
    let gap = produce(&mut raw, "sequences", 0, batch(epoch, 10)).await;
    assert_eq!(gap.error_code, OUT_OF_ORDER_SEQUENCE_NUMBER);

    cluster.kill(Member::Broker(0)).await;
    cluster.restart(Member::Broker(0)).await;
    cluster.wait_ready().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    wait_served(&mut raw, "sequences", 0).await;
    for (sequence, expected) in [(6, 6), (0, 0), (9, 9)] {
        let reply = produce(&mut raw, "sequences", 0, batch(epoch, sequence)).await;
        assert_eq!(
            (reply.error_code, reply.base_offset),
            (NONE, expected),
            "sequence {sequence} after the crash"
        );
    }
    let gap = produce(&mut raw, "sequences", 0, batch(epoch, 13)).await;
    assert_eq!(
        gap.error_code, OUT_OF_ORDER_SEQUENCE_NUMBER,
        "a gap after the crash"
    );
    let bumped = produce(&mut raw, "sequences", 0, batch(epoch + 1, 0)).await;
    assert_eq!((bumped.error_code, bumped.base_offset), (NONE, 12));
    let fenced = produce(&mut raw, "sequences", 0, batch(epoch, 12)).await;
    assert_eq!(fenced.error_code, INVALID_PRODUCER_EPOCH);
    let (other, _) = init_producer_id(&mut raw).await;
    assert!(other > id, "producer id {other} after {id}");
    assert_eq!(read_all(&mut raw, "sequences", 0, 0).await.len(), 15);
}

async fn replies_keep_the_order_of_pipelined_requests(wiring: Wiring) {
    let cluster = Cluster::builder().wiring(wiring).start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "pipeline", 1, &[]).await;
    // A fetch that waits for the records sent behind it.
    let mut parked = fetch_request("pipeline", 0, 0);
    (parked.max_wait_ms, parked.min_bytes) = (10_000, 100);
    let parked = raw.send(FETCH, &parked).await;
    let mut sent = Vec::new();
    for n in 0..40 {
        let request = produce_request("pipeline", 0, batch(&[&format!("record {n}")]), -1);
        sent.push(raw.send(PRODUCE, &request).await);
    }
    let last = raw.send(METADATA, &MetadataRequest::default()).await;

    let (answered, fetched) = raw
        .receive::<strom_kafka_codec::messages::FetchResponse>(FETCH)
        .await;
    assert_eq!(answered, parked);
    let data = fetched.responses.first().unwrap().partitions.first().unwrap();
    assert_eq!(
        records_of(data).first().unwrap().value.as_deref(),
        Some(b"record 0".as_slice())
    );
    for (n, sent) in sent.into_iter().enumerate() {
        let (answered, reply) = raw.receive::<ProduceResponse>(PRODUCE).await;
        let partition = reply
            .responses
            .first()
            .unwrap()
            .partition_responses
            .first()
            .unwrap();
        assert_eq!((answered, partition.error_code), (sent, NONE));
        assert_eq!(partition.base_offset, i64::try_from(n).unwrap());
    }
    let (answered, _) = raw
        .receive::<strom_kafka_codec::messages::MetadataResponse>(METADATA)
        .await;
    assert_eq!(answered, last);
}

async fn batches_are_appended_in_order_however_long_their_check_takes(wiring: Wiring) {
    let cluster = Cluster::builder().wiring(wiring).start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "mixed", 2, &[]).await;
    let (id, epoch) = init_producer_id(&mut raw).await;
    let codecs = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    // 5 MiB that are small on the wire take a while, 200 KiB less, and a few bytes are checked at once.
    let values = [5 << 20, 200 << 10, 5].map(|len| "v".repeat(len));
    let batch = |n: i32| {
        let turn = usize::try_from(n).unwrap();
        let builder = BatchBuilder::new()
            .producer(ProducerId(id), ProducerEpoch(epoch), n)
            .compression(Compression::of(codecs[turn % codecs.len()]));
        fill(builder, &[&values[turn % values.len()]])
    };
    let mut sent = Vec::new();
    for n in 0..30 {
        for partition in [0, 1] {
            let request = produce_request("mixed", partition, batch(n), -1);
            sent.push((n, raw.send(PRODUCE, &request).await));
        }
    }
    for (n, sent) in sent {
        let (answered, reply) = raw.receive::<ProduceResponse>(PRODUCE).await;
        let reply = &reply.responses[0].partition_responses[0];
        assert_eq!((answered, reply.error_code), (sent, NONE), "batch {n}: {reply:?}");
        assert_eq!(reply.base_offset, i64::from(n));
    }
}

#[tokio::test]
async fn clients_cannot_write_internal_topics() {
    let cluster = Cluster::builder().start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "__consumer_offsets", 1, &[]).await;
    let refused = produce(&mut raw, "__consumer_offsets", 0, batch(&["forged"])).await;
    assert_eq!(
        (refused.error_code, refused.base_offset),
        (INVALID_TOPIC_EXCEPTION, -1)
    );
}

#[tokio::test]
async fn acks_0_is_not_answered_and_a_failure_closes_the_connection() {
    let cluster = Cluster::builder()
        .allow_log("closed a client's connection")
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "unheard", 1, &[]).await;
    for n in 0..3 {
        let request = produce_request("unheard", 0, batch(&[&n.to_string()]), 0);
        raw.send(PRODUCE, &request).await;
    }
    // The next reply is the next request's.
    raw.call(METADATA, &MetadataRequest::default()).await;
    let read = until("three records", || async {
        let mut raw = Raw::connect(&cluster.bootstrap()).await;
        Some(read_all(&mut raw, "unheard", 0, 0).await).filter(|read| read.len() == 3)
    });
    let values: Vec<String> = read.await.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["0", "1", "2"]);

    raw.send(PRODUCE, &produce_request("nowhere", 0, batch(&["x"]), 0))
        .await;
    raw.expect_close().await;
    let reason = [("reason", "failed_produce")];
    let closed = || cluster.metric(Member::Gateway(0), "strom_gateway_connections_closed", &reason);
    until("the closed connection is counted", || async {
        (closed() == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn log_append_time_is_the_brokers_and_is_told_to_producer_and_consumer() {
    let cluster = Cluster::builder().start().await;
    let bootstrap = cluster.bootstrap();
    let mut raw = Raw::connect(&bootstrap).await;
    create_topic(
        &mut raw,
        "stamped",
        1,
        &[("message.timestamp.type", "LogAppendTime")],
    )
    .await;
    create_topic(&mut raw, "plain", 1, &[]).await;
    let before = now_ms();
    let stamped = produce(&mut raw, "stamped", 0, batch(&["a", "b"])).await;
    let plain = produce(&mut raw, "plain", 0, batch(&["a"])).await;
    assert!(
        (before..=now_ms()).contains(&stamped.log_append_time_ms),
        "{stamped:?}"
    );
    assert_eq!(plain.log_append_time_ms, -1);

    let data = fetch(&mut raw, "stamped", 0, 0).await;
    let batch = BatchIter::new(data.records.unwrap()).next().unwrap().unwrap();
    batch.verify_crc().unwrap();
    assert_eq!(batch.header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(batch.header.max_timestamp, stamped.log_append_time_ms);

    let consumer = librdkafka::consumer_with(&bootstrap, "times", &[("check.crcs", "true")]);
    consumer.subscribe(&["stamped"]).unwrap();
    for _ in 0..2 {
        let message = tokio::time::timeout(PATIENCE, consumer.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            message.timestamp(),
            Timestamp::LogAppendTime(stamped.log_append_time_ms)
        );
    }
}

#[tokio::test]
async fn librdkafka_creates_produces_and_consumes_with_its_defaults() {
    let cluster = Cluster::builder().start().await;
    let bootstrap = cluster.bootstrap();
    let plain = |more: &[(&str, &str)]| {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", &bootstrap);
        for (key, value) in more {
            config.set(*key, *value);
        }
        config
    };
    let producer: rdkafka::producer::FutureProducer = plain(&[]).create().unwrap();
    librdkafka::create_topic(&bootstrap, "defaults", 3, &[]).await;
    for n in 0..30 {
        let (key, value) = (format!("key {n}"), format!("value {n}"));
        let record = FutureRecord::to("defaults").key(&key).payload(&value);
        producer.send(record, PATIENCE).await.unwrap();
    }
    let consumer: rdkafka::consumer::StreamConsumer =
        plain(&[("group.id", "defaults"), ("auto.offset.reset", "earliest")])
            .create()
            .unwrap();
    consumer.subscribe(&["defaults"]).unwrap();
    let mut read: Vec<String> = librdkafka::take(&consumer, 30)
        .await
        .into_iter()
        .map(|read| read.value)
        .collect();
    read.sort_by_key(|value| value.split(' ').nth(1).unwrap().parse::<u32>().unwrap());
    assert_eq!(read, (0..30).map(|n| format!("value {n}")).collect::<Vec<_>>());
}
