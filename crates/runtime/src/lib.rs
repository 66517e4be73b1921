//! The process kit: configuration, clock, shutdown and supervised tasks, telemetry, admin HTTP. No domain logic.

pub mod admin;
pub mod caller;
pub mod clock;
pub mod config;
pub mod endpoint;
pub mod grpc_server;
pub mod guard;
pub mod listeners;
pub mod shutdown;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
pub mod trace_context;

pub use admin::{Health, Metrics};
pub use caller::Caller;
pub use clock::{Clock, ManualClock};
pub use config::{Settings, Sources};
pub use endpoint::Endpoint;
pub use grpc_server::{GrpcListener, Services};
pub use guard::Guard;
pub use listeners::{Listener, Listeners};
pub use shutdown::Shutdown;
pub use supervisor::{OnFailure, Supervisor, TaskGroup};
pub use tls::InternalTls;
