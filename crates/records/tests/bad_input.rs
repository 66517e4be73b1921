//! What a hostile or broken producer may send: each gets Kafka's code, and nothing panics.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use strom_records::*;
use strom_types::{ErrorCode, ProducerEpoch, ProducerId, WallMs};

const NOW: i64 = 1_700_000_000_000;

fn policy() -> ProducePolicy {
    ProducePolicy::defaults(WallMs(NOW))
}

fn compacted() -> ProducePolicy {
    ProducePolicy {
        compacted: true,
        ..policy()
    }
}

fn builder() -> BatchBuilder {
    let mut builder = BatchBuilder::new().producer(ProducerId(7), ProducerEpoch(0), 0);
    for index in 0..3u8 {
        let value = [index; 100];
        let new = NewRecord {
            timestamp: NOW,
            key: Some(b"k"),
            value: Some(&value),
            headers: &[],
        };
        builder.push(&new).unwrap();
    }
    builder
}

fn batch() -> Bytes {
    builder().build().unwrap()
}

fn fix_crc(batch: &mut [u8]) {
    let crc = compute_crc(batch).unwrap();
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// The same batch with another header and, unless the change is to the CRC itself, the CRC that goes with it.
fn with_header(change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let bytes = batch();
    let mut header = BatchHeader::parse(&bytes).unwrap();
    let crc = header.crc;
    change(&mut header);
    let crc_changed = header.crc != crc;
    let mut out = [&header.encode()[..], &bytes[HEADER_LEN..]].concat();
    if !crc_changed {
        fix_crc(&mut out);
    }
    out.into()
}

/// A batch around a hand-made payload.
fn with_payload(codec: Codec, count: i32, payload: &[u8]) -> Bytes {
    let mut header = BatchHeader::parse(&batch()).unwrap();
    header.attributes = header.attributes.with_codec(codec);
    header.batch_length = i32::try_from(payload.len()).unwrap() + 49;
    header.record_count = count;
    header.last_offset_delta = count - 1;
    let mut out = [&header.encode()[..], payload].concat();
    fix_crc(&mut out);
    out.into()
}

fn code(records: &Bytes, policy: &ProducePolicy) -> ErrorCode {
    match validate_produce(records, policy) {
        Ok(_) => ErrorCode::None,
        Err(invalid) => {
            assert!(!invalid.to_string().is_empty());
            invalid.code()
        }
    }
}

#[test]
fn the_honest_batch_passes() {
    for policy in [policy(), compacted()] {
        let batch = validate_produce(&batch(), &policy).unwrap();
        assert_eq!(batch.header.record_count, 3);
        assert_eq!(batch.log_append_time_ms(), -1);
    }
}

#[test]
fn row_16_structure() {
    use ErrorCode::{CorruptMessage, InvalidRecord};
    let check = |records: Bytes, expected| assert_eq!(code(&records, &policy()), expected, "{records:?}");
    check(Bytes::new(), InvalidRecord);
    check(with_header(|h| h.crc ^= 1), CorruptMessage);
    for (magic, expected) in [
        (0, InvalidRecord),
        (1, InvalidRecord),
        (3, CorruptMessage),
        (127, CorruptMessage),
    ] {
        check(with_header(|h| h.magic = magic), expected);
    }
    check(with_header(|h| h.magic = -1), CorruptMessage);
    for change in [-1, 1, i32::MIN, 1 << 20] {
        check(
            with_header(|h| h.batch_length = h.batch_length.wrapping_add(change)),
            CorruptMessage,
        );
    }
    for length in [0, -1, 48, i32::MAX] {
        check(with_header(|h| h.batch_length = length), CorruptMessage);
    }
    check(with_header(|h| h.base_offset = -1), InvalidRecord);
    check(with_header(|h| h.base_offset = 5), InvalidRecord);
    for count in [-1, 0, 2, 4, i32::MAX, i32::MIN] {
        check(with_header(|h| h.record_count = count), InvalidRecord);
        check(
            with_header(|h| h.last_offset_delta = count),
            if count == 2 {
                ErrorCode::None
            } else {
                InvalidRecord
            },
        );
    }
    let huge = with_header(|h| (h.record_count, h.last_offset_delta) = (i32::MAX, i32::MAX - 1));
    check(huge, InvalidRecord);
    for codec in [Codec::Gzip, Codec::Zstd] {
        check(with_payload(codec, i32::MAX, b"short"), InvalidRecord);
    }
    let whole = batch();
    for cut in 0..whole.len() {
        let expected = if cut == 0 { InvalidRecord } else { CorruptMessage };
        check(whole.slice(..cut), expected);
    }
}

#[test]
fn row_17_attributes_and_timestamps() {
    use ErrorCode::{InvalidRecord, InvalidTimestamp, UnsupportedCompressionType};
    let check = |records: Bytes, expected| assert_eq!(code(&records, &policy()), expected, "{records:?}");
    for codec in 5..=7 {
        check(
            with_header(|h| h.attributes.0 |= codec),
            UnsupportedCompressionType,
        );
    }
    check(
        with_header(|h| h.attributes = h.attributes.with_control(true)),
        InvalidRecord,
    );
    check(
        with_header(|h| h.attributes = h.attributes.with_delete_horizon(true)),
        InvalidRecord,
    );
    let append_time = |h: &mut BatchHeader| {
        h.attributes = h.attributes.with_timestamp_type(TimestampType::LogAppendTime);
    };
    check(with_header(append_time), InvalidTimestamp);
    let txn = with_header(|h| h.attributes = h.attributes.with_transactional(true));
    check(txn.clone(), ErrorCode::None);
    let no_txn_id = ProducePolicy {
        transactional_allowed: false,
        ..policy()
    };
    assert_eq!(code(&txn, &no_txn_id), InvalidRecord);
    check(
        with_header(|h| {
            h.attributes = h.attributes.with_transactional(true);
            (h.producer_id, h.producer_epoch, h.base_sequence) = (ProducerId(-1), ProducerEpoch(-1), -1);
        }),
        InvalidRecord,
    );
    check(with_header(|h| h.base_sequence = -1), InvalidRecord);
    check(
        with_header(|h| h.producer_epoch = ProducerEpoch(-1)),
        InvalidRecord,
    );
    check(with_header(|h| h.producer_id = ProducerId(-2)), InvalidRecord);
    for timestamp in [-2, i64::MIN, NOW + 3_600_001, i64::MAX] {
        check(with_header(|h| h.base_timestamp = timestamp), InvalidTimestamp);
    }
    check(
        with_header(|h| h.base_timestamp = NOW + 3_600_000),
        ErrorCode::None,
    );
    let zstd = builder()
        .compression(Compression::of(Codec::Zstd))
        .build()
        .unwrap();
    check(zstd.clone(), ErrorCode::None);
    let old = ProducePolicy {
        zstd_allowed: false,
        ..policy()
    };
    assert_eq!(code(&zstd, &old), UnsupportedCompressionType);
}

#[test]
fn a_bound_on_old_timestamps_is_checked_record_by_record() {
    let mut builder = BatchBuilder::new();
    for timestamp in [NOW, NOW - 5_000, NOW - 4_999] {
        builder
            .push(&NewRecord {
                timestamp,
                ..NewRecord::default()
            })
            .unwrap();
    }
    let records = builder.compression(Compression::of(Codec::Gzip)).build().unwrap();
    assert_eq!(code(&records, &policy()), ErrorCode::None);
    let strict = ProducePolicy {
        timestamp_before_max_ms: 4_999,
        ..policy()
    };
    let invalid = validate_produce(&records, &strict).unwrap_err();
    assert_eq!(invalid.code(), ErrorCode::InvalidTimestamp);
    assert_eq!(
        invalid
            .record_faults()
            .iter()
            .map(|fault| fault.batch_index)
            .collect::<Vec<_>>(),
        [1]
    );
}

#[test]
fn a_max_timestamp_that_is_not_the_records_is_corrected() {
    for lie in [-1, i64::MIN, NOW - 1, NOW + 1, i64::MAX] {
        let batch = validate_produce(&with_header(|h| h.max_timestamp = lie), &policy()).unwrap();
        assert_eq!(batch.header.max_timestamp, NOW);
        let stored = batch.assign_contiguous(10, strom_types::LeaderEpoch(1));
        assert_eq!(verify_crc(&stored), Ok(()));
    }
}

/// Such a batch would stand in every consumer's way for ever.
#[test]
fn counts_that_do_not_fit_the_records_are_refused() {
    let payload = &batch()[HEADER_LEN..];
    for codec in Codec::ALL {
        let body = compress(codec, None, payload).unwrap();
        for policy in [policy(), compacted()] {
            for count in [1, 2, 3, 4, 100, i32::MAX] {
                let expected = if count == 3 {
                    ErrorCode::None
                } else {
                    ErrorCode::InvalidRecord
                };
                let records = with_payload(codec, count, &body);
                assert_eq!(code(&records, &policy), expected, "{count} in {codec}");
            }
        }
    }
}

#[test]
fn records_that_swell_beyond_the_cap_are_too_large() {
    let mut builder = BatchBuilder::new();
    for _ in 0..2 {
        let value = Some(&[0; 100_000][..]);
        let new = NewRecord {
            timestamp: NOW,
            value,
            ..NewRecord::default()
        };
        builder.push(&new).unwrap();
    }
    let plain = builder.build().unwrap();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let body = compress(codec, None, &plain[HEADER_LEN..]).unwrap();
        let records = with_payload(codec, 2, &body);
        let cap = |decompressed_bytes_max| ProducePolicy {
            decompressed_bytes_max,
            ..policy()
        };
        let size = plain.len() - HEADER_LEN;
        assert_eq!(code(&records, &cap(size)), ErrorCode::None, "{codec}");
        let beyond = code(&records, &cap(size - 1));
        assert_eq!(beyond, ErrorCode::MessageTooLarge, "{codec}");
    }
}

