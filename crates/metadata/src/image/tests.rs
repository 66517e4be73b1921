//! Tests of the image: form checks, atomicity, deltas and snapshots.

use bytes::Bytes;
use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::{BrokerEpoch, BrokerId, MetadataOffset, TopicId, TopicIdPartition};
use uuid::Uuid;

use super::{ConfigResource, Delta, Image, ImageError};

fn id(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n))
}

fn bytes(n: u128) -> Bytes {
    Bytes::copy_from_slice(Uuid::from_u128(n).as_bytes())
}

fn batch(records: Vec<Record>) -> v1::MetadataBatch {
    let wrap = |record| v1::MetadataRecord { record: Some(record) };
    v1::MetadataBatch {
        records: records.into_iter().map(wrap).collect(),
        timestamp_ms: 0,
    }
}

fn topic(n: u128, name: &str) -> Record {
    Record::Topic(v1::TopicRecord {
        topic_id: bytes(n),
        name: name.into(),
        internal: false,
    })
}

fn partition(n: u128, partition: i32, epoch: i32) -> v1::PartitionRecord {
    v1::PartitionRecord {
        topic_id: bytes(n),
        partition,
        replicas: vec![1, 2, 3],
        leader: 1,
        leader_epoch: epoch,
        partition_epoch: epoch,
        isr: vec![1, 2],
        elr: vec![3],
        min_isr: 2,
        ..Default::default()
    }
}

fn config(resource_type: v1::ConfigResourceType, name: &str, key: &str, value: Option<&str>) -> Record {
    Record::Config(v1::ConfigRecord {
        resource_type: resource_type.into(),
        resource_name: name.into(),
        key: key.into(),
        value: value.map(Into::into),
    })
}

fn broker(n: i32) -> Record {
    Record::Broker(v1::BrokerRecord {
        broker_id: n,
        incarnation: bytes(9),
        rack: "r".into(),
        endpoint: "h:1".into(),
        directories: vec![v1::LogDirectory {
            directory_id: bytes(4),
            online: true,
        }],
        fenced: true,
        previous_clean_epoch: -1,
        ..Default::default()
    })
}

fn full_image() -> Image {
    let mut image = Image::empty();
    let mut records = vec![
        Record::Cluster(v1::ClusterRecord {
            cluster_id: "c".into(),
        }),
        broker(1),
        broker(2),
        Record::Gateway(v1::GatewayRecord {
            gateway_id: bytes(77),
            listeners: vec![v1::GatewayListener {
                name: "PLAINTEXT".into(),
                host: "g".into(),
                bootstrap_port: 9092,
                per_broker_port_base: 9100,
            }],
            rack: String::new(),
        }),
        topic(1, "b"),
        topic(2, "a"),
        Record::Partition(partition(2, 0, 0)),
        config(
            v1::ConfigResourceType::Topic,
            &id(1).to_string(),
            "retention.ms",
            Some("5"),
        ),
        config(v1::ConfigResourceType::Broker, "", "num.partitions", Some("3")),
        Record::Feature(v1::FeatureRecord {
            name: "metadata.version".into(),
            level: 27,
        }),
        Record::ProducerIds(v1::ProducerIdsRecord {
            next_producer_id: 1000,
            broker_id: 1,
        }),
    ];
    let partitions = (0..300).map(|n| partition(1, n, 3)).collect();
    records.push(Record::Partitions(v1::PartitionsRecord { partitions }));
    image.apply(MetadataOffset(12), &batch(records)).expect("applies");
    image
}

