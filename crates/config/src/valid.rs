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
    /// Each element of a list is one of these, none twice.
    EachOf(Vec<&'static str>),
    NonEmptyList,
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
            _ if text.starts_with("[partitionId]") => return Some(Valid::ThrottledReplicas),
            _ if text.contains("by_duration:") => return Some(Valid::OffsetReset),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("(case insensitive) ") {
            return words(rest).map(Valid::OneOfIgnoreCase);
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

    /// `text` is the value as the user wrote it, for the message.
    pub(crate) fn check(&self, name: &str, text: &str, value: &Value) -> Result<(), ConfigError> {
        let refuse = |reason: String| Err(ConfigError::invalid(name, text, reason));
        match (self, value) {
            (Valid::Any, _) => Ok(()),
            (Valid::Range { min, max }, _) => match out_of_range(value, *min, *max) {
                Some(reason) => refuse(reason),
                None => Ok(()),
            },
            (Valid::RangeOrMinusOne { min, max }, Value::Int(number)) => {
                if *number == -1 || (*min..=*max).contains(number) {
                    return Ok(());
                }
                refuse(format!("Value must be between {min} and {max} or equal to -1"))
            }
            (Valid::OneOf(names), Value::Text(word)) if !names.contains(&word.as_str()) => {
                refuse(format!("String must be one of: {}", names.join(", ")))
            }
            (Valid::OneOfIgnoreCase(names), Value::Text(word))
                if !names.iter().any(|name| name.eq_ignore_ascii_case(word)) =>
            {
                refuse(format!(
                    "String must be one of (case insensitive): {}",
                    names.join(", ")
                ))
            }
            (Valid::EachOf(names), Value::List(items)) => each_of(name, names, items),
            (Valid::NonEmptyList, Value::List(items)) if items.is_empty() => Err(ConfigError::List {
                name: name.to_owned(),
                reason: "must not be empty. Valid values include: any non-empty value".to_owned(),
            }),
            (Valid::NonEmptyString, Value::Text(word)) if word.is_empty() => {
                refuse("String must be non-empty".to_owned())
            }
            (Valid::OffsetReset, Value::Text(word)) if !is_offset_reset(word) => {
                refuse("String must be one of: latest, earliest, or by_duration:PnDTnHnMn.nS".to_owned())
            }
            (Valid::ThrottledReplicas, Value::List(items)) if !are_throttled_replicas(items) => {
                refuse(format!(
                    "{name} must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                ))
            }
            _ => Ok(()),
        }
    }
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
            Valid::EachOf(names) => write!(f, "any of {}", names.join(", ")),
            Valid::NonEmptyList | Valid::NonEmptyString => f.write_str("not empty"),
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

fn each_of(name: &str, names: &[&'static str], items: &[String]) -> Result<(), ConfigError> {
    let list_error = |reason: &str| {
        Err(ConfigError::List {
            name: name.to_owned(),
            reason: reason.to_owned(),
        })
    };
    for (at, item) in items.iter().enumerate() {
        if items.iter().skip(at + 1).any(|other| other == item) {
            return list_error("values must not be duplicated.");
        }
        if item.is_empty() {
            return list_error("values must not be empty.");
        }
        if !names.contains(&item.as_str()) {
            let reason = format!("String must be one of: {}", names.join(", "));
            return Err(ConfigError::invalid(name, item, reason));
        }
    }
    Ok(())
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
