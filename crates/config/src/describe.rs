//! DescribeConfigs: every key of a resource with its value, source and synonyms (Kafka's `ConfigHelper`).

use crate::effective::Effective;
use crate::key::{Key, Kind, Scope};
use crate::layers::{BrokerLayers, ConfigMap, Source};
use crate::registry::{listener_base, registry};

/// One described config.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub name: String,
    /// `None` for null and for secrets.
    pub value: Option<String>,
    pub source: Source,
    pub sensitive: bool,
    pub read_only: bool,
    /// All places where it is set, highest first; callers leave them out unless asked.
    pub synonyms: Vec<Synonym>,
    pub kind: Kind,
    pub doc: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synonym {
    pub name: String,
    pub value: Option<String>,
    pub source: Source,
}

/// All keys of a topic, by name. `own` are its overrides.
pub fn describe_topic(own: &ConfigMap, layers: BrokerLayers<'_>) -> Vec<Entry> {
    describe_all(&Effective::topic(own, layers))
}

/// All keys of one broker, by name, with the per-listener keys that are set.
pub fn describe_broker(layers: BrokerLayers<'_>) -> Vec<Entry> {
    let effective = Effective::broker(layers);
    let mut entries = describe_all(&effective);
    for (_, map) in layers.in_order() {
        for name in map.keys().filter(|name| listener_base(name).is_some()) {
            if let Some(key) = registry().get(Scope::Broker, name)
                && !entries.iter().any(|entry| entry.name == *name)
            {
                entries.push(entry(&effective, key, name));
            }
        }
    }
    entries
}

/// The dynamic defaults of all brokers (empty resource name): only those that are set.
pub fn describe_cluster_default(dynamic_default: &ConfigMap) -> Vec<Entry> {
    let layers = BrokerLayers {
        dynamic_default,
        ..BrokerLayers::default()
    };
    let effective = Effective::broker(layers);
    let keys = dynamic_default
        .keys()
        .filter_map(|name| registry().get(Scope::Broker, name).map(|key| (name, key)));
    keys.map(|(name, key)| {
        let mut described = entry(&effective, key, name);
        described
            .synonyms
            .retain(|synonym| synonym.source == Source::DynamicDefaultBroker);
        described
    })
    .collect()
}

/// All keys of a group, by name. `own` are its overrides.
pub fn describe_group(own: &ConfigMap, layers: BrokerLayers<'_>) -> Vec<Entry> {
    describe_all(&Effective::group(own, layers))
}

/// All keys of a client metrics subscription, by name.
pub fn describe_client_metrics(own: &ConfigMap) -> Vec<Entry> {
    describe_all(&Effective::client_metrics(own))
}

fn describe_all(effective: &Effective<'_>) -> Vec<Entry> {
    registry()
        .keys(effective.scope())
        .map(|key| entry(effective, key, key.name))
        .collect()
}

fn entry<'a>(effective: &Effective<'a>, key: &'static Key, name: &'a str) -> Entry {
    let shown = |text: String| (!key.is_sensitive()).then_some(text);
    let value = effective.value_of(key, name);
    // Kafka leaves out what lies above a broker key's own first place (`dropWhile`): the hours do not explain
    // why log.retention.ms is null. For a topic we keep them (Kafka drops them there too): they do explain
    // its retention.ms.
    let foreign = |of: &str| effective.scope() == Scope::Broker && of != name;
    let mut synonyms: Vec<Synonym> = effective
        .places(key, name)
        .into_iter()
        .skip_while(|found| foreign(found.name))
        .map(|found| Synonym {
            name: found.name.to_owned(),
            value: shown(found.text.to_owned()),
            source: found.source,
        })
        .collect();
    // Kafka lists the key's own default where no broker key stands behind a group's.
    if effective.scope() == Scope::Group && key.synonyms.is_empty() {
        synonyms.extend(key.default.map(|text| Synonym {
            name: key.name.to_owned(),
            value: shown(text.to_owned()),
            source: Source::Default,
        }));
    }
    Entry {
        name: name.to_owned(),
        source: synonyms.first().map_or(Source::Default, |first| first.source),
        value: value.and_then(|(value, _)| shown(value.to_string())),
        sensitive: key.is_sensitive(),
        read_only: key.is_read_only(),
        synonyms,
        kind: key.kind,
        doc: key.doc,
    }
}
