//! What the handlers of one gateway share.

use std::sync::Arc;

use strom_client::{ControllerClient, MetadataCache};
use strom_kafka_codec::ApiKey;
use strom_runtime::clock::Clock;
use tokio::sync::Semaphore;

use crate::api::{self, Api, TopicCreation};
use crate::brokers::Brokers;
use crate::config::GatewayConfig;
use crate::fetch_sessions::FetchSessions;
use crate::idle_keys::IdleKeys;
use crate::metrics::{BadInputLog, Metrics};
use crate::net::{ConnectionLimits, MEMORY_UNIT_BYTES};

pub(crate) struct Gateway {
    config: GatewayConfig,
    apis: Vec<Api>,
    clock: Clock,
    metadata: MetadataCache,
    controller: ControllerClient,
    brokers: Brokers,
    sessions: Arc<FetchSessions>,
    topic_creation: TopicCreation,
    idle_keys: IdleKeys,
    metrics: Metrics,
    bad_input: BadInputLog,
    limits: ConnectionLimits,
    request_memory: Arc<Semaphore>,
    request_memory_units: u32,
}

/// What a gateway is made of.
pub(crate) struct Parts {
    pub config: GatewayConfig,
    pub clock: Clock,
    pub metadata: MetadataCache,
    pub controller: ControllerClient,
    pub brokers: Brokers,
    pub metrics: Metrics,
}

impl Gateway {
    pub(crate) fn new(parts: Parts) -> Self {
        let units = parts.config.request_memory_bytes / MEMORY_UNIT_BYTES;
        let units = u32::try_from(units).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 3);
        let sessions = Arc::new(FetchSessions::new(parts.config.fetch_sessions_max));
        parts.metrics.watch_sessions(sessions.clone());
        Gateway {
            apis: api::table(),
            sessions,
            limits: parts.config.connection_limits(),
            request_memory: Arc::new(Semaphore::new(units as usize)),
            request_memory_units: units,
            config: parts.config,
            clock: parts.clock,
            metadata: parts.metadata,
            controller: parts.controller,
            brokers: parts.brokers,
            metrics: parts.metrics,
            topic_creation: TopicCreation::default(),
            idle_keys: IdleKeys::default(),
            bad_input: BadInputLog::default(),
        }
    }

    pub(crate) fn config(&self) -> &GatewayConfig {
        &self.config
    }

    /// The served APIs, by key.
    pub(crate) fn apis(&self) -> &[Api] {
        &self.apis
    }

    pub(crate) fn api(&self, key: ApiKey) -> Option<&Api> {
        let found = self
            .apis
            .binary_search_by_key(&key.as_i16(), |api| api.key.as_i16())
            .ok()?;
        self.apis.get(found)
    }

    /// Whether a frame that begins so may be a request.
    pub(crate) fn serves(&self, key: i16, version: i16) -> bool {
        let api = ApiKey::from_i16(key).and_then(|key| self.api(key));
        api.is_some_and(|api| api.versions.contains(version))
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn metadata(&self) -> &MetadataCache {
        &self.metadata
    }

    pub(crate) fn controller(&self) -> &ControllerClient {
        &self.controller
    }

    pub(crate) fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    pub(crate) fn sessions(&self) -> &FetchSessions {
        &self.sessions
    }

    pub(crate) fn topic_creation(&self) -> &TopicCreation {
        &self.topic_creation
    }

    pub(crate) fn idle_keys(&self) -> &IdleKeys {
        &self.idle_keys
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn bad_input_log(&self) -> &BadInputLog {
        &self.bad_input
    }

    pub(crate) fn limits(&self) -> &ConnectionLimits {
        &self.limits
    }

    /// The memory for requests that all connections share, and its size in units.
    pub(crate) fn request_memory(&self) -> (Arc<Semaphore>, u32) {
        (self.request_memory.clone(), self.request_memory_units)
    }
}
