//! The production shell: a thread that owns the driver and may block on its disk, and the future that watches it.

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use strom_proto::v1::RaftEnvelope;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use crate::config::RaftConfig;
use crate::driver::{Driver, DriverError, OpenError, Outbox, OutgoingSnapshot, ProposalId, ReadId, Setup};
use crate::handle::{ProposeError, RaftHandle, RaftStatus, ReadError};
use crate::identity::{self, IdentityError, RaftId, StorageId};
use crate::inbox::{Inbox, PeerEvent, Reports, Request};
use crate::state_machine::StateMachine;
use crate::store::{RocksStore, Store};
use crate::transport::{Shipment, Transport, Unsent};

/// How a node ends other than by its shutdown.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("the raft thread panicked: {0}")]
    Panicked(String),
    #[error("the raft thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// An opened node, not yet running: nothing is sent and no time passes before [`RaftNode::run`].
pub struct RaftNode<S: StateMachine> {
    driver: Driver<S, RocksStore>,
    inbox: Arc<Inbox>,
    outlet: Outlet,
    status: watch::Sender<RaftStatus>,
    tick: Duration,
}

impl<S: StateMachine> RaftNode<S> {
    /// Opens or makes the storage, restores the latest snapshot into `machine`. Blocks on the disk.
    pub fn open(
        config: &RaftConfig,
        machine: S,
        transport: Arc<dyn Transport>,
    ) -> Result<(Self, RaftHandle), OpenError> {
        let (store, marked) = open_store(config)?;
        // 61 random bits are plenty for election timeouts and to tell two lives of one node apart.
        let (seed, _) = uuid::Uuid::new_v4().as_u64_pair();
        let driver = Driver::open(Setup::new(config, StorageId::random(), seed), store, machine)?;
        if let (Some(identity), false) = (driver.identity(), marked) {
            identity::write_marker(&config.data_dir, identity)?;
        }
        let inbox = Arc::new(Inbox::default());
        let reports = Reports::new(inbox.clone());
        transport.attach(reports.clone());
        let (status, watched) = watch::channel(driver.status());
        let handle = RaftHandle {
            inbox: inbox.clone(),
            status: watched,
            id: driver.id(),
            node_id: config.node_id,
            cluster_id: config.cluster_id.as_str().into(),
            snapshot_bytes_max: config.tuning.snapshot_bytes_max,
        };
        let outlet = Outlet {
            transport,
            reports,
            proposals: HashMap::new(),
            reads: HashMap::new(),
        };
        Ok((
            RaftNode {
                driver,
                inbox,
                outlet,
                status,
                tick: config.tick,
            },
            handle,
        ))
    }

    /// The state machine, before the node runs.
    pub fn machine(&self) -> &S {
        self.driver.machine()
    }

