//! The coordinator's records in the bytes that Kafka writes to `__consumer_offsets`, and back.

use std::sync::Arc;

use bytes::Bytes;
use strom_groups::{GroupMetadataValue, MemberMetadata, OffsetCommitValue, OffsetKey, Record};
use strom_kafka_codec::coordinator::{self as wire, RecordKey};
use strom_kafka_codec::{ByteStr, DecodeError, EncodeError, versioned};
use strom_types::{LeaderEpoch, TopicId, WallMs};

/// `GroupMetadataValue` as Kafka 4.3 writes it: the newest version that is not flexible.
const GROUP_METADATA_VERSION: i16 = 3;
/// The last `OffsetCommitValue` that has an expiry of its own; it has no leader epoch.
const OFFSET_WITH_EXPIRY_VERSION: i16 = 1;
const OFFSET_VERSION: i16 = 3;
/// The first `OffsetCommitValue` with the topic's id; written only when there is one, since tools before Kafka 3.5
/// cannot read it.
const OFFSET_WITH_TOPIC_ID_VERSION: i16 = 4;
const NO_TIMESTAMP: i64 = -1;

/// A record's key and value; a tombstone has no value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KeyValue {
    pub(super) key: Bytes,
    pub(super) value: Option<Bytes>,
}

/// A text that is too long for its field is an error.
pub(super) fn encode(record: &Record) -> Result<KeyValue, EncodeError> {
    let (key, value) = match record {
        Record::OffsetCommit { key, value } => (encode_offset_key(key)?, Some(encode_offset(value)?)),
        Record::OffsetTombstone { key } => (encode_offset_key(key)?, None),
        Record::GroupMetadata { group, value } => (encode_group_key(group)?, Some(encode_group(value)?)),
        Record::GroupTombstone { group } => (encode_group_key(group)?, None),
    };
    Ok(KeyValue { key, value })
}

/// `None` for records of other kinds: those of consumer, share and streams groups, and whatever comes later.
pub(super) fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Record>, DecodeError> {
    let kind = wire::record_type(key)?;
    let record = match kind {
        wire::OffsetCommitKey::TYPE => {
            let key: wire::OffsetCommitKey = wire::decode_key(key.clone())?;
            offset_record(offset_key(&key.group, &key.topic, key.partition), value)?
        }
        // The key of before 2014: the same fields, and the values are the same by now.
        wire::LegacyOffsetCommitKey::TYPE => {
            let key: wire::LegacyOffsetCommitKey = wire::decode_key(key.clone())?;
            offset_record(offset_key(&key.group, &key.topic, key.partition), value)?
        }
        wire::GroupMetadataKey::TYPE => {
            let key: wire::GroupMetadataKey = wire::decode_key(key.clone())?;
            let group = shared(&key.group);
            match value {
                None => Record::GroupTombstone { group },
                Some(value) => Record::GroupMetadata {
                    group,
                    value: group_value(&versioned::decode(value.clone())?),
                },
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(record))
}

fn encode_offset_key(key: &OffsetKey) -> Result<Bytes, EncodeError> {
    wire::encode_key(&wire::OffsetCommitKey {
        group: text(&key.group),
        topic: text(&key.topic),
        partition: key.partition,
    })
}

fn encode_offset(value: &OffsetCommitValue) -> Result<Bytes, EncodeError> {
    let version = if value.expire_timestamp.is_some() {
        OFFSET_WITH_EXPIRY_VERSION
    } else if value.topic_id.is_zero() {
        OFFSET_VERSION
    } else {
        OFFSET_WITH_TOPIC_ID_VERSION
    };
    let value = wire::OffsetCommitValue {
        offset: value.offset,
        leader_epoch: value.leader_epoch.get(),
        metadata: text(&value.metadata),
        commit_timestamp: value.commit_timestamp.0,
        expire_timestamp: value.expire_timestamp.map_or(NO_TIMESTAMP, |time| time.0),
        topic_id: value.topic_id.0,
    };
    versioned::encode(&value, version)
}

fn encode_group_key(group: &str) -> Result<Bytes, EncodeError> {
    wire::encode_key(&wire::GroupMetadataKey { group: text(group) })
}

fn encode_group(value: &GroupMetadataValue) -> Result<Bytes, EncodeError> {
    let members = value
        .members
        .iter()
        .map(|member| wire::group_metadata_value::MemberMetadata {
            member_id: text(&member.member_id),
            group_instance_id: member.group_instance_id.as_deref().map(text),
            client_id: text(&member.client_id),
            client_host: text(&member.client_host),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.subscription.clone(),
            assignment: member.assignment.clone(),
        });
    let value = wire::GroupMetadataValue {
        protocol_type: text(&value.protocol_type),
        generation: value.generation,
        protocol: value.protocol.as_deref().map(text),
        leader: value.leader.as_deref().map(text),
        current_state_timestamp: value.current_state_timestamp.map_or(NO_TIMESTAMP, |time| time.0),
        members: members.collect(),
    };
    versioned::encode(&value, GROUP_METADATA_VERSION)
}

fn offset_key(group: &ByteStr, topic: &ByteStr, partition: i32) -> OffsetKey {
    OffsetKey {
        group: shared(group),
        topic: shared(topic),
        partition,
    }
}

fn offset_record(key: OffsetKey, value: Option<&Bytes>) -> Result<Record, DecodeError> {
    let Some(value) = value else {
        return Ok(Record::OffsetTombstone { key });
    };
    let value: wire::OffsetCommitValue = versioned::decode(value.clone())?;
    let value = OffsetCommitValue {
        offset: value.offset,
        leader_epoch: LeaderEpoch(value.leader_epoch),
        metadata: shared(&value.metadata),
        commit_timestamp: WallMs(value.commit_timestamp),
        expire_timestamp: timestamp(value.expire_timestamp),
        topic_id: TopicId(value.topic_id),
    };
    Ok(Record::OffsetCommit { key, value })
}

/// Subscriptions and assignments are copied out of the batch that they lie in: they outlive it by far.
fn group_value(value: &wire::GroupMetadataValue) -> GroupMetadataValue {
    let members = value.members.iter().map(|member| MemberMetadata {
        member_id: shared(&member.member_id),
        group_instance_id: member.group_instance_id.as_ref().map(shared),
        client_id: shared(&member.client_id),
        client_host: shared(&member.client_host),
        rebalance_timeout_ms: member.rebalance_timeout,
        session_timeout_ms: member.session_timeout,
        subscription: Bytes::copy_from_slice(&member.subscription),
        assignment: Bytes::copy_from_slice(&member.assignment),
    });
    GroupMetadataValue {
        protocol_type: shared(&value.protocol_type),
        generation: value.generation,
        protocol: value.protocol.as_ref().map(shared),
        leader: value.leader.as_ref().map(shared),
        current_state_timestamp: timestamp(value.current_state_timestamp),
        members: members.collect(),
    }
}

fn timestamp(ms: i64) -> Option<WallMs> {
    (ms != NO_TIMESTAMP).then_some(WallMs(ms))
}

fn text(text: &str) -> ByteStr {
    ByteStr::from(text.to_owned())
}

fn shared(text: &ByteStr) -> Arc<str> {
    Arc::from(text.as_str())
}

#[cfg(test)]
mod tests;
