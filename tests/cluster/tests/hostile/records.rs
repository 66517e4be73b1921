//! Rows 16 to 22: record batches.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_kafka_codec::messages::ProduceRequest;
use strom_kafka_codec::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strom_records::{Attributes, BatchHeader, HEADER_LEN, compute_crc};
use strom_types::{ProducerEpoch, ProducerId};

use crate::target::Target;

const CRC_AT: usize = 17;
const MAGIC_AT: usize = 16;
const LENGTH_AT: usize = 8;

/// A batch with a changed header and a CRC that is right for it.
fn changed(change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let good = batch(&["a", "b", "c"]);
    let mut header = BatchHeader::parse(&good).unwrap();
    change(&mut header);
    sealed(header, &good[HEADER_LEN..])
}

/// A batch of these record bytes with a right length and CRC.
fn sealed(header: BatchHeader, records: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(header.encode().as_slice());
    bytes.put_slice(records);
    reseal(bytes)
}

fn reseal(mut bytes: BytesMut) -> Bytes {
    let crc = compute_crc(&bytes).unwrap();
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

/// The good batch with some bytes overwritten, CRC untouched.
fn overwritten(at: usize, with: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&batch(&["a", "b", "c"])[..]);
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes.freeze()
}

/// Produces what must be refused with one of `codes`; nothing may have been appended.
async fn refused(target: &mut Target, topic: &str, name: &str, records: Bytes, codes: &[i16]) {
    let mut raw = target.known().await;
    let end = list_offset(&mut raw, topic, 0, -1).await.offset;
    target
        .survives(name, async {
            let reply = produce(&mut raw, topic, 0, records).await;
            assert!(
                codes.contains(&reply.error_code),
                "{name}: error {}, not one of {codes:?}",
                reply.error_code
            );
            assert_eq!(reply.base_offset, -1, "{name}");
            let now = list_offset(&mut raw, topic, 0, -1).await.offset;
            assert_eq!(now, end, "{name}: something was appended");
        })
        .await;
}

