//! Rows 1 to 8: frames, headers and lengths.

use std::time::Duration;

use bytes::Bytes;
use strom_cluster::raw::Raw;
use strom_cluster::requests::METADATA;
use strom_kafka_codec::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest};
use strom_kafka_codec::{ApiKey, Request, decode_response_frame, encode_request_frame};
use strom_testkit::{peak_resident_bytes, reset_peak_resident_bytes, resident_bytes};

use crate::target::Target;

const LIMIT: i32 = 100 << 20;
const UNSUPPORTED_VERSION: i16 = 35;

/// A frame: length, then the parts.
fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut frame = i32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

fn header(key: i16, version: i16) -> Vec<u8> {
    [
        key.to_be_bytes().as_slice(),
        &version.to_be_bytes(),
        &7_i32.to_be_bytes(),
    ]
    .concat()
}

/// A whole frame of a good request.
fn good<R: Request>(version: i16, request: &R) -> Vec<u8> {
    encode_request_frame(1, version, Some("c"), request)
        .unwrap()
        .into_contiguous()
        .to_vec()
}

#[tokio::test]
async fn row_1_impossible_frame_lengths() {
    let mut target = Target::start().await;
    for length in [-1, 0, i32::MIN, i32::MAX, LIMIT + 1] {
        let raw = target.connect().await;
        target
            .closes(&format!("first length {length}"), raw, &length.to_be_bytes())
            .await;
    }
    let large = (64_i32 * 1024 + 1).to_be_bytes();
    for (key, version) in [(-1, 0), (0, -1), (0, 99), (9_999, 0)] {
        let raw = target.connect().await;
        let bytes = [large.as_slice(), &header(key, version)].concat();
        target
            .closes(
                &format!("large before it is known: {key} v{version}"),
                raw,
                &bytes,
            )
            .await;
    }
    for length in [-1, 0, i32::MIN, i32::MAX, LIMIT + 1] {
        let raw = target.known().await;
        target
            .closes(&format!("later length {length}"), raw, &length.to_be_bytes())
            .await;
    }
}

#[tokio::test]
async fn row_2_memory_follows_the_bytes_received_not_those_announced() {
    let mut target = Target::start().await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(target.known().await);
    }
    reset_peak_resident_bytes();
    let before = resident_bytes();
    target
        .survives("100 MiB announced by each of 20", async {
            for raw in &mut open {
                raw.send_bytes(&LIMIT.to_be_bytes()).await;
                raw.send_bytes(&[0; 1000]).await;
            }
        })
        .await;
    let grown = peak_resident_bytes().saturating_sub(before);
    assert!(
        grown < 16 << 20,
        "2 GB announced, 20 KB sent: grown by {} KiB",
        grown >> 10
    );
}

#[tokio::test]
async fn row_3_lengths_that_do_not_fit_the_body() {
    let mut target = Target::start().await;
    let whole = good(METADATA, &MetadataRequest::default());
    let mut short = whole.clone();
    let length = i32::try_from(whole.len() - 4).unwrap();
    short[..4].copy_from_slice(&(length - 3).to_be_bytes());
    let raw = target.connect().await;
    target.closes("a body longer than its frame", raw, &short).await;
    // Ignored as in Kafka (librdkafka 2.16's Metadata v13 has three too many); the next frame is read where it begins.
    let mut raw = target.connect().await;
    target
        .survives("bytes behind the body", async {
            raw.send_bytes(&framed(&[&whole[4..], b"abc"])).await;
            assert!(raw.frame().await.is_some());
            raw.call(METADATA, &MetadataRequest::default()).await;
        })
        .await;
    let mut cut = whole.clone();
    cut.truncate(whole.len() - 2);
    let raw = target.connect().await;
    target.closes("a cut body", raw, &framed(&[&cut[4..]])).await;
}

#[tokio::test]
async fn row_4_other_protocols() {
    let mut target = Target::start().await;
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let tls = [
        0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25,
        0x26,
    ];
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (name, bytes) in [("HTTP", http.as_slice()), ("TLS", &tls), ("HTTP/2", http2)] {
        let raw = target.connect().await;
        target.closes(name, raw, bytes).await;
    }
}

#[tokio::test]
async fn row_5_unknown_keys_and_versions() {
    let mut target = Target::start().await;
    let metadata = ApiKey::Metadata.as_i16();
    for (key, version) in [
        (9999, 0),
        (-1, 0),
        (i16::MAX, 0),
        (metadata, -1),
        (metadata, i16::MAX),
        (metadata, 14),
    ] {
        let raw = target.connect().await;
        let frame = framed(&[&header(key, version), &[0xff, 0xff, 0]]);
        target
            .closes(&format!("key {key} version {version}"), raw, &frame)
            .await;
    }
    // Keys that Kafka has, but that clients may not use here.
    for key in [ApiKey::Vote, ApiKey::BrokerRegistration, ApiKey::AlterPartition] {
        let version = key.versions().max;
        let raw = target.connect().await;
        let frame = framed(&[&header(key.as_i16(), version), &[0xff, 0xff, 0, 0]]);
        target.closes(key.name(), raw, &frame).await;
    }
    // A version of ApiVersions from the future is answered as version 0, and the connection goes on.
    for version in [5, 127, i16::MAX, -1] {
        let mut raw = target.connect().await;
        let frame = framed(&[
            &header(ApiKey::ApiVersions.as_i16(), version),
            &[0, 1, b'c', 0, 2, b'x', 2, b'y', 0],
        ]);
        target
            .survives(&format!("ApiVersions {version}"), async {
                raw.send_bytes(&frame).await;
                let reply = raw.frame().await.unwrap();
                let (id, reply) = decode_response_frame::<ApiVersionsResponse>(reply, 0).unwrap();
                assert_eq!((id, reply.error_code), (7, UNSUPPORTED_VERSION));
                let own = reply
                    .api_keys
                    .iter()
                    .find(|api| api.api_key == ApiKey::ApiVersions.as_i16());
                assert!(own.is_some_and(|api| api.max_version >= 3), "says what it speaks");
                raw.call(
                    3,
                    &ApiVersionsRequest {
                        client_software_name: "c".into(),
                        client_software_version: "1".into(),
                    },
                )
                .await;
            })
            .await;
    }
}

