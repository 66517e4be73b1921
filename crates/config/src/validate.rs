//! Checks of whole resources before their configs are stored, as Kafka's validators do them.

use crate::effective::Effective;
use crate::error::ConfigError;
use crate::key::{Effect, Key, Scope, Update};
use crate::layers::{BrokerLayers, ConfigMap};
use crate::registry::{listener_base, registry};

/// Checks all overrides of a topic together (`LogConfig.validate`). On success returns those keys that have no
/// effect in this version, for one warning. Topic keys of older Kafkas pass without effect.
pub fn validate_topic(own: &ConfigMap, layers: BrokerLayers<'_>) -> Result<Vec<&'static str>, ConfigError> {
    let mut idle = Vec::new();
    for (name, value) in own {
        if let Some(retired) = registry().retired(Scope::Topic, name) {
            idle.push(retired.name);
            continue;
        }
        let key = registry().require(Scope::Topic, name)?;
        key.parse(value)?;
        idle.extend((key.effect != Effect::Honoured).then_some(key.name));
    }
    let from = Effective::topic(own, layers);
    let (min, max) = (
        from.int("min.compaction.lag.ms"),
        from.int("max.compaction.lag.ms"),
    );
    if min > max {
        return Err(ConfigError::Conflict(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )));
    }
    let tiered = Effective::broker(layers).bool("remote.log.storage.system.enable");
    if from.bool("remote.storage.enable") && !tiered {
        return Err(ConfigError::Conflict(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote \
             log storage."
                .to_owned(),
        ));
    }
    Ok(idle)
}

/// Checks a change of one broker's dynamic configs (`DynamicBrokerConfig.validateConfigs`). Unlike Kafka, which
/// stores unknown names for its plugins, an unknown name is refused. Returns the keys without effect.
pub fn validate_broker(changed: &ConfigMap) -> Result<Vec<&'static str>, ConfigError> {
    let keys = dynamic_keys(changed)?;
    Ok(without_effect(&keys))
}

/// Checks a change of the dynamic defaults of all brokers (empty resource name).
pub fn validate_cluster_default(changed: &ConfigMap) -> Result<Vec<&'static str>, ConfigError> {
    let keys = dynamic_keys(changed)?;
    let per_broker = names(&keys, |name, key| {
        key.update == Update::PerBroker
            || (listener_base(name).is_some() && !is_cluster_level_listener_key(key))
    });
    if let Some(names) = per_broker {
        return Err(ConfigError::PerBrokerOnly(names));
    }
    Ok(without_effect(&keys))
}