#[test]
fn a_snapshot_rebuilds_the_image() {
    let image = full_image();
    let records: Vec<_> = image.to_records().collect();
    let again = Image::from_records(image.index, records.clone()).expect("rebuilds");
    assert_eq!(again, image);
    assert_eq!(again.to_records().collect::<Vec<_>>(), records);
    assert!(Delta::between(&image, &again).is_empty());
    assert_eq!(again.partition_count(), 301);
    assert_eq!(again.broker(BrokerId(1)).map(|b| b.epoch), Some(BrokerEpoch(12)));
    let names: Vec<_> = again.topics().map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn a_delta_names_what_changed_and_nothing_else() {
    let old = full_image();
    let mut image = old.clone();
    let changed = v1::PartitionRecord {
        leader: 2,
        leader_epoch: 4,
        partition_epoch: 4,
        ..partition(1, 7, 3)
    };
    let delta = image
        .apply(
            MetadataOffset(13),
            &batch(vec![
                Record::Partition(changed),
                Record::Partition(partition(1, 8, 3)),
                Record::Partition(partition(2, 1, 0)),
                config(v1::ConfigResourceType::Broker, "", "num.partitions", None),
                Record::RemoveBroker(v1::RemoveBrokerRecord {
                    broker_id: 2,
                    broker_epoch: 12,
                }),
            ]),
        )
        .expect("applies");
    let want = Delta {
        partitions: vec![TopicIdPartition::new(id(1), 7), TopicIdPartition::new(id(2), 1)],
        topics: vec![id(2)],
        configs: vec![ConfigResource::BrokerDefault],
        brokers: vec![BrokerId(2)],
        ..Default::default()
    };
    assert_eq!(delta, want);
    assert_eq!(Delta::between(&old, &image), want);

    let before = image.clone();
    let delta = image
        .apply(
            MetadataOffset(20),
            &batch(vec![
                Record::RemoveTopic(v1::RemoveTopicRecord { topic_id: bytes(1) }),
                topic(3, "b"),
                Record::RemoveGateway(v1::RemoveGatewayRecord {
                    gateway_id: bytes(77),
                }),
            ]),
        )
        .expect("applies");
    assert_eq!(delta.removed_topics.len(), 1);
    assert_eq!(delta.topics, vec![id(3)]);
    assert!(delta.gateways && delta.configs.is_empty() && delta.partitions.is_empty());
    assert_eq!(Delta::between(&before, &image), delta);
    assert_eq!(image.topic_by_name("b").map(|topic| topic.id), Some(id(3)));
    assert_eq!(image.config(&ConfigResource::Topic(id(1))), None);
    assert_eq!(image.partition_count(), 2);
}

#[test]
fn a_bad_record_leaves_the_image_as_it_was() {
    let good = full_image();
    let broken = |change: &dyn Fn(&mut v1::PartitionRecord)| {
        let mut record = partition(1, 0, 4);
        change(&mut record);
        Record::Partition(record)
    };
    let bad: Vec<Record> = vec![
        broken(&|p| p.topic_id = Bytes::from_static(b"short")),
        broken(&|p| p.topic_id = bytes(99)),
        broken(&|p| p.partition = -1),
        broken(&|p| p.partition = 400),
        broken(&|p| p.replicas = vec![]),
        broken(&|p| p.replicas = vec![1, 2, -3]),
        broken(&|p| p.isr = vec![1, 1]),
        broken(&|p| p.isr = vec![1, 4]),
        broken(&|p| p.elr = vec![2]),
        broken(&|p| p.last_known_elr = vec![3]),
        broken(&|p| p.leader = 3),
        broken(&|p| p.leader = -2),
        broken(&|p| p.leader_epoch = 2),
        broken(&|p| p.partition_epoch = 2),
        broken(&|p| p.min_isr = 4),
        broken(&|p| p.min_isr = 0),
        broken(&|p| p.directories = vec![bytes(1)]),
        topic(5, "a"),
        topic(2, "other"),
        topic(0, "zero"),
        Record::RemoveTopic(v1::RemoveTopicRecord { topic_id: bytes(9) }),
        Record::RemoveBroker(v1::RemoveBrokerRecord {
            broker_id: 1,
            broker_epoch: 11,
        }),
        Record::RemoveGateway(v1::RemoveGatewayRecord { gateway_id: bytes(9) }),
        config(v1::ConfigResourceType::Topic, "not-a-uuid", "k", Some("v")),
        config(v1::ConfigResourceType::Broker, "-1", "k", Some("v")),
        config(v1::ConfigResourceType::Unspecified, "", "k", Some("v")),
        Record::ProducerIds(v1::ProducerIdsRecord {
            next_producer_id: 999,
            broker_id: 1,
        }),
    ];
    for record in bad {
        let mut image = good.clone();
        let text = format!("{record:?}");
        let batch = batch(vec![topic(50, "fine"), record]);
        assert!(image.apply(MetadataOffset(13), &batch).is_err(), "{text}");
        assert_eq!(image, good, "{text}");
    }
    let mut image = good.clone();
    let empty = v1::MetadataBatch {
        records: vec![v1::MetadataRecord { record: None }],
        timestamp_ms: 0,
    };
    assert_eq!(
        image.apply(MetadataOffset(13), &empty),
        Err(ImageError::UnknownRecord)
    );
    assert!(image.apply(MetadataOffset(12), &batch(vec![])).is_err());
}
