//! What the configuration means for the partitions here: each topic's own over the cluster's over this broker's files.

use std::collections::HashMap;
use std::sync::Arc;

use strom_config::{BrokerLayers, ConfigMap, Durability as ConfigDurability, Effective, TopicConfig};
use strom_log::LogConfig;
use strom_metadata::{ConfigResource, Image};
use strom_types::TopicId;

use super::Partitions;
use crate::config::BrokerConfig;

impl Partitions {
    pub(super) fn configs_changed(&self, image: &Image, resources: &[ConfigResource]) {
        let all = resources.iter().any(|r| match r {
            ConfigResource::BrokerDefault => true,
            ConfigResource::Broker(id) => *id == self.config.broker_id,
            _ => false,
        });
        let topics: Vec<TopicId> = resources
            .iter()
            .filter_map(|r| {
                if let ConfigResource::Topic(id) = r {
                    Some(*id)
                } else {
                    None
                }
            })
            .collect();
        if all {
            let reserve = self.with_layers(image, |layers| {
                Effective::broker(layers).int("strom.disk.reserve.bytes")
            });
            self.dir.set_disk_reserve(u64::try_from(reserve).unwrap_or(0));
        } else if topics.is_empty() {
            return;
        }
        let mut configs: HashMap<TopicId, Arc<TopicConfig>> = HashMap::new();
        for partition in self.all() {
            let topic = partition.key().topic_id;
            if all || topics.contains(&topic) {
                let config = configs
                    .entry(topic)
                    .or_insert_with(|| self.topic_config(image, topic));
                partition.log().set_config(log_config(config, &self.config));
                partition.set_config(config.clone());
            }
        }
    }

    /// The topic's configuration: its own over the cluster's dynamic one over this broker's files.
    pub(super) fn topic_config(&self, image: &Image, topic: TopicId) -> Arc<TopicConfig> {
        let own = stored(image, &ConfigResource::Topic(topic));
        // The mode is fixed by the topic's own key at its creation: eligibility after a crash hangs on it.
        let durability = match image.is_page_cache_topic(topic) {
            true => ConfigDurability::PageCache,
            false => ConfigDurability::Durable,
        };
        Arc::new(TopicConfig {
            durability,
            ..self.with_layers(image, |layers| TopicConfig::resolve(&own, layers))
        })
    }

    fn with_layers<R>(&self, image: &Image, read: impl FnOnce(BrokerLayers<'_>) -> R) -> R {
        let broker = stored(image, &ConfigResource::Broker(self.config.broker_id));
        let default = stored(image, &ConfigResource::BrokerDefault);
        read(BrokerLayers {
            dynamic_broker: &broker,
            dynamic_default: &default,
            static_broker: self.config.settings.static_layer(),
        })
    }
}

fn stored(image: &Image, resource: &ConfigResource) -> ConfigMap {
    let map = image.config(resource);
    map.map(|m| m.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
        .unwrap_or_default()
}

pub(super) fn log_config(topic: &TopicConfig, broker: &BrokerConfig) -> LogConfig {
    let size = |bytes: i64| u32::try_from(bytes).unwrap_or(u32::MAX);
    LogConfig {
        segment_bytes: size(topic.segment_bytes),
        segment_ms: topic.segment_ms,
        index_interval_bytes: size(topic.index_interval_bytes),
        segment_index_bytes: size(topic.segment_index_bytes),
        producer_id_expiration_ms: broker.producer_id_expiration_ms,
        durable: topic.durability == ConfigDurability::Durable,
    }
}
