//! Compressed batches that swell without end are refused by the output cap, and cost the leader little memory on the
//! way (row 18).

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};

use bytes::Bytes;
use strom_records::{
    BatchBuilder, BatchHeader, Codec, Compression, CompressionError, HEADER_LEN, NewRecord, ProducePolicy,
    compress, compute_crc, decompress, validate_produce,
};
use strom_types::{ErrorCode, WallMs};

const MIB: usize = 1 << 20;

/// The process's peak resident memory, in bytes.
fn peak_rss() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Makes the peak what is resident now.
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// A batch of one record around compressed data.
fn batch(codec: Codec, body: &[u8]) -> Bytes {
    let mut one = BatchBuilder::new();
    one.push(&NewRecord::default()).unwrap();
    let mut header = BatchHeader::parse(&one.build().unwrap()).unwrap();
    header.attributes = header.attributes.with_codec(codec);
    header.batch_length = i32::try_from(body.len() + HEADER_LEN - 12).unwrap();
    let mut out = [&header.encode()[..], body].concat();
    let crc = compute_crc(&out).unwrap();
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.into()
}

/// The start of a record of nearly 2 GiB, all of it value.
fn endless_record() -> Vec<u8> {
    let huge = [0xfe, 0xff, 0xff, 0xff, 0x0f];
    let value = [0xe0, 0xff, 0xff, 0xff, 0x0f];
    [&huge[..], &[0, 0, 0, 1], &value].concat()
}

/// A record that goes on for `len` bytes, in gzip.
fn gzip_bomb(len: u64) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&endless_record()).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(len), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

/// A frame header, a raw block with the start of a record, then blocks of one repeated byte, 128 KiB each in 4 bytes.
fn zstd_bomb(window_log: u8, blocks: u32) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3];
    let start = endless_record();
    let raw = u32::try_from(start.len()).unwrap() << 3;
    out.extend_from_slice(&raw.to_le_bytes()[..3]);
    out.extend_from_slice(&start);
    for block in 1..=blocks {
        let rle = (128 << 10) << 3 | 1 << 1 | u32::from(block == blocks);
        out.extend_from_slice(&rle.to_le_bytes()[..3]);
        out.push(0);
    }
    out
}

/// Blocks of 4 MiB, the first of them the start of a record.
fn lz4_bomb(blocks: usize) -> Vec<u8> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new()
        .block_size(BlockSize::Max4MB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    let mut block = endless_record();
    block.resize(4 * MIB, 0);
    for _ in 0..blocks {
        encoder.write_all(&block).unwrap();
    }
    encoder.finish().unwrap()
}

fn snappy_claims(len: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut left = len;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
    out.extend_from_slice(&[0; 60]);
    out
}

fn snappy_bomb(blocks: usize, xerial: bool) -> Vec<u8> {
    let mut data = endless_record();
    data.resize(blocks * 20 * MIB, 0);
    if !xerial {
        return snap::raw::Encoder::new().compress_vec(&data).unwrap();
    }
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in data.chunks(20 * MIB) {
        let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
        out.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

#[test]
fn bombs_are_refused_without_the_memory() {
    let bombs = [
        ("gzip", Codec::Gzip, gzip_bomb(512 << 20), 4),
        ("zstd", Codec::Zstd, zstd_bomb(17, 4000), 4),
        ("zstd, 128 MiB window", Codec::Zstd, zstd_bomb(27, 200_000), 52),
        ("lz4", Codec::Lz4, lz4_bomb(32), 12),
        ("snappy, xerial", Codec::Snappy, snappy_bomb(3, true), 24),
        ("snappy, raw", Codec::Snappy, snappy_bomb(3, false), 4),
        ("snappy claiming 4 GiB", Codec::Snappy, snappy_claims(u32::MAX), 1),
    ];
    let policy = ProducePolicy {
        max_message_bytes: 4 * MIB,
        timestamp_type: strom_records::TimestampType::LogAppendTime,
        ..ProducePolicy::defaults(WallMs(0))
    };
    let recompress = ProducePolicy {
        recompress: Some(Compression {
            codec: Codec::Zstd,
            level: Some(22),
        }),
        ..policy
    };
    for (name, codec, bomb, mib_max) in bombs {
        for policy in [policy, recompress] {
            let records = batch(codec, &bomb);
            reset_peak();
            let (before, at) = (peak_rss(), std::time::Instant::now());
            let refused = validate_produce(&records, &policy).unwrap_err();
            assert_eq!(refused.code(), ErrorCode::MessageTooLarge, "{name}: {refused}");
            let grown = peak_rss().saturating_sub(before);
            println!(
                "{:?} {name}: {} bytes, peak grew by {} KiB",
                at.elapsed(),
                bomb.len(),
                grown / 1024
            );
            assert!(grown <= mib_max * MIB, "{name}: {grown}");
        }
    }
    reset_peak();
    let before = peak_rss();
    for (codec, bytes) in [
        (Codec::Zstd, zstd_bomb(31, 10)),
        (Codec::Snappy, snappy_claims(20 << 20)),
    ] {
        assert!(
            matches!(
                decompress(codec, &bytes, 24 * MIB),
                Err(CompressionError::Corrupt { .. })
            ),
            "{codec}"
        );
    }
    assert!(peak_rss() - before <= MIB, "a claim alone was believed");
    re_compression_to_a_high_level_needs_no_large_tables();
}

/// Part of the one test that watches the process's memory.
fn re_compression_to_a_high_level_needs_no_large_tables() {
    let mut builder = BatchBuilder::new();
    let value = vec![0; 40 * MIB];
    let new = NewRecord {
        value: Some(&value),
        ..NewRecord::default()
    };
    builder.push(&new).unwrap();
    drop(value);
    let records = builder.compression(Compression::of(Codec::Lz4)).build().unwrap();
    let policy = ProducePolicy {
        recompress: Some(Compression {
            codec: Codec::Zstd,
            level: Some(22),
        }),
        ..ProducePolicy::defaults(WallMs(0))
    };
    reset_peak();
    let (before, at) = (peak_rss(), std::time::Instant::now());
    validate_produce(&records, &policy).unwrap();
    let grown = peak_rss().saturating_sub(before);
    println!(
        "{:?} 40 MiB to zstd level 22: peak grew by {} KiB",
        at.elapsed(),
        grown / 1024
    );
    assert!(grown <= 64 * MIB, "{grown}");
}

#[test]
fn the_cap_is_exact() {
    let data = vec![7; 100_000];
    for codec in Codec::ALL {
        let packed = compress(codec, None, &data).unwrap();
        assert_eq!(
            decompress(codec, &packed, data.len()),
            Ok(data.clone()),
            "{codec}"
        );
        let short = data.len() - 1;
        assert_eq!(
            decompress(codec, &packed, short),
            Err(CompressionError::TooLarge { max_bytes: short }),
            "{codec}"
        );
    }
}
