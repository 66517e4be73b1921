//! The image: everything the metadata log says as of one index, cheap to clone and to share between threads.

mod apply;
mod broker;
mod config;
mod delta;
mod error;
mod gateway;
mod partition;
mod snapshot;
#[cfg(test)]
mod tests;
mod topic;

use std::sync::Arc;

use imbl::OrdMap;
use strom_types::{BrokerId, MetadataOffset, TopicId, TopicIdPartition};
use uuid::Uuid;

pub use broker::{BrokerImage, LogDirectory};
pub use config::{ConfigResource, UnknownConfigResource};
pub use delta::{Delta, RemovedTopic};
pub use error::ImageError;
pub use gateway::{GatewayImage, GatewayListener};
pub use partition::PartitionState;
pub use topic::TopicImage;

pub(crate) use partition::uuid_bytes;
pub(crate) use snapshot::config_record;

/// The keys and values of one dynamic config resource.
pub type DynamicConfigs = OrdMap<String, String>;

/// The cluster at one raft index. Clones share their maps: a clone costs a dozen reference counts, and changing the
/// clone copies only the paths it touches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// The entry up to which the metadata log has been applied; 0 = the empty image.
    pub index: MetadataOffset,
    cluster_id: Arc<str>,
    topics: OrdMap<TopicId, Arc<TopicImage>>,
    topic_names: OrdMap<Arc<str>, TopicId>,
    brokers: OrdMap<BrokerId, Arc<BrokerImage>>,
    gateways: OrdMap<Uuid, Arc<GatewayImage>>,
    configs: OrdMap<ConfigResource, DynamicConfigs>,
    features: OrdMap<String, i32>,
    next_producer_id: i64,
    partition_count: usize,
}

impl Default for Image {
    fn default() -> Self {
        Image::empty()
    }
}

impl Image {
    pub fn empty() -> Self {
        Image {
            index: MetadataOffset(0),
            cluster_id: Arc::from(""),
            topics: OrdMap::new(),
            topic_names: OrdMap::new(),
            brokers: OrdMap::new(),
            gateways: OrdMap::new(),
            configs: OrdMap::new(),
            features: OrdMap::new(),
            next_producer_id: 0,
            partition_count: 0,
        }
    }

    /// Empty until the first leader has named the cluster.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub fn topic(&self, id: TopicId) -> Option<&TopicImage> {
        self.topics.get(&id).map(Arc::as_ref)
    }

    pub fn topic_by_name(&self, name: &str) -> Option<&TopicImage> {
        self.topic(*self.topic_names.get(name)?)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &TopicImage> {
        self.topic_names.values().filter_map(|id| self.topic(*id))
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    pub fn partition(&self, key: TopicIdPartition) -> Option<&Arc<PartitionState>> {
        self.topics.get(&key.topic_id)?.partitions.get(&key.partition)
    }

    /// Every partition of every topic, by topic id.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicIdPartition, &Arc<PartitionState>)> {
        self.topics.values().flat_map(|topic| {
            let id = topic.id;
            topic
                .partitions
                .iter()
                .map(move |(partition, state)| (TopicIdPartition::new(id, *partition), state))
        })
    }

    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// All registered brokers, fenced ones too, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.values()
    }

    /// The brokers that are not fenced (they may be shutting down), by id.
    pub fn live_brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.values().filter(|broker| !broker.fenced)
    }

    /// All registered gateways, by id.
    pub fn gateways(&self) -> impl Iterator<Item = &Arc<GatewayImage>> {
        self.gateways.values()
    }

    pub fn gateway(&self, id: Uuid) -> Option<&Arc<GatewayImage>> {
        self.gateways.get(&id)
    }

    /// The dynamic keys of a resource; `None` when it has none.
    pub fn config(&self, resource: &ConfigResource) -> Option<&DynamicConfigs> {
        self.configs.get(resource)
    }

    /// Every resource that has dynamic keys.
    pub fn configs(&self) -> impl Iterator<Item = (&ConfigResource, &DynamicConfigs)> {
        self.configs.iter()
    }

    /// Producer ids below this one have been handed out in blocks.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Finalized feature levels, by name.
    pub fn features(&self) -> &OrdMap<String, i32> {
        &self.features
    }
}
