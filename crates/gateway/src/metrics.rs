//! What a gateway counts: requests by API, replies, connections, and every kind of bad input.

mod errors;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use strom_kafka_codec::{ApiKey, Response};
use strom_types::Mono;
use tracing::warn;

use self::errors::{Errors, Scraped};
use crate::api::Failure;
use crate::fetch_sessions::FetchSessions;
use crate::net::{Closed, ConnectionCounts};

/// At most one line of bad input is logged in this time.
const BAD_INPUT_LOG_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    request: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    requests: Family<Request, Counter>,
    request_bytes: Counter,
    reply_bytes: Counter,
    seconds: Family<Request, Histogram, fn() -> Histogram>,
    errors: Arc<Errors>,
    closed: Family<Reason, Counter>,
    refused: Counter,
    connections: OnceLock<ConnectionCounts>,
    sessions: OnceLock<Arc<FetchSessions>>,
}

fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

impl Metrics {
    pub(crate) fn new(registry: &strom_runtime::Metrics) -> Self {
        let inner = Arc::new(Inner {
            requests: Family::default(),
            request_bytes: Counter::default(),
            reply_bytes: Counter::default(),
            seconds: Family::new_with_constructor(buckets),
            errors: Arc::new(Errors::new()),
            closed: Family::default(),
            refused: Counter::default(),
            connections: OnceLock::new(),
            sessions: OnceLock::new(),
        });
        registry.register(|registry| {
            registry.register(
                "kafka_network_requestmetrics_requests",
                "Requests answered, by API",
                inner.requests.clone(),
            );
            registry.register(
                "strom_gateway_request_duration_seconds",
                "From a request's arrival to its reply, by API",
                inner.seconds.clone(),
            );
            registry.register(
                "strom_gateway_request_bytes",
                "Bytes of requests received",
                inner.request_bytes.clone(),
            );
            registry.register(
                "strom_gateway_reply_bytes",
                "Bytes of replies sent",
                inner.reply_bytes.clone(),
            );
            registry.register(
                "strom_gateway_connections_closed",
                "Connections closed, by reason; malformed input among them",
                inner.closed.clone(),
            );
            registry.register(
                "strom_gateway_connections_refused",
                "Connections refused because too many were open",
                inner.refused.clone(),
            );
            registry.register_collector(Box::new(Scraped(inner.errors.clone())));
            registry.register_collector(Box::new(Held(inner.clone())));
        });
        Metrics { inner }
    }

    pub(crate) fn watch_connections(&self, counts: ConnectionCounts) {
        // Set once, when the listeners start.
        let _ = self.inner.connections.set(counts);
    }

    pub(crate) fn watch_sessions(&self, sessions: Arc<FetchSessions>) {
        // Set once, when the gateway is made.
        let _ = self.inner.sessions.set(sessions);
    }

    pub(crate) fn request(&self, key: ApiKey, took: Duration, bytes: usize) {
        let label = Request { request: key.name() };
        self.inner.requests.get_or_create(&label).inc();
        self.inner
            .seconds
            .get_or_create(&label)
            .observe(took.as_secs_f64());
        self.inner.request_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn reply_bytes(&self, bytes: usize) {
        self.inner.reply_bytes.inc_by(bytes as u64);
    }

    /// Counts the error codes of an answer.
    pub(crate) fn answered<R: Response>(&self, response: &R) {
        self.inner.errors.count(response);
    }

    pub(crate) fn connection_refused(&self) {
        self.inner.refused.inc();
    }

    pub(crate) fn connection_closed(&self, closed: &Closed) {
        let reason = match closed {
            Closed::Frame(_) => "bad_frame",
            Closed::Request(Failure::Decode(_)) => "malformed_request",
            Closed::Request(Failure::Unsupported { .. }) => "unsupported_request",
            Closed::Request(Failure::UnacknowledgedProduce) => "failed_produce",
            Closed::Request(Failure::Encode(_)) => "reply_not_encodable",
            Closed::Io(_) => "io",
            Closed::SlowFrame => "slow_frame",
            Closed::Idle => "idle",
            Closed::SendTimeout => "send_timeout",
            Closed::EndOfStream => "end_of_stream",
        };
        self.inner.closed.get_or_create(&Reason { reason }).inc();
    }
}

/// What is counted when it is asked for.
struct Held(Arc<Inner>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

impl prometheus_client::collector::Collector for Held {
    fn encode(
        &self,
        mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let connections = self.0.connections.get().map_or(0, ConnectionCounts::open);
        let sessions = self.0.sessions.get().map_or(0, |sessions| sessions.len());
        for (name, help, held) in [
            (
                "kafka_server_socket_server_metrics_connection_count",
                "Open client connections",
                connections,
            ),
            (
                "kafka_server_fetchsessioncache_numincrementalfetchsessions",
                "Fetch sessions of clients",
                sessions,
            ),
        ] {
            let gauge = ConstGauge::new(i64::try_from(held).unwrap_or(i64::MAX));
            let kind = prometheus_client::metrics::MetricType::Gauge;
            let encoder = encoder.encode_descriptor(name, help, None, kind)?;
            prometheus_client::encoding::EncodeMetric::encode(&gauge, encoder)?;
        }
        Ok(())
    }
}

/// Logs bad input, at most a line a second, with the count of those left out.
#[derive(Default)]
pub(crate) struct BadInputLog {
    state: Mutex<(Option<Mono>, u64)>,
}

impl BadInputLog {
    pub(crate) fn warn(&self, now: Mono, peer: SocketAddr, closed: &Closed) {
        let mut state = self.state.lock();
        let (last, suppressed) = &mut *state;
        if last.is_some_and(|last| now.since(last) < BAD_INPUT_LOG_EVERY) {
            *suppressed += 1;
            return;
        }
        warn!(%peer, reason = %closed, suppressed = *suppressed, "closed a client's connection");
        *last = Some(now);
        *suppressed = 0;
    }
}
