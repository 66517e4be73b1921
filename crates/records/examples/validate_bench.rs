//! What the leader's check of a produced batch costs, by codec and record size: the CRC alone, and the whole of it.
//!
//! `cargo run --release -p strom-records --example validate_bench`

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use strom_records::{
    BatchBuilder, BuildError, Codec, Compression, NewRecord, ProducePolicy, validate_produce, verify_crc,
};
use strom_types::WallMs;

const BATCH_BYTES: usize = 1 << 20;
const ROUNDS: u32 = 200;

fn main() -> Result<(), BuildError> {
    println!(
        "codec    record  ratio   crc ms/GB  check ms/GB  check ns/record   (GB of records before compression)"
    );
    for record_len in [20, 100, 1024] {
        for codec in Codec::ALL {
            bench(codec, record_len)?;
        }
    }
    Ok(())
}

fn bench(codec: Codec, record_len: usize) -> Result<(), BuildError> {
    let (records, plain_len, count) = batch(codec, record_len)?;
    let policy = ProducePolicy {
        max_message_bytes: 2 * BATCH_BYTES,
        ..ProducePolicy::defaults(WallMs(0))
    };
    let crc = time(|| assert!(verify_crc(black_box(&records)).is_ok()));
    let check = time(|| assert!(validate_produce(black_box(&records), &policy).is_ok()));
    let per_gb = 1e12 / plain_len as f64;
    println!(
        "{:8} {record_len:6} {:6.2} {:11.1} {:12.1} {:16.1}",
        codec.name(),
        plain_len as f64 / records.len() as f64,
        crc * per_gb,
        check * per_gb,
        (check - crc) * 1e9 / f64::from(count),
    );
    Ok(())
}

/// Seconds the fastest of many calls takes: what else runs on the machine stays out.
fn time(mut call: impl FnMut()) -> f64 {
    let timed = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    });
    timed.fold(f64::INFINITY, f64::min)
}

/// A batch of about [`BATCH_BYTES`] of text-like records, its size before compression, and its records.
fn batch(codec: Codec, record_len: usize) -> Result<(Bytes, usize, i32), BuildError> {
    let mut builder = BatchBuilder::new().compression(Compression::of(codec));
    let mut state = 1u32;
    let mut value = vec![0; record_len];
    while builder.uncompressed_len() < BATCH_BYTES - record_len - 100 {
        for chunk in value.chunks_mut(8) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let word = format!("w{:07}", (state >> 16) % 500);
            chunk.copy_from_slice(&word.as_bytes()[..chunk.len()]);
        }
        let new = NewRecord {
            timestamp: 0,
            key: Some(b"key"),
            value: Some(&value),
            headers: &[],
        };
        builder.push(&new)?;
    }
    let (plain_len, count) = (builder.uncompressed_len(), builder.count());
    Ok((builder.build()?, plain_len, count))
}
