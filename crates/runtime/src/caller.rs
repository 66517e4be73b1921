//! Who calls an internal service, what it may do, and the account of those that were refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use strom_types::{BrokerId, Identity, Role};
use tonic::Status;
use tracing::warn;

use crate::Metrics;

/// The same refusal is logged this often.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Refusals that are remembered as told.
const TOLD_MAX: usize = 256;

/// The caller of an internal method. Without a certificate it is one that is trusted: of this process, on a unix
/// socket, or on a listener that asks for none.
#[derive(Clone, Default)]
pub struct Caller(Option<Arc<Certified>>);

struct Certified {
    identities: Vec<Identity>,
    address: SocketAddr,
    refusals: Refusals,
}

impl Caller {
    pub(crate) fn certified(identities: Vec<Identity>, address: SocketAddr, refusals: Refusals) -> Self {
        Caller(Some(Arc::new(Certified {
            identities,
            address,
            refusals,
        })))
    }

    /// Of a request. Listeners that ask for certificates let none pass without.
    pub fn of(extensions: &http::Extensions) -> Self {
        extensions.get::<Caller>().cloned().unwrap_or_default()
    }

    pub(crate) fn is_certified(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it has one of the roles; else it is told so.
    pub(crate) fn check_role(&self, roles: &[Role], path: &dyn std::fmt::Display) -> Result<(), Status> {
        self.check(Reason::Role, path, |identity| roles.contains(&identity.role()))
    }

    /// Whether it may speak for a broker: as nobody else may.
    pub fn check_broker(&self, id: BrokerId, what: &str) -> Result<(), Status> {
        self.check(
            Reason::Broker,
            &format_args!("{what} as broker {id}"),
            |identity| *identity == Identity::Broker(id),
        )
    }

    fn check(
        &self,
        reason: Reason,
        what: &dyn std::fmt::Display,
        may: impl Fn(&Identity) -> bool,
    ) -> Result<(), Status> {
        let Some(caller) = &self.0 else {
            return Ok(());
        };
        if caller.identities.iter().any(may) {
            return Ok(());
        }
        let names: Vec<String> = caller.identities.iter().map(Identity::to_string).collect();
        let text = format!("{} may not call {what}", names.join(","));
        caller.refusals.note(reason, caller.address, &text);
        Err(Status::permission_denied(text))
    }
}

/// Why somebody was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// No certificate, one of another authority, an expired one, or no TLS at all.
    Handshake,
    /// A good certificate that names no role.
    Identity,
    /// The role may not call the method.
    Role,
    /// Another broker's name.
    Broker,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Labels {
    reason: &'static str,
}

/// Counts and tells of refusals; cheap to clone.
#[derive(Clone)]
pub(crate) struct Refusals {
    counters: Family<Labels, Counter>,
    told: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Refusals {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let refusals = Refusals {
            counters: Family::default(),
            told: Arc::default(),
        };
        let counters = refusals.counters.clone();
        metrics.register(|registry| {
            registry.register(
                "strom_grpc_refused",
                "Connections and calls of other services that were refused",
                counters,
            );
        });
        refusals
    }

    pub(crate) fn note(&self, reason: Reason, from: SocketAddr, text: &str) {
        let label = match reason {
            Reason::Handshake => "handshake",
            Reason::Identity => "identity",
            Reason::Role => "role",
            Reason::Broker => "broker",
        };
        self.counters.get_or_create(&Labels { reason: label }).inc();
        if self.is_news(format!("{} {text}", from.ip())) {
            warn!(reason = label, %from, refused = text, "a caller of internal services was refused");
        }
    }

    fn is_news(&self, line: String) -> bool {
        let mut told = self.told.lock();
        if told.len() >= TOLD_MAX {
            told.retain(|_, at| at.elapsed() < TELL_EVERY);
        }
        match told.get(&line) {
            Some(at) if at.elapsed() < TELL_EVERY => false,
            // Whoever makes up so many different ones does not get a line for each.
            None if told.len() >= TOLD_MAX => false,
            _ => {
                told.insert(line, Instant::now());
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;
    use crate::admin::BuildInfo;

    fn refusals() -> (Refusals, Metrics) {
        let build = BuildInfo {
            version: "0",
            roles: String::new(),
        };
        let metrics = Metrics::new(&Clock::system(), build);
        (Refusals::new(&metrics), metrics)
    }

    #[test]
    fn a_broker_speaks_for_itself_only() {
        let (refusals, metrics) = refusals();
        let address = "10.0.0.1:1".parse().unwrap();
        let caller = Caller::certified(vec![Identity::Broker(BrokerId(1))], address, refusals);
        assert!(caller.check_broker(BrokerId(1), "AlterPartition").is_ok());
        let refused = caller.check_broker(BrokerId(2), "AlterPartition").unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        assert!(caller.check_role(&[Role::Broker], &"/x").is_ok());
        assert!(caller.check_role(&[Role::Gateway], &"/x").is_err());
        assert!(caller.check_role(&[], &"/x").is_err());
        let text = metrics.encode().unwrap();
        assert!(
            text.contains("strom_grpc_refused_total{reason=\"broker\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("strom_grpc_refused_total{reason=\"role\"} 2"),
            "{text}"
        );
        assert!(
            Caller::default().check_broker(BrokerId(2), "x").is_ok(),
            "the same process"
        );
    }

    #[test]
    fn one_line_tells_of_one_refusal_and_their_number_is_bounded() {
        let (refusals, _) = refusals();
        assert!(refusals.is_news("a".into()));
        assert!(!refusals.is_news("a".into()));
        for n in 1..TOLD_MAX {
            assert!(refusals.is_news(format!("{n}")));
        }
        assert!(!refusals.is_news("one more".into()));
        assert_eq!(refusals.told.lock().len(), TOLD_MAX);
    }
}
