//! What a gateway is told at its start.

use std::time::Duration;

use strom_runtime::Settings;

use crate::net::ConnectionLimits;

const MIB: usize = 1024 * 1024;
/// Share of the machine's memory that clients' requests in flight may take.
const REQUEST_MEMORY_SHARE: usize = 4;
const REQUEST_MEMORY_MIN: usize = 64 * MIB;
const REQUEST_MEMORY_MAX: usize = 2048 * MIB;
/// Strom's own ceilings where Kafka has none by default.
const CONNECTIONS_MAX: usize = 10_000;
const CONNECTIONS_PER_IP_MAX: usize = 10_000;
const PARTIAL_FRAME_GRACE: Duration = Duration::from_secs(10);
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Sizes are bytes. See docs/configuration.md for the keys.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The static layer of the configuration, for DescribeConfigs.
    pub settings: Settings,
    pub rack: Option<String>,
    /// `socket.request.max.bytes`.
    pub frame_bytes_max: usize,
    /// `fetch.max.bytes`: the largest reply to one fetch, beyond its first batch.
    pub fetch_bytes_max: u32,
    pub fetch_wait_ms_max: u32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions_max: usize,
    /// `max.connections`, `max.connections.per.ip`.
    pub connections_max: usize,
    pub connections_per_ip_max: usize,
    /// `connections.max.idle.ms`.
    pub idle_max: Duration,
    /// After this time a half-received request must come in at 1 KiB a second, else its connection is closed.
    pub partial_frame_grace: Duration,
    /// A reply must be taken within this time.
    pub send_timeout: Duration,
    /// What all clients' requests in flight may take together.
    pub request_memory_bytes: usize,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
}

impl GatewayConfig {
    pub fn from_settings(settings: &Settings) -> Self {
        let frame_bytes_max = settings.size("socket.request.max.bytes");
        GatewayConfig {
            settings: settings.clone(),
            rack: settings.text("broker.rack"),
            frame_bytes_max,
            fetch_bytes_max: u32::try_from(settings.size("fetch.max.bytes")).unwrap_or(i32::MAX as u32),
            fetch_wait_ms_max: 5 * 60 * 1000,
            fetch_sessions_max: settings.size("max.incremental.fetch.session.cache.slots"),
            connections_max: settings.size("max.connections").min(CONNECTIONS_MAX),
            connections_per_ip_max: settings
                .size("max.connections.per.ip")
                .min(CONNECTIONS_PER_IP_MAX),
            idle_max: settings
                .millis("connections.max.idle.ms")
                .unwrap_or(Duration::MAX / 4),
            partial_frame_grace: PARTIAL_FRAME_GRACE,
            send_timeout: SEND_TIMEOUT,
            request_memory_bytes: request_memory().max(frame_bytes_max),
            auto_create_topics: settings.bool("auto.create.topics.enable"),
        }
    }

    pub(crate) fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            frame_bytes_max: self.frame_bytes_max,
            in_flight_max: 64,
            in_flight_bytes_max: 128 * MIB,
            idle_max: self.idle_max.min(Duration::from_secs(365 * 24 * 3600)),
            partial_frame_grace: self.partial_frame_grace,
            send_timeout: self.send_timeout,
        }
    }
}

fn request_memory() -> usize {
    let info = rustix::system::sysinfo();
    let total = info.totalram.saturating_mul(info.mem_unit.into());
    let share = usize::try_from(total).unwrap_or(usize::MAX) / REQUEST_MEMORY_SHARE;
    share.clamp(REQUEST_MEMORY_MIN, REQUEST_MEMORY_MAX)
}