/// The length of one record's encoding is a single zigzag byte in these cases.
fn record(fields: &[u8]) -> Vec<u8> {
    let mut out = vec![u8::try_from(fields.len() * 2).unwrap()];
    out.extend_from_slice(fields);
    out
}

#[test]
fn row_19_record_contents() {
    let max = [0xfe, 0xff, 0xff, 0xff, 0x0f]; // zigzag of 2^31 - 1
    let good = record(&[0, 0, 0, 2, b'k', 1, 0]);
    assert_eq!(
        code(&with_payload(Codec::None, 1, &good), &compacted()),
        ErrorCode::None
    );
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "header count 2^31-1",
            record(&[&[0, 0, 0, 2, b'k', 1][..], &max].concat()),
        ),
        ("header count -1", record(&[0, 0, 0, 2, b'k', 1, 1])),
        ("key length -2", record(&[0, 0, 0, 3, 1, 0, 0])),
        (
            "key length 2^31-1",
            record(&[&[0, 0, 0][..], &max, &[1, 0]].concat()),
        ),
        ("value length -2", record(&[0, 0, 0, 2, b'k', 3, 0])),
        ("null key, null value", record(&[0, 0, 0, 1, 1, 0])),
        ("header key null", record(&[0, 0, 0, 2, b'k', 1, 2, 1, 1])),
        ("bytes after the last field", record(&[0, 0, 0, 2, b'k', 1, 0, 9])),
        ("offset delta 1", record(&[0, 0, 2, 2, b'k', 1, 0])),
        (
            "record length 2^31-1",
            [&max[..], &[0, 0, 0, 2, b'k', 1, 0]].concat(),
        ),
        ("record length -1", [&[1][..], &[0, 0, 0, 2, b'k', 1, 0]].concat()),
        ("endless varint", vec![0xff; 40]),
        ("trailing bytes", [&good[..], &[0]].concat()),
    ];
    for (name, payload) in cases {
        for codec in Codec::ALL {
            let body = compress(codec, None, &payload).unwrap();
            let records = with_payload(codec, 1, &body);
            let refused = ErrorCode::InvalidRecord;
            assert_eq!(code(&records, &compacted()), refused, "{name} in {codec}");
            // Nulls alone are legal where nothing is compacted.
            let refused = if name.starts_with("null") {
                ErrorCode::None
            } else {
                refused
            };
            assert_eq!(code(&records, &policy()), refused, "{name} in {codec}");
        }
    }
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let garbage = with_payload(codec, 1, &[0xa5; 50]);
        assert_eq!(code(&garbage, &policy()), ErrorCode::InvalidRecord, "{codec}");
    }
}

