//! Damaged and malicious messages: an error or a message, never a panic, never more memory than the budget.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use crate::{Budget, DecodeError, Decoder, Encoder, Message, messages};

/// Decodes `bytes`; what decodes must encode and decode again to the same bytes.
fn survive<M: Message>(bytes: &Bytes, version: i16) {
    let mut decoder = Decoder::new(bytes.clone());
    let Ok(message) = decoder.message::<M>(version) else {
        return;
    };
    let encode = |message: &M| {
        let mut encoder = Encoder::new();
        message
            .encode(&mut encoder, version)
            .map(|()| encoder.finish().into_contiguous())
    };
    let once =
        encode(&message).unwrap_or_else(|e| panic!("{} v{version} decoded but not encoded: {e}", M::NAME));
    // The fixed point may need more than the damaged frame's own budget: defaults of a dropped tag, for one.
    let budget = Budget {
        heap_bytes: usize::MAX,
        objects: usize::MAX,
    };
    let again: M = Decoder::with_budget(once.clone(), budget)
        .message(version)
        .unwrap();
    assert_eq!(encode(&again).unwrap(), once, "{} v{version}", M::NAME);
}

fn survive_as(name: &str, bytes: &Bytes, version: i16) {
    macro_rules! try_one {
        ($message:ty) => {
            if <$message>::NAME == name {
                return survive::<$message>(bytes, version);
            }
        };
    }
    for_each_message!(try_one);
}

/// One way to damage bytes.
fn damage(bytes: &mut Vec<u8>, g: &mut Gen) {
    let at = g.below(bytes.len() as u64 + 1) as usize;
    let extremes: [&[u8]; 8] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xfe],
        &[0x80, 0, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x7f, 0xff],
        &[0, 0],
    ];
    match g.below(5) {
        0 => bytes.truncate(at),
        1 => bytes
            .iter_mut()
            .skip(at)
            .take(1)
            .for_each(|byte| *byte ^= 1 << g.below(8)),
        2 => bytes
            .iter_mut()
            .skip(at)
            .take(1)
            .for_each(|byte| *byte = g.next() as u8),
        3 => bytes.insert(at, g.next() as u8),
        _ => {
            let extreme = extremes[g.below(8) as usize];
            bytes
                .iter_mut()
                .skip(at)
                .zip(extreme)
                .for_each(|(byte, new)| *byte = *new);
        }
    }
}

#[test]
fn damaged_messages_are_refused_or_read() {
    let vectors = vectors();
    let mut g = Gen::new(0x5eed);
    for vector in &vectors {
        for _ in 0..40 {
            let mut bytes = vector.bytes.to_vec();
            for _ in 0..=g.below(4) {
                damage(&mut bytes, &mut g);
            }
            survive_as(vector.message, &bytes.into(), vector.version);
        }
    }
}

#[test]
fn a_message_is_no_other_version() {
    macro_rules! check {
        ($message:ty) => {
            for version in [i16::MIN, -1, <$message>::VERSIONS.max + 1, i16::MAX] {
                let refused = Decoder::new(Bytes::from(vec![0; 64])).message::<$message>(version);
                let name = <$message>::NAME;
                assert_eq!(
                    refused,
                    Err(DecodeError::UnsupportedVersion {
                        message: name,
                        version
                    })
                );
                assert!(
                    <$message>::default()
                        .encode(&mut Encoder::new(), version)
                        .is_err()
                );
            }
        };
    }
    for_each_message!(check);
    for vector in vectors().iter().filter(|v| v.fill == "full") {
        for version in 0..=18 {
            survive_as(vector.message, &vector.bytes, version);
        }
    }
}

#[test]
fn every_length_may_lie() {
    for vector in vectors().iter().filter(|v| v.fill == "full") {
        for at in 0..vector.bytes.len() {
            for lie in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
                let mut bytes = vector.bytes.to_vec();
                bytes
                    .iter_mut()
                    .skip(at)
                    .zip(lie)
                    .for_each(|(byte, new)| *byte = *new);
                survive_as(vector.message, &bytes.into(), vector.version);
            }
        }
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(200) })]

    #[test]
    fn noise_is_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200), version in -1_i16..20) {
        let bytes = Bytes::from(bytes);
        macro_rules! survive_all {
            ($message:ty) => {
                survive::<$message>(&bytes, version);
            };
        }
        for_each_message!(survive_all);
    }
}

