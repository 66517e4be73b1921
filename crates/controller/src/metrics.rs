//! What a controller counts, in Kafka's spelling where Kafka has the metric; gauges are read off the image at scrape.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use strom_metadata::Image;
use strom_raft_node::{RaftRole, RaftStatus};
use tokio::sync::watch;

use crate::state_machine::MetadataLog;

pub(crate) struct Metrics {
    pub(crate) unclean_elections: Counter,
    pub(crate) fencings: Counter,
    commit_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new(
        registry: &strom_runtime::Metrics,
        log: MetadataLog,
        status: watch::Receiver<RaftStatus>,
    ) -> Self {
        let metrics = Metrics {
            unclean_elections: Counter::default(),
            fencings: Counter::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
        };
        registry.register(|registry| {
            registry.register(
                "kafka_controller_controllerstats_uncleanleaderelections",
                "Leaders elected that may lack committed records",
                metrics.unclean_elections.clone(),
            );
            registry.register(
                "strom_controller_broker_fencings",
                "Brokers fenced because they were silent or gone",
                metrics.fencings.clone(),
            );
            registry.register(
                "strom_controller_commit_seconds",
                "From the proposal of a metadata batch to its application",
                metrics.commit_seconds.clone(),
            );
            registry.register_collector(Box::new(Gauges { log, status }));
        });
        metrics
    }

    pub(crate) fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }
}

struct Gauges {
    log: MetadataLog,
    status: watch::Receiver<RaftStatus>,
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.status.borrow().clone();
        let image = self.log.image();
        let mut gauge = |name: &str, help: &str, value: u64| {
            let metric = ConstGauge::new(value);
            let into = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(into)
        };
        for (name, help, value) in of_image(&image) {
            gauge(&format!("kafka_controller_kafkacontroller_{name}"), help, value)?;
        }
        let active = u64::from(status.role == RaftRole::Leader && status.ready_to_lead);
        gauge(
            "kafka_controller_kafkacontroller_activecontrollercount",
            "1 on the active controller",
            active,
        )?;
        gauge("strom_raft_term", "The quorum's term", status.term)?;
        gauge("strom_raft_commit_index", "Committed entries", status.commit)?;
        gauge("strom_raft_applied_index", "Applied entries", status.applied)?;
        gauge(
            "kafka_server_raftmetrics_current_epoch",
            "The quorum's term",
            status.term,
        )?;
        gauge(
            "kafka_server_raftmetrics_high_watermark",
            "Committed entries",
            status.commit,
        )
    }
}

fn of_image(image: &Image) -> [(&'static str, &'static str, u64); 6] {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let (mut offline, mut imbalanced) = (0, 0);
    for (_, state) in image.partitions() {
        match state.leader {
            None => offline += 1,
            Some(leader) if Some(leader) != state.preferred_leader() => imbalanced += 1,
            Some(_) => {}
        }
    }
    let active = image.live_brokers().count();
    [
        ("globaltopiccount", "Topics", count(image.topic_count())),
        (
            "globalpartitioncount",
            "Partitions",
            count(image.partition_count()),
        ),
        ("offlinepartitionscount", "Partitions without a leader", offline),
        (
            "preferredreplicaimbalancecount",
            "Partitions led by another than their preferred leader",
            imbalanced,
        ),
        ("activebrokercount", "Brokers in service", count(active)),
        (
            "fencedbrokercount",
            "Registered brokers out of service",
            count(image.brokers().count().saturating_sub(active)),
        ),
    ]
}