#[test]
fn keyless_records_on_a_compacted_topic_are_named_one_by_one() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new().compression(Compression::of(codec));
        for key in [Some(&b"a"[..]), None, Some(b""), None] {
            builder
                .push(&NewRecord {
                    timestamp: NOW,
                    key,
                    ..NewRecord::default()
                })
                .unwrap();
        }
        let records = builder.build().unwrap();
        let invalid = validate_produce(&records, &compacted()).unwrap_err();
        assert_eq!(invalid.code(), ErrorCode::InvalidRecord);
        assert_eq!(
            invalid
                .record_faults()
                .iter()
                .map(|f| f.batch_index)
                .collect::<Vec<_>>(),
            [1, 3]
        );
        assert_eq!(code(&records, &policy()), ErrorCode::None);
    }
}

#[test]
fn row_20_two_batches() {
    let two = Bytes::from([batch(), batch()].concat());
    assert_eq!(code(&two, &policy()), ErrorCode::InvalidRecord);
    assert_eq!(
        validate_produce(&two, &policy()),
        Err(InvalidBatch::MoreThanOneBatch)
    );
}

#[test]
fn sizes() {
    let records = batch();
    let max = |max_message_bytes| ProducePolicy {
        max_message_bytes,
        ..policy()
    };
    assert_eq!(code(&records, &max(records.len())), ErrorCode::None);
    assert_eq!(
        code(&records, &max(records.len() - 1)),
        ErrorCode::MessageTooLarge
    );
    let segment = ProducePolicy {
        segment_bytes: records.len() - 1,
        ..policy()
    };
    assert_eq!(code(&records, &segment), ErrorCode::RecordListTooLarge);
    // What is small as it came may be too large as it is stored.
    let zstd = builder()
        .compression(Compression::of(Codec::Zstd))
        .build()
        .unwrap();
    let unpack = ProducePolicy {
        recompress: Some(Compression::NONE),
        ..max(zstd.len())
    };
    assert_eq!(code(&zstd, &unpack), ErrorCode::MessageTooLarge);
}

