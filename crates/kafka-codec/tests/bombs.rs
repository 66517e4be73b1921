//! Messages that claim to be huge, against the memory of this process: alone in its file, so that nothing else moves it.

use std::fs;

use bytes::Bytes;
use strom_kafka_codec::messages::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, FetchResponse, MetadataRequest, ProduceRequest,
};
use strom_kafka_codec::{DecodeError, Decoder, Message, RequestError, RequestFrame};

/// Peak virtual memory in KiB: reserving counts, touching is not needed.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmPeak:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .expect("a figure")
}

fn refuse<M: Message>(version: i16, body: &[u8]) -> DecodeError {
    Decoder::new(Bytes::copy_from_slice(body))
        .message::<M>(version)
        .expect_err("a bomb is refused")
}

fn refused(frame: Bytes) -> RequestError {
    RequestFrame::decode(frame).expect_err("a bomb is refused")
}

fn with(prefix: &[u8], suffix: &[u8]) -> Vec<u8> {
    [prefix, suffix].concat()
}

fn array_bombs() {
    let too_long = |e: DecodeError| assert!(matches!(e, DecodeError::ArrayTooLong { .. }), "{e}");
    let negative = |e: DecodeError| assert!(matches!(e, DecodeError::NegativeLength(_)), "{e}");
    // The five bytes that make another implementation ask for 3.9 GB.
    too_long(refuse::<MetadataRequest>(0, &[0x03, 0x3c, 0x0c, 0x00, 0xb6]));
    too_long(refuse::<MetadataRequest>(1, &[0x7f, 0xff, 0xff, 0xff]));
    negative(refuse::<MetadataRequest>(1, &[0xff, 0xff, 0xff, 0xfe]));
    negative(refuse::<MetadataRequest>(1, &[0x80, 0, 0, 0]));
    assert_eq!(
        refuse::<MetadataRequest>(0, &[0xff; 4]),
        DecodeError::UnexpectedNull
    );
    // Produce: transactional id null, acks, timeout, then the topics.
    let classic = [0xff, 0xff, 0, 1, 0, 0, 0, 1];
    too_long(refuse::<ProduceRequest>(
        3,
        &with(&classic, &[0x7f, 0xff, 0xff, 0xff]),
    ));
    let compact = [0, 0, 1, 0, 0, 0, 1];
    too_long(refuse::<ProduceRequest>(
        9,
        &with(&compact, &[0x80, 0x80, 0x80, 0x80, 0x08]),
    ));
    too_long(refuse::<ProduceRequest>(
        9,
        &with(&compact, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
    ));
    too_long(refuse::<ProduceRequest>(
        9,
        &with(&compact, &[0x81, 0xe1, 0xeb, 0x17]),
    ));
    let ten = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(
        refuse::<ProduceRequest>(9, &with(&compact, &ten)),
        DecodeError::VarintTooLong
    );
    let overflow = [0xff, 0xff, 0xff, 0xff, 0x1f];
    assert_eq!(
        refuse::<ProduceRequest>(9, &with(&compact, &overflow)),
        DecodeError::VarintTooLong
    );
    // Two topics of at least six bytes (an empty name, an array) do not fit into eleven.
    let two = refuse::<ProduceRequest>(3, &with(&classic, &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(
        two,
        DecodeError::ArrayTooLong {
            count: 2,
            remaining: 11
        }
    );
    too_long(refuse::<CreateTopicsRequest>(2, &[0x10, 0, 0, 0]));
    let fetch = [0; 17];
    too_long(refuse::<FetchRequest>(
        4,
        &with(&fetch, &[0x7f, 0xff, 0xff, 0xff]),
    ));
    too_long(refuse::<FetchResponse>(4, &[0, 0, 0, 0, 0x40, 0, 0, 0]));
    // A compact string may say more than the classic one can, but not be longer.
    let name = with(&[0x81, 0x80, 0x02], &[b'x'; 0x8000]);
    let long = refuse::<MetadataRequest>(9, &with(&[2], &with(&name, &[0; 4])));
    assert_eq!(long, DecodeError::StringTooLong(0x8000));
    // A string and record data that are longer than the frame.
    let topic = with(&classic, &[0, 0, 0, 1, 0x7f, 0xff, b't', 0, 0, 0, 0]);
    assert!(matches!(
        refuse::<ProduceRequest>(3, &topic),
        DecodeError::UnexpectedEnd { needed: 32767, .. }
    ));
    let records = with(
        &classic,
        &[
            0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff,
        ],
    );
    assert!(matches!(
        refuse::<ProduceRequest>(3, &records),
        DecodeError::UnexpectedEnd { .. }
    ));
}

/// The header in front of any authentication, with a count of tagged fields.
fn tagged_header(count: &[u8], tags: &[u8]) -> Bytes {
    with(&with(&[0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff], count), tags).into()
}

fn tag_bombs() {
    // 20 million of two bytes, in a frame that claims them and in one that has 1.1 million.
    let claimed = tagged_header(&[0x80, 0xda, 0xc4, 0x09], &[5, 0].repeat(1_100_000));
    assert_eq!(refused(claimed), RequestError::Malformed(DecodeError::OverBudget));
    let cut = refused(tagged_header(&[0x80, 0xda, 0xc4, 0x09], &[5, 0]));
    assert!(matches!(
        cut,
        RequestError::Malformed(DecodeError::UnexpectedEnd { .. })
    ));
    // One that claims to be 4 GiB long.
    let long = refused(tagged_header(&[1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f], &[]));
    assert!(matches!(
        long,
        RequestError::Malformed(DecodeError::UnexpectedEnd { .. })
    ));
    // Header and body share one budget.
    let body = with(&[5, 0].repeat(600_000), &[1, 1, 0xc0, 0xcf, 0x24]);
    let frame = tagged_header(&[0xc0, 0xcf, 0x24], &with(&body, &[5, 0].repeat(600_000)));
    let mut frame = RequestFrame::decode(frame).expect("the header is within the budget");
    assert_eq!(
        frame.body.message::<ApiVersionsRequest>(3),
        Err(DecodeError::OverBudget)
    );
    // A known tag whose stated size is not the field's.
    let lying = with(&[0; 25], &[1, 1, 1, 1, 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(matches!(
        refuse::<FetchRequest>(12, &lying),
        DecodeError::TagSize {
            tag: 0,
            stated: 9,
            actual: 1
        }
    ));
}

#[test]
fn bombs_do_not_go_off() {
    let before = peak_kib();
    array_bombs();
    tag_bombs();
    let grown = peak_kib() - before;
    assert!(grown < 64 * 1024, "address space grew by {grown} KiB");
}
