//! What a broker counts of its coordinators, under Kafka's names where it has some.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use strom_groups::Census;

/// All coordinators together. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct GroupMetrics {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    groups: Gauge,
    empty: Gauge,
    preparing_rebalance: Gauge,
    completing_rebalance: Gauge,
    stable: Gauge,
    dead: Gauge,
    offsets: Gauge,
    rebalances: Gauge,
    offset_commits: Gauge,
    expired_sessions: Counter,
}

impl GroupMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let inner = &self.inner;
        let manager = [
            ("numgroups", "Groups coordinated here", &inner.groups),
            ("numgroupsempty", "Groups without members", &inner.empty),
            (
                "numgroupspreparingrebalance",
                "Groups whose members are joining",
                &inner.preparing_rebalance,
            ),
            (
                "numgroupscompletingrebalance",
                "Groups that wait for their assignment",
                &inner.completing_rebalance,
            ),
            ("numgroupsstable", "Groups at work", &inner.stable),
            ("numgroupsdead", "Groups on their way out", &inner.dead),
            ("numoffsets", "Committed offsets held", &inner.offsets),
        ];
        for (name, help, gauge) in manager {
            let name = format!("kafka_coordinator_group_groupmetadatamanager_{name}");
            registry.register(name, help, gauge.clone());
        }
        // Counters, but as such they would be named otherwise than Kafka's.
        let totals = [
            (
                "group_completed_rebalance_count",
                "Rebalances whose members have all joined",
                &inner.rebalances,
            ),
            ("offset_commit_count", "Offsets committed", &inner.offset_commits),
        ];
        for (name, help, gauge) in totals {
            let name = format!("kafka_server_group_coordinator_metrics_{name}");
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "strom_group_coordinator_expired_sessions",
            "Members that were dropped because they fell silent",
            inner.expired_sessions.clone(),
        );
    }

    /// One coordinator's counts have changed.
    pub(super) fn recount(&self, before: &Census, now: &Census) {
        let inner = &self.inner;
        for (gauge, of) in [
            (&inner.groups, Census::groups as fn(&Census) -> usize),
            (&inner.empty, |census| census.empty),
            (&inner.preparing_rebalance, |census| census.preparing_rebalance),
            (&inner.completing_rebalance, |census| census.completing_rebalance),
            (&inner.stable, |census| census.stable),
            (&inner.dead, |census| census.dead),
            (&inner.offsets, |census| census.offsets),
        ] {
            let signed = |count| i64::try_from(count).unwrap_or(i64::MAX);
            gauge.inc_by(signed(of(now)) - signed(of(before)));
        }
        let expired = now.expired_sessions.saturating_sub(before.expired_sessions);
        inner.expired_sessions.inc_by(expired);
    }

    pub(super) fn rebalanced(&self) {
        self.inner.rebalances.inc();
    }

    pub(super) fn committed(&self, offsets: usize) {
        let offsets = i64::try_from(offsets).unwrap_or(i64::MAX);
        self.inner.offset_commits.inc_by(offsets);
    }
}
