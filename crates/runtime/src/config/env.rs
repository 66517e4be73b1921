//! Environment variables in three dialects: `KAFKA_…` (apache/kafka image), `KAFKA_CFG_…` (bitnami), `STROM_…`.
//!
//! An environment name cannot say whether `_` stands for `.`, `_` or `-`, so names are looked up in the key
//! registry instead of being rewritten.

use std::collections::BTreeMap;

use strom_config::{Kind, Scope, registry, suggest};

use super::error::Mistake;
use super::layer::Assignment;

/// Variables of the images' own scripts that carry the cluster id.
const CLUSTER_ID_NAMES: [&str; 3] = ["KAFKA_KRAFT_CLUSTER_ID", "KAFKA_CLUSTER_ID", "CLUSTER_ID"];

/// In rising precedence: where two dialects name one key, the later wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dialect {
    Apache,
    Bitnami,
    Strom,
}

/// The assignments of all variables that name a key, lowest precedence first. A variable that is empty counts
/// as unset, as composed files leave them. Unknown `STROM_…` and `KAFKA_CFG_…` names are mistakes; other
/// unknown `KAFKA_…` names belong to Kafka's start scripts.
pub(super) fn assignments(
    env: &[(String, String)],
    ignored: &[String],
    mistakes: &mut Vec<Mistake>,
) -> Vec<Assignment> {
    let names = Names::new();
    let mut found: Vec<(Dialect, Assignment)> = Vec::new();
    for (variable, value) in env {
        if value.is_empty() || ignored.contains(variable) {
            continue;
        }
        let Some((dialect, rest)) = dialect_of(variable) else {
            continue;
        };
        let place = format!("environment variable {variable}");
        match names.resolve(dialect, rest) {
            Some(Resolved::Key(key)) => found.push((
                dialect,
                Assignment {
                    key,
                    value: value.clone(),
                    place,
                },
            )),
            Some(Resolved::File(key)) => match std::fs::read_to_string(value) {
                Ok(secret) => found.push((
                    dialect,
                    Assignment {
                        key,
                        value: secret.trim_end_matches(['\r', '\n']).to_owned(),
                        place: format!("the file named by {place}"),
                    },
                )),
                Err(error) => mistakes.push(Mistake {
                    problem: format!("cannot read the file {value}: {error}"),
                    place,
                }),
            },
            None if dialect == Dialect::Apache => {
                tracing::debug!(
                    variable,
                    "environment variable names no configuration key, ignored"
                );
            }
            None => mistakes.push(Mistake {
                problem: names.unknown(rest),
                place,
            }),
        }
    }
    found.sort_by(|(a, x), (b, y)| (a, &x.place).cmp(&(b, &y.place)));
    found.into_iter().map(|(_, assignment)| assignment).collect()
}

/// The dialect and what follows its prefix.
fn dialect_of(variable: &str) -> Option<(Dialect, &str)> {
    if CLUSTER_ID_NAMES.contains(&variable) {
        return Some((Dialect::Apache, variable));
    }
    if let Some(rest) = variable.strip_prefix("KAFKA_CFG_") {
        return Some((Dialect::Bitnami, rest));
    }
    if let Some(rest) = variable.strip_prefix("KAFKA_") {
        return Some((Dialect::Apache, rest));
    }
    variable.strip_prefix("STROM_").map(|rest| (Dialect::Strom, rest))
}

enum Resolved {
    Key(String),
    /// The value is the name of a file that holds the key's secret.
    File(String),
}

/// Every broker key by its form with `_` for each separator.
struct Names(BTreeMap<String, &'static str>);

impl Names {
    fn new() -> Self {
        let retired = registry()
            .all_retired()
            .filter(|retired| retired.scope == Scope::Broker);
        let names = registry()
            .broker_keys()
            .map(|key| key.name)
            .chain(retired.map(|retired| retired.name));
        Names(names.map(|name| (squash(name), name)).collect())
    }

    fn resolve(&self, dialect: Dialect, rest: &str) -> Option<Resolved> {
        if let Some(key) = self.key(dialect, rest) {
            return Some(Resolved::Key(key));
        }
        let key = self.key(dialect, rest.strip_suffix("_FILE")?)?;
        let secret = registry()
            .get(Scope::Broker, &key)
            .is_some_and(|key| key.kind == Kind::Password);
        secret.then_some(Resolved::File(key))
    }

    fn key(&self, dialect: Dialect, rest: &str) -> Option<String> {
        if CLUSTER_ID_NAMES.contains(&rest) {
            return Some("strom.cluster.id".to_owned());
        }
        let squashed = squash(rest.trim_matches('_'));
        let mut known = None;
        if dialect == Dialect::Strom {
            known = self.0.get(&format!("STROM_{squashed}"));
        }
        if let Some(name) = known.or_else(|| self.0.get(&squashed)) {
            return Some((*name).to_owned());
        }
        // A key with a listener prefix, whose listener's name only the user knows.
        let spelled = match dialect {
            Dialect::Apache => spell_apache(rest),
            Dialect::Bitnami | Dialect::Strom => rest.replace('_', "."),
        };
        let spelled = spelled.to_ascii_lowercase();
        registry().get(Scope::Broker, &spelled).map(|_| spelled)
    }

    fn unknown(&self, rest: &str) -> String {
        let key = squash(rest).replace('_', ".").to_ascii_lowercase();
        let with_prefix = format!("strom.{key}");
        let near = suggest(&key, self.0.values().copied())
            .or_else(|| suggest(&with_prefix, self.0.values().copied()));
        match near {
            Some(near) => format!("names no configuration key; did you mean {near}?"),
            None => "names no configuration key".to_owned(),
        }
    }
}

/// Upper case, one `_` for each run of separators.
fn squash(name: &str) -> String {
    let mut squashed = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '.' | '-' | '_' if squashed.ends_with('_') => {}
            '.' | '-' | '_' => squashed.push('_'),
            other => squashed.push(other.to_ascii_uppercase()),
        }
    }
    squashed
}

/// The apache image's rule: `___` is `-`, `__` is `_`, `_` is `.`.
fn spell_apache(rest: &str) -> String {
    rest.replace("___", "-")
        .replace("__", "\u{0}")
        .replace('_', ".")
        .replace('\u{0}', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_spelled_as_the_apache_image_does() {
        assert_eq!(spell_apache("A_B__C___D"), "A.B_C-D");
        assert_eq!(squash("a.b__C-d"), "A_B_C_D");
    }
}
