//! The loop that drives the controller's core while this node leads the quorum: requests in, batches to raft, replies
//! out.

mod handle;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prost::Message;
use strom_metadata::{Answer, ControllerCore, CoreConfig, CoreEvent, RequestId, unconfirmed_heartbeat};
use strom_proto::convert::service_error;
use strom_proto::v1;
use strom_raft_node::{ProposeError, RaftHandle, RaftRole, RaftStatus};
use strom_runtime::{Clock, Shutdown};
use strom_types::{ErrorCode, MetadataOffset, Mono};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::metrics::Metrics;
use crate::state_machine::MetadataLog;

pub(crate) use handle::Active;
use handle::{Outcome, Request};

const REQUESTS_MAX: usize = 1024;
/// The loop turns at least this often, so that a pause of the process is noticed as one.
const TURN_MAX: Duration = Duration::from_millis(200);
/// A turn that comes this much late means that the process did not run.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Between a refused proposal and the next one.
const REFUSAL_PAUSE: Duration = Duration::from_millis(50);
/// Partitions named in one line of the log.
const NAMED_MAX: usize = 20;

/// Answers without an entry of their own, and whether this node surely still led when they were made.
type Confirmation = Pin<Box<dyn Future<Output = (Vec<Answer>, bool)> + Send>>;
type Proposal = Pin<Box<dyn Future<Output = Result<u64, ProposeError>> + Send>>;

/// What the loop stands on.
pub(crate) struct Parts {
    pub(crate) core: CoreConfig,
    pub(crate) raft: RaftHandle,
    pub(crate) log: MetadataLog,
    pub(crate) clock: Clock,
    pub(crate) cluster_id: String,
    pub(crate) metrics: Arc<Metrics>,
}

pub(crate) struct ActiveLoop {
    core: ControllerCore,
    raft: RaftHandle,
    log: MetadataLog,
    clock: Clock,
    cluster_id: String,
    metrics: Arc<Metrics>,
    requests: mpsc::Receiver<Request>,
    waiting: BTreeMap<RequestId, oneshot::Sender<Outcome>>,
    last_request: u64,
    /// The term this node leads in; leads again only in a higher one.
    term: u64,
    proposed_at: Mono,
    confirmations: FuturesUnordered<Confirmation>,
    /// No proposal before this time, after a refused one.
    pause_until: Mono,
}

impl ActiveLoop {
    pub(crate) fn new(parts: Parts) -> (Self, Active) {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let active = ActiveLoop {
            core: ControllerCore::new(parts.core),
            raft: parts.raft,
            log: parts.log,
            clock: parts.clock,
            cluster_id: parts.cluster_id,
            metrics: parts.metrics,
            requests,
            waiting: BTreeMap::new(),
            last_request: 0,
            term: 0,
            proposed_at: Mono(0),
            confirmations: FuturesUnordered::new(),
            pause_until: Mono(0),
        };
        (active, Active::new(sender))
    }

