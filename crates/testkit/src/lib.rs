//! A whole cluster in one test process: real roles on free ports, each process of it on a runtime of its own, so that
//! one can be killed as abruptly as by SIGKILL and started again on its data.
//!
//! ```no_run
//! # async fn example() {
//! use strom_testkit::{Cluster, Member, Wiring};
//!
//! let mut cluster = Cluster::builder().wiring(Wiring::Grpc).setting("num.partitions", "3").start().await;
//! let bootstrap = cluster.bootstrap();
//! cluster.kill(Member::Broker(0)).await;
//! cluster.restart(Member::Broker(0)).await;
//! cluster.wait_ready().await;
//! # drop(bootstrap);
//! # }
//! ```

mod builder;
mod certificates;
mod cluster;
mod logs;
mod memory;
mod metrics;
mod port;
mod process;
mod roles;

pub use builder::{ClusterBuilder, Wiring};
pub use certificates::{Authority, Credentials};
pub use cluster::{Cluster, Member};
pub use logs::Line;
pub use memory::{peak_resident_bytes, reset_peak_resident_bytes, resident_bytes};
pub use strom_gateway::GatewayConfig;
