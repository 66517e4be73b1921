//! The node under attack, and what must hold after each attack.

use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::until;
use strom_testkit::{
    Cluster, ClusterBuilder, Member, peak_resident_bytes, reset_peak_resident_bytes, resident_bytes,
};
use tokio::sync::{Mutex, MutexGuard};

/// What one connection may make the process grow by, and room for what the attacker itself and the allocator hold in
/// this same process.
const GROWTH_MAX: u64 = (64 + 16) << 20;
const CLOSED: &str = "strom_gateway_connections_closed";
/// Reasons of closed connections that are the client's fault.
const BAD_INPUT: [&str; 3] = ["bad_frame", "malformed_request", "unsupported_request"];

/// Memory is the process's, so the attacks come one at a time.
static TURN: Mutex<()> = Mutex::const_new(());

pub(crate) struct Target {
    pub(crate) cluster: Cluster,
    healthy: Raw,
    sent: i64,
    _turn: MutexGuard<'static, ()>,
}

impl Target {
    pub(crate) async fn start() -> Self {
        Self::build(Cluster::builder()).await
    }

    pub(crate) async fn build(builder: ClusterBuilder) -> Self {
        let turn = TURN.lock().await;
        let builder = builder.setting("auto.create.topics.enable", "false");
        let cluster = builder.allow_log("closed a client's connection").start().await;
        let mut healthy = Raw::connect(&cluster.bootstrap()).await;
        create_topic(&mut healthy, "healthy", 1, &[]).await;
        Target {
            cluster,
            healthy,
            sent: 0,
            _turn: turn,
        }
    }

    pub(crate) async fn connect(&self) -> Raw {
        Raw::connect(&self.cluster.bootstrap()).await
    }

    /// A connection whose first request has been understood, so that large frames are taken.
    pub(crate) async fn known(&self) -> Raw {
        let mut raw = self.connect().await;
        raw.call(0, &strom_kafka_codec::messages::ApiVersionsRequest::default())
            .await;
        raw
    }

    /// Connections closed for bad input so far.
    fn bad_input(&self) -> f64 {
        let count = |reason| {
            self.cluster
                .metric(Member::Gateway(0), CLOSED, &[("reason", reason)])
        };
        BAD_INPUT.iter().map(|reason| count(reason)).sum()
    }

    /// Runs an attack that is answered or not; then memory and the healthy client are looked at.
    pub(crate) async fn survives(&mut self, attack: &str, run: impl Future<Output = ()>) {
        reset_peak_resident_bytes();
        let before = resident_bytes();
        run.await;
        let grown = peak_resident_bytes().saturating_sub(before);
        assert!(
            grown <= GROWTH_MAX,
            "{attack}: the process grew by {} MiB",
            grown >> 20
        );
        let offset = produce_values(&mut self.healthy, "healthy", 0, &[attack]).await;
        assert_eq!(offset, self.sent, "{attack}: the healthy client's record");
        self.sent += 1;
        let data = fetch(&mut self.healthy, "healthy", 0, offset).await;
        let read = records_of(&data);
        let value = read.first().and_then(|record| record.value.as_deref());
        assert_eq!(
            value,
            Some(attack.as_bytes()),
            "{attack}: what the healthy client reads"
        );
    }

    /// Sends bytes that must end the connection without an answer, and be counted as bad input.
    pub(crate) async fn closes(&mut self, attack: &str, mut raw: Raw, bytes: &[u8]) {
        let before = self.bad_input();
        self.survives(attack, async {
            raw.send_bytes(bytes).await;
            let answer = raw.answer_within(strom_cluster::PATIENCE).await;
            assert_eq!(answer, None, "{attack}: answered instead of closed");
        })
        .await;
        until(attack, || async { (self.bad_input() > before).then_some(()) }).await;
        assert_eq!(self.bad_input(), before + 1.0, "{attack}: counted once");
    }
}
