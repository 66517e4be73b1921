//! The active controller without its shell: queued commands become one batch at a time, commits become replies.

mod gateway_leases;
mod heartbeat;
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost::Message;
use strom_proto::convert::service_error;
use strom_proto::v1;
use strom_types::{BrokerEpoch, BrokerId, ErrorCode, MetadataOffset, Mono, WallMs};

use crate::commands::{BrokerChange, Command, Context, Outcome, Reply, evaluate};
use crate::image::Image;
use crate::sessions::BrokerSessions;
use gateway_leases::GatewayLeases;

pub use heartbeat::unconfirmed_heartbeat;
pub use model::{Answer, CoreConfig, CoreEvent, NextBatch, RequestId};

struct Queued {
    command: Command,
    request: Option<RequestId>,
}

/// Replies that wait for the batch in flight.
type Waiting = Vec<(Option<RequestId>, Result<Reply, v1::ServiceError>)>;

/// Decides on the committed image only: one batch is in flight at a time, and what comes meanwhile waits and is
/// batched together. All soft state (sessions, leases, the queue) lives as long as one leadership.
pub struct ControllerCore {
    config: CoreConfig,
    image: Image,
    leading: bool,
    queue: VecDeque<Queued>,
    in_flight: Option<Waiting>,
    sessions: BrokerSessions,
    gateways: GatewayLeases,
    /// Brokers whose change is queued or in flight.
    changing: BTreeSet<BrokerId>,
    /// Brokers in service whom the batch in flight puts out of it: no lease of theirs may grow any more.
    leaving: BTreeSet<BrokerId>,
    /// The index at which all others can see that a broker leads nothing any more.
    shutdown_at: BTreeMap<BrokerId, MetadataOffset>,
    next_rebalance: Option<Mono>,
}

impl ControllerCore {
    pub fn new(config: CoreConfig) -> Self {
        ControllerCore {
            image: Image::empty(),
            leading: false,
            queue: VecDeque::new(),
            in_flight: None,
            sessions: BrokerSessions::new(config.session_timeout),
            gateways: GatewayLeases::new(config.gateway_grace),
            changing: BTreeSet::new(),
            leaving: BTreeSet::new(),
            shutdown_at: BTreeMap::new(),
            next_rebalance: None,
            config,
        }
    }

    /// The committed image that decisions are made on.
    pub fn image(&self) -> &Image {
        &self.image
    }

    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// This node leads the quorum and has applied everything before its term: `image` shows it. A cluster without a
    /// name gets `cluster_id`.
    pub fn became_leader(&mut self, image: Image, cluster_id: &str, now: Mono) {
        self.leading = true;
        self.sessions.restart(&image, now + self.config.handover_grace);
        self.gateways.restart(&image, now);
        self.image = image;
        self.note_shutdowns();
        self.next_rebalance = self.config.rebalance_interval.map(|interval| now + interval);
        if self.image.cluster_id().is_empty() {
            self.push(Command::NameCluster(cluster_id.to_owned()), None);
        }
    }

    /// Another node leads, or none. What was in flight may yet be committed; what was queued never will be.
    pub fn lost_leadership(&mut self) -> Vec<Answer> {
        self.leading = false;
        self.changing.clear();
        self.leaving.clear();
        self.shutdown_at.clear();
        self.next_rebalance = None;
        let unknown = service_error(
            ErrorCode::Indeterminate,
            "leadership was lost while the change was being committed",
        );
        let mut answers = self.fail_in_flight(&unknown);
        let not_controller = not_controller();
        let queued = self.queue.drain(..).filter_map(|queued| queued.request);
        answers.extend(queued.map(|request| Answer {
            request,
            reply: Err(not_controller.clone()),
        }));
        answers
    }

    /// Queues a command. An error is definite: the command was not taken.
    pub fn enqueue(&mut self, command: Command, request: RequestId) -> Result<(), v1::ServiceError> {
        if !self.leading {
            return Err(not_controller());
        }
        if self.queue.len() >= self.config.queue_max {
            return Err(service_error(
                ErrorCode::Overloaded,
                "too many metadata changes are waiting",
            ));
        }
        self.push(command, Some(request));
        Ok(())
    }

    /// The gateway's stream is open; it stays in the image while one is.
    pub fn gateway_connected(&mut self, id: uuid::Uuid) {
        self.gateways.connected(id);
    }

    pub fn gateway_disconnected(&mut self, id: uuid::Uuid, now: Mono) {
        self.gateways.disconnected(id, now);
    }

    /// The broker's process is known to be gone (fast death).
    pub fn broker_died(&mut self, id: BrokerId, epoch: BrokerEpoch) {
        self.sessions.mark_dead(id, epoch);
    }

    /// The process was paused until now: heartbeats may lie unread, so nobody is fenced for the time of the pause.
    pub fn was_away(&mut self, now: Mono) {
        self.sessions.grant_full_sessions(now);
    }

    /// The next entry to propose, if none is in flight and there is something to change: one broker's fencing alone,
    /// or everything that waits.
    pub fn next_batch(&mut self, now: Mono, wall: WallMs) -> NextBatch {
        let mut next = NextBatch::default();
        if !self.leading || self.in_flight.is_some() {
            return next;
        }
        let mut work = Work {
            image: self.image.clone(),
            records: Vec::new(),
            bytes: 0,
            waiting: Vec::new(),
        };
        if let Some((broker, epoch)) = self.sessions.next_to_fence(&self.image, now) {
            next.events.push(CoreEvent::Fencing { broker, epoch });
            let command = Command::ChangeBroker(BrokerChange::fence(broker, epoch));
            self.run(command, None, now, &mut work, &mut next);
        } else {
            self.push_due(now, &mut next);
            self.drain_queue(now, &mut work, &mut next);
        }
        if !work.records.is_empty() {
            self.leaving = leaving(&self.image, &work.image);
            self.in_flight = Some(work.waiting);
            next.batch = Some(v1::MetadataBatch {
                records: work.records,
                timestamp_ms: wall.0,
            });
        }
        next
    }

