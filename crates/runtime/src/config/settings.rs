//! The loaded static configuration: typed reads by key, provenance, and what to say about it at the start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use strom_config::{BrokerLayers, ConfigMap, Effect, Effective, Scope, registry};

/// A value that some layer sets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    pub value: String,
    /// Where it was set, in words: `environment variable KAFKA_CFG_NODE_ID`.
    pub place: String,
}

/// The static configuration of a process. Typed reads fall back to the registry's defaults; they panic for a
/// name that the registry lacks or that has another type, which is a mistake of the caller.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    places: BTreeMap<String, String>,
    values: ConfigMap,
}

impl Settings {
    pub(super) fn new(settings: BTreeMap<String, Setting>) -> Self {
        let mut places = BTreeMap::new();
        let mut values = ConfigMap::new();
        for (key, setting) in settings {
            places.insert(key.clone(), setting.place);
            values.insert(key, setting.value);
        }
        Settings { places, values }
    }

    /// What is set, without the defaults: the static layer under the cluster's dynamic configs.
    pub fn static_layer(&self) -> &ConfigMap {
        &self.values
    }

    /// The value as it was set, and where; `None` where the default holds.
    pub fn setting(&self, name: &str) -> Option<Setting> {
        Some(Setting {
            value: self.values.get(name)?.clone(),
            place: self.places.get(name).cloned().unwrap_or_default(),
        })
    }

    /// The static configuration as the registry's view of a broker.
    pub fn effective(&self) -> Effective<'_> {
        Effective::broker(BrokerLayers::of_static(&self.values))
    }

    pub fn bool(&self, name: &str) -> bool {
        self.effective().bool(name)
    }

    /// INT, SHORT or LONG; -1 when null.
    pub fn int(&self, name: &str) -> i64 {
        self.effective().int(name)
    }

    pub fn opt_int(&self, name: &str) -> Option<i64> {
        self.effective().opt_int(name)
    }

    pub fn double(&self, name: &str) -> f64 {
        self.effective().double(name)
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.effective().text(name)
    }

    pub fn list(&self, name: &str) -> Vec<String> {
        self.effective().list(name)
    }

    /// A number of milliseconds; `None` when null or negative, which Kafka reads as "no limit".
    pub fn millis(&self, name: &str) -> Option<Duration> {
        let value = self.opt_int(name)?;
        u64::try_from(value).ok().map(Duration::from_millis)
    }

    /// A number of bytes or things; `usize::MAX` when null or negative, which Kafka reads as "no limit".
    pub fn size(&self, name: &str) -> usize {
        let value = self.opt_int(name);
        value
            .and_then(|value| usize::try_from(value).ok())
            .unwrap_or(usize::MAX)
    }

    /// `node.id`, else its older name `broker.id`; `None` when neither is set.
    pub fn node_id(&self) -> Option<i32> {
        let value = self.opt_int("node.id").or_else(|| self.opt_int("broker.id"))?;
        i32::try_from(value).ok().filter(|id| *id >= 0)
    }

    /// `log.dirs`, else `log.dir`.
    pub fn log_dirs(&self) -> Vec<PathBuf> {
        let dirs = match self.list("log.dirs") {
            dirs if dirs.is_empty() => self.list("log.dir"),
            dirs => dirs,
        };
        dirs.into_iter().map(PathBuf::from).collect()
    }

    /// Names that are set and have no effect in this version, with why.
    pub fn without_effect(&self) -> Vec<(&str, &'static str)> {
        self.values
            .keys()
            .filter_map(|name| {
                let why = match registry().get(Scope::Broker, name) {
                    Some(key) => match key.effect {
                        Effect::Honoured => return None,
                        Effect::NotYet => "not implemented yet",
                        Effect::Ignored => key.doc,
                    },
                    None => registry()
                        .retired(Scope::Broker, name)
                        .map_or("for a Java plugin", |retired| retired.doc),
                };
                Some((name.as_str(), why))
            })
            .collect()
    }

    /// What is set, one line each: `name = value (from place)`, secrets hidden.
    pub fn summary(&self) -> Vec<String> {
        self.values
            .iter()
            .map(|(name, value)| {
                let secret = registry()
                    .get(Scope::Broker, name)
                    .is_some_and(|key| key.is_sensitive());
                let shown = if secret { "[hidden]" } else { value };
                let place = self.places.get(name).map_or("", String::as_str);
                format!("{name} = {shown} (from {place})")
            })
            .collect()
    }

    /// Logs the summary, and one warning for each key that has no effect. Once, at the start.
    pub fn log(&self) {
        for line in self.summary() {
            tracing::info!(target: "strom::config", "{line}");
        }
        for (key, why) in self.without_effect() {
            tracing::warn!(target: "strom::config", key, why, "this configuration key has no effect");
        }
    }
}
