//! What differs between two images.

use std::sync::Arc;

use imbl::ordmap::DiffItem;
use strom_types::{BrokerId, TopicId, TopicIdPartition};

use super::{ConfigResource, Image, TopicImage};

/// A topic that is gone, with the name it had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemovedTopic {
    pub id: TopicId,
    pub name: Arc<str>,
}

/// The keys whose values differ; the values are read from the new image. Every list is sorted by id, without
/// repetitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Delta {
    /// Changed or created.
    pub partitions: Vec<TopicIdPartition>,
    pub removed_topics: Vec<RemovedTopic>,
    /// Created, or grown by partitions.
    pub topics: Vec<TopicId>,
    /// Changed resources, also those that lost their last key; not those of removed topics.
    pub configs: Vec<ConfigResource>,
    /// Registered, changed or removed.
    pub brokers: Vec<BrokerId>,
    pub gateways: bool,
    /// The cluster id or a feature level.
    pub cluster: bool,
}

/// The keys that a batch wrote, in the order of writing.
#[derive(Default)]
pub(super) struct Touched {
    pub(super) partitions: Vec<TopicIdPartition>,
    pub(super) topics: Vec<TopicId>,
    pub(super) configs: Vec<ConfigResource>,
    pub(super) brokers: Vec<BrokerId>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    /// Compares two images. Costs what differs when one was made from the other; when a snapshot replaced the
    /// image, a walk over both.
    pub fn between(old: &Image, new: &Image) -> Delta {
        let mut touched = Touched::default();
        for item in old.topics.diff(&new.topics) {
            match item {
                DiffItem::Add(id, topic) => {
                    touched.topics.push(*id);
                    touched.partitions.extend(keys_of(topic));
                }
                DiffItem::Update {
                    old: (id, before),
                    new: (_, after),
                } => {
                    touched.topics.push(*id);
                    touched.partitions.extend(changed_partitions(before, after));
                }
                DiffItem::Remove(id, _) => touched.topics.push(*id),
            }
        }
        touched.configs = old.configs.diff(&new.configs).map(|item| key_of(&item)).collect();
        touched.brokers = old.brokers.diff(&new.brokers).map(|item| key_of(&item)).collect();
        Delta::of_touched(old, new, touched)
    }

    /// The touched keys whose values did change.
    pub(super) fn of_touched(old: &Image, new: &Image, mut touched: Touched) -> Delta {
        let mut removed_topics = Vec::new();
        sort_unique(&mut touched.topics);
        touched
            .topics
            .retain(|id| match (old.topics.get(id), new.topics.get(id)) {
                (Some(before), Some(after)) => {
                    before.internal != after.internal || before.partitions.len() != after.partitions.len()
                }
                (Some(before), None) => {
                    removed_topics.push(RemovedTopic {
                        id: *id,
                        name: Arc::clone(&before.name),
                    });
                    false
                }
                (None, after) => after.is_some(),
            });
        sort_unique(&mut touched.partitions);
        touched.partitions.retain(|key| {
            let after = new.partition(*key);
            after.is_some() && after != old.partition(*key)
        });
        // A topic is also touched by growing, which only its partitions tell of.
        let grown = touched
            .partitions
            .iter()
            .filter(|key| old.partition(**key).is_none());
        touched.topics.extend(grown.map(|key| key.topic_id));
        sort_unique(&mut touched.topics);
        sort_unique(&mut touched.configs);
        touched.configs.retain(|resource| {
            let gone = matches!(resource, ConfigResource::Topic(id) if new.topic(*id).is_none());
            !gone && old.configs.get(resource) != new.configs.get(resource)
        });
        sort_unique(&mut touched.brokers);
        touched
            .brokers
            .retain(|id| old.brokers.get(id) != new.brokers.get(id));
        Delta {
            partitions: touched.partitions,
            removed_topics,
            topics: touched.topics,
            configs: touched.configs,
            brokers: touched.brokers,
            gateways: !old.gateways.ptr_eq(&new.gateways) && old.gateways != new.gateways,
            cluster: old.cluster_id != new.cluster_id || old.features != new.features,
        }
    }
}

fn keys_of(topic: &TopicImage) -> impl Iterator<Item = TopicIdPartition> + '_ {
    topic
        .partitions
        .keys()
        .map(|partition| TopicIdPartition::new(topic.id, *partition))
}

fn changed_partitions<'a>(
    before: &'a TopicImage,
    after: &'a TopicImage,
) -> impl Iterator<Item = TopicIdPartition> + 'a {
    before
        .partitions
        .diff(&after.partitions)
        .map(|item| TopicIdPartition::new(after.id, key_of(&item)))
}

fn key_of<K: Clone, V>(item: &DiffItem<'_, '_, K, V>) -> K {
    match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) => (*key).clone(),
        DiffItem::Update { new: (key, _), .. } => (*key).clone(),
    }
}

fn sort_unique<T: Ord>(list: &mut Vec<T>) {
    list.sort_unstable();
    list.dedup();
}
