//! A gateway: no state but a watched image; it routes by content and maps errors, and never makes one up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use strom_metadata::Image;
use strom_proto::v1;
use strom_types::{
    Admitted, ErrorCode, GROUP_METADATA_TOPIC, LeaderEpoch, MetadataOffset, Mono, OrderedWay, ProducerBatch,
    ProducerEpoch, ProducerId, TopicIdPartition, coordinator_partition, leaves_gap,
};

use crate::broker_node::broker_index;
use crate::clock::MS;
use crate::env::Env;
use crate::message::{Addr, Answer, Ask, Body, Control, Controlled};

const WATCH_AGAIN: Duration = Duration::from_millis(25);
const WATCH_QUIET_MAX: Duration = Duration::from_millis(500);
const CALL_TIMEOUT: Duration = Duration::from_millis(1000);
const GROUP_TIMEOUT: Duration = Duration::from_millis(4000);

/// What a failed call means to the client: the columns of the gateway's table of codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Produce,
    Read,
    Coordinator,
    ProducerId,
}

/// How a call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    Code(ErrorCode),
    /// Nothing was sent.
    Unreachable,
    /// It may have been done.
    Unanswered,
}

struct Pending {
    client: (Addr, u64),
    kind: Kind,
    deadline: Mono,
    ordered: Option<(TopicIdPartition, Admitted)>,
}

/// A produce stream: the broker, its life, and the connection.
type Stream = (usize, u64, u64);

struct Running {
    image: Image,
    watched: usize,
    next_watch: Mono,
    last_news: Mono,
    pending: BTreeMap<u64, Pending>,
    /// The order of each client's batches, as in `crates/gateway/src/produce_order.rs`.
    ways: BTreeMap<(Addr, TopicIdPartition), OrderedWay<Stream>>,
    /// Of each client's produce requests, in their order, as on its one connection: an answer waits for earlier ones.
    replies: BTreeMap<Addr, VecDeque<(u64, Option<Answer>)>>,
}

impl Running {
    fn way(&mut self, client: Addr, key: TopicIdPartition) -> &mut OrderedWay<Stream> {
        self.ways.entry((client, key)).or_default()
    }

    /// Lets a batch out to `target`; `None` if there is none, or if the batch would overtake another.
    fn admit(
        &mut self,
        env: &Env,
        own: Addr,
        (client, key): (Addr, TopicIdPartition),
        batch: ProducerBatch,
        target: Option<usize>,
    ) -> Option<Option<(TopicIdPartition, Admitted)>> {
        let way = self.way(client, key);
        let Some(index) = target else {
            way.unsent(batch);
            return None;
        };
        let to = Addr::Broker(index);
        let stream = (index, env.life(to), env.net.connection(own, to));
        way.admit(batch, stream).map(|admitted| Some((key, admitted)))
    }

    fn expect_reply(&mut self, (client, call): (Addr, u64)) {
        self.replies.entry(client).or_default().push_back((call, None));
    }

    fn reply(&mut self, env: &mut Env, own: Addr, (client, call): (Addr, u64), answer: Answer) {
        let queue = self.replies.entry(client).or_default();
        match queue.iter_mut().find(|(expected, _)| *expected == call) {
            None => env.answer(own, (client, call), answer),
            Some((_, slot)) => *slot = Some(answer),
        }
        while let Some((call, Some(answer))) = queue.front().cloned() {
            queue.pop_front();
            env.answer(own, (client, call), answer);
        }
    }

    fn settle(&mut self, pending: &Pending, code: ErrorCode) {
        if let Some((key, admitted)) = pending.ordered {
            self.way(pending.client.0, key).settle(admitted, leaves_gap(code));
        }
    }
}

pub(crate) struct GatewayNode {
    index: usize,
    controllers: usize,
    brokers: usize,
    running: Option<Running>,
}

impl GatewayNode {
    pub(crate) fn new(index: usize, controllers: usize, brokers: usize) -> Self {
        GatewayNode {
            index,
            controllers,
            brokers,
            running: None,
        }
    }

    pub(crate) fn addr(&self) -> Addr {
        Addr::Gateway(self.index)
    }