    /// The batch in flight is committed at `index`; `image` is as of that index or a later one.
    pub fn committed(&mut self, index: MetadataOffset, image: &Image, now: Mono) -> Vec<Answer> {
        self.image = image.clone();
        self.sessions.follow(&self.image, now);
        self.gateways.follow(&self.image, now);
        self.changing.clear();
        self.leaving.clear();
        let queued = self
            .queue
            .iter()
            .filter_map(|queued| changed_broker(&queued.command));
        self.changing.extend(queued);
        self.note_shutdowns();
        let waiting = self.in_flight.take().unwrap_or_default();
        waiting
            .into_iter()
            .filter_map(|(request, reply)| {
                let reply = reply.map(|mut reply| {
                    reply.committed_at(index);
                    reply
                });
                request.map(|request| Answer { request, reply })
            })
            .collect()
    }

    /// The batch in flight was surely not taken by raft (this node is not the leader, or too busy).
    pub fn refused(&mut self, error: &v1::ServiceError) -> Vec<Answer> {
        self.changing.clear();
        self.leaving.clear();
        self.fail_in_flight(error)
    }

    /// When [`ControllerCore::next_batch`] has work of its own accord; never while a batch is in flight.
    pub fn next_wakeup(&self) -> Option<Mono> {
        if !self.leading || self.in_flight.is_some() {
            return None;
        }
        [
            self.sessions.next_expiry(&self.image),
            self.gateways.next_expiry(),
            self.next_rebalance,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn push(&mut self, command: Command, request: Option<RequestId>) {
        self.changing.extend(changed_broker(&command));
        self.queue.push_back(Queued { command, request });
    }

    /// Commands that time has made due.
    fn push_due(&mut self, now: Mono, next: &mut NextBatch) {
        for id in self.gateways.take_expired(now) {
            next.events.push(CoreEvent::GatewayGone(id));
            self.push(Command::RemoveGateway(id), None);
        }
        if self.next_rebalance.is_some_and(|due| due <= now) {
            self.next_rebalance = self.config.rebalance_interval.map(|interval| now + interval);
            self.push(Command::RebalanceLeaders, None);
        }
    }

    fn drain_queue(&mut self, now: Mono, work: &mut Work, next: &mut NextBatch) {
        while work.bytes < self.config.batch_bytes {
            let Some(Queued { command, request }) = self.queue.pop_front() else {
                return;
            };
            // The epoch of a registration is known only after the commit: nothing may build on it before.
            let last = matches!(command, Command::RegisterBroker(_));
            self.run(command, request, now, work, next);
            if last && !work.records.is_empty() {
                return;
            }
        }
    }

    fn run(
        &mut self,
        command: Command,
        request: Option<RequestId>,
        now: Mono,
        work: &mut Work,
        next: &mut NextBatch,
    ) {
        let context = Context {
            settings: &self.config.settings,
            sessions: &self.sessions,
            now,
        };
        if let Some(broker) = changed_broker(&command) {
            self.changing.remove(&broker);
        }
        let Outcome {
            records,
            mut reply,
            image,
            unclean,
        } = evaluate(command, &work.image, &context);
        if !unclean.is_empty() {
            next.events.push(CoreEvent::UncleanElection(unclean));
        }
        if records.is_empty() && work.records.is_empty() {
            if let Ok(reply) = &mut reply {
                reply.committed_at(self.image.index);
            }
            next.answers
                .extend(request.map(|request| Answer { request, reply }));
            return;
        }
        // An answer that rests on records of this batch waits with them, though it has none of its own.
        work.bytes += records.iter().map(Message::encoded_len).sum::<usize>();
        work.records.extend(records);
        work.image = image;
        work.waiting.push((request, reply));
    }

    fn fail_in_flight(&mut self, error: &v1::ServiceError) -> Vec<Answer> {
        let waiting = self.in_flight.take().unwrap_or_default();
        waiting
            .into_iter()
            .filter_map(|(request, reply)| {
                // A refusal wrote nothing, whatever became of the rest of the batch.
                let reply = reply.and_then(|_| Err(error.clone()));
                request.map(|request| Answer { request, reply })
            })
            .collect()
    }
}

/// A batch in the making.
struct Work {
    image: Image,
    records: Vec<v1::MetadataRecord>,
    bytes: usize,
    waiting: Waiting,
}

/// The brokers that serve in `before` and, in that life, no longer in `after`.
fn leaving(before: &Image, after: &Image) -> BTreeSet<BrokerId> {
    let stays = |id: BrokerId, epoch: BrokerEpoch| {
        after
            .broker(id)
            .is_some_and(|broker| broker.epoch == epoch && !broker.fenced)
    };
    let leavers = before
        .live_brokers()
        .filter(|broker| !stays(broker.id, broker.epoch));
    leavers.map(|broker| broker.id).collect()
}

fn changed_broker(command: &Command) -> Option<BrokerId> {
    match command {
        Command::ChangeBroker(change) => Some(change.broker),
        Command::DropDamaged { broker, .. } => Some(*broker),
        _ => None,
    }
}

fn not_controller() -> v1::ServiceError {
    service_error(
        ErrorCode::NotController,
        "this controller does not lead the quorum",
    )
}
