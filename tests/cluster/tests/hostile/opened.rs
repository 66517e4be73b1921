//! Rows 18 and 19: records that the leader opens, which may be bombs.

use std::io::Write;

use bytes::Bytes;
use strom_cluster::codes::*;
use strom_cluster::requests::*;
use strom_records::{Attributes, BatchHeader, HEADER_LEN};

use crate::batches::*;
use crate::target::Target;

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
