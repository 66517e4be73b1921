//! The metrics of a process: one prometheus-client registry that every service registers into.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::process::{BuildInfo, ProcessCollector};
use crate::clock::Clock;

/// Cheap to clone. Series whose labels come and go (per topic, per group) belong into a `Collector`, which is
/// asked at each scrape; counters of the hot path are registered once.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// With the metrics of the process itself, and `strom_build_info`.
    pub fn new(clock: &Clock, build: BuildInfo) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector::new(clock.wall(), build)));
        Metrics(Arc::new(Mutex::new(registry)))
    }

    /// Registers metrics of one service.
    pub fn register(&self, with: impl FnOnce(&mut Registry)) {
        with(&mut self.0.lock());
    }

    /// OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.lock())?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
