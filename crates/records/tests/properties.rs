//! Random batches survive every codec; random damage never panics, in readers or in validation.

#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use strom_records::*;
use strom_types::{LeaderEpoch, ProducerEpoch, ProducerId, WallMs};
use support::sealed;

const NOW: i64 = 1_700_000_000_000;
const CAP: usize = 1 << 20;

type Blob = Vec<u8>;

#[derive(Clone, Debug)]
struct Item {
    timestamp: i64,
    key: Option<Blob>,
    value: Option<Blob>,
    headers: Vec<(Blob, Option<Blob>)>,
}

fn blob() -> impl Strategy<Value = Blob> {
    prop_oneof![
        vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..3000usize).prop_map(|(byte, len)| vec![byte; len])
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let timestamp = prop_oneof![Just(-1i64), 0..NOW + 1000];
    // Few distinct header keys, so that duplicates come up.
    let headers = vec((vec(0u8..2, 0..2), option::of(vec(any::<u8>(), 0..20))), 0..5);
    (timestamp, option::of(blob()), option::of(blob()), headers).prop_map(
        |(timestamp, key, value, headers)| Item {
            timestamp,
            key,
            value,
            headers,
        },
    )
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::ALL.to_vec())
}

fn build(items: &[Item], codec: Codec, level: Option<i32>) -> Bytes {
    let mut builder = BatchBuilder::new()
        .compression(Compression { codec, level })
        .producer(ProducerId(5), ProducerEpoch(1), i32::MAX);
    for item in items {
        let headers: Vec<_> = item
            .headers
            .iter()
            .map(|(key, value)| (&key[..], value.as_deref()))
            .collect();
        let new = NewRecord {
            timestamp: item.timestamp,
            key: item.key.as_deref(),
            value: item.value.as_deref(),
            headers: &headers,
        };
        builder.push(&new).unwrap();
    }
    builder.build().unwrap()
}

fn read(bytes: &Bytes) -> Vec<Item> {
    let batch = Batch::first_of(bytes).unwrap().unwrap();
    assert_eq!(batch.verify_crc(), Ok(()));
    let records = batch.records(CAP).unwrap().enumerate().map(|(index, record)| {
        let record = record.unwrap();
        assert_eq!(
            record.offset,
            batch.header.base_offset + i64::try_from(index).unwrap()
        );
        Item {
            timestamp: record.timestamp,
            key: record.key.map(Vec::from),
            value: record.value.map(Vec::from),
            headers: record
                .headers
                .iter()
                .map(|header| (Vec::from(header.key), header.value.map(Vec::from)))
                .collect(),
        }
    });
    records.collect()
}

