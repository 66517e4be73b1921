//! Brokers without controllers: real logs, partitions and streams; the metadata is made by hand, and a stand-in for the
//! controller accepts every ISR change that is due.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use strom_log::{FaultStorage, LogDirConfig};
use strom_metadata::Image;
use strom_proto::v1::{self, metadata_record::Record};
use strom_replication::{AlterPartitionResult, Event};
use strom_types::{BrokerId, ErrorCode, MetadataOffset, TopicId, TopicIdPartition};
use tokio::time::{Instant, interval, sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;

use super::node::Node;
use crate::partition::Partition;
use crate::shared::Note;

pub(super) const CLUSTER: &str = "the-cluster";
const TOPIC: TopicId = TopicId::from_bytes([9; 16]);

/// What differs between tests.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) partitions: i32,
    pub(super) min_isr: i32,
    pub(super) log_dir: LogDirConfig,
    pub(super) topic_configs: Vec<(&'static str, &'static str)>,
    /// Streams go over TCP instead of straight into the other broker.
    pub(super) over_tcp: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            partitions: 1,
            min_isr: 2,
            log_dir: LogDirConfig {
                disk_reserve_bytes: 0,
                wal_bytes_max: 1 << 20,
                ..LogDirConfig::default()
            },
            topic_configs: Vec::new(),
            over_tcp: false,
        }
    }
}

/// Replication factor 3 on brokers 1, 2 and 3; each partition begins with broker 1 as leader and all in sync.
#[derive(Clone)]
pub(super) struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    /// Listeners of brokers that are reached over TCP.
    listeners: Mutex<BTreeMap<i32, TcpListener>>,
    image: Mutex<Image>,
    nodes: Mutex<BTreeMap<i32, Arc<Node>>>,
    /// Brokers that hear nothing of the metadata for now.
    deaf: Mutex<Vec<i32>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.nodes.lock().values().for_each(|node| node.end());
    }
}

pub(super) fn key(partition: i32) -> TopicIdPartition {
    TopicIdPartition::new(TOPIC, partition)
}

pub(super) fn endpoint(id: i32) -> String {
    format!("local:broker-{id}")
}

impl Cluster {
    pub(super) fn start(settings: Settings) -> Self {
        let cluster = Cluster {
            inner: Arc::new(Inner {
                image: Mutex::new(Image::empty()),
                nodes: Mutex::default(),
                deaf: Mutex::default(),
                listeners: Mutex::default(),
                settings,
            }),
        };
        let mut records = vec![
            Record::Cluster(v1::ClusterRecord {
                cluster_id: CLUSTER.into(),
            }),
            Record::Topic(v1::TopicRecord {
                topic_id: Bytes::copy_from_slice(TOPIC.as_bytes()),
                name: "t".into(),
                internal: false,
            }),
        ];
        records.extend(cluster.inner.settings.topic_configs.iter().map(|(key, value)| {
            Record::Config(v1::ConfigRecord {
                resource_type: v1::ConfigResourceType::Topic.into(),
                resource_name: TOPIC.0.to_string(),
                key: (*key).into(),
                value: Some((*value).into()),
            })
        }));
        records.extend((1..=3).map(|id| {
            if cluster.inner.settings.over_tcp {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let endpoint = listener.local_addr().unwrap().to_string();
                cluster.inner.listeners.lock().insert(id, listener);
                broker_record(id, 1, endpoint)
            } else {
                broker_record(id, 1, endpoint(id))
            }
        }));
        records.extend((0..cluster.inner.settings.partitions).map(|partition| {
            Record::Partition(v1::PartitionRecord {
                topic_id: Bytes::copy_from_slice(TOPIC.as_bytes()),
                partition,
                replicas: vec![1, 2, 3],
                leader: 1,
                leader_epoch: 1,
                partition_epoch: 1,
                isr: vec![1, 2, 3],
                min_isr: cluster.inner.settings.min_isr,
                ..Default::default()
            })
        }));
        cluster.commit(|_| (records, ()));
        for id in 1..=3 {
            cluster.boot(id, 1, FaultStorage::default());
        }
        cluster
    }

    pub(super) fn node(&self, id: i32) -> Arc<Node> {
        self.inner.nodes.lock()[&id].clone()
    }

    pub(super) fn image(&self) -> Image {
        self.inner.image.lock().clone()
    }

    /// Commits an entry made from the newest image, and tells all brokers that listen.
    fn commit<R>(&self, make: impl FnOnce(&Image) -> (Vec<Record>, R)) -> R {
        let result = {
            let mut image = self.inner.image.lock();
            let (records, result) = make(&image);
            let wrap = |record| v1::MetadataRecord { record: Some(record) };
            let batch = v1::MetadataBatch {
                records: records.into_iter().map(wrap).collect(),
                timestamp_ms: 0,
            };
            let index = MetadataOffset(image.index.get() + 1);
            image.apply(index, &batch).unwrap();
            result
        };
        self.spread();
        result
    }

