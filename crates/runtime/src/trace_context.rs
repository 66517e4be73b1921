//! W3C trace context (`traceparent`, `tracestate`) across gRPC: from a span into metadata and back.

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{Ascii, KeyRef, MetadataKey, MetadataMap, MetadataValue};
use tonic::{Request, Status};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Writes the context of `span` into a request's metadata. Writes nothing when traces are off.
pub fn inject(span: &Span, metadata: &mut MetadataMap) {
    let context = span.context();
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(&context, &mut IntoMetadata(metadata));
    }
}

/// Makes the caller's span, if the metadata names one, the parent of `span`. To be called before `span` is entered.
/// Malformed headers are taken as absent.
pub fn adopt(span: &Span, metadata: &MetadataMap) {
    let context = TraceContextPropagator::new().extract(&FromMetadata(metadata));
    if context.span().span_context().is_valid() {
        // Fails only when the span has begun already or traces are off: then it stays a root.
        let _ = span.set_parent(context);
    }
}

/// A tonic client interceptor that injects the current span.
pub fn interceptor(mut request: Request<()>) -> Result<Request<()>, Status> {
    inject(&Span::current(), request.metadata_mut());
    Ok(request)
}

struct IntoMetadata<'a>(&'a mut MetadataMap);

impl Injector for IntoMetadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = MetadataKey::<Ascii>::from_bytes(key.as_bytes());
        if let (Ok(key), Ok(value)) = (key, MetadataValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

struct FromMetadata<'a>(&'a MetadataMap);

impl Extractor for FromMetadata<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0
            .keys()
            .filter_map(|key| match key {
                KeyRef::Ascii(key) => Some(key.as_str()),
                KeyRef::Binary(_) => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn with_traces(test: impl FnOnce()) {
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), test);
    }

    #[test]
    fn a_trace_goes_through_a_hop() {
        with_traces(|| {
            let mut incoming = MetadataMap::new();
            incoming.insert("traceparent", PARENT.parse().unwrap());
            let span = tracing::info_span!("serve");
            adopt(&span, &incoming);
            let mut outgoing = MetadataMap::new();
            inject(&span, &mut outgoing);
            let text = outgoing.get("traceparent").unwrap().to_str().unwrap();
            // The same trace, sampled as the caller decided, by another span.
            assert!(
                text.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && text.ends_with("-01"),
                "{text}"
            );
            assert_ne!(text, PARENT);
        });
    }

    #[test]
    fn nonsense_starts_a_new_trace() {
        with_traces(|| {
            for bad in [
                "",
                "00-zz-b7ad6b7169203331-01",
                "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            ] {
                let mut incoming = MetadataMap::new();
                incoming.insert("traceparent", bad.parse().unwrap());
                let span = tracing::info_span!("serve");
                adopt(&span, &incoming);
                let mut outgoing = MetadataMap::new();
                inject(&span, &mut outgoing);
                assert!(outgoing.contains_key("traceparent"), "{bad}");
            }
        });
    }

    #[test]
    fn without_traces_nothing_is_sent() {
        let request = interceptor(Request::new(())).unwrap();
        assert!(request.metadata().is_empty());
    }
}
