//! W3C trace context between services: the spans of requests, and `traceparent` on its way from one to the next.
//!
//! Only what is recorded is passed on: without a collector no span exists, and a call costs a look at a thread local
//! and at the headers. `tracestate` is not kept, since no trace begins outside of Strom.

use http::header::{HeaderMap, HeaderValue};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Target of the spans of requests. No log filter of a usual level takes them in, so they cost nothing unless traces
/// are exported.
pub const SPANS: &str = "strom::request";

const TRACEPARENT: &str = "traceparent";

/// The span of one request in this process; disabled unless traces are exported.
#[macro_export]
macro_rules! request_span {
    ($($span:tt)*) => {
        tracing::trace_span!(target: $crate::trace_context::SPANS, $($span)*)
    };
}

/// The span of a request that came in with a `traceparent`; disabled when that is empty.
#[macro_export]
macro_rules! continued_span {
    ($traceparent:expr, $($span:tt)*) => {{
        let traceparent: &str = $traceparent;
        if traceparent.is_empty() {
            tracing::Span::none()
        } else {
            let span = $crate::request_span!($($span)*);
            $crate::trace_context::adopt(&span, traceparent);
            span
        }
    }};
}

/// The `traceparent` of the current span, if it is recorded.
pub fn current() -> Option<String> {
    of(&Span::current())
}

/// The `traceparent` of a span, if it is recorded.
pub fn of(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    span.is_sampled()
        .then(|| format!("00-{}-{}-01", span.trace_id(), span.span_id()))
}

/// Makes the span that `traceparent` names the parent of `span`, which must not have been entered. What is malformed is
/// taken as absent.
pub fn adopt(span: &Span, traceparent: &str) {
    if span.is_disabled() || traceparent.is_empty() {
        return;
    }
    let context = TraceContextPropagator::new().extract(&Only(traceparent));
    if context.span().span_context().is_valid() {
        // Fails only without an exporter: then there is no trace to join.
        let _ = span.set_parent(context);
    }
}

/// Writes the current span into the headers of a call that goes out.
pub fn inject(headers: &mut HeaderMap) {
    if let Some(Ok(value)) = current().map(HeaderValue::try_from) {
        headers.insert(TRACEPARENT, value);
    }
}

/// The span of a gRPC call that has come in; disabled unless the caller's is recorded.
pub fn of_call(headers: &HeaderMap, path: &str) -> Span {
    let Some(Ok(traceparent)) = headers.get(TRACEPARENT).map(HeaderValue::to_str) else {
        return Span::none();
    };
    continued_span!(
        traceparent,
        "call",
        otel.name = path,
        otel.kind = "server",
        rpc.system = "grpc"
    )
}

struct Only<'a>(&'a str);

impl Extractor for Only<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{EnvFilter, Layer};

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const PATH: &str = "/strom.v1.Controller/CreateTopics";

    /// A call site remembers what all subscribers of the process want of it: so one test at a time has one.
    static TURN: Mutex<()> = Mutex::new(());

    fn with_traces(sampler: Sampler, test: impl FnOnce()) {
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let _turn = TURN.lock();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), test);
    }

    fn headers(traceparent: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(traceparent));
        headers
    }

    #[test]
    fn a_trace_goes_through_a_hop() {
        with_traces(Sampler::AlwaysOff, || {
            let mut outgoing = HeaderMap::new();
            of_call(&headers(PARENT), PATH).in_scope(|| inject(&mut outgoing));
            let text = outgoing.get(TRACEPARENT).unwrap().to_str().unwrap();
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
        with_traces(Sampler::AlwaysOn, || {
            for bad in [
                "x",
                "00-zz-b7ad6b7169203331-01",
                "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            ] {
                assert!(of(&of_call(&headers(bad), PATH)).is_some(), "{bad}");
            }
        });
    }

    #[test]
    fn what_is_not_recorded_is_not_passed_on() {
        with_traces(Sampler::AlwaysOff, || {
            let mut outgoing = HeaderMap::new();
            request_span!("request").in_scope(|| inject(&mut outgoing));
            assert!(outgoing.is_empty());
        });
        let mut outgoing = HeaderMap::new();
        request_span!("request").in_scope(|| inject(&mut outgoing));
        assert!(outgoing.is_empty(), "there is no exporter");
    }

    #[test]
    fn no_span_is_made_for_a_log() {
        let _turn = TURN.lock();
        let log = tracing_subscriber::fmt::layer().with_filter(EnvFilter::new("debug"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log), || {
            assert!(
                !tracing::info_span!("other").is_disabled(),
                "the log takes spans in"
            );
            assert!(request_span!("request").is_disabled());
            assert!(of_call(&headers(PARENT), PATH).is_disabled());
        });
    }

    #[test]
    fn a_call_without_a_recorded_caller_makes_no_span() {
        with_traces(Sampler::AlwaysOn, || {
            assert!(of_call(&HeaderMap::new(), PATH).is_disabled());
        });
    }
}