    fn spread(&self) {
        let nodes: Vec<_> = self.inner.nodes.lock().values().cloned().collect();
        for node in nodes {
            if !self.inner.deaf.lock().contains(&node.id.get()) {
                node.catch_up(&self.inner.image);
            }
        }
    }

    pub(super) fn make_deaf(&self, id: i32) {
        self.inner.deaf.lock().push(id);
    }

    pub(super) fn make_hear(&self, id: i32) {
        self.inner.deaf.lock().retain(|deaf| *deaf != id);
        self.spread();
    }

    /// Makes another broker the leader of every partition, with this ISR.
    pub(super) fn elect(&self, leader: i32, isr: &[i32]) {
        self.change(|record| {
            record.leader = leader;
            record.leader_epoch += 1;
            record.isr = isr.to_vec();
        });
    }

    /// Changes the records of all partitions.
    pub(super) fn change(&self, change: impl FnMut(&mut v1::PartitionRecord)) {
        self.commit(|image| (self.changed(image, change), ()));
    }

    fn changed(&self, image: &Image, mut change: impl FnMut(&mut v1::PartitionRecord)) -> Vec<Record> {
        let all = (0..self.inner.settings.partitions).map(|partition| {
            let mut record = partition_record(image, partition);
            change(&mut record);
            record.partition_epoch += 1;
            Record::Partition(record)
        });
        all.collect()
    }

    /// The stand-in for the controller.
    fn alter(&self, from: &Node, note: Note) {
        let Note::AlterPartition {
            key,
            leader_epoch,
            partition_epoch,
            attempt,
            new_isr,
            ..
        } = note
        else {
            return;
        };
        let error = self.commit(|image| {
            let state = image.partition(key).unwrap();
            let registered = new_isr.iter().all(|member| {
                image
                    .broker(member.broker)
                    .is_some_and(|b| b.epoch == member.epoch)
            });
            let due = state.partition_epoch == partition_epoch && state.leader_epoch == leader_epoch;
            if !(due && registered) {
                return (Vec::new(), ErrorCode::InvalidUpdateVersion);
            }
            let mut record = partition_record(image, key.partition);
            record.isr = new_isr.iter().map(|member| member.broker.get()).collect();
            record.partition_epoch += 1;
            (vec![Record::Partition(record)], ErrorCode::None)
        });
        if let Some(partition) = from.partitions.get(key) {
            partition.step(Event::AlterPartitionResult(AlterPartitionResult {
                leader_epoch,
                partition_epoch,
                attempt,
                error,
            }));
        }
    }

    /// Ends a broker as a kill does, or a power loss of this seed; its disk as it is then.
    pub(super) fn kill(&self, id: i32, power_loss: Option<u64>) -> FaultStorage {
        let node = self.inner.nodes.lock().remove(&id).unwrap();
        node.stop.trigger("killed");
        node.shared.revoke_lease();
        for other in self.inner.nodes.lock().values() {
            other.peers.serve_local(&endpoint(id), Routes::default());
        }
        let disk = match power_loss {
            None => node.disk.after_kill(),
            Some(seed) => node.disk.after_power_loss(seed),
        };
        node.end();
        disk
    }

    /// Registers a broker anew, which takes it out of the ISRs, and starts it.
    pub(super) fn restart(&self, id: i32, disk: FaultStorage) {
        let epoch = self.commit(|image| {
            let epoch = i64::try_from(image.index.get()).unwrap() + 1;
            let mut records = self.changed(image, |record| {
                assert_ne!(record.leader, id, "it leads no more");
                record.isr.retain(|member| *member != id);
            });
            records.push(broker_record(id, epoch, endpoint(id)));
            (records, epoch)
        });
        self.boot(id, epoch, disk);
    }

    fn boot(&self, id: i32, epoch: i64, disk: FaultStorage) {
        let (node, mut notes) = Node::new(id, epoch, disk, &self.inner.settings.log_dir);
        let node = Arc::new(node);
        {
            let mut nodes = self.inner.nodes.lock();
            nodes.insert(id, node.clone());
            for other in nodes.values() {
                other.peers.serve_local(&endpoint(id), node.routes());
                node.peers.serve_local(&endpoint(other.id.get()), other.routes());
            }
        }
        if let Some(listener) = self.inner.listeners.lock().remove(&id) {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let server = tonic::transport::Server::builder()
                .max_frame_size(1 << 20)
                .add_routes(node.routes())
                .serve_with_incoming(TcpListenerStream::new(listener));
            tokio::spawn(server);
        }
        node.catch_up(&self.inner.image);
        let (cluster, of_node) = (Arc::downgrade(&self.inner), node.clone());
        tokio::spawn(async move {
            let mut tick = interval(Duration::from_millis(20));
            loop {
                tokio::select! {
                    () = of_node.stop.cancelled() => return,
                    Some(note) = notes.recv() => match cluster.upgrade() {
                        Some(inner) => Cluster { inner }.alter(&of_node, note),
                        None => return,
                    },
                    _ = tick.tick() => of_node.tick(),
                }
            }
        });
        tokio::spawn(node.replication.clone().run(node.stop.clone()));
    }

