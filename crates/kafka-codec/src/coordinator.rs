//! Record schemas of `__consumer_offsets`, `__transaction_state` and `__share_group_state`, generated from
//! `proto/kafka/coordinator`.
//!
//! A record's key is its type (`int16`) followed by the key struct at version 0; its value is a version (`int16`)
//! followed by the value struct, or absent for a tombstone. Consumer-offset types 0 and 1 share one meaning
//! ([`OffsetCommitKey`]); the types of different topics overlap, so a type is only meaningful with its topic.

use bytes::Bytes;

pub use self::schemas::*;
use crate::{DecodeError, EncodeError, Message, versioned};

/// The key of a coordinator record, and the value that goes with it.
pub trait RecordKey: Message {
    /// The record type: the first two bytes of an encoded key.
    const TYPE: i16;
    /// The value's schema.
    type Value: Message;
}

/// The record type of an encoded key.
pub fn record_type(key: &Bytes) -> Result<i16, DecodeError> {
    versioned::version(key)
}

/// Encodes a key with its type in front.
pub fn encode_key<K: RecordKey>(key: &K) -> Result<Bytes, EncodeError> {
    versioned::encode_prefixed(K::TYPE, key, 0)
}

/// Decodes a key whose [`record_type`] has been found to be `K::TYPE`.
pub fn decode_key<K: RecordKey>(key: Bytes) -> Result<K, DecodeError> {
    let mut decoder = versioned::reader(key);
    let found = decoder.i16()?;
    if found != K::TYPE {
        return Err(DecodeError::UnsupportedVersion {
            message: K::NAME,
            version: found,
        });
    }
    let decoded = decoder.message(0)?;
    decoder.finish()?;
    Ok(decoded)
}

#[allow(unused_imports, unused_variables, clippy::all)]
mod schemas {
    include!(concat!(env!("OUT_DIR"), "/coordinator.rs"));
}
