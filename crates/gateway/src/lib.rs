//! The gateway service: speaks Kafka's protocol to clients and internal gRPC to brokers and controllers. It holds no
//! truth: any gateway serves any partition, and one that dies takes nothing with it.

mod api;
mod app;
mod brokers;
mod codes;
mod config;
mod error;
mod fetch_sessions;
mod gateway;
mod idle_keys;
mod metrics;
mod net;
mod produce_order;

pub use app::{App, Environment, KafkaListener};
pub use config::GatewayConfig;
pub use error::BuildError;
