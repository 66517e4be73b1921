//! Every verb against a real Kafka or Strom at `STROM_TEST_BOOTSTRAP`; says so loudly when there is none.

#![allow(clippy::unwrap_used)]

use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use serde_json::Value;
use strom_cli::{BrokerVerb, ExitCode, Output, Verb};
use uuid::Uuid;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(subcommand)]
    Broker(BrokerVerb),
    #[command(flatten)]
    Verb(Verb),
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

struct Cluster {
    bootstrap: String,
}

impl Cluster {
    /// The server to test against; without one, a line that cargo does not swallow.
    fn from_environment() -> Option<Self> {
        let found = std::env::var("STROM_TEST_BOOTSTRAP")
            .ok()
            .map(|bootstrap| Self { bootstrap });
        if found.is_none() {
            // Not `eprintln!`, which the test harness hides.
            let _ = writeln!(
                io::stderr(),
                "SKIPPED: strom-cli against_kafka: STROM_TEST_BOOTSTRAP is not set"
            );
        }
        found
    }

    async fn run(&self, line: &str, input: &str) -> (ExitCode, String, String) {
        let words = ["strom"]
            .into_iter()
            .chain(line.split(' '))
            .chain(["-b", &self.bootstrap]);
        let verb = match Cli::try_parse_from(words)
            .unwrap_or_else(|error| panic!("{error}"))
            .command
        {
            Command::Broker(verb) => Verb::Broker(verb),
            Command::Verb(verb) => verb,
        };
        let (out, err) = (Captured::default(), Captured::default());
        let mut output =
            Output::to_writers(out.clone(), err.clone()).with_input(Cursor::new(input.as_bytes().to_vec()));
        let code = strom_cli::run(verb, &mut output).await;
        (code, out.text(), err.text())
    }

    /// The output of a command that must succeed.
    async fn ok(&self, line: &str, input: &str) -> String {
        let (code, out, err) = self.run(line, input).await;
        assert_eq!(code, ExitCode::Ok, "strom {line}\n{out}\n{err}");
        out
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} -o json"), "").await).unwrap()
    }
}

