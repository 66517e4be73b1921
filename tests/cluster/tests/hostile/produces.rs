//! Rows 18 and 20 to 22: floods of bombs, produce requests of good batches that do not belong together, and producers'
//! sequences.

use bytes::Bytes;
use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_kafka_codec::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strom_kafka_codec::messages::{ProduceRequest, ProduceResponse};
use strom_records::{BatchBuilder, BatchHeader, Codec, Compression, HEADER_LEN, LOG_OVERHEAD};
use strom_types::{ProducerEpoch, ProducerId};

use crate::batches::*;
use crate::target::Target;

fn topic(name: &str, partitions: Vec<(i32, Bytes)>) -> TopicProduceData {
    TopicProduceData {
        name: name.to_owned().into(),
        partition_data: partitions
            .into_iter()
            .map(|(index, records)| PartitionProduceData {
                index,
                records: Some(records),
            })
            .collect(),
        ..Default::default()
    }
}

async fn codes(raw: &mut Raw, acks: i16, topics: Vec<TopicProduceData>) -> Vec<i16> {
    let request = ProduceRequest {
        acks,
        timeout_ms: 5_000,
        topic_data: topics,
        ..Default::default()
    };
    let reply = raw.call(PRODUCE, &request).await;
    let partitions = reply
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    partitions.map(|partition| partition.error_code).collect()
}

#[tokio::test]
async fn row_20_more_than_one_batch_or_partition_and_wrong_acks() {
    let mut target = Target::start().await;
    let two = [batch(&["a"]), batch(&["b"])].concat();
    refused(
        &mut target,
        "healthy",
        "two batches",
        two.into(),
        &[INVALID_RECORD],
    )
    .await;
    let mut raw = target.known().await;
    create_topic(&mut raw, "twice", 2, &[]).await;
    target
        .survives("a partition twice", async {
            let again = topic("twice", vec![(0, batch(&["a"])), (0, batch(&["b"]))]);
            assert_eq!(codes(&mut raw, -1, vec![again]).await, [INVALID_REQUEST; 2]);
            let split = vec![
                topic("twice", vec![(0, batch(&["a"]))]),
                topic("twice", vec![(0, batch(&["b"]))]),
            ];
            assert_eq!(codes(&mut raw, -1, split).await, [INVALID_REQUEST; 2]);
            for acks in [2, -2, i16::MAX] {
                let wrong = vec![topic("twice", vec![(0, batch(&["a"]))])];
                assert_eq!(
                    codes(&mut raw, acks, wrong).await,
                    [INVALID_REQUIRED_ACKS],
                    "acks {acks}"
                );
            }
            assert_eq!(
                list_offset(&mut raw, "twice", 0, -1).await.offset,
                0,
                "nothing was appended"
            );
        })
        .await;
}

/// 1.6 KiB of zstd that are the start of a record of 50 MiB.
fn zstd_bomb() -> Bytes {
    let start = [
        0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 1, 0xe0, 0xff, 0xff, 0xff, 0x0f,
    ];
    let block = |last: u32, kind: u32, size: usize| {
        let head = last | kind << 1 | u32::try_from(size).unwrap() << 3;
        head.to_le_bytes()[..3].to_vec()
    };
    // A window of 1 MiB; a raw block, then blocks of one repeated byte.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 10 << 3];
    frame.extend(block(0, 0, start.len()));
    frame.extend(start);
    for left in (0..400).rev() {
        frame.extend(block(u32::from(left == 0), 1, 128 << 10));
        frame.push(0);
    }
    let mut header = BatchHeader::parse(&batch(&["a"])).unwrap();
    header.attributes = header.attributes.with_codec(Codec::Zstd);
    header.batch_length = i32::try_from(frame.len() + HEADER_LEN - LOG_OVERHEAD).unwrap();
    sealed(header, &frame)
}

