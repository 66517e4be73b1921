//! Reads TOML and Java properties files into flat `key = value` assignments.

use std::path::Path;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};
use figment::{Profile, Provider};

use super::error::LoadError;
use super::layer::Assignment;

/// Tables and dotted names alike: `[num] partitions = 3` is `num.partitions`.
pub(super) fn read_toml(path: &Path) -> Result<Vec<Assignment>, LoadError> {
    let text = read(path)?;
    let syntax = |error: figment::Error| LoadError::Syntax {
        path: path.to_owned(),
        problem: error.to_string(),
    };
    let mut data = Toml::string(&text).data().map_err(syntax)?;
    let place = path.display().to_string();
    let mut flat = Vec::new();
    if let Some(dict) = data.remove(&Profile::Default) {
        flatten("", dict, &mut flat);
    }
    Ok(flat
        .into_iter()
        .map(|(key, value)| Assignment {
            key,
            value,
            place: place.clone(),
        })
        .collect())
}

/// As `java.util.Properties` reads them; blanks around values do not count, as in Kafka.
pub(super) fn read_properties(path: &Path) -> Result<Vec<Assignment>, LoadError> {
    let text = read(path)?;
    let map = java_properties::read(text.as_bytes()).map_err(|error| LoadError::Syntax {
        path: path.to_owned(),
        problem: error.to_string(),
    })?;
    let place = path.display().to_string();
    let mut all: Vec<Assignment> = map
        .into_iter()
        .map(|(key, value)| Assignment {
            key,
            value: value.trim().to_owned(),
            place: place.clone(),
        })
        .collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(all)
}

fn read(path: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })
}

fn flatten(prefix: &str, dict: Dict, into: &mut Vec<(String, String)>) {
    for (name, value) in dict {
        let key = match prefix {
            "" => name,
            prefix => format!("{prefix}.{name}"),
        };
        match value {
            Value::Dict(_, inner) => flatten(&key, inner, into),
            other => into.push((key, text(&other))),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(_, text) => text.clone(),
        Value::Char(_, letter) => letter.to_string(),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(whole), _, _) => whole.to_string(),
            (_, Some(whole), _) => whole.to_string(),
            (_, _, Some(real)) => real.to_string(),
            _ => String::new(),
        },
        Value::Array(_, items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Empty(..) | Value::Dict(..) => String::new(),
    }
}