    /// Runs until `shutdown` resolves (then `Ok`) or the node cannot go on. Dropping the future stops the node too.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let closer = Closer(self.inbox.clone());
        let (ended, mut end) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("raft".into())
            .spawn(move || {
                let outcome = self.run_thread();
                // Nobody listens once the future was dropped.
                let _ = ended.send(outcome);
            })
            .map_err(RunError::Thread)?;
        let outcome = tokio::select! {
            biased;
            outcome = &mut end => outcome,
            () = shutdown => {
                closer.0.close();
                end.await
            }
        };
        match outcome {
            Ok(outcome) => Ok(outcome?),
            // The sender was dropped by a panic; the thread is at its end, so the join is short.
            Err(_) => match thread.join() {
                Err(panic) => Err(RunError::Panicked(panic_text(panic.as_ref()))),
                Ok(()) => Err(RunError::Panicked("without a message".into())),
            },
        }
    }

    fn run_thread(mut self) -> Result<(), DriverError> {
        let outcome = self.turns();
        self.inbox.close();
        self.driver.abandon(&mut self.outlet);
        // Requests that were never looked at are dropped with their reply channels; proposals among them were not
        // written, which the handle cannot tell, so say it.
        for request in self.inbox.take(Instant::now()).requests {
            refuse(request);
        }
        outcome
    }

    fn turns(&mut self) -> Result<(), DriverError> {
        let mut ticker = Ticker {
            next: Instant::now() + self.tick,
            every: self.tick,
        };
        loop {
            let until = if self.driver.has_ready() {
                Instant::now()
            } else {
                ticker.next
            };
            let batch = self.inbox.take(until);
            if batch.closed {
                batch.requests.into_iter().for_each(refuse);
                return Ok(());
            }
            for event in batch.peers {
                self.on_peer(event)?;
            }
            if ticker.is_due(Instant::now()) {
                self.driver.tick()?;
            }
            for request in batch.requests {
                self.on_request(request);
            }
            if self.driver.has_ready() {
                self.driver.on_ready(&mut self.outlet)?;
            }
            let status = self.driver.status();
            self.status.send_if_modified(|current| {
                let changed = *current != status;
                if changed && (current.role != status.role || current.leader != status.leader) {
                    tracing::info!(role = ?status.role, term = status.term, leader = ?status.leader, "raft role");
                }
                *current = status;
                changed
            });
        }
    }

    fn on_peer(&mut self, event: PeerEvent) -> Result<(), DriverError> {
        match event {
            PeerEvent::Envelope(envelope) => self.driver.step(&envelope),
            PeerEvent::Snapshot(snapshot) => self.driver.install_snapshot(snapshot),
            PeerEvent::Unreachable(peer) => {
                self.driver.report_unreachable(peer);
                Ok(())
            }
            PeerEvent::SnapshotReport { peer, delivered } => {
                self.driver.report_snapshot(peer, delivered);
                Ok(())
            }
        }
    }

    fn on_request(&mut self, request: Request) {
        // A caller that went away does not want the answer.
        match request {
            Request::Propose(data, reply) => match self.driver.propose(data) {
                Ok(id) => drop(self.outlet.proposals.insert(id, reply)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Request::ReadIndex(reply) => match self.driver.read_index() {
                Ok(id) => drop(self.outlet.reads.insert(id, reply)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Request::Describe(reply) => drop(reply.send(self.driver.describe())),
            Request::Transfer(node, reply) => drop(reply.send(self.driver.transfer_leadership(node))),
        }
    }
}

/// Missed ticks are skipped: after a pause the first thing must not be a burst of ticks, which is an election.
struct Ticker {
    next: Instant,
    every: Duration,
}

impl Ticker {
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + self.every;
        }
        due
    }
}

fn refuse(request: Request) {
    match request {
        Request::Propose(_, reply) => drop(reply.send(Err(ProposeError::ShuttingDown))),
        Request::ReadIndex(reply) => drop(reply.send(Err(ReadError::ShuttingDown))),
        Request::Describe(reply) => drop(reply),
        Request::Transfer(_, reply) => drop(reply),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_owned(),
    }
}

/// Opens the database and proves that it is the storage this node used before. Also tells whether the marker file is
/// there.
fn open_store(config: &RaftConfig) -> Result<(RocksStore, bool), OpenError> {
    fs::create_dir_all(&config.data_dir).map_err(IdentityError::Io)?;
    let marker = identity::read_marker(&config.data_dir)?;
    if let Some(marker) = &marker {
        marker.check(config.node_id, &config.cluster_id)?;
    }
    let path = config.data_dir.join("raft");
    if let (Some(marker), false) = (&marker, path.exists()) {
        return Err(IdentityError::StorageLost(marker.storage).into());
    }
    let store = RocksStore::open(&path)?;
    identity::reconcile(marker.as_ref(), store.header().identity.as_ref())?;
    Ok((store, marker.is_some()))
}

struct Closer(Arc<Inbox>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The thread's outbox: the transport, and the callers that wait.
struct Outlet {
    transport: Arc<dyn Transport>,
    reports: Reports,
    proposals: HashMap<ProposalId, oneshot::Sender<Result<u64, ProposeError>>>,
    reads: HashMap<ReadId, oneshot::Sender<Result<u64, ReadError>>>,
}

impl Outbox for Outlet {
    fn send(&mut self, to: RaftId, envelope: RaftEnvelope) -> Result<(), Unsent> {
        self.transport.send(to, envelope)
    }

    fn send_snapshot(&mut self, snapshot: OutgoingSnapshot) {
        self.transport
            .send_snapshot(Shipment::new(snapshot, self.reports.clone()));
    }

    fn proposed(&mut self, id: ProposalId, outcome: Result<u64, ProposeError>) {
        if let Some(reply) = self.proposals.remove(&id) {
            drop(reply.send(outcome));
        }
    }

    fn read_ready(&mut self, id: ReadId, outcome: Result<u64, ReadError>) {
        if let Some(reply) = self.reads.remove(&id) {
            drop(reply.send(outcome));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_makes_one_tick() {
        let start = Instant::now();
        let every = Duration::from_millis(50);
        let mut ticker = Ticker {
            next: start + every,
            every,
        };
        assert!(!ticker.is_due(start));
        assert!(ticker.is_due(start + every));
        let resumed = start + Duration::from_secs(60);
        assert!(ticker.is_due(resumed));
        assert!(!ticker.is_due(resumed));
        assert!(!ticker.is_due(resumed + every / 2));
        assert!(ticker.is_due(resumed + every));
    }
}
