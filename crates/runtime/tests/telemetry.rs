//! Telemetry set up for a whole process: traces leave only when a collector is configured.

use std::time::Duration;

use strom_runtime::config::{Sources, load};
use strom_runtime::telemetry::{LogFormat, TelemetryConfig, TelemetryError, init};
use strom_runtime::{request_span, trace_context};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

fn config(flags: &[(&str, &str)], env: &[(&str, &str)]) -> TelemetryConfig {
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let settings = load(&Sources {
        flags: pairs(flags),
        ..Sources::default()
    })
    .expect("good settings");
    TelemetryConfig::from_settings(&settings, &pairs(env), "strom-test")
}

#[test]
fn settings_and_standard_variables() {
    let plain = config(&[("strom.log.format", "pretty")], &[]);
    assert_eq!(
        (plain.format, plain.filter.as_str(), plain.otlp_endpoint),
        (LogFormat::Pretty, "info", None)
    );
    let env = [
        ("RUST_LOG", "debug"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:4317"),
    ];
    let both = config(
        &[
            ("strom.log.level", "warn"),
            ("strom.otlp.endpoint", "http://a:4317"),
            ("node.id", "3"),
        ],
        &env,
    );
    assert_eq!(
        (both.filter.as_str(), both.otlp_endpoint.as_deref(), both.node_id),
        ("debug", Some("http://a:4317"), Some(3))
    );
    assert_eq!(config(&[], &env).otlp_endpoint.as_deref(), Some("http://b:4317"));
    let bad = config(&[("strom.log.level", "a=b=c")], &[]);
    assert!(matches!(init(&bad), Err(TelemetryError::Filter { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_go_to_the_collector() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let config = config(
        &[
            ("strom.otlp.endpoint", &endpoint),
            ("strom.otlp.sample.ratio", "1"),
            ("strom.log.level", "off"),
        ],
        &[],
    );
    let guard = init(&config).unwrap();
    assert!(matches!(init(&config), Err(TelemetryError::Twice)));
    assert!(request_span!("produce").in_scope(|| trace_context::current().is_some()));
    // The collector never answers, so that the last flush runs into its limit, off this thread.
    let flush = std::thread::spawn(move || drop(guard));
    let (mut stream, _) = tokio::time::timeout(Duration::from_secs(20), collector.accept())
        .await
        .unwrap()
        .unwrap();
    let mut preface = [0; 14];
    stream.read_exact(&mut preface).await.unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0");
    drop(stream);
    flush.join().unwrap();
}
