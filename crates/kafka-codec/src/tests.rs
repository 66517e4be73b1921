//! Tests of the generated codec as a whole: Kafka's own vectors, another implementation, hostile bytes.

mod differential;
mod hostile;
mod json;
mod random;
mod vectors;

use bytes::Bytes;
use serde_json::{Map, Value};

use self::json::{ToJson, records};
use self::random::{Gen, Random};

include!(concat!(env!("OUT_DIR"), "/test_support.rs"));

use for_each_message;

/// One line of `tests/data/wire-vectors.tsv`: what Kafka 4.3.1 itself writes.
struct Vector {
    message: &'static str,
    version: i16,
    fill: &'static str,
    bytes: Bytes,
    json: Value,
}

fn vectors() -> Vec<Vector> {
    let file = include_str!("../tests/data/wire-vectors.tsv");
    file.lines()
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let [message, version, fill, bytes, json] = columns[..] else {
                panic!("five columns in {line}");
            };
            Vector {
                message,
                version: version.parse().unwrap(),
                fill,
                bytes: hex(bytes),
                json: serde_json::from_str(json).unwrap(),
            }
        })
        .collect()
}

fn hex(text: &str) -> Bytes {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}
