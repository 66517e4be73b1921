//! The bounds of a key's values, read from the table's notation and checked with Kafka's messages.

use std::fmt;

use crate::error::ConfigError;
use crate::key::Kind;
use crate::value::Value;

/// Kafka's validators (`ConfigDef.Range`, `ValidString`, `ValidList`, …).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Valid {
    Any,
    /// `[1,...]` or `[1,...,9]`, both ends inclusive.
    Range {
        min: i64,
        max: Option<i64>,
    },
    /// `[1,...,9] or -1`.
    RangeOrMinusOne {
        min: i64,
        max: i64,
    },
    OneOf(Vec<&'static str>),
    OneOfIgnoreCase(Vec<&'static str>),
    /// Each element of a list is one of these.
    EachOf(Vec<&'static str>),
    /// The same, and there is at least one.
    SomeOf(Vec<&'static str>),
    NonEmptyList,
    /// `host:port` each (`controller.quorum.bootstrap.servers`).
    HostPorts,
    /// `id@host:port` each (`controller.quorum.voters`).
    Voters,
    NonEmptyString,
    /// `latest`, `earliest` or `by_duration:<ISO 8601 duration>` (KIP-932).
    OffsetReset,
    /// `*` or a list of `partition:broker` (Kafka's `ThrottledReplicaListValidator`).
    ThrottledReplicas,
}

impl Valid {
    /// Reads the notation of the key table; `None` when it is none.
    pub(crate) fn from_notation(kind: Kind, text: &'static str) -> Option<Valid> {
        match text {
            "" | "non-null string" => return Some(Valid::Any),
            "non-empty list" => return Some(Valid::NonEmptyList),
            "non-empty string" => return Some(Valid::NonEmptyString),
            "[host]:[port],..." => return Some(Valid::HostPorts),
            "[id]@[host]:[port],..." => return Some(Valid::Voters),
            _ if text.starts_with("[partitionId]") => return Some(Valid::ThrottledReplicas),
            _ if text.contains("by_duration:") => return Some(Valid::OffsetReset),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("(case insensitive) ") {
            return words(rest).map(Valid::OneOfIgnoreCase);
        }
        if let Some(rest) = text.strip_prefix("non-empty ") {
            return words(rest).map(Valid::SomeOf);
        }
        if let Some(rest) = text.strip_suffix(" or -1") {
            let (min, max) = range(rest)?;
            return Some(Valid::RangeOrMinusOne { min, max: max? });
        }
        if text.contains(",...") {
            let (min, max) = range(text)?;
            return Some(Valid::Range { min, max });
        }
        let names = words(text)?;
        Some(match kind {
            Kind::List => Valid::EachOf(names),
            _ => Valid::OneOf(names),
        })
    }

    pub(crate) fn check(&self, name: &str, value: &Value) -> Result<(), ConfigError> {
        if let Value::List(items) = value {
            return self.check_list(name, items);
        }
        let reason = match (self, value) {
            (Valid::Range { min, max }, _) => out_of_range(value, *min, *max),
            (Valid::RangeOrMinusOne { min, max }, Value::Int(number))
                if *number != -1 && !(*min..=*max).contains(number) =>
            {
                Some(format!("Value must be between {min} and {max} or equal to -1"))
            }
            (Valid::OneOf(names), Value::Text(word)) if !names.contains(&word.as_str()) => {
                Some(one_of(names))
            }
            (Valid::OneOfIgnoreCase(names), Value::Text(word))
                if !names.iter().any(|name| name.eq_ignore_ascii_case(word)) =>
            {
                let names = names.join(", ");
                Some(format!("String must be one of (case insensitive): {names}"))
            }
            (Valid::NonEmptyString, Value::Text(word)) if word.is_empty() => {
                Some("String must be non-empty".to_owned())
            }
            (Valid::OffsetReset, Value::Text(word)) if !is_offset_reset(word) => Some(format!(
                "Invalid value `{word}` for configuration {name}. The value must be either 'earliest', 'latest' \
                 or of the format 'by_duration:<PnDTnHnMn.nS>'."
            )),
            _ => None,
        };
        match reason {
            // As Kafka, the value in the form it was understood in.
            Some(reason) => Err(ConfigError::invalid(name, &value.to_string(), reason)),
            None => Ok(()),
        }
    }

    fn check_list(&self, name: &str, items: &[String]) -> Result<(), ConfigError> {
        let other = |names: &[&str]| items.iter().find(|item| !names.contains(&item.as_str()));
        match self {
            Valid::NonEmptyList if items.is_empty() => Err(empty_list(name, "any non-empty value")),
            Valid::SomeOf(names) if items.is_empty() => {
                Err(empty_list(name, &format!("[{}]", names.join(", "))))
            }
            Valid::EachOf(names) | Valid::SomeOf(names) => match other(names) {
                Some(other) => Err(ConfigError::invalid(name, other, one_of(names))),
                None => Ok(()),
            },
            Valid::HostPorts => match items.iter().find(|item| !is_host_port(item)) {
                Some(item) => Err(ConfigError::Conflict(format!(
                    "Failed to parse host name from {item} for the configuration {name}. Each entry should be \
                     in the form \"{{host}}:{{port}}\""
                ))),
                None => Ok(()),
            },
            Valid::Voters if !items.iter().all(|item| is_voter(item)) => Err(ConfigError::Conflict(format!(
                "Invalid configuration value for {name}. Each entry should be in the form `{{id}}@{{host}}:{{port}}`."
            ))),
            Valid::ThrottledReplicas if !are_throttled_replicas(items) => {
                let reason = format!(
                    "{name} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                );
                let shown = format!("[{}]", items.join(", "));
                Err(ConfigError::invalid(name, &shown, reason))
            }
            _ => Ok(()),
        }
    }
}

fn one_of(names: &[&str]) -> String {
    format!("String must be one of: {}", names.join(", "))
}

/// For the documentation.
impl fmt::Display for Valid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Valid::Any => Ok(()),
            Valid::Range { min, max: None } => write!(f, "≥ {min}"),
            Valid::Range { min, max: Some(max) } => write!(f, "{min} to {max}"),
            Valid::RangeOrMinusOne { min, max } => write!(f, "{min} to {max}, or -1"),
            Valid::OneOf(names) | Valid::OneOfIgnoreCase(names) => f.write_str(&names.join(", ")),
            Valid::EachOf(names) | Valid::SomeOf(names) => write!(f, "any of {}", names.join(", ")),
            Valid::NonEmptyList | Valid::NonEmptyString => f.write_str("not empty"),
            Valid::HostPorts => f.write_str("host:port,…"),
            Valid::Voters => f.write_str("id@host:port,…"),
            Valid::OffsetReset => f.write_str("latest, earliest, by_duration:PnDTnHnMn.nS"),
            Valid::ThrottledReplicas => f.write_str("`*` or partition:broker,…"),
        }
    }
}

fn range(text: &str) -> Option<(i64, Option<i64>)> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let (min, rest) = inner.split_once(",...")?;
    let max = match rest.strip_prefix(',') {
        Some(max) => Some(max.parse().ok()?),
        None if rest.is_empty() => None,
        None => return None,
    };
    Some((min.parse().ok()?, max))
}

fn words(text: &'static str) -> Option<Vec<&'static str>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some(inner.split(", ").collect())
}

fn out_of_range(value: &Value, min: i64, max: Option<i64>) -> Option<String> {
    let (below, above) = match value {
        Value::Int(number) => (*number < min, max.is_some_and(|max| *number > max)),
        // Bounds of doubles are small whole numbers, so the conversion is exact.
        Value::Double(number) => (*number < min as f64, max.is_some_and(|max| *number > max as f64)),
        _ => (false, false),
    };
    match (below, above, max) {
        (true, _, _) => Some(format!("Value must be at least {min}")),
        (_, true, Some(max)) => Some(format!("Value must be no more than {max}")),
        _ => None,
    }
}

fn empty_list(name: &str, valid: &str) -> ConfigError {
    ConfigError::List {
        name: name.to_owned(),
        reason: format!("must not be empty. Valid values include: {valid}"),
    }
}

fn is_host_port(item: &str) -> bool {
    item.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn is_voter(item: &str) -> bool {
    item.split_once('@')
        .is_some_and(|(id, address)| id.parse::<u32>().is_ok() && is_host_port(address))
}

fn is_offset_reset(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    match lower.strip_prefix("by_duration:") {
        Some(duration) => is_iso_duration(duration),
        None => lower == "latest" || lower == "earliest",
    }
}

/// `PnDTnHnMn.nS` as `java.time.Duration.parse` reads it, without signs: at least one part, in order.
fn is_iso_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('p') else {
        return false;
    };
    let (days, time) = match rest.split_once('t') {
        Some((days, time)) if !time.is_empty() => (days, Some(time)),
        Some(_) => return false,
        None => (rest, None),
    };
    let days_fit = days.is_empty() || parts_in_order(days, "d");
    days_fit && time.map_or(!days.is_empty(), |time| parts_in_order(time, "hms"))
}

fn parts_in_order(text: &str, units: &str) -> bool {
    let mut allowed = units;
    let mut number = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() || letter == '.' {
            number.push(letter);
            continue;
        }
        let Some(at) = allowed.find(letter) else {
            return false;
        };
        let whole = number.parse::<u64>().is_ok();
        let fraction = letter == 's' && number.parse::<f64>().is_ok();
        if !whole && !fraction {
            return false;
        }
        number.clear();
        allowed = allowed.get(at + 1..).unwrap_or_default();
    }
    number.is_empty()
}

fn are_throttled_replicas(items: &[String]) -> bool {
    if items.len() == 1 && items.iter().any(|item| item == "*") {
        return true;
    }
    items.iter().all(|item| {
        item.split_once(':').is_some_and(|(partition, broker)| {
            partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok()
        })
    })
}