    pub(crate) async fn run(mut self, stop: Shutdown) {
        let mut status = self.raft.status();
        let mut proposal: Option<Proposal> = None;
        let mut inbox = Vec::new();
        let first = status.borrow_and_update().clone();
        self.follow(&first);
        let mut last_turn = self.clock.mono();
        loop {
            let now = self.clock.mono();
            if now.since(last_turn) > TURN_MAX + PAUSE_MIN {
                self.core.was_away(now);
            }
            last_turn = now;
            if proposal.is_none() {
                proposal = self.next_proposal(now);
            }
            let idle = self.idle(now);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                outcome = concluded(&mut proposal) => {
                    proposal = None;
                    self.conclude(outcome);
                }
                Some((answers, confirmed)) = self.confirmations.next() => {
                    self.answer(if confirmed { answers } else { unconfirmed(answers) });
                }
                changed = status.changed() => {
                    let now = status.borrow_and_update().clone();
                    self.follow(&now);
                    if changed.is_err() {
                        break;
                    }
                    if !self.core.is_leading() {
                        proposal = None;
                    }
                }
                _ = self.requests.recv_many(&mut inbox, REQUESTS_MAX) => {
                    inbox.drain(..).for_each(|request| self.take(request));
                }
                () = sleep(idle) => {}
            }
        }
        let answers = self.core.lost_leadership();
        self.answer(answers);
    }

    /// Takes up or lays down the leadership.
    fn follow(&mut self, status: &RaftStatus) {
        let leads = status.role == RaftRole::Leader && status.ready_to_lead;
        if self.core.is_leading() && (!leads || status.term != self.term) {
            info!(term = self.term, "no longer the active controller");
            self.step_down();
        }
        if !self.core.is_leading() && leads && status.term > self.term {
            self.term = status.term;
            let image = self.log.image();
            info!(term = self.term, index = image.index.get(), "active controller");
            self.core
                .became_leader(image, &self.cluster_id, self.clock.mono());
        }
    }

    fn step_down(&mut self) {
        let answers = self.core.lost_leadership();
        self.answer(answers);
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Command(command, reply) => {
                self.last_request += 1;
                let id = RequestId(self.last_request);
                match self.core.enqueue(*command, id) {
                    Ok(()) => drop(self.waiting.insert(id, reply)),
                    // A caller that has gone needs no answer, here and below.
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Request::Heartbeat(heartbeat, reply) => {
                let answer = self.core.heartbeat(&heartbeat, self.clock.mono());
                self.confirm_heartbeat(answer, reply);
            }
            Request::Gateway { id, connected: true } => self.core.gateway_connected(id),
            Request::Gateway { id, connected: false } => {
                self.core.gateway_disconnected(id, self.clock.mono());
            }
            Request::BrokerDied(id, epoch) => {
                warn!(
                    broker = id.get(),
                    epoch = epoch.get(),
                    "the broker's process is gone"
                );
                self.core.broker_died(id, epoch);
            }
        }
    }

    fn next_proposal(&mut self, now: Mono) -> Option<Proposal> {
        if now < self.pause_until {
            return None;
        }
        let next = self.core.next_batch(now, self.clock.wall());
        self.confirm(next.answers);
        next.events.iter().for_each(|event| self.report(event));
        let data = next.batch?.encode_to_vec().into();
        self.proposed_at = now;
        let raft = self.raft.clone();
        Some(Box::pin(async move { raft.propose(data).await }))
    }

    /// An answer that wrote nothing ("it exists already") is as true as the image it was decided on: a leader that
    /// has been replaced without knowing it must not give it.
    fn confirm(&mut self, answers: Vec<Answer>) {
        if answers.is_empty() {
            return;
        }
        let leads = self.still_leads();
        self.confirmations
            .push(Box::pin(async move { (answers, leads.await) }));
    }

    /// A heartbeat that counts makes its sender's lease longer. A leader that has been replaced while it was paused must
    /// not do that: its successor may have fenced the sender.
    fn confirm_heartbeat(
        &mut self,
        answer: v1::BrokerHeartbeatReply,
        reply: oneshot::Sender<v1::BrokerHeartbeatReply>,
    ) {
        if answer.error != 0 {
            // The sender may have gone, here and below.
            let _ = reply.send(answer);
            return;
        }
        let leads = self.still_leads();
        self.confirmations.push(Box::pin(async move {
            let answer = if leads.await {
                answer
            } else {
                unconfirmed_heartbeat(&answer)
            };
            let _ = reply.send(answer);
            (Vec::new(), true)
        }));
    }

    /// Whether a majority still takes this node for the leader, asked from now on.
    fn still_leads(&self) -> impl Future<Output = bool> + Send + 'static {
        let (raft, mut status, term) = (self.raft.clone(), self.raft.status(), self.term);
        async move {
            let replaced = |now: &RaftStatus| now.role != RaftRole::Leader || now.term != term;
            tokio::select! {
                biased;
                _ = status.wait_for(replaced) => false,
                read = raft.read_index() => read.is_ok(),
            }
        }
    }

    fn conclude(&mut self, outcome: Result<u64, ProposeError>) {
        let now = self.clock.mono();
        match outcome {
            Ok(index) => {
                let image = self.log.image();
                if image.index.get() < index {
                    // The state machine refused it; the whole controller is about to stop.
                    return self.step_down();
                }
                self.metrics.committed(now.since(self.proposed_at));
                let answers = self.core.committed(MetadataOffset(index), &image, now);
                self.answer(answers);
            }
            Err(ProposeError::Indeterminate) => self.step_down(),
            Err(refused) => {
                let code = match refused {
                    ProposeError::NotLeader { .. } => ErrorCode::NotController,
                    ProposeError::ShuttingDown => ErrorCode::ControllerUnavailable,
                    ProposeError::TooLarge { .. } => ErrorCode::PolicyViolation,
                    ProposeError::Overloaded | ProposeError::Indeterminate => ErrorCode::Overloaded,
                };
                if matches!(refused, ProposeError::TooLarge { .. }) {
                    error!(%refused, "a metadata change does not fit into one entry");
                }
                self.pause_until = now + REFUSAL_PAUSE;
                let answers = self.core.refused(&service_error(code, refused.to_string()));
                self.answer(answers);
            }
        }
    }

    fn answer(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            if let Some(reply) = self.waiting.remove(&answer.request) {
                // The caller may have gone.
                let _ = reply.send(answer.reply);
            }
        }
    }

    fn report(&self, event: &CoreEvent) {
        match event {
            CoreEvent::Fencing { broker, epoch } => {
                self.metrics.fencings.inc();
                warn!(
                    broker = broker.get(),
                    epoch = epoch.get(),
                    "fencing a silent broker"
                );
            }
            CoreEvent::UncleanElection(partitions) => {
                let count = u64::try_from(partitions.len()).unwrap_or(u64::MAX);
                self.metrics.unclean_elections.inc_by(count);
                let named: Vec<String> = partitions
                    .iter()
                    .take(NAMED_MAX)
                    .map(ToString::to_string)
                    .collect();
                error!(count, partitions = ?named, "unclean leader election: records may be lost");
            }
            CoreEvent::GatewayGone(id) => info!(gateway = %id, "the gateway is gone"),
        }
    }

    fn idle(&self, now: Mono) -> Duration {
        let due = self.core.next_wakeup().map_or(TURN_MAX, |due| due.since(now));
        due.max(self.pause_until.since(now)).min(TURN_MAX)
    }
}

/// Nothing was written, so this is definite.
fn unconfirmed(answers: Vec<Answer>) -> Vec<Answer> {
    let reply = |answer: Answer| Answer {
        reply: Err(service_error(
            ErrorCode::NotController,
            "this controller could not confirm that it leads the quorum",
        )),
        ..answer
    };
    answers.into_iter().map(reply).collect()
}

async fn concluded(proposal: &mut Option<Proposal>) -> Result<u64, ProposeError> {
    match proposal {
        Some(proposal) => proposal.await,
        None => std::future::pending().await,
    }
}