/// Checks all overrides of a group together (`GroupConfig.validate`): each within the broker's bounds.
pub fn validate_group(own: &ConfigMap, layers: BrokerLayers<'_>) -> Result<Vec<&'static str>, ConfigError> {
    let mut idle = Vec::new();
    for (name, value) in own {
        let key = registry().require(Scope::Group, name)?;
        key.parse(value)?;
        idle.extend((key.effect != Effect::Honoured).then_some(key.name));
    }
    let group = Effective::group(own, layers);
    let broker = Effective::broker(layers);
    for key in registry().group_keys().filter(|key| own.contains_key(key.name)) {
        let Some((kind, rest)) = key.name.split_once('.') else {
            continue;
        };
        within_broker_bounds(&group, &broker, key, kind, rest)?;
    }
    for kind in ["consumer", "share", "streams"] {
        let session = format!("{kind}.session.timeout.ms");
        let heartbeat = format!("{kind}.heartbeat.interval.ms");
        if group.int(&session) <= group.int(&heartbeat) {
            return Err(ConfigError::Conflict(format!(
                "{session} must be greater than {heartbeat}"
            )));
        }
    }
    Ok(idle)
}

/// Checks a client metrics subscription (`ClientMetricsConfigs.validate`).
pub fn validate_client_metrics(own: &ConfigMap) -> Result<Vec<&'static str>, ConfigError> {
    const SELECTORS: [&str; 6] = [
        "client_instance_id",
        "client_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    ];
    for (name, value) in own {
        registry().require(Scope::ClientMetrics, name)?.parse(value)?;
    }
    let from = Effective::client_metrics(own);
    let interval = from.int("interval.ms");
    if !(100..=3_600_000).contains(&interval) {
        return Err(ConfigError::ClientMetrics(format!(
            "Invalid value {interval} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
        )));
    }
    for pattern in from.list("match") {
        let selector = pattern.split_once('=').map(|(name, _)| name.trim());
        if !selector.is_some_and(|name| SELECTORS.contains(&name)) {
            return Err(ConfigError::Conflict(format!(
                "Illegal client matching pattern: {pattern}"
            )));
        }
    }
    Ok(own
        .keys()
        .filter_map(|name| registry().get(Scope::ClientMetrics, name))
        .filter(|key| !key.is_honoured())
        .map(|key| key.name)
        .collect())
}

type Named<'a> = (&'a str, &'static Key);

/// The keys behind changed names, all of them known, dynamic and with good values.
fn dynamic_keys(changed: &ConfigMap) -> Result<Vec<Named<'_>>, ConfigError> {
    let keys = changed
        .keys()
        .map(|name| Ok((name.as_str(), registry().require(Scope::Broker, name)?)))
        .collect::<Result<Vec<Named<'_>>, ConfigError>>()?;
    if let Some(names) = names(&keys, |_, key| key.is_read_only()) {
        return Err(ConfigError::NotDynamic(names));
    }
    if let Some(names) = names(&keys, |name, key| {
        name == key.name && key.update == Update::PerBroker && name.starts_with("ssl.")
    }) {
        return Err(ConfigError::PerListenerOnly(names));
    }
    for (name, value) in changed {
        registry().require(Scope::Broker, name)?.parse(value)?;
    }
    Ok(keys)
}

fn names(keys: &[Named<'_>], wrong: impl Fn(&str, &Key) -> bool) -> Option<String> {
    let names: Vec<&str> = keys
        .iter()
        .filter(|(name, key)| wrong(name, key))
        .map(|(name, _)| *name)
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn without_effect(keys: &[Named<'_>]) -> Vec<&'static str> {
    keys.iter()
        .filter(|(_, key)| !key.is_honoured())
        .map(|(_, key)| key.name)
        .collect()
}

/// Listener keys that may carry a prefix and still be set for the whole cluster.
fn is_cluster_level_listener_key(key: &Key) -> bool {
    [
        "max.connections",
        "max.connection.creation.rate",
        "num.network.threads",
    ]
    .contains(&key.name)
}

/// `consumer.session.timeout.ms` lies between `group.consumer.min.…` and `group.consumer.max.…`.
fn within_broker_bounds(
    group: &Effective<'_>,
    broker: &Effective<'_>,
    key: &'static Key,
    kind: &str,
    rest: &str,
) -> Result<(), ConfigError> {
    let bound = |name: String| {
        let known = registry().get(Scope::Broker, &name)?;
        Some((known.name, broker.opt_int(known.name)?))
    };
    // Streams bound their standby replicas by `group.streams.max.standby.replicas`.
    let rest = rest.strip_prefix("num.").unwrap_or(rest);
    let lowest = bound(format!("group.{kind}.min.{rest}"));
    let highest = bound(format!("group.{kind}.max.{rest}"));
    if lowest.is_none() && highest.is_none() {
        return Ok(());
    }
    let value = group.int(key.name);
    match (lowest, highest) {
        (Some((name, min)), _) if value < min => Err(ConfigError::Conflict(format!(
            "{} must be greater than or equal to {name}",
            key.name
        ))),
        (_, Some((name, max))) if value > max => Err(ConfigError::Conflict(format!(
            "{} must be less than or equal to {name}",
            key.name
        ))),
        _ => Ok(()),
    }
}
