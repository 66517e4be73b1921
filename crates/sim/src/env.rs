//! What every node is handed: time, chance, the network, and the judge who watches.

use std::collections::{BTreeMap, VecDeque};

use strom_replication::Rules;
use strom_types::{Mono, TopicIdPartition, WallMs};

use crate::clock::{Clock, MS};
use crate::history::{History, Op};
use crate::invariants::Judge;
use crate::message::{Addr, Answer, Body};
use crate::network::{Happening, Network};
use crate::rng::Rng;
use crate::trace::Trace;

/// A process as the world sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub up: bool,
    /// Counts its lives.
    pub life: u64,
    pub paused_until: u64,
    /// What came while it was paused.
    pub held: VecDeque<Happening>,
    pub clock: Clock,
}

impl Process {
    pub(crate) fn is_paused(&self, now: u64) -> bool {
        self.paused_until > now || !self.held.is_empty()
    }
}

pub(crate) struct Env {
    pub now: u64,
    pub rng: Rng,
    pub trace: Trace,
    pub net: Network,
    pub processes: BTreeMap<Addr, Process>,
    pub judge: Judge,
    pub history: History,
    /// The rules that replicas keep.
    pub rules: Rules,
    /// The faults are over.
    pub healed: bool,
    next_number: u64,
}

impl Env {
    pub(crate) fn new(seed: u64, rules: Rules, print: bool) -> Self {
        Env {
            now: 0,
            rng: Rng::new(seed),
            trace: Trace::new(print),
            net: Network::default(),
            processes: BTreeMap::new(),
            judge: Judge::default(),
            history: History::default(),
            rules,
            healed: false,
            next_number: 0,
        }
    }

    /// Unique in this run.
    pub(crate) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(crate) fn add(&mut self, addr: Addr) {
        let clock = Clock::draw(&mut self.rng);
        let process = Process {
            clock,
            ..Process::default()
        };
        self.processes.insert(addr, process);
    }

    fn process(&self, addr: Addr) -> Option<&Process> {
        self.processes.get(&addr)
    }

    pub(crate) fn life(&self, addr: Addr) -> u64 {
        self.process(addr).map_or(0, |process| process.life)
    }

    pub(crate) fn is_up(&self, addr: Addr) -> bool {
        self.process(addr).is_some_and(|process| process.up)
    }

    pub(crate) fn mono(&self, addr: Addr) -> Mono {
        self.process(addr)
            .map_or(Mono(0), |process| process.clock.mono(self.now))
    }

    pub(crate) fn wall(&self, addr: Addr) -> WallMs {
        self.process(addr)
            .map_or(WallMs(0), |process| process.clock.wall(self.now))
    }

    /// A new life of the process begins; its first wake-up is at once.
    pub(crate) fn start(&mut self, addr: Addr) {
        let now = self.now;
        if let Some(process) = self.processes.get_mut(&addr) {
            process.up = true;
            process.life += 1;
            process.paused_until = 0;
            process.held.clear();
            let life = process.life;
            self.trace.line(now, format_args!("{addr:?} starts life {life}"));
            self.net.schedule(now, Happening::Wake { addr, life });
        }
    }

    pub(crate) fn stop(&mut self, addr: Addr) {
        let now = self.now;
        if let Some(process) = self.processes.get_mut(&addr) {
            process.up = false;
            self.trace.line(now, format_args!("{addr:?} is down"));
        }
    }

    pub(crate) fn send(&mut self, from: Addr, to: Addr, body: Body) {
        let to_life = self.life(to);
        self.net.send(&mut self.rng, self.now, (from, to), to_life, body);
    }

    pub(crate) fn answer(&mut self, from: Addr, (to, call): (Addr, u64), answer: Answer) {
        self.send(from, to, Body::Answer { call, answer });
    }

    pub(crate) fn record(&mut self, client: usize, op: Op) {
        self.history.push(self.now, client, op);
    }

    /// Schedules the end of an fsync that begins now.
    pub(crate) fn flush(&mut self, broker: usize, key: TopicIdPartition) {
        let life = self.life(Addr::Broker(broker));
        let most = self.net.weather.fsync_ms_max.max(2);
        let at = self.now + self.rng.range(MS / 2, most * MS);
        self.net.schedule(at, Happening::Flushed { broker, life, key });
    }
}