/// Everything that a stranger's bytes can reach.
fn touch(bytes: &Bytes) {
    for batch in BatchIter::new(bytes.clone()) {
        let Ok(batch) = batch else { break };
        let _ = (
            batch.verify_crc(),
            ControlMarker::of(&batch),
            batch.header.last_sequence(),
        );
        let _ = (find_timestamp(&batch, 0, 0), offset_of_max_timestamp(&batch));
        let _ = (batch.header.next_offset(), batch.header.delete_horizon_ms());
        if let Ok(records) = batch.records(CAP) {
            for record in records.flatten() {
                let _ = (record.headers.to_vec(), ControlMarker::parse(&record));
            }
        }
    }
    let _ = (first_batch_containing(bytes, 3), BatchHeader::parse(bytes));
    let _ = assign_offsets(bytes, i64::MAX, LeaderEpoch(0));
    let _ = patch_in_place(bytes[..].into(), i64::MIN, LeaderEpoch(0));
    let plain = ProducePolicy {
        decompressed_bytes_max: CAP,
        ..ProducePolicy::defaults(WallMs(NOW))
    };
    let deep = ProducePolicy {
        compacted: true,
        timestamp_before_max_ms: 10,
        ..plain
    };
    let recompress = Some(Compression::of(Codec::Snappy));
    let append = ProducePolicy {
        timestamp_type: TimestampType::LogAppendTime,
        recompress,
        ..plain
    };
    for policy in [plain, deep, append] {
        match validate_produce(bytes, &policy) {
            Ok(batch) => {
                let stored = batch.assign_contiguous(9, LeaderEpoch(2));
                assert_eq!(verify_crc(&stored), Ok(()), "a stored batch must have a good crc");
                let stored = Batch::first_of(&stored).unwrap().unwrap();
                let offsets = stored.records(CAP).unwrap().map(|record| record.unwrap().offset);
                assert!(
                    offsets.eq(9..stored.header.next_offset()),
                    "a stored batch must be readable"
                );
            }
            Err(invalid) => assert!(!invalid.code().is_none()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn batches_round_trip(items in vec(item(), 1..20), codec in codec(), level in option::of(-5..25i32)) {
        let bytes = build(&items, codec, level);
        prop_assert_eq!(format!("{:?}", read(&bytes)), format!("{items:?}"));
        let header = BatchHeader::parse(&bytes).unwrap();
        prop_assert_eq!(header.last_sequence(), if items.len() == 1 { i32::MAX } else { header.last_offset_delta - 1 });
        // Damage in any one byte that the CRC covers is seen.
        let mut damaged = bytes.to_vec();
        let at = 21 + (items.len() * 7919) % (damaged.len() - 21);
        damaged[at] ^= 0x10;
        prop_assert!(verify_crc(&damaged).is_err());
    }

    #[test]
    fn a_produced_batch_is_stored_with_its_content(items in vec(item(), 1..12), codec in codec(), to in option::of(codec())) {
        let bytes = build(&items, codec, None);
        let recompress = to.map(Compression::of);
        let policy = ProducePolicy { recompress, ..ProducePolicy::defaults(WallMs(NOW)) };
        let batch = validate_produce(&bytes, &policy).unwrap();
        let (head, body) = batch.assign(77, LeaderEpoch(3));
        let stored = Bytes::from([head, body].concat());
        prop_assert_eq!(format!("{:?}", read(&stored)), format!("{items:?}"));
        let header = BatchHeader::parse(&stored).unwrap();
        prop_assert_eq!((header.base_offset, header.partition_leader_epoch), (77, LeaderEpoch(3)));
        prop_assert_eq!(batch.assign_contiguous(77, LeaderEpoch(3)), stored);
    }

    #[test]
    fn append_time_has_the_crc_of_a_full_recomputation(items in vec(item(), 1..12), now in 0..i64::MAX) {
        let bytes = build(&items, Codec::None, None);
        let policy = ProducePolicy {
            timestamp_type: TimestampType::LogAppendTime,
            ..ProducePolicy::defaults(WallMs(now))
        };
        let batch = validate_produce(&bytes, &policy).unwrap();
        let (head, body) = batch.assign(0, LeaderEpoch(0));
        prop_assert_eq!(verify_crc(&[head, body].concat()), Ok(()));
        prop_assert_eq!(batch.log_append_time_ms(), now);
    }

    #[test]
    fn damage_never_panics(
        items in vec(item(), 1..6),
        codec in codec(),
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = build(&items, codec, None).to_vec();
        for (at, value) in hits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        touch(&bytes.clone().into());
        if bytes.len() >= HEADER_LEN {
            touch(&sealed(bytes));
        }
    }

    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..400), codec in codec()) {
        let _ = decompress(codec, &bytes, CAP);
        touch(&bytes.into());
    }

    #[test]
    fn damaged_streams_never_panic(
        data in blob(),
        codec in codec(),
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut packed = compress(codec, None, &data).unwrap();
        prop_assert_eq!(&decompress(codec, &packed, CAP).unwrap(), &data);
        for (at, value) in hits {
            if !packed.is_empty() {
                let at = at.index(packed.len());
                packed[at] = value;
            }
        }
        let _ = decompress(codec, &packed, CAP);
    }
}

#[test]
fn snappy_is_read_raw_and_in_one_xerial_stream() {
    let data: Vec<u8> = (0..100_000u32).flat_map(|n| (n / 50).to_be_bytes()).collect();
    let raw = snap::raw::Encoder::new().compress_vec(&data).unwrap();
    assert_eq!(decompress(Codec::Snappy, &raw, CAP).unwrap(), data);
    let xerial = compress(Codec::Snappy, None, &data).unwrap();
    assert_eq!(decompress(Codec::Snappy, &xerial, CAP).unwrap(), data);
}

/// Clients differ in what they make of these; a batch that one of them cannot read must not be stored.
#[test]
fn only_one_whole_stream_is_read() {
    let data: Vec<u8> = (0..100_000u32).flat_map(|n| (n / 50).to_be_bytes()).collect();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let packed = compress(codec, None, &data).unwrap();
        let mut odd = vec![
            packed.repeat(2),
            [&packed[..], b"x"].concat(),
            [&packed[..], &[0; 4]].concat(),
        ];
        odd.extend((0..packed.len()).step_by(97).map(|cut| packed[..cut].to_vec()));
        odd.push(packed[..packed.len() - 1].to_vec());
        odd.push(packed[..packed.len() - 4].to_vec());
        for bytes in odd {
            let read = decompress(codec, &bytes, CAP);
            // A cut between two xerial blocks cannot be seen; the records in them are too few then.
            let short = codec == Codec::Snappy && read.as_ref().is_ok_and(|read| read.len() < data.len());
            assert!(
                short || matches!(read, Err(CompressionError::Corrupt { .. })),
                "{codec}"
            );
        }
    }
    let mut version_0 = compress(Codec::Snappy, None, &data).unwrap();
    version_0[11] = 0;
    assert!(decompress(Codec::Snappy, &version_0, CAP).is_err());
}

#[test]
fn lz4_frames_are_read_as_java_reads_them() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let data: Vec<u8> = (0..200_000u32).flat_map(|n| (n / 50).to_be_bytes()).collect();
    let frame = |mode, size| {
        let info = FrameInfo::new()
            .block_size(size)
            .block_mode(mode)
            .block_checksums(true)
            .content_checksum(true)
            .content_size(Some(data.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        std::io::Write::write_all(&mut encoder, &data).unwrap();
        encoder.finish().unwrap()
    };
    for size in [
        BlockSize::Max64KB,
        BlockSize::Max256KB,
        BlockSize::Max1MB,
        BlockSize::Max4MB,
    ] {
        let independent = decompress(Codec::Lz4, &frame(BlockMode::Independent, size), CAP);
        assert_eq!(independent.unwrap(), data);
        // Kafka's Lz4BlockOutputStream.FLG: "Dependent block stream is unsupported".
        assert!(decompress(Codec::Lz4, &frame(BlockMode::Linked, size), CAP).is_err());
    }
}
