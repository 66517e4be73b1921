//! Loads the static configuration of a process: presets < TOML < server.properties < environment < flags.

mod env;
mod error;
mod files;
mod layer;
mod settings;

use std::path::PathBuf;

pub use error::{LoadError, Mistake};
pub use settings::{Setting, Settings};

use layer::Assignment;

/// Where to look. Everything is passed in: loading reads the named files and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// What the role itself brings along, above the defaults and below everything else: `(key, value)`.
    pub presets: Vec<(String, String)>,
    /// TOML files, the later ones winning.
    pub toml: Vec<PathBuf>,
    /// `server.properties` files, the later ones winning.
    pub properties: Vec<PathBuf>,
    /// The process environment, `std::env::vars()`.
    pub env: Vec<(String, String)>,
    /// Names of `STROM_…` variables that are no configuration (those of the command line tools).
    pub ignored_env: Vec<String>,
    /// From the command line: `(key, value)`.
    pub flags: Vec<(String, String)>,
}

/// Reads, checks and merges all layers; reports every mistake at once.
pub fn load(sources: &Sources) -> Result<Settings, LoadError> {
    let mut assignments = Vec::new();
    let mut mistakes = Vec::new();
    let given = |pairs: &[(String, String)], place: &str| -> Vec<Assignment> {
        pairs
            .iter()
            .map(|(key, value)| Assignment {
                key: key.clone(),
                value: value.clone(),
                place: place.to_owned(),
            })
            .collect()
    };
    assignments.extend(given(&sources.presets, "the role"));
    for path in &sources.toml {
        assignments.extend(files::read_toml(path)?);
    }
    for path in &sources.properties {
        assignments.extend(files::read_properties(path)?);
    }
    assignments.extend(env::assignments(
        &sources.env,
        &sources.ignored_env,
        &mut mistakes,
    ));
    assignments.extend(given(&sources.flags, "the command line"));
    layer::merge(assignments, mistakes)
}
