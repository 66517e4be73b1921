//! What a broker counts.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use strom_types::{BrokerId, ErrorCode};

use crate::groups::GroupMetrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Leader {
    leader: i32,
}

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    messages_in: Counter,
    refused: Family<Code, Counter>,
    alarms: Counter,
    flush_rounds: Counter,
    isr_changes: Counter,
    replication_bytes_in: Counter,
    replication_bytes_out: Counter,
    replica_lag: Family<Leader, Gauge>,
    groups: GroupMetrics,
}

impl Metrics {
    pub(crate) fn new(registry: &strom_runtime::Metrics) -> Self {
        let metrics = Metrics::default();
        let inner = &metrics.inner;
        registry.register(|registry| {
            registry.register(
                "kafka_server_brokertopicmetrics_messagesin",
                "Records appended by leaders",
                inner.messages_in.clone(),
            );
            registry.register(
                "strom_broker_produce_refused",
                "Batches refused before anything was written, by Kafka's error",
                inner.refused.clone(),
            );
            registry.register(
                "strom_broker_replica_alarms",
                "Faults of a replica that an operator must look at",
                inner.alarms.clone(),
            );
            registry.register(
                "strom_broker_flush_rounds",
                "Group commits: each makes everything durable that was written meanwhile",
                inner.flush_rounds.clone(),
            );
            registry.register(
                "strom_broker_isr_changes",
                "Changes of in-sync replicas asked of the controller",
                inner.isr_changes.clone(),
            );
            registry.register(
                "kafka_server_brokertopicmetrics_replicationbytesin",
                "Bytes appended by followers",
                inner.replication_bytes_in.clone(),
            );
            registry.register(
                "kafka_server_brokertopicmetrics_replicationbytesout",
                "Bytes pushed to followers",
                inner.replication_bytes_out.clone(),
            );
            registry.register(
                "strom_broker_replica_lag_records_max",
                "Most records that a follower here lacks of what its leader has committed, by leader",
                inner.replica_lag.clone(),
            );
            inner.groups.register(registry);
        });
        metrics
    }

    pub(crate) fn groups(&self) -> &GroupMetrics {
        &self.inner.groups
    }

    pub(crate) fn appended(&self, records: u64) {
        self.inner.messages_in.inc_by(records);
    }

    pub(crate) fn produce_refused(&self, code: ErrorCode) {
        self.inner
            .refused
            .get_or_create(&Code { code: code.name() })
            .inc();
    }

    pub(crate) fn alarm(&self) {
        self.inner.alarms.inc();
    }

    pub(crate) fn flush_round(&self) {
        self.inner.flush_rounds.inc();
    }

    pub(crate) fn isr_change(&self) {
        self.inner.isr_changes.inc();
    }

    pub(crate) fn replicated_in(&self, bytes: usize) {
        self.inner
            .replication_bytes_in
            .inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(crate) fn replicated_out(&self, bytes: usize) {
        self.inner
            .replication_bytes_out
            .inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(crate) fn replica_lag(&self, leader: BrokerId, records: i64) {
        let leader = Leader { leader: leader.get() };
        self.inner.replica_lag.get_or_create(&leader).set(records);
    }
}
