//! Effective values: a key's value out of the layers, as Kafka resolves synonyms and units.

use crate::key::{Key, Scope, SynonymOf};
use crate::layers::{BrokerLayers, ConfigMap, Source};
use crate::registry::registry;
use crate::value::Value;

/// One place where a key's value is set, in precedence order.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
    pub(crate) source: Source,
    /// Unit factor from this synonym to the key.
    pub(crate) factor: i64,
}

/// A view of one resource's effective configuration. Cheap to make; reads are tree look-ups, so hot paths
/// keep what they read.
#[derive(Clone, Copy, Debug)]
pub struct Effective<'a> {
    scope: Scope,
    own: Option<(Source, &'a ConfigMap)>,
    layers: BrokerLayers<'a>,
}

impl<'a> Effective<'a> {
    pub fn broker(layers: BrokerLayers<'a>) -> Self {
        Effective {
            scope: Scope::Broker,
            own: None,
            layers,
        }
    }

    /// `own` are the topic's overrides.
    pub fn topic(own: &'a ConfigMap, layers: BrokerLayers<'a>) -> Self {
        Effective {
            scope: Scope::Topic,
            own: Some((Source::Topic, own)),
            layers,
        }
    }

    pub fn group(own: &'a ConfigMap, layers: BrokerLayers<'a>) -> Self {
        Effective {
            scope: Scope::Group,
            own: Some((Source::Group, own)),
            layers,
        }
    }

    pub fn client_metrics(own: &'a ConfigMap) -> Self {
        Effective {
            scope: Scope::ClientMetrics,
            own: Some((Source::ClientMetrics, own)),
            layers: BrokerLayers::default(),
        }
    }

    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    /// Every place where the key is set, highest first: the resource's own value, then per layer the synonyms
    /// in their order, then the synonyms' defaults (Kafka's `ConfigHelper.configSynonyms`).
    /// `name` differs from `key.name` for a key with a listener prefix.
    pub(crate) fn places(&self, key: &'static Key, name: &'a str) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        if let Some((source, own)) = self.own
            && let Some(text) = own.get(name)
        {
            found.push(Found {
                name,
                text,
                source,
                factor: 1,
            });
        }
        let synonyms = self.broker_names(key, name);
        for (source, map) in self.layers.in_order() {
            found.extend(synonyms.iter().filter_map(|&(name, factor)| {
                map.get(name).map(|text| Found {
                    name,
                    text,
                    source,
                    factor,
                })
            }));
        }
        found.extend(synonyms.iter().filter_map(|&(name, factor)| {
            let text = registry().get(Scope::Broker, name)?.default?;
            // A listener's key has no default of its own, only its base key has.
            (registry().get(Scope::Broker, name)?.name == name).then_some(Found {
                name,
                text,
                source: Source::Default,
                factor,
            })
        }));
        found
    }

    /// The broker keys that can give the value, with their unit factors.
    fn broker_names(&self, key: &'static Key, name: &'a str) -> Vec<(&'a str, i64)> {
        // Within a broker's own family each key is shown in its own unit.
        let factor = |of: i64| if self.scope == Scope::Broker { 1 } else { of };
        let of = |synonym: &SynonymOf| (synonym.name, factor(synonym.factor));
        match (self.scope, key.synonyms.is_empty()) {
            (Scope::Broker, true) if name != key.name => vec![(name, 1), (key.name, 1)],
            (Scope::Broker, true) => vec![(name, 1)],
            _ => key.synonyms.iter().map(of).collect(),
        }
    }

    /// The value in force and where it is from; `None` is Kafka's null. A stored value that does not parse
    /// (it was refused when it was set, so only a damaged or newer store has one) falls through to the next.
    pub fn value(&self, name: &'a str) -> Option<(Value, Source)> {
        let key = registry()
            .get(self.scope, name)
            .unwrap_or_else(|| panic!("{name} is no {:?} key of the registry", self.scope));
        self.value_of(key, name)
    }

    pub(crate) fn value_of(&self, key: &'static Key, name: &'a str) -> Option<(Value, Source)> {
        // A broker key is not the sum of its family: log.retention.ms stays null when only the hours are set.
        let own_names_only = self.scope == Scope::Broker;
        self.places(key, name)
            .into_iter()
            .filter(|found| !own_names_only || found.name == name || found.name == key.name)
            .find_map(|found| {
                let from = registry().get(self.scope, found.name).unwrap_or(key);
                let value = match found.source {
                    Source::Default => Value::parse(found.name, key.kind, &crate::Valid::Any, found.text),
                    _ if found.factor == 1 => from.parse(found.text),
                    // In another unit, the bounds of the key itself do not apply to the number as written.
                    _ => Value::parse(found.name, key.kind, &crate::Valid::Any, found.text),
                };
                Some((value.ok()?.scaled(found.factor), found.source))
            })
            .or_else(|| Some((key.default_value()?, Source::Default)))
    }

    /// A BOOLEAN; false when null.
    ///
    /// These typed reads panic for a name that the registry lacks or that has another type: a mistake in the
    /// caller's code, never in a configuration.
    pub fn bool(&self, name: &'a str) -> bool {
        match self.value(name) {
            Some((Value::Bool(value), _)) => value,
            None => false,
            Some((other, _)) => panic!("{name} is no BOOLEAN: {other:?}"),
        }
    }

    /// An INT, SHORT or LONG; `None` when null.
    pub fn opt_int(&self, name: &'a str) -> Option<i64> {
        match self.value(name)?.0 {
            Value::Int(value) => Some(value),
            other => panic!("{name} is no whole number: {other:?}"),
        }
    }

    /// An INT, SHORT or LONG; -1 when null.
    pub fn int(&self, name: &'a str) -> i64 {
        self.opt_int(name).unwrap_or(-1)
    }

    /// A DOUBLE; 0 when null.
    pub fn double(&self, name: &'a str) -> f64 {
        match self.value(name) {
            Some((Value::Double(value), _)) => value,
            None => 0.0,
            Some((other, _)) => panic!("{name} is no DOUBLE: {other:?}"),
        }
    }

    /// A STRING, CLASS or PASSWORD; `None` when null.
    pub fn text(&self, name: &'a str) -> Option<String> {
        match self.value(name)?.0 {
            Value::Text(value) => Some(value),
            Value::Secret(secret) => Some(secret.reveal().to_owned()),
            other => panic!("{name} is no STRING: {other:?}"),
        }
    }

    /// A LIST; empty when null.
    pub fn list(&self, name: &'a str) -> Vec<String> {
        match self.value(name) {
            Some((Value::List(items), _)) => items,
            None => Vec::new(),
            Some((other, _)) => panic!("{name} is no LIST: {other:?}"),
        }
    }
}
