//! A span exporter that keeps what it is given.

use std::sync::Arc;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use parking_lot::Mutex;
use strom_runtime::trace_context::SPANS;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer};

#[derive(Clone, Debug, Default)]
pub(super) struct Recorder {
    spans: Arc<Mutex<Vec<SpanData>>>,
}

impl Recorder {
    /// Becomes the process's subscriber; every trace is recorded.
    pub(super) fn install() -> Self {
        let recorder = Recorder::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(recorder.clone())
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("test"))
            .with_filter(EnvFilter::new(format!("{SPANS}=trace")));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(subscriber).expect("the first subscriber");
        recorder
    }

    /// What has ended so far.
    pub(super) fn spans(&self) -> Vec<SpanData> {
        self.spans.lock().clone()
    }

    pub(super) fn clear(&self) {
        self.spans.lock().clear();
    }
}

impl SpanExporter for Recorder {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.spans.lock().extend(batch);
        Ok(())
    }
}
