//! The controller service: the metadata quorum's state machine, its active member's loop, and the gRPC face of both.

mod active;
mod app;
mod cluster_id;
mod config;
mod error;
mod fast_death;
mod grpc;
mod metrics;
mod state_machine;
#[cfg(test)]
mod tests;

pub use app::{App, Environment, SERVICES};
pub use config::ControllerConfig;
pub use error::{BuildError, RunError};
