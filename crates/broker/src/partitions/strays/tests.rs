//! Which logs are set aside, and above all which are not.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use strom_client::MetadataChange;
use strom_log::{FaultStorage, LeaderAppend, LogDir, LogDirConfig, Storage};
use strom_metadata::{Delta, Image};
use strom_proto::v1::{self, metadata_record::Record};
use strom_records::{BatchBuilder, NewRecord};
use strom_runtime::{Clock, Shutdown, Sources};
use strom_types::{BrokerEpoch, BrokerId, LeaderEpoch, MetadataOffset, TopicId, TopicIdPartition, WallMs};
use tokio::sync::Notify;

use super::super::Partitions;
use crate::config::BrokerConfig;
use crate::log_events::LogEvents;
use crate::metrics::Metrics;
use crate::shared::Shared;

const CLUSTER: &str = "the-cluster";
const KEPT: u8 = 1;
const DELETED: u8 = 2;
const MOVED: u8 = 3;

/// One life of broker 1.
struct Life {
    dir: Arc<LogDir>,
    partitions: Partitions,
    told: Image,
}

fn key(topic: u8) -> TopicIdPartition {
    TopicIdPartition::new(TopicId::from_bytes([topic; 16]), 0)
}

/// Topics of one partition each, with their replicas.
fn image(cluster: &str, index: u64, topics: &[(u8, &[i32])]) -> Image {
    let mut records = vec![Record::Cluster(v1::ClusterRecord {
        cluster_id: cluster.into(),
    })];
    for (topic, replicas) in topics {
        let id = Bytes::copy_from_slice(&[*topic; 16]);
        records.push(Record::Topic(v1::TopicRecord {
            topic_id: id.clone(),
            name: format!("t{topic}"),
            internal: false,
        }));
        records.push(Record::Partition(v1::PartitionRecord {
            topic_id: id,
            replicas: replicas.to_vec(),
            isr: replicas.to_vec(),
            leader: 2,
            leader_epoch: 1,
            partition_epoch: 1,
            min_isr: 1,
            ..Default::default()
        }));
    }
    let wrap = |record| v1::MetadataRecord { record: Some(record) };
    Image::from_records(MetadataOffset(index), records.into_iter().map(wrap)).unwrap()
}

impl Life {
    fn begin(disk: &FaultStorage, epoch: i64, delay_ms: i64) -> Life {
        let settings = strom_runtime::config::load(&Sources {
            flags: vec![("log.segment.delete.delay.ms".into(), delay_ms.to_string())],
            ..Sources::default()
        })
        .unwrap();
        let config = BrokerConfig::from_settings(&settings, BrokerId(1), "local:1".into(), "/data".into());
        let metrics = Metrics::default();
        let events = LogEvents::new(Arc::new(Notify::new()), metrics.clone(), Shutdown::new());
        let dir = LogDirConfig {
            node_id: 1,
            disk_reserve_bytes: 0,
            threads: false,
            ..LogDirConfig::default()
        };
        let dir = Arc::new(LogDir::open_on(Arc::new(disk.clone()), Path::new("/data"), dir, events).unwrap());
        dir.registered(CLUSTER, BrokerEpoch(epoch)).unwrap();
        let (shared, _) = Shared::new(Clock::system(), metrics, Default::default());
        Life {
            partitions: Partitions::new(Arc::new(config), BrokerEpoch(epoch), dir.clone(), shared),
            dir,
            told: Image::empty(),
        }
    }

    fn tell(&mut self, image: Image) {
        let delta = Arc::new(Delta::between(&self.told, &image));
        self.told = image.clone();
        self.partitions.apply(&MetadataChange {
            image: Arc::new(image),
            delta,
        });
        self.dir.housekeep().unwrap();
    }

    fn append(&self, topic: u8) {
        let mut batch = BatchBuilder::new();
        let record = NewRecord {
            timestamp: 1,
            key: None,
            value: Some(b"v"),
            headers: &[],
        };
        batch.push(&record).unwrap();
        let by = LeaderAppend {
            leader_epoch: LeaderEpoch(1),
            now: WallMs(1),
            log_append_time: false,
        };
        let partition = self.partitions.get(key(topic)).unwrap();
        partition
            .log()
            .append_as_leader(batch.build().unwrap(), by)
            .unwrap();
        self.dir.write_round();
        self.dir.flush_round();
    }

    fn log_end(&self, topic: u8) -> i64 {
        self.partitions.get(key(topic)).unwrap().log().log_end_offset()
    }
}

