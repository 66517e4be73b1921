//! The broker service: partition logs and their replicas, the data path, the group coordinator.

mod app;
mod broker;
mod config;
mod data;
mod error;
mod groups;
mod grpc;
mod life;
mod log_events;
mod metrics;
mod partition;
mod partitions;
mod producer_ids;
mod replication;
mod shared;
mod tasks;
mod write_room;

pub use app::{App, Environment, SERVICES};
pub use config::BrokerConfig;
pub use error::BrokerError;
