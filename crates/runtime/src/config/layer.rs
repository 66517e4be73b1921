//! Checks assignments against the key registry and merges them with figment, which keeps where each came from.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};
use strom_config::{Scope, registry};

use super::error::{LoadError, Mistake};
use super::settings::{Setting, Settings};

/// Keys for Kafka's storage plugins, named by the plugins themselves.
const PLUGIN_PREFIXES: [&str; 2] = ["rsm.config.", "rlmm.config."];

/// `key = value`, and where that stands, as a user would look for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Assignment {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) place: String,
}

/// One assignment is one figment provider, so that its metadata names the very variable or file.
impl Provider for Assignment {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let mut dict = Dict::new();
        // The key stays whole: Kafka has both `max.connections` and `max.connections.per.ip`, which as nested
        // tables would exclude each other.
        dict.insert(self.key.clone(), Value::from(self.value.clone()));
        Ok(Profile::Default.collect(dict))
    }
}

/// Later assignments win.
pub(super) fn merge(assignments: Vec<Assignment>, mut mistakes: Vec<Mistake>) -> Result<Settings, LoadError> {
    let mut figment = Figment::new();
    for assignment in assignments {
        match check(&assignment) {
            Ok(()) => figment = figment.merge(assignment),
            Err(problem) => mistakes.push(Mistake {
                place: assignment.place,
                problem,
            }),
        }
    }
    if !mistakes.is_empty() {
        return Err(LoadError::Mistakes(mistakes));
    }
    let mut data = figment
        .data()
        .map_err(|error| LoadError::Merge(error.to_string()))?;
    let merged = data.remove(&Profile::Default).unwrap_or_default();
    let values: BTreeMap<String, Setting> = merged
        .into_iter()
        .map(|(key, value)| {
            let place = figment
                .get_metadata(value.tag())
                .map_or_else(String::new, |metadata| metadata.name.to_string());
            let value = value.into_string().unwrap_or_default();
            (key, Setting { value, place })
        })
        .collect();
    Ok(Settings::new(values))
}

fn check(assignment: &Assignment) -> Result<(), String> {
    let name = &assignment.key;
    let is_plugins = PLUGIN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if is_plugins || registry().retired(Scope::Broker, name).is_some() {
        return Ok(());
    }
    let key = registry()
        .require(Scope::Broker, name)
        .map_err(|error| error.to_string())?;
    key.parse(&assignment.value)
        .map(|_| ())
        .map_err(|error| error.to_string())
}
