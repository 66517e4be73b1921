//! The coordinator's records against their layout in Kafka's own bytes, and back.

use bytes::{BufMut, BytesMut};
use strom_kafka_codec::coordinator::{ConsumerGroupMetadataKey, LegacyOffsetCommitKey};
use uuid::Uuid;

use super::*;

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .bytes()
        .map(|digit| (digit as char).to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Bytes as Kafka's codec writes them, with the version in front that a record's value begins with.
fn value(version: i16, body: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    bytes.put(hex(body));
    bytes.freeze()
}

fn key(kind: i16, body: &str) -> Bytes {
    value(kind, body)
}

fn offset_key() -> OffsetKey {
    OffsetKey {
        group: "s1".into(),
        topic: "s2".into(),
        partition: 3003,
    }
}

fn offset_value(expire: Option<i64>, epoch: i32, metadata: &str, committed: i64) -> OffsetCommitValue {
    OffsetCommitValue {
        offset: 1_000_000_007,
        leader_epoch: LeaderEpoch(epoch),
        metadata: metadata.into(),
        commit_timestamp: WallMs(committed),
        expire_timestamp: expire.map(WallMs),
        topic_id: TopicId::ZERO,
    }
}

const OFFSET_KEY: &str = "000273310002733200000bbb";

#[test]
fn offsets_are_kafkas_bytes_in_every_version() {
    let topic_id = TopicId(Uuid::from_u64_pair(0xa2, 0x58));
    // From Kafka 4.3.1's own codec: the vectors "full" of OffsetCommitValue.
    let cases = [
        (
            0,
            "000000003b9aca070002733200000000b2d05e15",
            offset_value(None, -1, "s2", 3_000_000_021),
        ),
        (
            1,
            "000000003b9aca070002733200000000b2d05e1500000000ee6b281c",
            offset_value(Some(4_000_000_028), -1, "s2", 3_000_000_021),
        ),
        (
            2,
            "000000003b9aca070002733200000000b2d05e15",
            offset_value(None, -1, "s2", 3_000_000_021),
        ),
        (
            3,
            "000000003b9aca07000007d20002733300000000ee6b281c",
            offset_value(None, 2002, "s3", 4_000_000_028),
        ),
        (
            4,
            "000000003b9aca07000007d203733300000000ee6b281c01001000000000000000a20000000000000058",
            OffsetCommitValue {
                topic_id,
                ..offset_value(None, 2002, "s3", 4_000_000_028)
            },
        ),
    ];
    for (version, body, expected) in cases {
        let record = Record::OffsetCommit {
            key: offset_key(),
            value: expected,
        };
        let written = KeyValue {
            key: key(1, OFFSET_KEY),
            value: Some(value(version, body)),
        };
        assert_eq!(
            decode(&written.key, written.value.as_ref()),
            Ok(Some(record.clone()))
        );
        // Written are the versions with an expiry, with an epoch, and with a topic id.
        if [1, 3, 4].contains(&version) {
            assert_eq!(encode(&record).unwrap(), written, "version {version}");
        }
    }
}

#[test]
fn tombstones_and_legacy_keys() {
    let tombstone = Record::OffsetTombstone { key: offset_key() };
    let written = KeyValue {
        key: key(1, OFFSET_KEY),
        value: None,
    };
    assert_eq!(encode(&tombstone).unwrap(), written);
    assert_eq!(decode(&written.key, None), Ok(Some(tombstone.clone())));
    assert_eq!(LegacyOffsetCommitKey::TYPE, 0);
    assert_eq!(decode(&key(0, OFFSET_KEY), None), Ok(Some(tombstone)));

    let tombstone = Record::GroupTombstone { group: "s1".into() };
    let written = KeyValue {
        key: key(2, "00027331"),
        value: None,
    };
    assert_eq!(encode(&tombstone).unwrap(), written);
    assert_eq!(decode(&written.key, None), Ok(Some(tombstone)));
}

#[test]
fn groups_are_kafkas_bytes() {
    // The vector "nulls" of GroupMetadataValue version 3, and what it says.
    let body = "00027331000007d2ffffffff00000000b2d05e150000000200027334ffff000d73352d7a61c5bcc3b3c582c487000273360000\
                1b5f00001f48000000040900ff07000000040a00ff070003733131ffff00037331320003733133000036be00003aa7000000\
                041000ff07000000041100ff07"
        .replace("\u{20}", "");
    let member = |id: &str, client: &str, host: &str, rebalance, session, subscription: u8| MemberMetadata {
        member_id: id.into(),
        group_instance_id: None,
        client_id: client.into(),
        client_host: host.into(),
        rebalance_timeout_ms: rebalance,
        session_timeout_ms: session,
        subscription: Bytes::copy_from_slice(&[subscription, 0, 0xff, 7]),
        assignment: Bytes::copy_from_slice(&[subscription + 1, 0, 0xff, 7]),
    };
    let record = Record::GroupMetadata {
        group: "s1".into(),
        value: GroupMetadataValue {
            protocol_type: "s1".into(),
            generation: 2002,
            protocol: None,
            leader: None,
            current_state_timestamp: Some(WallMs(3_000_000_021)),
            members: vec![
                member("s4", "s5-zażółć", "s6", 7007, 8008, 9),
                member("s11", "s12", "s13", 14_014, 15_015, 16),
            ],
        },
    };
    let written = KeyValue {
        key: key(2, "00027331"),
        value: Some(value(3, &body)),
    };
    assert_eq!(
        decode(&written.key, written.value.as_ref()),
        Ok(Some(record.clone()))
    );
    assert_eq!(encode(&record).unwrap(), written);
}

#[test]
fn old_and_new_versions_of_groups_are_read() {
    // "empty" of version 0, and of version 2, which brought the time of the state.
    for (version, body, time) in [
        (0, "0000000000000000000000000000", None),
        (2, "00000000000000000000000000000000000700000000", Some(WallMs(7))),
    ] {
        let decoded = decode(&key(2, "00027331"), Some(&value(version, body)));
        let Ok(Some(Record::GroupMetadata { value, .. })) = decoded else {
            panic!("version {version}: {decoded:?}");
        };
        assert_eq!(value.current_state_timestamp, time);
        assert!(value.members.is_empty());
    }
}

#[test]
fn other_kinds_are_passed_over_and_damage_is_an_error() {
    for kind in 3..=20 {
        assert_eq!(
            decode(&key(kind, "00027331"), Some(&value(0, "ff"))),
            Ok(None),
            "kind {kind}"
        );
    }
    assert_eq!(ConsumerGroupMetadataKey::TYPE, 3);
    assert!(decode(&Bytes::new(), None).is_err());
    assert!(decode(&key(1, "0002"), None).is_err());
    assert!(decode(&key(1, OFFSET_KEY), Some(&value(9, "00"))).is_err());
    assert!(decode(&key(2, "00027331"), Some(&value(3, "7fff"))).is_err());
}

#[test]
fn a_text_that_does_not_fit_is_refused() {
    let record = Record::GroupTombstone {
        group: "g".repeat(40_000).into(),
    };
    assert!(encode(&record).is_err());
}