impl Cluster {
    /// Asks until the answer is as it should be: Kafka's brokers learn of a change a moment after it is made.
    async fn until(&self, line: &str, good: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let found = self.json(line).await;
            if good(&found) {
                return;
            }
            assert!(Instant::now() < deadline, "strom {line}: {found:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The value of a config in a list of them.
fn config<'a>(list: &'a Value, key: &str) -> Option<&'a str> {
    list.as_array()?.iter().find(|config| config["key"] == key)?["value"].as_str()
}

/// A name nobody else uses.
fn fresh(what: &str) -> String {
    format!("cli-test-{what}-{}", Uuid::new_v4().simple())
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_configs() {
    let Some(cluster) = Cluster::from_environment() else {
        return;
    };
    let topic = fresh("topic");
    cluster
        .ok(
            &format!("topic create {topic} -p 2 --config retention.ms=86400000"),
            "",
        )
        .await;
    let (code, _, err) = cluster.run(&format!("topic create {topic}"), "").await;
    assert!(
        code == ExitCode::Failed && err.contains("TOPIC_ALREADY_EXISTS"),
        "{err}"
    );
    let is_listed = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .any(|t| t["name"] == *topic && t["partitions"] == 2)
    };
    cluster.until("topic list", is_listed).await;

    cluster
        .ok(
            &format!("topic alter {topic} --add-partitions 1 --config max.message.bytes=2000000"),
            "",
        )
        .await;
    let is_altered = |described: &Value| {
        let configs = &described[0]["configs"];
        described[0]["partitions"].as_array().unwrap().len() == 3
            && config(configs, "retention.ms") == Some("86400000")
            && config(configs, "max.message.bytes") == Some("2000000")
    };
    cluster
        .until(&format!("topic describe {topic}"), is_altered)
        .await;

    cluster
        .ok(
            &format!("config alter --topic {topic} --delete retention.ms --set cleanup.policy=compact"),
            "",
        )
        .await;
    let is_compact = |list: &Value| {
        config(list, "cleanup.policy") == Some("compact") && config(list, "retention.ms").is_none()
    };
    cluster
        .until(&format!("config describe --topic {topic}"), is_compact)
        .await;
    let (code, _, err) = cluster
        .run(&format!("config alter --topic {topic} --set nonsense=1"), "")
        .await;
    assert!(
        code == ExitCode::Failed && err.contains("INVALID_CONFIG"),
        "{err}"
    );

    cluster.ok(&format!("topic delete {topic} --yes"), "").await;
    cluster
        .until("topic list", |list| {
            !list.as_array().unwrap().iter().any(|t| t["name"] == *topic)
        })
        .await;
    cluster
        .ok(&format!("topic delete {topic} --yes --if-exists"), "")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_as_they_went_in() {
    let Some(cluster) = Cluster::from_environment() else {
        return;
    };
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = fresh(codec);
        cluster.ok(&format!("topic create {topic} -p 3"), "").await;
        let lines: Vec<String> = (0..5000)
            .map(|number| format!("k{}:{number}", number % 17))
            .collect();
        let line = format!("produce {topic} -K : -z {codec} --batch-size 4k -H h=1");
        cluster.ok(&line, &(lines.join("\n") + "\n")).await;
        let back = cluster.ok(&format!("consume {topic} -e -f %k:%s\\n"), "").await;
        let mut last = std::collections::BTreeMap::new();
        for line in back.lines() {
            let (key, number) = line.split_once(':').unwrap();
            let number: i64 = number.parse().unwrap();
            assert!(
                last.insert(key, number).is_none_or(|before| before < number),
                "{line} came late"
            );
        }
        assert_eq!((back.lines().count(), last.len()), (5000, 17), "{codec}");
        let one = cluster.ok(&format!("consume {topic} -e -n 1 -J"), "").await;
        let one: Value = serde_json::from_str(&one).unwrap();
        assert_eq!(one["headers"], serde_json::json!([{"key": "h", "value": "1"}]));
        cluster.ok(&format!("topic delete {topic} --yes"), "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_commit_lag_reset_and_go() {
    let Some(cluster) = Cluster::from_environment() else {
        return;
    };
    let (topic, group) = (fresh("grouped"), fresh("group"));
    cluster.ok(&format!("topic create {topic} -p 2"), "").await;
    cluster.ok(&format!("produce {topic} -p 0"), "a\nb\nc\n").await;
    cluster.ok(&format!("produce {topic} -p 1"), "d\n").await;
    let read = cluster.ok(&format!("consume {topic} -g {group} -e"), "").await;
    assert_eq!(read.lines().count(), 4);
    cluster.ok(&format!("produce {topic} -p 0"), "e\nf\n").await;
    let described = cluster.json(&format!("group describe {group}")).await;
    assert_eq!(
        (&described[0]["lag"], &described[0]["state"]),
        (&2.into(), &"Empty".into())
    );
    let read = cluster.ok(&format!("consume {topic} -g {group} -e"), "").await;
    assert_eq!(read, "e\nf\n");

    let plan = cluster
        .json(&format!("group reset {group} --topic {topic}:0 --shift-by -2"))
        .await;
    assert_eq!(
        (&plan["executed"], &plan["partitions"][0]["after"]),
        (&false.into(), &3.into())
    );
    cluster
        .ok(
            &format!("group reset {group} --all-topics --to-earliest --execute"),
            "",
        )
        .await;
    let described = cluster.json(&format!("group describe {group}")).await;
    assert_eq!(described[0]["lag"], 6);
    assert!(
        cluster
            .ok("group list --names", "")
            .await
            .lines()
            .any(|name| name == group)
    );
    cluster.ok(&format!("group delete {group} --yes"), "").await;
    let (code, _, err) = cluster.run(&format!("group describe {group}"), "").await;
    assert!(
        code == ExitCode::Failed && err.contains("GROUP_ID_NOT_FOUND"),
        "{err}"
    );
    cluster.ok(&format!("topic delete {topic} --yes"), "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_quorum_versions_and_measurements() {
    let Some(cluster) = Cluster::from_environment() else {
        return;
    };
    assert!(
        !cluster.json("broker list").await["brokers"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert!(cluster.json("quorum status").await["leader_id"].is_i64());
    let matrix = cluster.json("api-versions").await;
    let produce = &matrix["apis"].as_array().unwrap()[0];
    assert!(produce["name"] == "Produce" && produce["used"].is_i64());
    let topic = fresh("bench");
    let result = cluster
        .json(&format!("bench produce --topic {topic} -n 5000 -s 100"))
        .await;
    assert_eq!(result["throughput"]["records"], 5000);
    assert!(result["ack_latency_ms"]["p99"].as_f64().unwrap() > 0.0);
    let result = cluster.json(&format!("bench consume --topic {topic}")).await;
    assert_eq!(result["throughput"]["records"], 5000);
    let result = cluster
        .json(&format!(
            "bench latency --topic {topic} --rate 200 --duration 500ms --warmup 500ms"
        ))
        .await;
    assert_eq!(result["end_to_end_latency_ms"]["samples"], 100);
    cluster.ok(&format!("topic delete {topic} --yes"), "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_healthy_and_its_brokers_describe_themselves() {
    let Some(cluster) = Cluster::from_environment() else {
        return;
    };
    let topic = fresh("described");
    cluster.ok(&format!("topic create {topic} -p 2"), "").await;
    cluster
        .until("cluster health", |health| health["healthy"] == true)
        .await;
    let findings = cluster.json("cluster doctor").await;
    let dialled = |finding: &&Value| finding["check"] == "address";
    let findings = findings.as_array().unwrap();
    assert!(findings.iter().filter(dialled).count() > 0);
    assert!(
        findings.iter().all(|finding| finding["verdict"] != "failed"),
        "{findings:?}"
    );
    let brokers = cluster.json("broker describe").await;
    let brokers = brokers.as_array().unwrap();
    assert!(
        brokers
            .iter()
            .all(|broker| broker["log_dirs_error"].is_null() && broker["log_dirs"][0]["path"].is_string()),
        "{brokers:?}"
    );
    let (code, _, err) = cluster.run("broker describe 77777", "").await;
    assert!(
        code == ExitCode::Failed && err.contains("no broker 77777"),
        "{err}"
    );
    let elected = cluster.json(&format!("topic elect-leader {topic}")).await;
    assert_eq!(elected.as_array().unwrap().len(), 2, "{elected}");
    cluster.ok(&format!("topic delete {topic} --yes"), "").await;
}
