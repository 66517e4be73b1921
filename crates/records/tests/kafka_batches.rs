//! Batches written by Kafka 4.3.1 itself (`data/record-batches.tsv`): read to the right content, rebuilt to the same bytes.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use strom_records::*;

struct Row {
    name: &'static str,
    bytes: Bytes,
    content: &'static str,
}

fn rows() -> Vec<Row> {
    let rows: Vec<Row> = include_str!("data/record-batches.tsv")
        .lines()
        .map(|line| {
            let mut fields = line.split('\t');
            let mut next = || fields.next().unwrap();
            let (name, hex, content) = (next(), next(), next());
            let bytes = hex
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            Row {
                name,
                bytes: bytes.collect::<Vec<u8>>().into(),
                content,
            }
        })
        .collect();
    assert_eq!(rows.len(), 23);
    rows
}

fn row(name: &str) -> Batch {
    let row = rows().into_iter().find(|row| row.name == name).unwrap();
    Batch::first_of(&row.bytes).unwrap().unwrap()
}

/// A field in the notation of the table: text in quotes, cut after 40 characters, or hex.
fn field(bytes: Option<&Bytes>) -> String {
    let Some(bytes) = bytes else {
        return "null".to_owned();
    };
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'));
    match text {
        Some(text) if text.len() > 60 => format!("'{}…{}'", &text[..40], text.len()),
        Some(text) => format!("'{text}'"),
        None => format!(
            "0x{}",
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        ),
    }
}

fn describe(batch: &Batch) -> String {
    let h = &batch.header;
    let mut text = format!(
        "{{base_offset {} last_offset {} leader_epoch {} crc {} codec {} ts {} max_ts {} pid {} epoch {} base_seq {} \
         last_seq {} txn {} control {} count {} records [",
        h.base_offset,
        h.last_offset(),
        h.partition_leader_epoch,
        h.crc,
        h.codec().unwrap(),
        h.timestamp_type(),
        h.max_timestamp,
        h.producer_id,
        h.producer_epoch,
        h.base_sequence,
        h.last_sequence(),
        h.is_transactional(),
        h.is_control(),
        h.record_count,
    );
    for record in batch.records(MAX_DECOMPRESSED_BYTES).unwrap() {
        let record = record.unwrap();
        text += &format!(
            "({} ts {} k {} v {}",
            record.offset,
            record.timestamp,
            field(record.key.as_ref()),
            field(record.value.as_ref())
        );
        for header in record.headers.iter() {
            let value = header
                .value
                .map_or("null".to_owned(), |v| String::from_utf8(v.to_vec()).unwrap());
            text += &format!(" h {}={value}", std::str::from_utf8(&header.key).unwrap());
        }
        text += ")";
    }
    text + "]}"
}

#[test]
fn every_batch_reads_to_its_content() {
    for row in rows() {
        let batch = Batch::first_of(&row.bytes).unwrap().unwrap();
        assert_eq!(batch.bytes, row.bytes, "{}", row.name);
        assert_eq!(batch.verify_crc(), Ok(()), "{}", row.name);
        assert_eq!(describe(&batch), row.content, "{}", row.name);
        assert_eq!(batch.header.encode(), row.bytes[..HEADER_LEN], "{}", row.name);
        assert_eq!(batch.header.total_len(), row.bytes.len(), "{}", row.name);
    }
}