#[tokio::test]
async fn row_18_a_flood_of_bombs_leaves_others_their_turn() {
    const BOMBS: usize = 2_000;
    let mut target = Target::start().await;
    let (mut attacker, mut other) = (target.known().await, target.known().await);
    create_topic(&mut attacker, "flooded", 1, &[]).await;
    create_topic(&mut other, "other", 1, &[]).await;
    let large = "v".repeat(1 << 20);
    let builder = BatchBuilder::new().compression(Compression::of(Codec::Gzip));
    let honest = fill(builder, &[&large]);
    target
        .survives("a flood of bombs", async {
            let began = std::time::Instant::now();
            for _ in 0..BOMBS {
                let bomb = produce_request("flooded", 0, zstd_bomb(), -1);
                attacker.send(PRODUCE, &bomb).await;
            }
            let reply = produce(&mut other, "other", 0, honest).await;
            assert_eq!(reply.error_code, NONE);
            let others_turn = began.elapsed();
            for _ in 0..BOMBS {
                let (_, reply) = attacker.receive::<ProduceResponse>(PRODUCE).await;
                let code = reply.responses[0].partition_responses[0].error_code;
                assert_eq!(code, MESSAGE_TOO_LARGE);
            }
            let all = began.elapsed();
            assert!(others_turn < all / 2, "after {others_turn:?} of {all:?}");
        })
        .await;
}

#[tokio::test]
async fn row_21_one_request_for_fifty_thousand_partitions() {
    let mut target = Target::start().await;
    let mut raw = target.known().await;
    create_topic(&mut raw, "wide", 1, &[]).await;
    let small = batch(&["x"]);
    target
        .survives("50,000 partitions in a request", async {
            let partitions = (0..50_000).map(|index| (index, small.clone())).collect();
            let began = std::time::Instant::now();
            let codes = codes(&mut raw, -1, vec![topic("wide", partitions)]).await;
            assert!(
                began.elapsed().as_secs() < 10,
                "answered after {:?}",
                began.elapsed()
            );
            assert_eq!((codes.len(), codes[0]), (50_000, NONE));
            assert!(codes[1..].iter().all(|code| *code == UNKNOWN_TOPIC_OR_PARTITION));
        })
        .await;
}

#[tokio::test]
async fn row_22_producer_ids_epochs_and_sequences() {
    let mut target = Target::start().await;
    let mut raw = target.known().await;
    create_topic(&mut raw, "sequenced", 1, &[]).await;
    let (id, _) = init_producer_id(&mut raw).await;
    let from = |id: i64, epoch: i16, sequence: i32| {
        changed(move |header| {
            header.producer_id = ProducerId(id);
            header.producer_epoch = ProducerEpoch(epoch);
            header.base_sequence = sequence;
        })
    };
    let rows: Vec<(&str, Bytes, &[i16])> = vec![
        (
            "an id without a sequence",
            from(id, 0, -1),
            &[INVALID_RECORD, OUT_OF_ORDER_SEQUENCE_NUMBER],
        ),
        (
            "a sequence of -5",
            from(id, 0, -5),
            &[INVALID_RECORD, OUT_OF_ORDER_SEQUENCE_NUMBER],
        ),
        (
            "an id without an epoch",
            from(id, -1, 0),
            &[INVALID_RECORD, INVALID_PRODUCER_EPOCH],
        ),
        (
            "an id of -7",
            from(-7, 0, 0),
            &[INVALID_RECORD, INVALID_PRODUCER_EPOCH],
        ),
    ];
    for (name, records, codes) in rows {
        refused(&mut target, "sequenced", name, records, codes).await;
    }
    target
        .survives("sequences that wrap around", async {
            // An id that was never handed out may begin anywhere, as in Kafka: its state may have expired.
            let unknown = 1_000_000;
            let before_the_end = i32::MAX - 1;
            for (sequence, expected) in [
                (before_the_end, NONE),
                (5, OUT_OF_ORDER_SEQUENCE_NUMBER),
                (1, NONE),
            ] {
                let reply = produce(&mut raw, "sequenced", 0, from(unknown, 0, sequence)).await;
                assert_eq!(reply.error_code, expected, "sequence {sequence}");
            }
        })
        .await;
    let old = from(1_000_000, -1, 0);
    refused(
        &mut target,
        "sequenced",
        "an older epoch",
        old,
        &[INVALID_RECORD, INVALID_PRODUCER_EPOCH],
    )
    .await;
}
