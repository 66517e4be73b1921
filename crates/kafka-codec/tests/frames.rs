//! Request headers, spliced responses, values a version cannot carry, shared strings.

use bytes::{Buf, Bytes, BytesMut};
use strom_kafka_codec::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use strom_kafka_codec::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, ProduceRequest};
use strom_kafka_codec::{
    ApiKey, ByteStr, DecodeError, EncodeError, Encoder, Message, RequestError, RequestFrame,
    decode_response_frame, encode_request_frame, encode_response_frame,
};

fn header(key: i16, version: i16, rest: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&77_i32.to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes.freeze()
}

#[test]
fn unknown_keys_and_versions_still_tell_their_correlation_id() {
    // Produce 0-2 are advertised for old librdkafka's sake and refused.
    let cases = [
        (18, 5),
        (18, i16::MAX),
        (18, -1),
        (93, 0),
        (-1, 0),
        (i16::MAX, 0),
        (4, 0),
        (7, 1),
        (0, 2),
        (3, 14),
    ];
    for (api_key, api_version) in cases {
        let refused = RequestFrame::decode(header(api_key, api_version, &[0xff; 4])).unwrap_err();
        assert_eq!(
            refused,
            RequestError::Unsupported {
                api_key,
                api_version,
                correlation_id: 77
            }
        );
    }
}

#[test]
fn bad_client_ids_are_refused() {
    let decode = |rest: &[u8]| RequestFrame::decode(header(3, 1, rest)).map(|_| ());
    assert_eq!(
        decode(&[0xff, 0xfe]),
        Err(RequestError::Malformed(DecodeError::NegativeLength(-2)))
    );
    let short = DecodeError::UnexpectedEnd {
        needed: 32767,
        remaining: 3,
    };
    assert_eq!(
        decode(&[0x7f, 0xff, 1, 2, 3]),
        Err(RequestError::Malformed(short))
    );
    assert_eq!(
        decode(&[0, 2, 0xc3, 0x28]),
        Err(RequestError::Malformed(DecodeError::InvalidUtf8))
    );
    assert_eq!(decode(&[0xff, 0xff]), Ok(()), "null");
    assert_eq!(decode(&[0, 0]), Ok(()), "empty");
}

#[test]
fn client_id_of_a_flexible_header_is_not_compact() {
    let frame = encode_request_frame(5, 9, Some("me"), &MetadataRequest::default())
        .unwrap()
        .into_contiguous();
    assert_eq!(&frame[4..17], [0, 3, 0, 9, 0, 0, 0, 5, 0, 2, b'm', b'e', 0]);
    let RequestFrame { api_key, header, .. } = RequestFrame::decode(frame.slice(4..)).unwrap();
    assert_eq!(
        (api_key, header.client_id.as_deref()),
        (ApiKey::Metadata, Some("me"))
    );
}

#[test]
fn api_versions_answers_have_a_plain_header() {
    let mut frame = encode_response_frame(9, 3, &ApiVersionsResponse::default())
        .unwrap()
        .into_contiguous();
    assert_eq!(usize::try_from(frame.get_i32()), Ok(frame.len()));
    assert_eq!(
        &frame[..6],
        [0, 0, 0, 9, 0, 0],
        "no tag count between correlation id and error code"
    );
    let (id, answer): (i32, ApiVersionsResponse) = decode_response_frame(frame, 3).unwrap();
    assert_eq!((id, answer), (9, ApiVersionsResponse::default()));
}

fn fetched(records: &Bytes) -> FetchResponse {
    let partition = |index| PartitionData {
        partition_index: index,
        records: Some(records.clone()),
        ..Default::default()
    };
    let partitions = vec![partition(0), partition(1)];
    let topic = FetchableTopicResponse {
        topic: "t".into(),
        partitions,
        ..Default::default()
    };
    FetchResponse {
        responses: vec![topic],
        ..Default::default()
    }
}

#[test]
fn records_are_spliced_into_responses() {
    let records = Bytes::from(vec![7; 100_000]);
    for version in [4, 12] {
        let response = fetched(&records);
        let chunks = encode_response_frame(1, version, &response).unwrap();
        let spliced = chunks
            .parts()
            .filter(|part| part.as_ptr() == records.as_ptr())
            .count();
        assert_eq!(spliced, 2, "both partitions share the records");
        let len = chunks.len();
        assert_eq!(chunks.parts().map(Bytes::len).sum::<usize>(), len);
        let mut buf = chunks.clone();
        assert_eq!(buf.remaining(), len);
        let copied = buf.copy_to_bytes(len);
        assert!(!buf.has_remaining());
        let mut frame = chunks.into_contiguous();
        assert_eq!(copied, frame);
        assert_eq!(usize::try_from(frame.get_i32()), Ok(frame.len()));
        assert_eq!(
            decode_response_frame::<FetchResponse>(frame, version),
            Ok((1, response))
        );
    }
    let small = encode_response_frame(1, 4, &fetched(&Bytes::from_static(&[7; 100]))).unwrap();
    assert_eq!(small.parts().count(), 1, "small records are copied");
}

#[test]
fn a_value_the_version_lacks_is_refused_unless_it_may_be_ignored() {
    let encode = |request: &MetadataRequest, version| request.encode(&mut Encoder::new(), version);
    let no_auto_creation = MetadataRequest {
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let field = "MetadataRequest.allow_auto_topic_creation";
    assert_eq!(
        encode(&no_auto_creation, 3),
        Err(EncodeError::FieldUnavailable { field, version: 3 })
    );
    assert_eq!(encode(&no_auto_creation, 4), Ok(()));
    let all_topics = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let field = "MetadataRequest.topics";
    assert_eq!(
        encode(&all_topics, 0),
        Err(EncodeError::Null { field, version: 0 })
    );
    assert_eq!(encode(&all_topics, 1), Ok(()));
    let software = ApiVersionsRequest {
        client_software_name: "x".into(),
        ..Default::default()
    };
    assert_eq!(software.encode(&mut Encoder::new(), 0), Ok(()), "ignorable");
    let long = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let id = "x".repeat(32768);
    assert_eq!(
        encode_request_frame(1, 9, Some(&id), &long).err(),
        Some(EncodeError::TooLong(32768))
    );
    assert!(ProduceRequest::default().encode(&mut Encoder::new(), 2).is_err());
}

#[test]
fn byte_strings_act_as_strings() {
    use std::collections::{BTreeMap, HashMap};
    let shared = ByteStr::from_utf8(Bytes::from_static("zażółć".as_bytes())).unwrap();
    assert_eq!(shared, *"zażółć");
    assert_eq!(format!("{shared} {shared:?}"), "zażółć \"zażółć\"");
    assert_eq!(HashMap::from([(shared.clone(), 1)]).get("zażółć"), Some(&1));
    assert_eq!(BTreeMap::from([(shared.clone(), 1)]).get("zażółć"), Some(&1));
    assert_ne!(shared.detached().as_bytes().as_ptr(), shared.as_bytes().as_ptr());
    assert_eq!(shared.detached(), shared);
    assert!(ByteStr::from_utf8(Bytes::from_static(&[0xff])).is_err());
}
