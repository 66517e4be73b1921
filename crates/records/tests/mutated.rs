//! Kafka's own batches with damage in header, stream or records: whatever comes of it, nothing panics, no memory piles
//! up, and what the leader accepts can be read. `STROM_FUZZ_ROUNDS` sets how often (a million takes a few minutes in a
//! release build).

#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use strom_records::*;
use strom_types::{LeaderEpoch, WallMs};
use support::sealed;

const CAP: usize = 1 << 20;
const ROUNDS: u64 = 20_000;
const RSS_KIB_MAX: u64 = 300 << 10;

/// Xorshift: the damage is the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    /// Overwrites, flips, removes, repeats or inserts some bytes.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const ODD: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, 0x0f];
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(6) {
                _ if bytes.is_empty() => bytes.push(0),
                0 => bytes[at] = ODD[self.below(ODD.len())],
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes.truncate(at),
                3 => {
                    let end = (at + self.below(16)).min(bytes.len());
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
                4 => {
                    let end = (at + self.below(16)).min(bytes.len());
                    bytes.drain(at..end);
                }
                _ => bytes.splice(at..at, [0xff; 5]).for_each(drop),
            }
        }
    }
}

fn golden() -> Vec<Bytes> {
    let rows = include_str!("data/record-batches.tsv").lines().map(|line| {
        let hex = line.split('\t').nth(1).unwrap().as_bytes();
        let bytes = hex
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        bytes.collect::<Vec<u8>>().into()
    });
    rows.collect()
}

/// Damage at one of three depths.
fn mutated(random: &mut Random, golden: &[Bytes]) -> Bytes {
    let original = &golden[random.below(golden.len())];
    let header = BatchHeader::parse(original).unwrap();
    // Control bits and times are refused before the records are looked at.
    let header = BatchHeader {
        base_timestamp: 1 << 40,
        attributes: Attributes(header.attributes.0 & 7),
        ..header
    };
    let (codec, body) = (header.codec().unwrap(), &original[HEADER_LEN..]);
    let mut head = header.encode().to_vec();
    let mut body = body.to_vec();
    match random.below(3) {
        0 => {
            random.damage(&mut head);
            head.resize(HEADER_LEN, 0);
        }
        1 => random.damage(&mut body),
        _ if header.record_count > 0 => {
            let mut records = decompress(codec, &body, CAP).unwrap();
            random.damage(&mut records);
            body = compress(codec, None, &records).unwrap();
        }
        _ => {}
    }
    if random.below(2) == 0 {
        // Beside the wild counts, those that are nearly right.
        let count = header.record_count + i32::try_from(random.below(3)).unwrap() - 1;
        head[57..61].copy_from_slice(&count.to_be_bytes());
        head[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    }
    sealed([head, body].concat())
}

/// Runs everything that looks into a batch; true if the leader accepts it.
fn touch(records: &Bytes, policy: &ProducePolicy) -> bool {
    for batch in BatchIter::new(records.clone()).flatten() {
        let _ = (find_timestamp(&batch, 0, 0), offset_of_max_timestamp(&batch));
        for record in batch.records(CAP).into_iter().flatten().flatten() {
            let _ = (record.headers.to_vec(), ControlMarker::parse(&record));
        }
    }
    let Ok(batch) = validate_produce(records, policy) else {
        return false;
    };
    let stored = batch.assign_contiguous(9, LeaderEpoch(2));
    let stored = Batch::first_of(&stored).unwrap().unwrap();
    assert_eq!(stored.verify_crc(), Ok(()));
    let read: Vec<Record> = stored
        .records(CAP)
        .unwrap()
        .map(|record| record.unwrap())
        .collect();
    assert!(
        read.iter()
            .map(|record| record.offset)
            .eq(9..stored.header.next_offset())
    );
    let newest = read.iter().map(|record| record.timestamp).max().unwrap();
    assert_eq!(stored.header.max_timestamp, newest);
    let at = offset_of_max_timestamp(&stored).unwrap();
    assert!(at.is_some_and(|at| read[usize::try_from(at - 9).unwrap()].timestamp == newest));
    for record in &read {
        assert_eq!(record.headers.iter().count(), record.headers.len());
    }
    true
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn damaged_batches_never_panic_and_what_is_accepted_can_be_read() {
    let rounds = std::env::var("STROM_FUZZ_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let golden = golden();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let plain = ProducePolicy {
        decompressed_bytes_max: CAP,
        ..ProducePolicy::defaults(WallMs(i64::MAX / 2))
    };
    let mut accepted = 0u64;
    for _ in 0..rounds {
        let records = mutated(&mut random, &golden);
        let recompress = (random.below(4) == 0)
            .then(|| Codec::ALL[random.below(Codec::ALL.len())])
            .map(Compression::of);
        let policy = ProducePolicy {
            compacted: random.below(4) == 0,
            recompress,
            ..plain
        };
        accepted += u64::from(touch(&records, &policy));
    }
    println!("{accepted} of {rounds} accepted, peak {} KiB", peak_kib());
    assert!(accepted > rounds / 50, "the damage is too wild to reach anything");
    assert!(accepted < rounds / 2, "the damage changes nothing");
    assert!(peak_kib() < RSS_KIB_MAX, "{} KiB", peak_kib());
}