/// A disk with one record in each of three logs, after a kill.
fn used_disk() -> FaultStorage {
    let disk = FaultStorage::default();
    let mut life = Life::begin(&disk, 10, 0);
    life.tell(image(
        CLUSTER,
        10,
        &[(KEPT, &[1, 2]), (DELETED, &[1, 2]), (MOVED, &[1, 2])],
    ));
    [KEPT, DELETED, MOVED]
        .iter()
        .for_each(|topic| life.append(*topic));
    disk.after_kill()
}

/// (logs, strays) by topic.
fn on_disk(disk: &FaultStorage) -> (Vec<u8>, Vec<u8>) {
    let names = Storage::list(disk, Path::new("/data")).unwrap();
    let of = |stray: bool| {
        let named = |topic: &u8| {
            names.iter().any(|entry| {
                entry.is_dir
                    && entry.name.starts_with(&key(*topic).to_string())
                    && entry.name.ends_with("-stray") == stray
            })
        };
        [KEPT, DELETED, MOVED].into_iter().filter(named).collect()
    };
    (of(false), of(true))
}

const NOW: &[(u8, &[i32])] = &[(KEPT, &[1, 2]), (MOVED, &[2, 3])];

#[test]
fn logs_of_deleted_topics_and_moved_partitions_go() {
    let disk = used_disk();
    let mut life = Life::begin(&disk, 20, 0);
    life.tell(image(CLUSTER, 20, NOW));
    assert_eq!(on_disk(&disk), (vec![KEPT], vec![]));
    assert_eq!(life.log_end(KEPT), 1);
}

#[test]
fn an_image_from_before_the_registration_takes_nothing() {
    let disk = used_disk();
    let mut life = Life::begin(&disk, 20, 0);
    life.tell(image(CLUSTER, 0, &[]));
    life.tell(image(CLUSTER, 5, &[]));
    life.tell(image(CLUSTER, 19, &[(DELETED, &[2])]));
    assert_eq!(on_disk(&disk), (vec![KEPT, DELETED, MOVED], vec![]));
    life.tell(image(CLUSTER, 25, NOW));
    assert_eq!(on_disk(&disk), (vec![KEPT], vec![]));
}

#[test]
fn the_image_of_another_cluster_takes_nothing() {
    for cluster in ["", "another"] {
        let disk = used_disk();
        Life::begin(&disk, 20, 0).tell(image(cluster, 30, &[]));
        assert_eq!(on_disk(&disk), (vec![KEPT, DELETED, MOVED], vec![]));
    }
}

#[test]
fn controllers_that_began_anew_take_nothing_ever() {
    let mut disk = used_disk();
    // Also once their new entries have passed the old ones by.
    for epoch in [4, 9, 500] {
        Life::begin(&disk, epoch, 0).tell(image(CLUSTER, 600, &[]));
        assert_eq!(
            on_disk(&disk),
            (vec![KEPT, DELETED, MOVED], vec![]),
            "epoch {epoch}"
        );
        disk = disk.after_kill();
    }
}

#[test]
fn a_restart_takes_nothing_and_keeps_a_stray_until_the_metadata_is_known() {
    let disk = used_disk();
    Life::begin(&disk, 20, 60_000).tell(image(CLUSTER, 20, NOW));
    assert_eq!(on_disk(&disk), (vec![KEPT], vec![DELETED, MOVED]));

    let disk = disk.after_kill();
    let mut life = Life::begin(&disk, 40, 0);
    life.tell(image(CLUSTER, 30, &[]));
    assert_eq!(on_disk(&disk), (vec![KEPT], vec![DELETED, MOVED]));
    life.tell(image(CLUSTER, 40, NOW));
    assert_eq!(on_disk(&disk), (vec![KEPT], vec![]));
    assert_eq!(life.log_end(KEPT), 1);
}

#[test]
fn a_partition_that_comes_back_begins_anew_and_keeps_what_it_gets() {
    let disk = used_disk();
    let mut life = Life::begin(&disk, 20, 0);
    life.tell(image(CLUSTER, 20, NOW));
    let back: &[(u8, &[i32])] = &[(KEPT, &[1, 2]), (MOVED, &[1, 2, 3])];
    // Twice: away and back while this broker watches, too.
    for index in [30, 50] {
        life.tell(image(CLUSTER, index, back));
        assert_eq!(life.log_end(MOVED), 0);
        life.append(MOVED);
        life.tell(image(CLUSTER, index + 5, back));
        assert_eq!(
            (on_disk(&disk), life.log_end(MOVED)),
            ((vec![KEPT, MOVED], vec![]), 1)
        );
        life.tell(image(CLUSTER, index + 10, NOW));
        assert_eq!(on_disk(&disk), (vec![KEPT], vec![]));
    }
}
