//! The process log and the trace export: the one global, the tracing subscriber, is set here.

use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use thiserror::Error;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::Settings;
use crate::trace_context::SPANS;

/// How long the last traces may take to leave when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Pretty,
    Json,
}

/// Where logs and traces go.
#[derive(Clone, PartialEq, Debug)]
pub struct TelemetryConfig {
    pub format: LogFormat,
    /// In the syntax of `RUST_LOG`.
    pub filter: String,
    /// No traces are made when `None`.
    pub otlp_endpoint: Option<String>,
    /// Share of the traces begun here that are recorded, 0 to 1.
    pub sample_ratio: f64,
    /// `service.name`: `strom-broker`, `strom-gateway`, …
    pub service: String,
    pub node_id: Option<i32>,
}

#[derive(Debug, Error)]
pub enum TelemetryError {
    #[error("the log filter {filter:?} is wrong: {problem}")]
    Filter { filter: String, problem: String },
    #[error("cannot export traces to {endpoint}: {problem}")]
    Export { endpoint: String, problem: String },
    #[error("logging is set up already")]
    Twice,
}

impl TelemetryConfig {
    /// From the settings; `RUST_LOG` and `OTEL_EXPORTER_OTLP_ENDPOINT` are read from the `env` passed in:
    /// the first wins over its key, the second is used when its key is unset.
    pub fn from_settings(settings: &Settings, env: &[(String, String)], service: &str) -> Self {
        let variable = |name: &str| {
            env.iter()
                .find(|(known, value)| known == name && !value.is_empty())
                .map(|(_, value)| value.clone())
        };
        let format = match settings.text("strom.log.format").as_deref() {
            Some("json") => LogFormat::Json,
            Some("pretty") => LogFormat::Pretty,
            _ if std::io::stderr().is_terminal() => LogFormat::Pretty,
            _ => LogFormat::Json,
        };
        TelemetryConfig {
            format,
            filter: variable("RUST_LOG")
                .or_else(|| settings.text("strom.log.level"))
                .unwrap_or_else(|| "info".to_owned()),
            otlp_endpoint: settings
                .text("strom.otlp.endpoint")
                .or_else(|| variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
                .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT")),
            sample_ratio: settings.double("strom.otlp.sample.ratio"),
            service: service.to_owned(),
            node_id: settings.node_id(),
        }
    }
}

/// Keeps the trace export alive; sends what is left when dropped.
#[derive(Debug)]
#[must_use = "traces stop when the guard is dropped"]
pub struct TelemetryGuard(Option<SdkTracerProvider>);

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_TIMEOUT)
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Installs the subscriber: logs to standard error, traces to the collector if one is configured. With a
/// collector it has to run inside a tokio runtime.
pub fn init(config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    let (layer, guard) = build(config)?;
    tracing_subscriber::registry()
        .with(layer)
        .try_init()
        .map_err(|_| TelemetryError::Twice)?;
    Ok(guard)
}

type Layers = Vec<Box<dyn Layer<Registry> + Send + Sync>>;

fn build(config: &TelemetryConfig) -> Result<(Layers, TelemetryGuard), TelemetryError> {
    let filter = EnvFilter::try_new(&config.filter).map_err(|error| TelemetryError::Filter {
        filter: config.filter.clone(),
        problem: error.to_string(),
    })?;
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        LogFormat::Pretty => log
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
    };
    let mut layers = vec![log];
    let provider = match &config.otlp_endpoint {
        Some(endpoint) => Some(tracer_provider(config, endpoint)?),
        None => None,
    };
    if let Some(provider) = &provider {
        let traces = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("strom"))
            // The exporter's own requests must not make spans, or they would feed themselves.
            .with_filter(EnvFilter::new(format!(
                "info,{SPANS}=trace,h2=off,hyper=off,tonic=off,tower=off"
            )));
        layers.push(traces.boxed());
    }
    Ok((layers, TelemetryGuard(provider)))
}

fn tracer_provider(config: &TelemetryConfig, endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| TelemetryError::Export {
            endpoint: endpoint.to_owned(),
            problem: error.to_string(),
        })?;
    let node = config
        .node_id
        .map(|id| KeyValue::new("service.instance.id", id.to_string()));
    let resource = Resource::builder()
        .with_service_name(config.service.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(node)
        .build();
    let root = Sampler::TraceIdRatioBased(config.sample_ratio);
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(root)))
        .with_resource(resource)
        .build())
}
