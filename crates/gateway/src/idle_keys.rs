//! Warns once of each configuration key that was set though it has no effect yet.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use strom_config::{Effect, Scope, registry};
use tracing::warn;

#[derive(Default)]
pub(crate) struct IdleKeys {
    warned: Mutex<BTreeSet<(Scope, &'static str)>>,
}

impl IdleKeys {
    /// To be called with the names that were set; the registry bounds what is remembered.
    pub(crate) fn set<'a>(&self, scope: Scope, names: impl Iterator<Item = &'a str>) {
        for name in names {
            let idle = match registry().get(scope, name) {
                Some(key) if key.effect == Effect::Honoured => None,
                Some(key) => Some(key.name),
                None => registry().retired(scope, name).map(|retired| retired.name),
            };
            if let Some(key) = idle
                && self.warned.lock().insert((scope, key))
            {
                warn!(
                    key,
                    ?scope,
                    "a configuration key was set that has no effect in this version"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_once() {
        let idle = IdleKeys::default();
        let honoured = registry()
            .topic_keys()
            .find(|key| key.effect == Effect::Honoured)
            .map(|key| key.name);
        let without = registry()
            .topic_keys()
            .find(|key| key.effect != Effect::Honoured)
            .map(|key| key.name);
        let names = || honoured.into_iter().chain(without).chain(["no.such.key"]);
        idle.set(Scope::Topic, names());
        idle.set(Scope::Topic, names());
        assert_eq!(idle.warned.lock().len(), without.iter().len());
    }
}
