//! The configs that the controller itself obeys: topic settings as resolved from the image and the static file.

use std::collections::BTreeMap;

use strom_config::{BrokerLayers, ConfigMap, Effective};
use strom_types::TopicId;

use crate::image::{ConfigResource, DynamicConfigs, Image};

/// Topic config: fixed when the topic is created.
pub(crate) const DURABILITY: &str = "strom.durability";
/// Topic config and its value with Kafka's promise.
pub(crate) const PAGE_CACHE: &str = "page_cache";

/// What the controller reads of one topic's configs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TopicSettings {
    pub(crate) min_isr: i32,
    pub(crate) unclean_election: bool,
}

impl TopicSettings {
    /// The min ISR in force for so many replicas (KAFKA-16540: resolved here, nowhere else).
    pub(crate) fn effective_min_isr(self, replicas: usize) -> i32 {
        let replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
        self.min_isr.clamp(1, replicas.max(1))
    }
}

/// The cluster-level layers under every topic: dynamic defaults over the controllers' static file. A single broker's
/// values play no part, as every broker must see a topic alike.
pub(crate) struct ClusterConfigs<'a> {
    dynamic_default: ConfigMap,
    static_configs: &'a ConfigMap,
    of_plain_topic: TopicSettings,
}

impl<'a> ClusterConfigs<'a> {
    pub(crate) fn of(image: &Image, static_configs: &'a ConfigMap) -> Self {
        let mut configs = ClusterConfigs {
            dynamic_default: to_map(image.config(&ConfigResource::BrokerDefault)),
            static_configs,
            of_plain_topic: TopicSettings {
                min_isr: 1,
                unclean_election: false,
            },
        };
        configs.of_plain_topic = configs.resolve(&ConfigMap::new());
        configs
    }

    pub(crate) fn layers(&self) -> BrokerLayers<'_> {
        BrokerLayers {
            dynamic_default: &self.dynamic_default,
            static_broker: self.static_configs,
            ..BrokerLayers::default()
        }
    }

    /// An INT of the broker scope, such as `num.partitions`.
    pub(crate) fn broker_int(&self, name: &'static str) -> i64 {
        Effective::broker(self.layers()).int(name)
    }

    pub(crate) fn broker_bool(&self, name: &'static str) -> bool {
        Effective::broker(self.layers()).bool(name)
    }

    /// The settings of a topic with these keys of its own.
    pub(crate) fn resolve(&self, own: &ConfigMap) -> TopicSettings {
        let from = Effective::topic(own, self.layers());
        TopicSettings {
            min_isr: i32::try_from(from.int("min.insync.replicas")).unwrap_or(i32::MAX),
            unclean_election: from.bool("unclean.leader.election.enable"),
        }
    }

    /// `strom.durability` for a topic that is being created with these keys.
    pub(crate) fn durability(&self, own: &ConfigMap) -> Option<String> {
        Effective::topic(own, self.layers()).text(DURABILITY)
    }

    pub(crate) fn topic(&self, image: &Image, id: TopicId) -> TopicSettings {
        match image.config(&ConfigResource::Topic(id)) {
            Some(own) => self.resolve(&to_map(Some(own))),
            None => self.of_plain_topic,
        }
    }
}

impl Image {
    /// Whether the topic keeps only Kafka's page-cache promise. The mode is the topic's own key, written when it is
    /// created, and never follows a later change of the defaults: who is eligible to lead hangs on it.
    pub fn is_page_cache_topic(&self, id: TopicId) -> bool {
        self.config(&ConfigResource::Topic(id))
            .and_then(|own| own.get(DURABILITY))
            .is_some_and(|mode| mode == PAGE_CACHE)
    }
}

/// The image's keys as the map that the config crate reads.
pub(crate) fn to_map(keys: Option<&DynamicConfigs>) -> ConfigMap {
    keys.map_or_else(BTreeMap::new, |keys| {
        keys.iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    })
}