#[test]
fn cheap_elements_are_charged_at_what_they_cost() {
    // A million topics of two bytes each: 1 MiB on the wire, tens of MiB in memory.
    let count: u32 = 500_000;
    let mut bytes = vec![];
    let mut length = count + 1;
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend([0x01, 0x00].repeat(count as usize));
    bytes.extend([0, 0, 0, 0]);
    let refused = Decoder::new(bytes.into()).message::<messages::MetadataRequest>(9);
    assert_eq!(refused, Err(DecodeError::OverBudget));
}

#[test]
fn what_is_charged_is_what_is_held() {
    use messages::metadata_request::MetadataRequestTopic;
    let topics = vec![
        MetadataRequestTopic {
            name: Some("topic".into()),
            ..Default::default()
        };
        100
    ];
    let request = messages::MetadataRequest {
        topics: Some(topics),
        ..Default::default()
    };
    let mut encoder = Encoder::new();
    request.encode(&mut encoder, 4).unwrap();
    let mut decoder = Decoder::new(encoder.finish().into_contiguous());
    let before = decoder.budget();
    decoder.message::<messages::MetadataRequest>(4).unwrap();
    let spent = before.heap_bytes - decoder.budget().heap_bytes;
    assert_eq!(spent, 100 * size_of::<MetadataRequestTopic>());
    assert_eq!(before.objects - decoder.budget().objects, 100);
}

#[test]
fn nested_arrays_share_one_budget() {
    use messages::fetch_request::{FetchPartition, FetchTopic};
    let partitions = vec![FetchPartition::default(); 10];
    let topics = vec![
        FetchTopic {
            topic: "t".into(),
            partitions,
            ..Default::default()
        };
        10
    ];
    let request = messages::FetchRequest {
        topics,
        ..Default::default()
    };
    let mut encoder = Encoder::new();
    request.encode(&mut encoder, 4).unwrap();
    let bytes = encoder.finish().into_contiguous();
    let heap_bytes = 10 * size_of::<FetchTopic>() + 100 * size_of::<FetchPartition>();
    let decode = |heap_bytes, objects| {
        Decoder::with_budget(bytes.clone(), Budget { heap_bytes, objects })
            .message::<messages::FetchRequest>(4)
    };
    assert_eq!(decode(heap_bytes, 110), Ok(request));
    assert_eq!(decode(heap_bytes - 1, 110), Err(DecodeError::OverBudget));
    assert_eq!(decode(heap_bytes, 109), Err(DecodeError::OverBudget));
}

/// The budget must not refuse what a client of a cluster with very many topics honestly sends.
#[test]
fn large_honest_requests_fit_the_budget() {
    use messages::{metadata_request::MetadataRequestTopic, share_fetch_request as share};
    fn decodes<M: Message>(request: &M, version: i16) {
        let mut encoder = Encoder::new();
        request.encode(&mut encoder, version).unwrap();
        let decoded = Decoder::new(encoder.finish().into_contiguous()).message(version);
        assert!(decoded.as_ref() == Ok(request), "{:?}", decoded.err());
    }
    let topic = |i: u32| MetadataRequestTopic {
        name: Some(format!("{i:04}").into()),
        ..Default::default()
    };
    let request = messages::MetadataRequest {
        topics: Some((0..20_000).map(topic).collect()),
        ..Default::default()
    };
    decodes(&request, 1);
    decodes(&request, 12);
    let partition = |partition_index| share::FetchPartition {
        partition_index,
        ..Default::default()
    };
    let partitions = (0..20_000).map(partition).collect();
    let topics = vec![share::FetchTopic {
        partitions,
        ..Default::default()
    }];
    decodes(
        &messages::ShareFetchRequest {
            topics,
            ..Default::default()
        },
        1,
    );
}