/// Copies a batch record by record through the builder. Under LogAppendTime the producer's own times are gone from
/// what a reader sees, so they are given again.
fn rebuild(batch: &Batch, codec: Codec) -> Bytes {
    let h = &batch.header;
    let mut builder = BatchBuilder::new()
        .base_offset(h.base_offset)
        .leader_epoch(h.partition_leader_epoch)
        .compression(Compression::of(codec))
        .producer(h.producer_id, h.producer_epoch, h.base_sequence)
        .transactional(h.is_transactional())
        .control(h.is_control());
    let create_times = [0, -10, 500, 1].map(|ms| 1_700_000_000_000 + ms);
    let append_time = h.timestamp_type() == TimestampType::LogAppendTime;
    for (index, record) in batch.records(MAX_DECOMPRESSED_BYTES).unwrap().enumerate() {
        let record = record.unwrap();
        let headers = record.headers.to_vec();
        let headers: Vec<_> = headers.iter().map(|h| (&h.key[..], h.value.as_deref())).collect();
        let timestamp = if append_time {
            create_times[index]
        } else {
            record.timestamp
        };
        let new = NewRecord {
            timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        builder.push(&new).unwrap();
    }
    if append_time {
        builder = builder.log_append_time(h.max_timestamp);
    }
    builder.build().unwrap()
}

#[test]
fn uncompressed_batches_are_rebuilt_byte_for_byte() {
    let mut rebuilt = 0;
    for row in rows() {
        let batch = Batch::first_of(&row.bytes).unwrap().unwrap();
        if batch.header.codec() == Ok(Codec::None) && batch.header.record_count > 0 {
            assert_eq!(rebuild(&batch, Codec::None), row.bytes, "{}", row.name);
            rebuilt += 1;
        }
    }
    assert_eq!(rebuilt, 6);
}

#[test]
fn compressed_batches_are_rebuilt_to_the_same_content() {
    for row in rows() {
        let batch = Batch::first_of(&row.bytes).unwrap().unwrap();
        let codec = batch.header.codec().unwrap();
        let again = Batch::first_of(&rebuild(&batch, codec)).unwrap().unwrap();
        if batch.header.record_count == 0 {
            continue;
        }
        assert_eq!(again.verify_crc(), Ok(()), "{}", row.name);
        let same_crc = BatchHeader {
            crc: batch.header.crc,
            ..again.header
        };
        let mut again = again;
        again.header = same_crc;
        assert_eq!(describe(&again), row.content, "{}", row.name);
    }
}

#[test]
fn an_emptied_batch_is_what_compaction_leaves() {
    let batch = row("empty-after-compaction");
    let bytes = BatchBuilder::replacing(&batch.header, Compression::of(Codec::Zstd))
        .build()
        .unwrap();
    assert_eq!(bytes, batch.bytes);
    assert_eq!(batch.header.last_offset(), 711);
}

#[test]
fn compaction_keeps_offsets_of_the_survivors() {
    for name in ["transactional-none", "transactional-lz4", "log-append-time-zstd"] {
        let batch = row(name);
        let codec = batch.header.codec().unwrap();
        let mut builder = BatchBuilder::replacing(&batch.header, Compression::of(codec));
        let kept: Vec<Record> = batch
            .records(1 << 20)
            .unwrap()
            .map(Result::unwrap)
            .step_by(3)
            .collect();
        for record in &kept {
            builder.push_record(record).unwrap();
        }
        let after = Batch::first_of(&builder.build().unwrap()).unwrap().unwrap();
        assert_eq!(after.verify_crc(), Ok(()));
        assert_eq!(after.header.last_offset(), batch.header.last_offset());
        assert_eq!(after.header.last_sequence(), batch.header.last_sequence());
        assert_eq!(
            after
                .records(1 << 20)
                .unwrap()
                .map(Result::unwrap)
                .collect::<Vec<_>>(),
            kept,
            "{name}"
        );
        if name.starts_with("transactional") {
            assert_eq!(after.header.max_timestamp, 1_700_000_000_001);
        }
    }
}

#[test]
fn markers_are_kafkas_own() {
    for (name, kind) in [
        ("marker-ABORT", MarkerKind::Abort),
        ("marker-COMMIT", MarkerKind::Commit),
    ] {
        let batch = row(name);
        let marker = ControlMarker {
            kind,
            coordinator_epoch: 42,
        };
        assert_eq!(ControlMarker::of(&batch), Ok(marker));
        let h = &batch.header;
        let built = marker
            .build(h.producer_id, h.producer_epoch, h.max_timestamp)
            .unwrap();
        let (head, body) = assign_offsets(&built, 99, h.partition_leader_epoch).unwrap();
        assert_eq!([head, body].concat(), batch.bytes, "{name}");
    }
    assert_eq!(
        ControlMarker::of(&row("plain-none")),
        Err(ControlError::NotControl)
    );
}

#[test]
fn the_leader_turns_create_time_into_kafkas_log_append_time() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let plain = row(&format!("plain-{codec}"));
        let expected = row(&format!("log-append-time-{codec}"));
        let mut policy = ProducePolicy::defaults(strom_types::WallMs(1_800_000_000_000));
        policy.timestamp_type = TimestampType::LogAppendTime;
        let batch = validate_produce(&plain.bytes, &policy).unwrap();
        assert_eq!(batch.log_append_time_ms(), 1_800_000_000_000);
        let h = &expected.header;
        let (head, body) = batch.assign(h.base_offset, h.partition_leader_epoch);
        assert_eq!([&head[..], &body[..]].concat(), expected.bytes, "{codec}");
        assert_eq!(
            body.as_ptr(),
            plain.bytes[HEADER_LEN..].as_ptr(),
            "the payload is copied"
        );
        assert_eq!(
            batch.assign_contiguous(h.base_offset, h.partition_leader_epoch),
            expected.bytes
        );
    }
}

#[test]
fn time_is_searched_inside_a_batch() {
    let batch = row("idempotent-gzip");
    let find = |target, from| find_timestamp(&batch, target, from).unwrap();
    assert_eq!(find(0, 0), Some((1234, 1_700_000_000_000)));
    assert_eq!(find(0, 1235), Some((1235, 1_699_999_999_990)));
    assert_eq!(find(1_700_000_000_001, 0), Some((1236, 1_700_000_000_500)));
    assert_eq!(find(1_700_000_000_001, 1237), Some((1237, 1_700_000_000_001)));
    assert_eq!(find(1_700_000_000_501, 0), None);
    assert_eq!(find(0, 1238), None);
    assert_eq!(offset_of_max_timestamp(&batch), Ok(Some(1236)));
    let append = row("log-append-time-lz4");
    assert_eq!(
        find_timestamp(&append, 1_800_000_000_000, 0),
        Ok(Some((500, 1_800_000_000_000)))
    );
}

#[test]
fn batches_end_to_end_are_walked_and_a_cut_tail_is_no_error() {
    let all: Vec<u8> = rows().iter().flat_map(|row| row.bytes.to_vec()).collect();
    let last_len = rows()[22].bytes.len();
    for cut in 0..=last_len {
        let records = Bytes::copy_from_slice(&all[..all.len() - cut]);
        let mut batches = BatchIter::new(records.clone());
        let whole = batches.by_ref().map(Result::unwrap).count();
        assert_eq!(whole, if cut == 0 { 23 } else { 22 });
        assert_eq!(batches.position() + batches.tail().len(), records.len());
        assert_eq!(batches.tail().len(), if cut == 0 { 0 } else { last_len - cut });
    }
    let records = Bytes::from([&row("plain-none").bytes[..], &row("idempotent-none").bytes[..]].concat());
    let (at, batch) = first_batch_containing(&records, 3).unwrap().unwrap();
    assert_eq!((at, batch.header.base_offset), (0, 0));
    let (at, batch) = first_batch_containing(&records, 4).unwrap().unwrap();
    assert_eq!(
        (at, batch.header.base_offset),
        (row("plain-none").bytes.len(), 1234)
    );
    assert_eq!(first_batch_containing(&records, 1238), Ok(None));
}
