//! A broker without controllers: a log directory, its partitions, coordinators, and metadata made by hand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use strom_client::MetadataChange;
use strom_log::{FaultStorage, LogDir, LogDirConfig, Storage};
use strom_metadata::Image;
use strom_proto::v1::{self, metadata_record::Record};
use strom_replication::Event;
use strom_runtime::{Clock, Shutdown, Sources};
use strom_types::{
    BrokerEpoch, BrokerId, ErrorCode, GROUP_METADATA_TOPIC, MetadataOffset, TopicId, TopicIdPartition,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::config::BrokerConfig;
use crate::groups::{Coordinators, GroupMetrics};
use crate::grpc::Groups;
use crate::log_events::LogEvents;
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::partitions::Partitions;
use crate::shared::Shared;

const BROKER: i32 = 1;
/// The other replica's broker, which never fetches.
pub(super) const SILENT: i32 = 2;
const LEASE: Duration = Duration::from_secs(3600);

pub(super) struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) groups: Groups,
    dir: Arc<LogDir>,
    partitions: Arc<Partitions>,
    coordinators: Coordinators,
    image: Arc<Mutex<Image>>,
    notes: JoinHandle<()>,
}

/// How one partition of `__consumer_offsets` is led.
#[derive(Clone, Copy)]
pub(super) struct Lead {
    pub(super) epoch: i32,
    pub(super) partition_epoch: i32,
    pub(super) leader: i32,
    pub(super) isr: &'static [i32],
    pub(super) min_isr: i32,
}

impl Lead {
    /// Led here and held by nobody else.
    pub(super) fn alone(epoch: i32) -> Lead {
        Lead {
            epoch,
            partition_epoch: epoch * 10,
            leader: BROKER,
            isr: &[BROKER],
            min_isr: 1,
        }
    }
}

pub(super) fn offsets_topic() -> TopicId {
    TopicId(Uuid::from_u128(77))
}

impl Node {
    /// A node whose topic has one partition, led as told.
    pub(super) fn start(disk: Arc<dyn Storage>, path: &Path, lead: Lead) -> Node {
        Self::start_with(disk, path, &[lead], &[])
    }

    pub(super) fn start_with(
        disk: Arc<dyn Storage>,
        path: &Path,
        leads: &[Lead],
        topic_configs: &[(&str, &str)],
    ) -> Node {
        Self::start_on(disk, path, LogDirConfig::default(), leads, topic_configs)
    }

    pub(super) fn start_on(
        disk: Arc<dyn Storage>,
        path: &Path,
        dir_config: LogDirConfig,
        leads: &[Lead],
        topic_configs: &[(&str, &str)],
    ) -> Node {
        let settings = strom_runtime::config::load(&Sources {
            flags: vec![
                ("group.initial.rebalance.delay.ms".into(), "0".into()),
                ("group.min.session.timeout.ms".into(), "1".into()),
                ("offsets.commit.timeout.ms".into(), "60000".into()),
            ],
            ..Sources::default()
        })
        .unwrap();
        let config =
            BrokerConfig::from_settings(&settings, BrokerId(BROKER), "local:test".into(), path.to_owned());
        let metrics = Metrics::default();
        let events = LogEvents::new(Arc::new(Notify::new()), metrics.clone(), Shutdown::new());
        let dir_config = LogDirConfig {
            disk_reserve_bytes: 0,
            wal_bytes_max: 1 << 20,
            ..dir_config
        };
        let dir = Arc::new(LogDir::open_on(disk, path, dir_config, events.clone()).unwrap());
        let clock = Clock::system();
        let checkpointed = dir.high_watermarks().unwrap().into_iter().collect();
        let (shared, mut notes) = Shared::new(clock, metrics, checkpointed);
        shared.renew_lease(shared.clock().mono(), LEASE);
        let partitions = Arc::new(Partitions::new(
            Arc::new(config),
            BrokerEpoch(1),
            dir.clone(),
            shared.clone(),
        ));
        events.attach(partitions.clone());
        let image = Arc::new(Mutex::new(Image::empty()));
        let of_image = image.clone();
        let topic = move || {
            let image = of_image.lock();
            let topic = image.topic_by_name(GROUP_METADATA_TOPIC)?;
            Some((topic.id, i32::try_from(topic.partitions.len()).ok()?))
        };
        let coordinators = Coordinators::new(&settings, GroupMetrics::default(), Arc::new(topic));
        let (hosted, takes) = (partitions.clone(), coordinators.clone());
        let notes = tokio::spawn(async move {
            while let Some(note) = notes.recv().await {
                takes.take_note(&hosted, note).await;
            }
        });
        let node = Node {
            groups: Groups::new(coordinators.clone()),
            shared,
            dir,
            partitions,
            coordinators,
            image,
            notes,
        };
        node.create(leads, topic_configs);
        node
    }

