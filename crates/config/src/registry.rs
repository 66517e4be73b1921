//! The table of all keys, looked up by scope and name.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::error::ConfigError;
use crate::key::{Key, Retired, Scope};
use crate::suggest::suggest;
use crate::table::{TableError, parse_keys, parse_retired};

/// All keys of one build. Immutable; the one instance is [`registry`].
#[derive(Debug)]
pub struct Registry {
    keys: Vec<Key>,
    by_name: BTreeMap<(Scope, &'static str), usize>,
    retired: BTreeMap<(Scope, &'static str), Retired>,
}

/// The table that was compiled in: constant data, parsed at its first use.
pub fn registry() -> &'static Registry {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
        Registry::parse().expect("the embedded key tables parse, as a test of this crate checks")
    });
    &REGISTRY
}

impl Registry {
    fn parse() -> Result<Registry, TableError> {
        let keys = parse_keys()?;
        let mut by_name = BTreeMap::new();
        for (index, key) in keys.iter().enumerate() {
            if by_name.insert((key.scope, key.name), index).is_some() {
                return Err(TableError {
                    file: key.area,
                    line: 0,
                    problem: format!("{} is there twice", key.name),
                });
            }
        }
        let retired = parse_retired()?
            .into_iter()
            .map(|retired| ((retired.scope, retired.name), retired))
            .collect();
        Ok(Registry {
            keys,
            by_name,
            retired,
        })
    }

    /// Every key, in the order of the documentation.
    pub fn all(&self) -> &[Key] {
        &self.keys
    }

    /// The keys of one scope, by name.
    pub fn keys(&self, scope: Scope) -> impl Iterator<Item = &Key> {
        self.by_name
            .iter()
            .filter(move |((of, _), _)| *of == scope)
            .filter_map(|(_, &index)| self.keys.get(index))
    }

    pub fn topic_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys(Scope::Topic)
    }

    pub fn broker_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys(Scope::Broker)
    }

    pub fn group_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys(Scope::Group)
    }

    /// The key, or for a broker key with a listener prefix (`listener.name.<listener>.[<mechanism>.]<key>`)
    /// the key behind it.
    pub fn get(&self, scope: Scope, name: &str) -> Option<&Key> {
        self.exact(scope, name).or_else(|| match scope {
            Scope::Broker => self.exact(scope, listener_base(name)?).or_else(|| {
                let (_mechanism, base) = listener_base(name)?.split_once('.')?;
                self.exact(scope, base)
                    .filter(|key| key.name.starts_with("sasl."))
            }),
            _ => None,
        })
    }

    fn exact(&self, scope: Scope, name: &str) -> Option<&Key> {
        let index = self.by_name.get(&(scope, name))?;
        self.keys.get(*index)
    }

    /// As [`Registry::get`], with the error that a user gets for a name that is none.
    pub fn require(&self, scope: Scope, name: &str) -> Result<&Key, ConfigError> {
        self.get(scope, name).ok_or_else(|| ConfigError::Unknown {
            scope,
            name: name.to_owned(),
            suggestion: suggest(name, self.keys(scope).map(|key| key.name)),
        })
    }

    /// A key of an older Kafka that is still accepted, without effect.
    pub fn retired(&self, scope: Scope, name: &str) -> Option<Retired> {
        self.retired.get(&(scope, name)).copied()
    }

    pub fn all_retired(&self) -> impl Iterator<Item = &Retired> {
        self.retired.values()
    }
}

/// What follows `listener.name.<listener>.`.
pub(crate) fn listener_base(name: &str) -> Option<&str> {
    let (_listener, base) = name.strip_prefix("listener.name.")?.split_once('.')?;
    Some(base)
}
