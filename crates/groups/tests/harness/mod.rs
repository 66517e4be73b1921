//! A shell for the coordinator in tests: a clock, a log, and printed effects.
#![allow(dead_code, unreachable_pub)] // Each test binary uses its own part.

pub mod model;
pub mod print;
pub mod script;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use strom_groups::{AppendToken, Config, Coordinator, Effect, Event, Record, Reply, RequestId};
use strom_types::{ErrorCode, Mono, WallMs};

pub struct Shell {
    pub coordinator: Coordinator,
    pub config: Config,
    pub now: Mono,
    /// Committed records, as a replay would read them.
    pub log: Vec<Record>,
    pub in_flight: VecDeque<(AppendToken, Arc<[Record]>)>,
    pub replies: Vec<(RequestId, Reply)>,
    pub effects: Vec<Effect>,
    next_request: u64,
}

impl Shell {
    pub fn new(config: Config) -> Shell {
        let mut shell = Shell {
            coordinator: Coordinator::new(config.clone()),
            config,
            now: Mono(0),
            log: Vec::new(),
            in_flight: VecDeque::new(),
            replies: Vec::new(),
            effects: Vec::new(),
            next_request: 0,
        };
        shell.reload();
        shell
    }

    pub fn wall(&self) -> WallMs {
        WallMs(i64::try_from(self.now.0 / 1_000_000).expect("in range") + 1_000_000)
    }

    pub fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    pub fn step(&mut self, event: Event) {
        let mut effects = Vec::new();
        let wall = self.wall();
        self.coordinator.step(self.now, wall, event, &mut effects);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match &effect {
                Effect::Reply { request, reply } => self.replies.push((*request, reply.clone())),
                Effect::Append { token, records } => {
                    self.in_flight.push_back((*token, Arc::clone(records)));
                }
                Effect::Transition { .. } => {}
            }
            self.effects.push(effect);
        }
    }

    /// Commits the oldest append. False when there is none.
    pub fn append_one(&mut self) -> bool {
        let Some((token, records)) = self.in_flight.pop_front() else {
            return false;
        };
        self.log.extend(records.iter().cloned());
        self.step(Event::Appended { token });
        true
    }

    pub fn append_all(&mut self) {
        while self.append_one() {}
    }

    /// Fails the oldest append. False when there is none.
    pub fn fail_one(&mut self, error: ErrorCode) -> bool {
        let Some((token, _)) = self.in_flight.pop_front() else {
            return false;
        };
        self.step(Event::AppendFailed { token, error });
        true
    }

    /// Moves the clock, ticking at every deadline on the way.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(deadline) = self.coordinator.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            self.step(Event::Tick);
        }
        self.now = end;
    }

    /// A new coordinator from the log, as after a failover.
    pub fn reload(&mut self) {
        let mut effects = Vec::new();
        self.coordinator.unload(&mut effects);
        self.in_flight.clear();
        self.coordinator = Coordinator::new(self.config.clone());
        for record in &self.log {
            self.coordinator.replay(record);
        }
        let wall = self.wall();
        self.coordinator.loaded(self.now, wall, &mut effects);
        self.take(effects);
    }

    pub fn reply(&self, request: RequestId) -> Option<&Reply> {
        self.replies
            .iter()
            .find(|(answered, _)| *answered == request)
            .map(|(_, reply)| reply)
    }

    /// How often each request was answered.
    pub fn answers(&self) -> BTreeMap<RequestId, usize> {
        let mut answers = BTreeMap::new();
        for (request, _) in &self.replies {
            *answers.entry(*request).or_default() += 1;
        }
        answers
    }
}

/// `ConsumerProtocolSubscription` version 1 with these topics.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(1);
    out.put_i32(i32::try_from(topics.len()).expect("in range"));
    for topic in topics {
        out.put_i16(i16::try_from(topic.len()).expect("in range"));
        out.put_slice(topic.as_bytes());
    }
    out.put_i32(-1); // user data
    out.put_i32(0); // owned partitions
    out.freeze()
}