    /// With a single replica on a disk in memory.
    pub(super) fn in_memory() -> (Node, FaultStorage) {
        let disk = FaultStorage::default();
        let node = Node::start(Arc::new(disk.clone()), data(), Lead::alone(1));
        (node, disk)
    }

    fn create(&self, leads: &[Lead], topic_configs: &[(&str, &str)]) {
        let mut records = vec![
            broker(BROKER),
            broker(SILENT),
            topic(offsets_topic(), GROUP_METADATA_TOPIC),
        ];
        records.extend((0..).zip(leads).map(|(index, lead)| partition(index, *lead)));
        records.extend(topic_configs.iter().map(|(key, value)| {
            Record::Config(v1::ConfigRecord {
                resource_type: v1::ConfigResourceType::Topic.into(),
                resource_name: offsets_topic().0.to_string(),
                key: (*key).into(),
                value: Some((*value).into()),
            })
        }));
        self.apply(records);
    }

    /// Applies one entry of metadata, as the broker does.
    pub(super) fn apply(&self, records: Vec<Record>) {
        let wrap = |record| v1::MetadataRecord { record: Some(record) };
        let batch = v1::MetadataBatch {
            records: records.into_iter().map(wrap).collect(),
            timestamp_ms: 0,
        };
        let change = {
            let mut image = self.image.lock();
            let index = MetadataOffset(image.index.get() + 1);
            let delta = image.apply(index, &batch).unwrap();
            MetadataChange {
                image: Arc::new(image.clone()),
                delta: Arc::new(delta),
            }
        };
        self.partitions.apply(&change);
    }

    /// Changes how partition 0 is led.
    pub(super) fn lead(&self, lead: Lead) {
        self.apply(vec![partition(0, lead)]);
    }

    pub(super) fn partition(&self) -> Arc<Partition> {
        let key = TopicIdPartition::new(offsets_topic(), 0);
        self.partitions.get(key).unwrap()
    }

    /// Does what a log directory without threads of its own leaves to do.
    pub(super) fn write_to_disk(&self) {
        self.dir.write_round();
        self.dir.flush_round();
    }

    /// Waits until the coordinators of all led partitions serve.
    pub(super) async fn loaded(&self) {
        until("the coordinators serve", || async {
            let led = self.coordinators.led();
            let mut serving = !led.is_empty();
            for key in led {
                serving &= self.coordinators.look(key, |_| ()).await.is_ok();
            }
            serving
        })
        .await;
    }

    pub(super) async fn look(&self) -> Result<(), ErrorCode> {
        let key = TopicIdPartition::new(offsets_topic(), 0);
        self.coordinators.look(key, |_| ()).await
    }

    pub(super) fn renew_lease(&self) {
        self.shared.renew_lease(self.shared.clock().mono(), LEASE);
    }

    pub(super) fn let_lease_end(&self) {
        self.shared.revoke_lease();
    }

    /// A clean stop.
    pub(super) fn stop(self) {
        self.coordinators.close();
        let all = self.partitions.all();
        let marks = all.iter().map(|p| (p.key(), p.high_watermark())).collect();
        all.iter().for_each(|partition| partition.step(Event::Shutdown));
        self.dir.checkpoint_high_watermarks(&marks).unwrap();
        self.dir.close(BrokerEpoch(1)).unwrap();
        self.notes.abort();
    }
}

pub(super) fn data() -> &'static Path {
    Path::new("/data")
}

/// Waits for a condition, at most ten seconds.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn id_bytes(id: TopicId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

pub(super) fn topic(id: TopicId, name: &str) -> Record {
    Record::Topic(v1::TopicRecord {
        topic_id: id_bytes(id),
        name: name.into(),
        internal: false,
    })
}

pub(super) fn remove_topic(id: TopicId) -> Record {
    Record::RemoveTopic(v1::RemoveTopicRecord {
        topic_id: id_bytes(id),
    })
}

fn partition(index: i32, lead: Lead) -> Record {
    Record::Partition(v1::PartitionRecord {
        topic_id: id_bytes(offsets_topic()),
        partition: index,
        replicas: vec![BROKER, SILENT],
        leader: lead.leader,
        leader_epoch: lead.epoch,
        partition_epoch: lead.partition_epoch,
        isr: lead.isr.to_vec(),
        min_isr: lead.min_isr,
        ..Default::default()
    })
}

fn broker(id: i32) -> Record {
    Record::Broker(v1::BrokerRecord {
        broker_id: id,
        incarnation: Bytes::copy_from_slice(Uuid::from_u128(9).as_bytes()),
        endpoint: "h:1".into(),
        fenced: false,
        previous_clean_epoch: -1,
        broker_epoch: Some(1),
        ..Default::default()
    })
}