#[tokio::test]
async fn row_16_broken_batches() {
    let mut target = Target::start().await;
    let good = batch(&["a", "b", "c"]);
    let length = i32::try_from(good.len()).unwrap() - 12;
    let rows: Vec<(&str, Bytes, &[i16])> = vec![
        (
            "wrong CRC",
            overwritten(CRC_AT, &[1, 2, 3, 4]),
            &[CORRUPT_MESSAGE],
        ),
        (
            "a changed byte",
            overwritten(HEADER_LEN + 3, &[0x55]),
            &[CORRUPT_MESSAGE],
        ),
        ("magic 0", overwritten(MAGIC_AT, &[0]), &[INVALID_RECORD]),
        ("magic 1", overwritten(MAGIC_AT, &[1]), &[INVALID_RECORD]),
        (
            "magic 3",
            overwritten(MAGIC_AT, &[3]),
            &[INVALID_RECORD, CORRUPT_MESSAGE],
        ),
        (
            "magic 127",
            overwritten(MAGIC_AT, &[127]),
            &[INVALID_RECORD, CORRUPT_MESSAGE],
        ),
        (
            "magic -1",
            overwritten(MAGIC_AT, &[255]),
            &[INVALID_RECORD, CORRUPT_MESSAGE],
        ),
        (
            "length too long",
            overwritten(LENGTH_AT, &(length + 1).to_be_bytes()),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "length too short",
            overwritten(LENGTH_AT, &(length - 1).to_be_bytes()),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "length 0",
            overwritten(LENGTH_AT, &[0; 4]),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "length -1",
            overwritten(LENGTH_AT, &[255; 4]),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "length 2^31-1",
            overwritten(LENGTH_AT, &i32::MAX.to_be_bytes()),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        ("no bytes", Bytes::new(), &[INVALID_RECORD, CORRUPT_MESSAGE]),
        (
            "half a header",
            good.slice(..30),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        (
            "half a batch",
            good.slice(..good.len() - 4),
            &[CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        ("count -1", changed(|h| h.record_count = -1), &[INVALID_RECORD]),
        ("count 0", changed(|h| h.record_count = 0), &[INVALID_RECORD]),
        (
            "count 2^31-1",
            changed(|h| h.record_count = i32::MAX),
            &[INVALID_RECORD],
        ),
        (
            "count and delta 2^31-1",
            changed(|h| (h.record_count, h.last_offset_delta) = (i32::MAX, i32::MAX - 1)),
            &[INVALID_RECORD],
        ),
        (
            "delta too large",
            changed(|h| h.last_offset_delta = 7),
            &[INVALID_RECORD],
        ),
        (
            "delta -1",
            changed(|h| h.last_offset_delta = -1),
            &[INVALID_RECORD],
        ),
    ];
    for (name, records, codes) in rows {
        refused(&mut target, "healthy", name, records, codes).await;
    }
    // Offsets and epochs of the client are the leader's to set.
    let mut raw = target.known().await;
    let odd = changed(|h| (h.base_offset, h.partition_leader_epoch) = (-1, strom_types::LeaderEpoch(77)));
    let end = list_offset(&mut raw, "healthy", 0, -1).await.offset;
    create_topic(&mut raw, "odd", 1, &[]).await;
    let reply = produce(&mut raw, "odd", 0, odd).await;
    if reply.error_code == NONE {
        assert_eq!(read_all(&mut raw, "odd", 0, 0).await.len(), 3);
    }
    assert_eq!(list_offset(&mut raw, "healthy", 0, -1).await.offset, end);
}

#[tokio::test]
async fn row_17_forbidden_attributes_and_times() {
    let mut target = Target::start().await;
    let with = |bits: i16| changed(|header| header.attributes = Attributes(bits));
    let far = now_ms() + 2 * 24 * 3600 * 1000;
    let at = |ms: i64| changed(move |header| (header.base_timestamp, header.max_timestamp) = (ms, ms));
    let rows: Vec<(&str, Bytes, &[i16])> = vec![
        ("codec 5", with(5), &[UNSUPPORTED_COMPRESSION_TYPE]),
        ("codec 6", with(6), &[UNSUPPORTED_COMPRESSION_TYPE]),
        ("codec 7", with(7), &[UNSUPPORTED_COMPRESSION_TYPE]),
        ("a control batch", with(1 << 5), &[INVALID_RECORD]),
        (
            "transactional without a producer",
            with(1 << 4),
            &[INVALID_RECORD, INVALID_TXN_STATE],
        ),
        (
            "LogAppendTime of a client",
            with(1 << 3),
            &[INVALID_TIMESTAMP, INVALID_RECORD],
        ),
        ("a delete horizon of a client", with(1 << 6), &[INVALID_RECORD]),
        ("two days ahead", at(far), &[INVALID_TIMESTAMP]),
        ("the end of time", at(i64::MAX), &[INVALID_TIMESTAMP]),
        ("timestamp -2", at(-2), &[INVALID_TIMESTAMP, INVALID_RECORD]),
        (
            "timestamp i64::MIN",
            at(i64::MIN),
            &[INVALID_TIMESTAMP, INVALID_RECORD],
        ),
    ];
    for (name, records, codes) in rows {
        refused(&mut target, "healthy", name, records, codes).await;
    }
}

/// A compacted topic: there the leader opens the records.
async fn with_compacted_topic() -> Target {
    let builder = strom_testkit::Cluster::builder().allow_log("key=\"cleanup.policy\"");
    let target = Target::build(builder).await;
    let mut raw = target.known().await;
    create_topic(
        &mut raw,
        "compacted",
        1,
        &[("cleanup.policy", "compact"), ("max.message.bytes", "50000000")],
    )
    .await;
    target
}

/// The header of a batch with one record, compressed by `codec`.
fn one_record(codec: i16, body: &[u8]) -> Bytes {
    let good = batch(&["a"]);
    let mut header = BatchHeader::parse(&good).unwrap();
    header.attributes = Attributes(codec);
    header.batch_length = i32::try_from(HEADER_LEN + body.len()).unwrap() - 12;
    sealed(header, body)
}

fn varint(value: i64) -> Vec<u8> {
    let mut rest = u64::from_ne_bytes(((value << 1) ^ (value >> 63)).to_ne_bytes());
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// Writes one record whose value is `value_len` zeros.
fn write_huge_record(value_len: usize, into: &mut dyn Write) {
    let value_length = varint(i64::try_from(value_len).unwrap());
    // Attributes, timestamp and offset deltas; key "k"; the value's length; later no headers.
    let head = [[0, 0, 0].as_slice(), &varint(1), b"k", &value_length].concat();
    let record_length = varint(i64::try_from(head.len() + value_len + 1).unwrap());
    into.write_all(&record_length).unwrap();
    into.write_all(&head).unwrap();
    let zeros = vec![0; 1 << 16];
    let mut left = value_len;
    while left > 0 {
        let part = left.min(zeros.len());
        into.write_all(&zeros[..part]).unwrap();
        left -= part;
    }
    into.write_all(&[0]).unwrap();
}

#[tokio::test]
async fn row_18_zip_bombs() {
    // Just over what one batch may unpack to.
    const BOMB: usize = 66 << 20;
    let mut target = with_compacted_topic().await;
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        write_huge_record(BOMB, &mut encoder);
        encoder.finish().unwrap()
    };
    let zstd = {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        write_huge_record(BOMB, &mut encoder);
        encoder.finish().unwrap()
    };
    // A frame header that asks for a window of 2 GiB, then a raw block.
    let zstd_window = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x09, 0x00, 0x00, b'x'];
    let snappy_claim = vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, b'x'];
    let xerial_claim = [
        b"\x82SNAPPY\0".as_slice(),
        &1_i32.to_be_bytes(),
        &1_i32.to_be_bytes(),
        &i32::MAX.to_be_bytes(),
        b"x",
    ]
    .concat();
    // Blocks of 64 KiB, each of one byte repeated, without an end.
    let lz4 = {
        let header = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
        let mut block = vec![0x1f, 0x00, 0x01, 0x00];
        block.extend([255; 256]);
        block.push(200);
        let mut frame = header.to_vec();
        for _ in 0..1_100 {
            frame.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
            frame.extend(&block);
        }
        frame
    };
    let bombs = [
        ("gzip bomb", 1, gzip),
        ("zstd bomb", 4, zstd),
        ("zstd window of 2 GiB", 4, zstd_window),
        ("snappy that claims 4 GiB", 2, snappy_claim),
        ("xerial snappy that claims 2 GiB", 2, xerial_claim),
        ("lz4 without an end", 3, lz4),
        ("gzip of nothing", 1, Vec::new()),
        ("noise as gzip", 1, vec![0x5a; 100]),
        ("noise as snappy", 2, vec![0x5a; 100]),
        ("noise as lz4", 3, vec![0x5a; 100]),
        ("noise as zstd", 4, vec![0x5a; 100]),
    ];
    for (name, codec, body) in bombs {
        let records = one_record(codec, &body);
        assert!(
            records.len() < 10 << 20,
            "{name}: {} bytes on the wire",
            records.len()
        );
        refused(
            &mut target,
            "compacted",
            name,
            records,
            &[CORRUPT_MESSAGE, INVALID_RECORD, MESSAGE_TOO_LARGE],
        )
        .await;
    }
}

#[tokio::test]
async fn row_19_broken_records() {
    let mut target = with_compacted_topic().await;
    let record = |parts: &[&[u8]]| {
        let body = parts.concat();
        one_record(0, &[varint(i64::try_from(body.len()).unwrap()), body].concat())
    };
    let start: &[u8] = &[0, 0, 0];
    let max = varint(i64::from(i32::MAX));
    let rows = [
        (
            "2^31-1 headers",
            record(&[start, &varint(1), b"k", &varint(1), b"v", &max]),
        ),
        (
            "-1 headers",
            record(&[start, &varint(1), b"k", &varint(1), b"v", &varint(-1)]),
        ),
        (
            "key length -2",
            record(&[start, &varint(-2), &varint(1), b"v", &[0]]),
        ),
        ("key length 2^31-1", record(&[start, &max, b"k"])),
        ("value length 2^31-1", record(&[start, &varint(1), b"k", &max])),
        (
            "a header key of length -1",
            record(&[start, &varint(1), b"k", &varint(1), b"v", &varint(1), &varint(-1)]),
        ),
        (
            "bytes behind the record",
            record(&[start, &varint(1), b"k", &varint(1), b"v", &[0], b"more"]),
        ),
        (
            "a record length of 2^31-1",
            one_record(0, &[max.as_slice(), start].concat()),
        ),
        ("a record length of -1", one_record(0, &varint(-1))),
        ("a varint without an end", one_record(0, &[0xff; 20])),
        ("no key", record(&[start, &varint(-1), &varint(1), b"v", &[0]])),
    ];
    for (name, records) in rows {
        refused(
            &mut target,
            "compacted",
            name,
            records,
            &[INVALID_RECORD, CORRUPT_MESSAGE],
        )
        .await;
    }
}

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
