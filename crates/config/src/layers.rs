//! Where a value comes from: the maps that lie over each other, and Kafka's numbers for them.

use std::collections::BTreeMap;

/// Config names and values as they are stored and sent.
pub type ConfigMap = BTreeMap<String, String>;

static EMPTY: ConfigMap = BTreeMap::new();

/// Kafka's `DescribeConfigsResponse.ConfigSource`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Source {
    Topic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
    ClientMetrics,
    Group,
}

impl Source {
    /// The number in DescribeConfigs responses.
    pub const fn wire_id(self) -> i8 {
        match self {
            Source::Topic => 1,
            Source::DynamicBroker => 2,
            Source::DynamicDefaultBroker => 3,
            Source::StaticBroker => 4,
            Source::Default => 5,
            Source::ClientMetrics => 7,
            Source::Group => 8,
        }
    }
}

/// The broker-level layers under a topic's, group's or broker's own values, highest first.
#[derive(Clone, Copy, Debug)]
pub struct BrokerLayers<'a> {
    /// Set by IncrementalAlterConfigs for this broker.
    pub dynamic_broker: &'a ConfigMap,
    /// Set by IncrementalAlterConfigs for all brokers (empty resource name).
    pub dynamic_default: &'a ConfigMap,
    /// Read when the process started.
    pub static_broker: &'a ConfigMap,
}

impl Default for BrokerLayers<'_> {
    fn default() -> Self {
        BrokerLayers {
            dynamic_broker: &EMPTY,
            dynamic_default: &EMPTY,
            static_broker: &EMPTY,
        }
    }
}

impl<'a> BrokerLayers<'a> {
    /// No dynamic configs: what a process knows before it has seen the cluster's metadata.
    pub fn of_static(static_broker: &'a ConfigMap) -> Self {
        BrokerLayers {
            static_broker,
            ..BrokerLayers::default()
        }
    }

    pub(crate) fn in_order(self) -> [(Source, &'a ConfigMap); 3] {
        [
            (Source::DynamicBroker, self.dynamic_broker),
            (Source::DynamicDefaultBroker, self.dynamic_default),
            (Source::StaticBroker, self.static_broker),
        ]
    }
}
