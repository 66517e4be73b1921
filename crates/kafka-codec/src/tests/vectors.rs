//! Every message at every version against the bytes Kafka 4.3.1 writes for it.

use std::collections::BTreeMap;

use super::*;
use crate::{Decoder, Encoder, Message, VersionRange};

fn check<M: Message + ToJson>(vector: &Vector) {
    let Vector {
        message,
        version,
        fill,
        bytes,
        json,
    } = vector;
    let name = format!("{message} v{version} {fill}");
    let mut decoder = Decoder::new(bytes.clone());
    let decoded: M = decoder
        .message(*version)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    decoder.finish().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(decoded.json(*version), *json, "content of {name}");
    let mut encoder = Encoder::new();
    decoded
        .encode(&mut encoder, *version)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(encoder.len(), bytes.len(), "length of {name}");
    assert_eq!(encoder.finish().into_contiguous(), bytes, "bytes of {name}");
    if *fill == "empty" {
        assert_defaults(&decoded, *version, &name);
    }
}

/// The `empty` vectors are Kafka's defaults, but for `client_id`, which the vectors set to the empty string.
fn assert_defaults<M: Message + ToJson>(decoded: &M, version: i16, name: &str) {
    if M::NAME != "RequestHeader" {
        assert_eq!(*decoded, M::default(), "defaults of {name} at {version}");
    }
}

#[test]
fn kafkas_own_encodings_decode_and_encode() {
    let mut by_name: BTreeMap<&str, Vec<Vector>> = BTreeMap::new();
    for vector in vectors() {
        by_name.entry(vector.message).or_default().push(vector);
    }
    let mut checked = 0;
    macro_rules! check_all {
        ($message:ty) => {
            let of_message = by_name.remove(<$message>::NAME).expect(<$message>::NAME);
            let VersionRange { min, max } = <$message>::VERSIONS;
            for version in min..=max {
                assert!(
                    of_message.iter().any(|v| v.version == version),
                    "a vector of {}",
                    <$message>::NAME
                );
            }
            checked += of_message.len();
            of_message.iter().for_each(check::<$message>);
        };
    }
    for_each_message!(check_all);
    assert_eq!(
        by_name.keys().collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "messages the codec lacks"
    );
    assert_eq!(checked, 2052);
}
