//! The layers of configuration as this gateway sees them: dynamic values from the metadata over its static ones.

use strom_config::{BrokerLayers, ConfigMap};
use strom_metadata::{ConfigResource, Image};
use strom_types::BrokerId;

use super::Call;

/// Owns what [`BrokerLayers`] borrows.
pub(super) struct Layers {
    dynamic_broker: ConfigMap,
    dynamic_default: ConfigMap,
    static_broker: ConfigMap,
}

impl Layers {
    /// Below topics and groups: one broker's own values play no part, as all brokers must see them alike.
    pub(super) fn of_cluster(call: &Call, image: &Image) -> Self {
        Layers {
            dynamic_broker: ConfigMap::new(),
            dynamic_default: dynamic(image, &ConfigResource::BrokerDefault),
            static_broker: call.gateway.config().settings.static_layer().clone(),
        }
    }

    /// One broker's, over the values that it was started with.
    pub(super) fn of_broker(image: &Image, id: BrokerId, static_broker: ConfigMap) -> Self {
        Layers {
            dynamic_broker: dynamic(image, &ConfigResource::Broker(id)),
            dynamic_default: dynamic(image, &ConfigResource::BrokerDefault),
            static_broker,
        }
    }

    pub(super) fn view(&self) -> BrokerLayers<'_> {
        BrokerLayers {
            dynamic_broker: &self.dynamic_broker,
            dynamic_default: &self.dynamic_default,
            static_broker: &self.static_broker,
        }
    }
}

/// A resource's own dynamic values.
pub(super) fn dynamic(image: &Image, resource: &ConfigResource) -> ConfigMap {
    image.config(resource).map_or_else(ConfigMap::new, |keys| {
        keys.iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    })
}
