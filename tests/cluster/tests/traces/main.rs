//! One request is one trace: the gateway's span, those of the services it calls, and those of the followers it waits for.
#![allow(clippy::unwrap_used)]

mod recorder;

use opentelemetry::trace::SpanId;
use opentelemetry_sdk::trace::SpanData;
use recorder::Recorder;
use strom_cluster::raw::Raw;
use strom_cluster::requests::{create_topic, fetch, produce_values};
use strom_cluster::until;
use strom_testkit::{Cluster, Wiring};

/// A test binary of its own, since the subscriber is the process's; and one test, since the spans are.
#[tokio::test]
async fn a_request_is_one_trace_through_all_services() {
    let recorder = Recorder::install();
    for wiring in [Wiring::Grpc, Wiring::InProcess] {
        let cluster = Cluster::builder()
            .wiring(wiring)
            .brokers(2)
            .setting("default.replication.factor", "2")
            .setting("min.insync.replicas", "2")
            .start()
            .await;
        let mut raw = Raw::connect(&cluster.bootstrap()).await;
        create_topic(&mut raw, "traced", 1, &[]).await;
        produce_values(&mut raw, "traced", 0, &["first"]).await;
        recorder.clear();

        create_topic(&mut raw, "other", 1, &[]).await;
        let created = trace_of(&recorder, "CreateTopics", 2).await;
        assert_child(&created, "/strom.v1.Controller/CreateTopics", "CreateTopics");

        produce_values(&mut raw, "traced", 0, &["second"]).await;
        let produced = trace_of(&recorder, "Produce", 3).await;
        assert_child(&produced, "produce", "Produce");
        assert_child(&produced, "replicate", "produce");

        fetch(&mut raw, "traced", 0, 0).await;
        let fetched = trace_of(&recorder, "Fetch", 2).await;
        assert_child(&fetched, "fetch", "Fetch");

        // Streams and loops that go on by themselves begin no trace.
        for span in recorder.spans().iter().filter(|span| is_root(span)) {
            let is_kafka_request = span.name.starts_with(char::is_uppercase);
            assert!(is_kafka_request, "{} begins a trace", span.name);
        }
    }
}

fn is_root(span: &SpanData) -> bool {
    span.parent_span_id == SpanId::INVALID
}

/// The spans of the newest request of that name, once there are `count` of them.
async fn trace_of(recorder: &Recorder, name: &str, count: usize) -> Vec<SpanData> {
    until(&format!("{count} spans of {name}"), || async {
        let spans = recorder.spans();
        let root = spans.iter().rfind(|span| is_root(span) && span.name == name)?;
        let trace = root.span_context.trace_id();
        let mut found = spans.clone();
        found.retain(|span| span.span_context.trace_id() == trace);
        (found.len() >= count).then_some(found)
    })
    .await
}

fn assert_child(trace: &[SpanData], child: &str, parent: &str) {
    let named = |name: &str| {
        let found = trace.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span {name} among {trace:?}"))
    };
    let (child, parent) = (named(child), named(parent));
    assert_eq!(child.parent_span_id, parent.span_context.span_id(), "{trace:?}");
}
