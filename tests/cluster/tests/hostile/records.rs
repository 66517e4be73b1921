//! Rows 16 and 17: broken batches, forbidden attributes and times.

use bytes::Bytes;
use strom_cluster::codes::*;
use strom_cluster::requests::*;
use strom_records::{Attributes, HEADER_LEN};

use crate::batches::*;
use crate::target::Target;

const MAGIC_AT: usize = 16;
const LENGTH_AT: usize = 8;

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