    pub(crate) fn start(&mut self, env: &mut Env) {
        env.start(self.addr());
        let now = env.mono(self.addr());
        self.running = Some(Running {
            image: Image::empty(),
            watched: env.rng.index(self.controllers),
            next_watch: now,
            last_news: now,
            pending: BTreeMap::new(),
            ways: BTreeMap::new(),
            replies: BTreeMap::new(),
        });
    }

    pub(crate) fn crash(&mut self, env: &mut Env) {
        self.running = None;
        env.stop(self.addr());
    }

    pub(crate) fn wake(&mut self, env: &mut Env) -> u64 {
        let (now, addr, controllers) = (env.mono(self.addr()), self.addr(), self.controllers);
        if let Some(running) = &mut self.running {
            if now >= running.next_watch {
                running.next_watch = now + WATCH_AGAIN;
                if now.since(running.last_news) > WATCH_QUIET_MAX {
                    running.last_news = now;
                    running.watched = env.rng.index(controllers);
                }
                let request = Control::Watch {
                    applied: running.image.index.get(),
                };
                let call = env.number();
                let to = Addr::Controller(running.watched);
                env.send(addr, to, Body::Control { call, request });
            }
            let late = running
                .pending
                .extract_if(.., |_, pending| pending.deadline <= now);
            for (_, pending) in late.collect::<Vec<_>>() {
                running.settle(&pending, ErrorCode::RequestTimedOut);
                let answer = failed(pending.kind, Failure::Unanswered, LeaderEpoch::NONE);
                running.reply(env, addr, pending.client, answer);
            }
        }
        env.rng.range(9 * MS, 15 * MS)
    }

    pub(crate) fn receive(&mut self, env: &mut Env, from: Addr, body: Body) {
        match body {
            Body::Controlled { reply, .. } => self.take_news(env, reply),
            Body::Ask { call, ask } => self.forward(env, (from, call), ask),
            Body::Answer { call, answer } => {
                let addr = self.addr();
                let Some(running) = &mut self.running else { return };
                let Some(pending) = running.pending.remove(&call) else {
                    return;
                };
                let code = match &answer {
                    Answer::Error { code, .. } => *code,
                    _ => ErrorCode::None,
                };
                running.settle(&pending, code);
                let answer = match answer {
                    Answer::Error { code, epoch } => failed(pending.kind, Failure::Code(code), epoch),
                    answer => answer,
                };
                running.reply(env, addr, pending.client, answer);
            }
            _ => {}
        }
    }

    fn take_news(&mut self, env: &mut Env, news: Controlled) {
        let now = env.mono(self.addr());
        let Some(running) = &mut self.running else { return };
        let applied = match news {
            Controlled::Entries { from, entries } if running.image.index.get() == from => {
                apply(&mut running.image, entries)
            }
            Controlled::Image { index, records } if index > running.image.index.get() => {
                Image::from_records(MetadataOffset(index), records)
                    .map(|image| running.image = image)
                    .map_err(|error| error.to_string())
            }
            _ => return,
        };
        if let Err(why) = applied {
            env.judge.fail(format!("gateway {}: {why}", self.index));
        }
        running.last_news = now;
        running.next_watch = now;
    }

