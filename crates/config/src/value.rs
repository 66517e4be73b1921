//! A typed value: read from text as Kafka's `ConfigDef.parseType` does, written as its `convertToString` does.

use std::fmt;

use crate::error::ConfigError;
use crate::key::Kind;
use crate::valid::Valid;

/// What Kafka shows in place of a secret.
const HIDDEN: &str = "[hidden]";

/// A password; `Debug` and `Display` never show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Bool(bool),
    /// INT, SHORT and LONG, each within its own range.
    Int(i64),
    Double(f64),
    /// STRING and CLASS.
    Text(String),
    List(Vec<String>),
    Secret(Secret),
}

impl Value {
    pub(crate) fn parse(name: &str, kind: Kind, valid: &Valid, text: &str) -> Result<Value, ConfigError> {
        let trimmed = text.trim();
        let shown = match kind {
            Kind::Password => HIDDEN,
            _ => text,
        };
        let value = match kind {
            Kind::Boolean if trimmed.eq_ignore_ascii_case("true") => Value::Bool(true),
            Kind::Boolean if trimmed.eq_ignore_ascii_case("false") => Value::Bool(false),
            Kind::Boolean => {
                let reason = "Expected value to be either true or false";
                return Err(ConfigError::invalid(name, shown, reason));
            }
            Kind::Int => Value::Int(i64::from(number::<i32>(name, kind, trimmed)?)),
            Kind::Short => Value::Int(i64::from(number::<i16>(name, kind, trimmed)?)),
            Kind::Long => Value::Int(number::<i64>(name, kind, trimmed)?),
            Kind::Double => match number::<f64>(name, kind, trimmed)? {
                finite if finite.is_finite() => Value::Double(finite),
                // Kafka takes NaN, which is within no bounds and outside none.
                _ => return Err(not_a_number(name, kind, trimmed)),
            },
            Kind::String | Kind::Class => Value::Text(trimmed.to_owned()),
            Kind::List => Value::List(list(name, trimmed)?),
            Kind::Password => Value::Secret(Secret(trimmed.to_owned())),
        };
        valid.check(name, &value)?;
        Ok(value)
    }

    /// Multiplies a whole number by the unit factor of a synonym; Kafka reads any negative time as "no limit".
    pub(crate) fn scaled(self, factor: i64) -> Value {
        match self {
            Value::Int(number) if factor != 1 => Value::Int(match number {
                ..0 => -1,
                _ => number.saturating_mul(factor),
            }),
            other => other,
        }
    }
}

/// The text form that DescribeConfigs shows; secrets are hidden.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => value.fmt(f),
            Value::Int(value) => value.fmt(f),
            Value::Double(value) => f.write_str(&java_double(*value)),
            Value::Text(value) => f.write_str(value),
            Value::List(items) => f.write_str(&items.join(",")),
            Value::Secret(_) => f.write_str(HIDDEN),
        }
    }
}

fn number<N: std::str::FromStr>(name: &str, kind: Kind, text: &str) -> Result<N, ConfigError> {
    text.parse().map_err(|_| not_a_number(name, kind, text))
}

fn not_a_number(name: &str, kind: Kind, text: &str) -> ConfigError {
    ConfigError::invalid(name, text, format!("Not a number of type {}", kind.name()))
}

/// Without empty elements; a repeated element counts once, as in Kafka since 4.2 (KIP-1161).
fn list(name: &str, text: &str) -> Result<Vec<String>, ConfigError> {
    let mut items: Vec<String> = Vec::new();
    for item in split_list(text) {
        if item.is_empty() {
            return Err(ConfigError::List {
                name: name.to_owned(),
                reason: "values must not be empty.".to_owned(),
            });
        }
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Ok(items)
}

/// Commas with any blanks around them; an empty text is an empty list.
fn split_list(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(|item| item.trim().to_owned()).collect()
}

/// `Double.toString`: plain between 10^-3 and 10^7, else with an `E`; always with a fraction.
fn java_double(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => format!("{digits}E{exponent}"),
        Some((digits, exponent)) => format!("{digits}.0E{exponent}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_in_java() {
        for (value, text) in [
            (0.5, "0.5"),
            (1.0, "1.0"),
            (0.05, "0.05"),
            (1.797_693_134_862_315_7E308, "1.7976931348623157E308"),
            (2_147_483_647.0, "2.147483647E9"),
            (1e7, "1.0E7"),
            (1e-4, "1.0E-4"),
            (0.0, "0.0"),
        ] {
            assert_eq!(java_double(value), text);
        }
    }

    #[test]
    fn lists_split() {
        assert_eq!(split_list("a , b,c"), ["a", "b", "c"]);
        assert!(split_list("").is_empty());
        assert_eq!(split_list("a,,b"), ["a", "", "b"]);
    }

    #[test]
    fn a_secret_stays_one() {
        let value = Value::Secret(Secret("hunter2".to_owned()));
        assert!(!format!("{value} {value:?}").contains("hunter2"));
    }
}
