//! Keys and values of `__consumer_offsets` and `__transaction_state` as they lie in a record, and consumer metadata.

use bytes::Bytes;
use strom_kafka_codec::coordinator::{
    GroupMetadataKey, OffsetCommitKey, OffsetCommitValue, RecordKey, TransactionLogKey, TransactionLogValue,
    decode_key, encode_key, record_type,
};
use strom_kafka_codec::messages::ConsumerProtocolSubscription;
use strom_kafka_codec::{DecodeError, versioned};

#[test]
fn offset_records_have_kafkas_layout() {
    let key = OffsetCommitKey {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
    };
    let bytes = encode_key(&key).unwrap();
    assert_eq!(&bytes[..], [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 3]);
    assert_eq!(record_type(&bytes), Ok(OffsetCommitKey::TYPE));
    assert_eq!(decode_key::<OffsetCommitKey>(bytes.clone()), Ok(key));
    let wrong = DecodeError::UnsupportedVersion {
        message: "GroupMetadataKey",
        version: 1,
    };
    assert_eq!(decode_key::<GroupMetadataKey>(bytes), Err(wrong));

    let value = OffsetCommitValue {
        offset: 9,
        leader_epoch: 1,
        metadata: "m".into(),
        ..Default::default()
    };
    for version in 3..=4 {
        let bytes = versioned::encode(&value, version).unwrap();
        assert_eq!(versioned::version(&bytes), Ok(version));
        assert_eq!(versioned::decode::<OffsetCommitValue>(bytes), Ok(value.clone()));
    }
}

#[test]
fn transaction_records_round_trip() {
    let key = TransactionLogKey {
        transactional_id: "tx".into(),
    };
    assert_eq!(decode_key(encode_key(&key).unwrap()), Ok(key));
    let value = TransactionLogValue {
        producer_id: 5,
        transaction_partitions: None,
        ..Default::default()
    };
    let bytes = versioned::encode(&value, 1).unwrap();
    assert_eq!(versioned::decode(bytes), Ok(value));
}

#[test]
fn later_consumer_metadata_is_read_as_far_as_known() {
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["t".into()],
        ..Default::default()
    };
    let mut bytes = versioned::encode(&subscription, 3).unwrap().to_vec();
    bytes[1] = 9;
    bytes.extend([1, 2, 3]);
    let bytes = Bytes::from(bytes);
    assert_eq!(versioned::decode_lenient(bytes.clone()), Ok(subscription));
    assert!(versioned::decode::<ConsumerProtocolSubscription>(bytes).is_err());
    assert!(versioned::decode_lenient::<ConsumerProtocolSubscription>(Bytes::from_static(&[0])).is_err());
}
