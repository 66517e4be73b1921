//! Why a controller does not start, or cannot go on.

use std::io;
use std::path::PathBuf;

use strom_raft_node::transport::grpc::EndpointError;
use strom_raft_node::{OpenError, RunError as RaftRunError};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum BuildError {
    #[error("strom.cluster.id must be set, to the same on every controller, when there are several")]
    NoClusterId,
    #[error("{0:?} is no cluster id: 1 to 64 letters, digits, '-' and '_'")]
    BadClusterId(String),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Raft(#[from] OpenError),
}

#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Raft(#[from] RaftRunError),
    /// The log holds what this build cannot apply: going on would show a state that no other controller has.
    #[error("the metadata log cannot be applied: {0}")]
    Metadata(String),
}
