//! Compressed data that swells without end is refused by the output cap, and memory stays near that cap (row 18).

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};

use strom_records::{Codec, CompressionError, compress, decompress};

const MIB: usize = 1 << 20;

/// The process's peak resident memory, in bytes.
fn peak_rss() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn gzip_bomb() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::repeat(0).take(25 << 20), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

/// A frame header, then blocks of one repeated byte, 128 KiB each in 4 bytes.
fn zstd_bomb(window_log: u8) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3];
    let rle: u32 = (128 << 10) << 3 | 1 << 1;
    for _ in 0..2000 {
        out.extend_from_slice(&rle.to_le_bytes()[..3]);
        out.push(0);
    }
    out
}

/// One 4 MiB block over and over, without an end mark.
fn lz4_bomb() -> Vec<u8> {
    use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
    let mut encoder =
        FrameEncoder::with_frame_info(FrameInfo::new().block_size(BlockSize::Max4MB), Vec::new());
    encoder.write_all(&vec![0; 4 << 20]).unwrap();
    let frame = encoder.finish().unwrap();
    let (head, rest) = frame.split_at(7);
    let block = &rest[..rest.len() - 4];
    [head.to_vec(), block.repeat(8)].concat()
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

fn snappy_bomb() -> Vec<u8> {
    let block = snap::raw::Encoder::new().compress_vec(&vec![0; 4 << 20]).unwrap();
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for _ in 0..8 {
        out.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

#[test]
fn bombs_are_refused_without_the_memory() {
    let cap = 24 * MIB;
    let bombs = [
        ("gzip", Codec::Gzip, gzip_bomb()),
        ("zstd", Codec::Zstd, zstd_bomb(17)),
        ("zstd, 128 MiB window", Codec::Zstd, zstd_bomb(27)),
        ("lz4", Codec::Lz4, lz4_bomb()),
        ("snappy", Codec::Snappy, snappy_bomb()),
        ("snappy claiming 4 GiB", Codec::Snappy, snappy_claims(u32::MAX)),
    ];
    for (name, codec, bomb) in bombs {
        assert!(bomb.len() < 16 * MIB, "{name}: {}", bomb.len());
        let (before, at) = (peak_rss(), std::time::Instant::now());
        let result = decompress(codec, &bomb, cap);
        assert_eq!(
            result,
            Err(CompressionError::TooLarge { max_bytes: cap }),
            "{name}"
        );
        let grown = peak_rss().saturating_sub(before);
        println!(
            "{:?} {name}: {} bytes, peak grew by {} KiB",
            at.elapsed(),
            bomb.len(),
            grown / 1024
        );
        assert!(grown <= 64 * MIB, "{name}: {grown}");
    }
    let before = peak_rss();
    for (codec, bytes) in [
        (Codec::Zstd, zstd_bomb(31)),
        (Codec::Snappy, snappy_claims(20 << 20)),
    ] {
        assert!(
            matches!(
                decompress(codec, &bytes, cap),
                Err(CompressionError::Corrupt { .. })
            ),
            "{codec}"
        );
    }
    assert!(peak_rss() - before <= MIB, "a claim alone was believed");
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
