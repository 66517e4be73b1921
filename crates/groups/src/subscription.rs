//! The part of `ConsumerProtocolSubscription` the coordinator reads: the version and the topics.

use bytes::Buf;
use thiserror::Error;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SubscriptionError {
    #[error("subscription ends early")]
    Truncated,
    #[error("subscription version {0} is negative")]
    NegativeVersion(i16),
    #[error("subscription has an impossible length {0}")]
    BadLength(i32),
    #[error("a topic name is not UTF-8")]
    NotUtf8,
}

/// Version 0 is a prefix of every later version (Kafka's promise): `version: int16, topics: [string]`.
pub fn parse_subscribed_topics(mut metadata: &[u8]) -> Result<Vec<String>, SubscriptionError> {
    let version = metadata.try_get_i16().map_err(|_| SubscriptionError::Truncated)?;
    if version < 0 {
        return Err(SubscriptionError::NegativeVersion(version));
    }
    let count = metadata.try_get_i32().map_err(|_| SubscriptionError::Truncated)?;
    // Every topic has at least its length, two bytes.
    let topics_max = metadata.len() / 2;
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= topics_max)
        .ok_or(SubscriptionError::BadLength(count))?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let length = metadata.try_get_i16().map_err(|_| SubscriptionError::Truncated)?;
        let length = usize::try_from(length).map_err(|_| SubscriptionError::BadLength(i32::from(length)))?;
        let (name, rest) = metadata
            .split_at_checked(length)
            .ok_or(SubscriptionError::Truncated)?;
        let name = std::str::from_utf8(name).map_err(|_| SubscriptionError::NotUtf8)?;
        topics.push(name.to_owned());
        metadata = rest;
    }
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed = Result<Vec<String>, SubscriptionError>;

    #[test]
    fn subscriptions() {
        use SubscriptionError::{BadLength, NegativeVersion, NotUtf8, Truncated};
        let topics = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        let cases: [(&[u8], Parsed); 10] = [
            (b"\0\0\0\0\0\0\xff\xff\xff\xff", topics(&[])),
            (
                b"\0\x03\0\0\0\x02\0\x01t\0\x02uv later fields",
                topics(&["t", "uv"]),
            ),
            (b"", Err(Truncated)),
            (b"\0\0\0\0", Err(Truncated)),
            (b"\xff\xff\0\0\0\0", Err(NegativeVersion(-1))),
            (b"\0\0\xff\xff\xff\xff", Err(BadLength(-1))),
            (b"\0\0\x7f\xff\xff\xff\0\x01t", Err(BadLength(i32::MAX))),
            (b"\0\0\0\0\0\x01\xff\xffzz", Err(BadLength(-1))),
            (b"\0\0\0\0\0\x01\0\x09t", Err(Truncated)),
            (b"\0\0\0\0\0\x01\0\x01\xff", Err(NotUtf8)),
        ];
        for (bytes, want) in cases {
            assert_eq!(parse_subscribed_topics(bytes), want, "{bytes:?}");
        }
    }
}