    /// Cuts the way from a follower to a leader, and what is open on it.
    pub(super) async fn cut(&self, follower: i32, leader: i32) {
        let (from, to) = (self.node(follower), self.node(leader));
        if from.shared.fetch_desk().follows_any(to.id) {
            // One that is just being opened would slip through.
            let open = || to.replication.streams.is_open(from.id);
            eventually(|| format!("{follower} follows {leader}"), open).await;
        }
        self.node(follower)
            .peers
            .serve_local(&endpoint(leader), Routes::default());
        self.node(leader).replication.streams.break_all();
    }

    pub(super) fn heal(&self, follower: i32, leader: i32) {
        let routes = self.node(leader).routes();
        self.node(follower).peers.serve_local(&endpoint(leader), routes);
    }

    pub(super) fn partition(&self, node: i32, partition: i32) -> Arc<Partition> {
        self.node(node).partition(partition)
    }

    /// Waits until all replicas hold the same up to the leader's end, all of it is committed, and all know it.
    pub(super) async fn converge(&self) {
        let ends = || -> Vec<_> {
            let nodes: Vec<_> = self.inner.nodes.lock().values().cloned().collect();
            let state = |node: &Arc<Node>, index| {
                let partition = node.partition(index);
                let log = partition.log();
                (
                    log.log_end_offset(),
                    log.log_start_offset(),
                    partition.high_watermark(),
                )
            };
            let all = 0..self.inner.settings.partitions;
            all.map(|index| nodes.iter().map(|node| state(node, index)).collect::<Vec<_>>())
                .collect()
        };
        let equal = || {
            ends().iter().all(|states| {
                states
                    .iter()
                    .all(|state| *state == states[0] && state.0 == state.2)
            })
        };
        eventually(
            || format!("converged: (end, start, high watermark) {:?}", ends()),
            equal,
        )
        .await;
        self.assert_logs_are_equal();
    }

    /// LogMatching: the same bytes everywhere up to the high watermark, where a replica has them.
    pub(super) fn assert_logs_are_equal(&self) {
        let nodes: Vec<_> = self.inner.nodes.lock().values().cloned().collect();
        for index in 0..self.inner.settings.partitions {
            let from = nodes
                .iter()
                .map(|n| n.partition(index).log().log_start_offset())
                .max();
            let to = nodes.iter().map(|n| n.partition(index).high_watermark()).min();
            let (from, to) = (from.unwrap(), to.unwrap());
            let bytes: Vec<_> = nodes
                .iter()
                .map(|n| read_all(&n.partition(index), from, to))
                .collect();
            for (node, own) in nodes.iter().zip(&bytes) {
                assert!(
                    *own == bytes[0],
                    "partition {index} of broker {} in {from}..{to}",
                    node.id
                );
            }
        }
    }
}

/// Waits for a condition, at most twenty seconds.
pub(super) async fn eventually(what: impl Fn() -> String, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {}", what());
        sleep(Duration::from_millis(2)).await;
    }
}

pub(super) fn read_all(partition: &Partition, mut from: i64, to: i64) -> Vec<u8> {
    let mut all = Vec::new();
    while from < to {
        let chunk = partition.log().read(from, 1 << 20, to, true).unwrap();
        assert!(chunk.next_offset > from, "nothing at {from}");
        all.extend_from_slice(&chunk.records);
        from = chunk.next_offset;
    }
    all
}

fn broker_record(id: i32, epoch: i64, endpoint: String) -> Record {
    Record::Broker(v1::BrokerRecord {
        broker_id: id,
        incarnation: Bytes::from_static(&[1; 16]),
        endpoint,
        previous_clean_epoch: -1,
        broker_epoch: Some(epoch),
        ..Default::default()
    })
}

fn partition_record(image: &Image, partition: i32) -> v1::PartitionRecord {
    let state = image.partition(key(partition)).unwrap();
    let ids = |all: &[BrokerId]| all.iter().map(|id| id.get()).collect();
    v1::PartitionRecord {
        topic_id: Bytes::copy_from_slice(TOPIC.as_bytes()),
        partition,
        replicas: ids(&state.replicas),
        leader: state.leader.map_or(-1, BrokerId::get),
        leader_epoch: state.leader_epoch.get(),
        partition_epoch: state.partition_epoch.get(),
        isr: ids(&state.isr),
        min_isr: state.min_isr,
        ..Default::default()
    }
}