#[tokio::test]
async fn row_6_broken_client_ids() {
    let mut target = Target::start().await;
    let head = header(ApiKey::Metadata.as_i16(), 1);
    let ids: [(&str, &[u8]); 5] = [
        ("length -2", &[0xff, 0xfe]),
        ("length -32768", &[0x80, 0x00]),
        ("length 32767 of 3", &[0x7f, 0xff, b'a', b'b', b'c']),
        ("no UTF-8", &[0, 2, 0xc3, 0x28, 0, 0, 0, 0]),
        ("no length at all", &[]),
    ];
    for (name, bytes) in ids {
        let raw = target.connect().await;
        target
            .closes(&format!("client id: {name}"), raw, &framed(&[&head, bytes]))
            .await;
    }
    let raw = target.connect().await;
    target.closes("half a header", raw, &framed(&[&head[..5]])).await;
}

/// Length bombs for every API that is served, at every version.
#[tokio::test]
async fn row_7_length_bombs_for_every_api_and_version() {
    let mut target = Target::start().await;
    let mut first = target.connect().await;
    let served = first.call(0, &ApiVersionsRequest::default()).await.api_keys;
    assert!(served.len() > 30);
    let max_varint = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let bombs: [(&str, Vec<u8>); 6] = [
        ("2^31-1", i32::MAX.to_be_bytes().repeat(8)),
        ("-2", (-2_i32).to_be_bytes().repeat(8)),
        ("varint 2^32-1", max_varint.repeat(8)),
        (
            "varint of ten bytes",
            [[0xff; 9].as_slice(), &[0x01]].concat().repeat(4),
        ),
        ("varint 2^28", [0x80, 0x80, 0x80, 0x80, 0x01].repeat(8)),
        ("the known five bytes", vec![0x03, 0x3c, 0x0c, 0x00, 0xb6]),
    ];
    for (name, bomb) in &bombs {
        let attack = format!("length bombs: {name}");
        let bootstrap = target.cluster.bootstrap();
        target
            .survives(&attack, async {
                for api in &served {
                    for version in api.min_version..=api.max_version {
                        let key = ApiKey::from_i16(api.api_key).unwrap();
                        let tags: &[u8] = if key.is_flexible(version) { &[0] } else { &[] };
                        // Straight at the body's first length, and behind a plausible start.
                        for start in [&[][..], &[0, 0, 0, 1], &[0, 1, b'x']] {
                            let frame = framed(&[
                                &header(api.api_key, version),
                                &[0xff, 0xff],
                                tags,
                                start,
                                bomb.as_slice(),
                            ]);
                            let mut raw = Raw::connect(&bootstrap).await;
                            raw.send_bytes(&frame).await;
                            raw.hang_up().await;
                            raw.answer_within(Duration::from_secs(10)).await;
                        }
                    }
                }
            })
            .await;
    }
    // A few that are surely at a length.
    let metadata = ApiKey::Metadata.as_i16();
    for (version, bytes) in [
        (0, i32::MAX.to_be_bytes().to_vec()),
        (0, (-2_i32).to_be_bytes().to_vec()),
    ] {
        let raw = target.connect().await;
        let frame = framed(&[&header(metadata, version), &[0xff, 0xff], &bytes]);
        target
            .closes(&format!("Metadata {version} {bytes:?}"), raw, &frame)
            .await;
    }
    for bytes in [max_varint.to_vec(), [[0xff; 9].as_slice(), &[0x01]].concat()] {
        let raw = target.connect().await;
        let frame = framed(&[&header(metadata, 12), &[0xff, 0xff, 0], &bytes]);
        target
            .closes(&format!("Metadata 12 {bytes:?}"), raw, &frame)
            .await;
    }
}

#[tokio::test]
async fn row_8_ten_million_tagged_fields() {
    let mut target = Target::start().await;
    let count = 10_000_000_u32;
    let mut head = header(ApiKey::Metadata.as_i16(), 12);
    head.extend([0xff, 0xff]);
    let mut rest = count;
    while rest >= 0x80 {
        head.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    head.push(u8::try_from(rest).unwrap());
    let length = i32::try_from(head.len()).unwrap() + 2 * i32::try_from(count).unwrap();
    let mut raw = target.connect().await;
    let fields = Bytes::from(vec![0_u8; 1 << 16]);
    target
        .survives("10 M tagged fields of two bytes before anything else", async {
            raw.send_bytes(&length.to_be_bytes()).await;
            raw.send_bytes(&head).await;
            let mut left = 2 * usize::try_from(count).unwrap();
            while left > 0 {
                let part = fields.slice(..left.min(fields.len()));
                raw.send_bytes(&part).await;
                left -= part.len();
            }
            raw.expect_close().await;
        })
        .await;
}
