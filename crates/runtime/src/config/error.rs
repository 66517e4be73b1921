//! Why a configuration could not be loaded.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum LoadError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot understand {}: {problem}", path.display())]
    Syntax { path: PathBuf, problem: String },
    #[error("the configuration has {} mistake{}:{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, list(.0))]
    Mistakes(Vec<Mistake>),
    #[error("the configuration layers do not merge: {0}")]
    Merge(String),
}

/// One wrong name or value, and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    pub place: String,
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (from {})", self.problem, self.place)
    }
}

fn list(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect()
}