#[test]
fn a_topic_with_a_codec_of_its_own_re_compresses() {
    for from in Codec::ALL {
        let records = builder()
            .transactional(true)
            .compression(Compression::of(from))
            .build()
            .unwrap();
        for to in Codec::ALL {
            let policy = ProducePolicy {
                recompress: Some(Compression::of(to)),
                ..policy()
            };
            let batch = validate_produce(&records, &policy).unwrap();
            let stored = Batch::first_of(&batch.clone().assign_contiguous(40, strom_types::LeaderEpoch(3)));
            let stored = stored.unwrap().unwrap();
            assert_eq!(stored.verify_crc(), Ok(()));
            assert_eq!(stored.header.codec(), Ok(to));
            assert!(stored.header.is_transactional());
            let (head, body) = batch.assign(40, strom_types::LeaderEpoch(3));
            assert_eq!([head, body].concat(), stored.bytes);
            let offsets: Vec<i64> = stored
                .records(1 << 20)
                .unwrap()
                .map(|r| r.unwrap().offset)
                .collect();
            assert_eq!(offsets, [40, 41, 42]);
            if from == to {
                assert_eq!(
                    stored.bytes[HEADER_LEN..],
                    records[HEADER_LEN..],
                    "{from} needs no work"
                );
            }
        }
    }
}