    fn forward(&mut self, env: &mut Env, client: (Addr, u64), ask: Ask) {
        let addr = self.addr();
        let now = env.mono(addr);
        let brokers = self.brokers;
        let Some(running) = &mut self.running else { return };
        if let Ask::Metadata { key } = ask {
            let known = running.image.partition(key);
            let answer = known.map_or_else(
                || Answer::error(ErrorCode::UnknownTopicOrPartition),
                |state| Answer::Epoch(state.leader_epoch),
            );
            return env.answer(addr, client, answer);
        }
        let kind = kind_of(&ask);
        let target = match &ask {
            Ask::ProducerId => Some(env.rng.index(brokers)),
            Ask::Group { group, .. } => coordinator_key(&running.image, group)
                .and_then(|key| running.image.partition(key))
                .and_then(|state| state.leader)
                .map(broker_index),
            other => other
                .partition()
                .and_then(|key| running.image.partition(key))
                .and_then(|state| state.leader)
                .map(broker_index),
        };
        if matches!(ask, Ask::Produce { .. }) {
            running.expect_reply(client);
        }
        let reachable = target.filter(|index| env.is_up(Addr::Broker(*index)));
        let ordered = match ordered(&ask) {
            None => Some(None),
            Some((key, batch)) => running.admit(env, addr, (client.0, key), batch, reachable),
        };
        let (Some(target), Some(ordered)) = (reachable, ordered) else {
            let answer = failed(kind, Failure::Unreachable, LeaderEpoch::NONE);
            return running.reply(env, addr, client, answer);
        };
        let call = env.number();
        let limit = if kind == Kind::Coordinator {
            GROUP_TIMEOUT
        } else {
            CALL_TIMEOUT
        };
        let pending = Pending {
            client,
            kind,
            deadline: now + limit,
            ordered,
        };
        running.pending.insert(call, pending);
        env.send(addr, Addr::Broker(target), Body::Ask { call, ask });
    }
}

fn apply(image: &mut Image, entries: Vec<(u64, v1::MetadataBatch)>) -> Result<(), String> {
    for (index, batch) in entries {
        image
            .apply(MetadataOffset(index), &batch)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn coordinator_key(image: &Image, group: &str) -> Option<TopicIdPartition> {
    let topic = image.topic_by_name(GROUP_METADATA_TOPIC)?;
    let partitions = i32::try_from(topic.partitions.len()).ok()?;
    Some(TopicIdPartition::new(
        topic.id,
        coordinator_partition(group, partitions),
    ))
}

fn ordered(ask: &Ask) -> Option<(TopicIdPartition, ProducerBatch)> {
    match ask {
        Ask::Produce { key, producer, .. } => {
            let (id, sequence) = (*producer)?;
            Some((*key, producer_batch(id, sequence)))
        }
        _ => None,
    }
}

/// Producers of the model keep to their first epoch.
pub(crate) fn producer_batch(id: i64, sequence: i32) -> ProducerBatch {
    ProducerBatch {
        id: ProducerId(id),
        epoch: ProducerEpoch(0),
        sequence,
    }
}

fn kind_of(ask: &Ask) -> Kind {
    match ask {
        Ask::Produce { .. } | Ask::DeleteRecords { .. } => Kind::Produce,
        Ask::Fetch { .. } | Ask::Earliest { .. } | Ask::Latest { .. } | Ask::Metadata { .. } => Kind::Read,
        Ask::Group { .. } => Kind::Coordinator,
        Ask::ProducerId => Kind::ProducerId,
    }
}

fn failed(kind: Kind, failure: Failure, epoch: LeaderEpoch) -> Answer {
    let code = client_code(kind, failure);
    Answer::Error { code, epoch }
}

/// The table of the gateway service (`crates/gateway/src/codes.rs`): what may have been done is never a definite error.
fn client_code(kind: Kind, failure: Failure) -> ErrorCode {
    match (kind, failure) {
        (Kind::ProducerId, _) => ErrorCode::CoordinatorLoadInProgress,
        (Kind::Coordinator, Failure::Unreachable | Failure::Unanswered) => ErrorCode::CoordinatorNotAvailable,
        (Kind::Coordinator, Failure::Code(code)) => match code {
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch | ErrorCode::StaleBrokerEpoch => {
                ErrorCode::NotCoordinator
            }
            ErrorCode::Indeterminate | ErrorCode::RequestTimedOut | ErrorCode::NotController => {
                ErrorCode::CoordinatorNotAvailable
            }
            other => other,
        },
        (_, Failure::Unreachable) | (Kind::Read, Failure::Unanswered) => ErrorCode::NotLeaderOrFollower,
        (Kind::Produce, Failure::Unanswered) => ErrorCode::RequestTimedOut,
        (_, Failure::Code(code)) => match code {
            ErrorCode::Indeterminate => ErrorCode::RequestTimedOut,
            ErrorCode::StaleBrokerEpoch => ErrorCode::NotLeaderOrFollower,
            other => other,
        },
    }
}
