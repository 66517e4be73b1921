//! A gateway: no state but a watched image; it routes by content and maps errors, and never makes one up.

use std::collections::BTreeMap;
use std::time::Duration;

use strom_metadata::Image;
use strom_proto::v1;
use strom_types::{
    ErrorCode, GROUP_METADATA_TOPIC, LeaderEpoch, MetadataOffset, Mono, TopicIdPartition,
    coordinator_partition,
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
}

struct Running {
    image: Image,
    watched: usize,
    next_watch: Mono,
    last_news: Mono,
    pending: BTreeMap<u64, Pending>,
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
                let answer = failed(pending.kind, Failure::Unanswered, LeaderEpoch::NONE);
                env.answer(addr, pending.client, answer);
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
                let pending = self
                    .running
                    .as_mut()
                    .and_then(|running| running.pending.remove(&call));
                let Some(pending) = pending else { return };
                let answer = match answer {
                    Answer::Error { code, epoch } => failed(pending.kind, Failure::Code(code), epoch),
                    answer => answer,
                };
                env.answer(addr, pending.client, answer);
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
        let reachable = target.filter(|index| env.is_up(Addr::Broker(*index)));
        let Some(target) = reachable else {
            return env.answer(
                addr,
                client,
                failed(kind, Failure::Unreachable, LeaderEpoch::NONE),
            );
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
