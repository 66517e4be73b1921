//! The schedule of faults: periods with a few kinds each, a quarter of them quiet, so that recovery is seen too.

use crate::clock::{MS, SECOND};
use crate::message::Addr;
use crate::network::Weather;
use crate::rng::Rng;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Loss,
    Slow,
    Mute,
    SlowDisk,
    Cut,
    Isolate,
    CrashBroker,
    CrashLeader,
    CrashController,
    CrashActive,
    CrashGateway,
    CrashAll,
    Pause,
    PauseLeader,
    Wipe,
    Rot,
    Stop,
    Elect,
    DeleteRecords,
    CrashMember,
}

const KINDS: [Kind; 20] = [
    Kind::Loss,
    Kind::Slow,
    Kind::Mute,
    Kind::SlowDisk,
    Kind::Cut,
    Kind::Isolate,
    Kind::CrashBroker,
    Kind::CrashLeader,
    Kind::CrashController,
    Kind::CrashActive,
    Kind::CrashGateway,
    Kind::CrashAll,
    Kind::Pause,
    Kind::PauseLeader,
    Kind::Wipe,
    Kind::Rot,
    Kind::Stop,
    Kind::Elect,
    Kind::DeleteRecords,
    Kind::CrashMember,
];

/// What the world is asked to do to somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// `power` = what was not synced is lost.
    Crash {
        who: Addr,
        power: bool,
    },
    CrashLeader {
        power: bool,
    },
    CrashActive,
    CrashAll,
    Wipe(Addr),
    Rot(Addr),
    Pause {
        who: Addr,
        until: u64,
    },
    PauseLeader {
        until: u64,
    },
    Stop(Addr),
    Elect,
    DeleteRecords,
    CrashMember,
}

pub(crate) struct Faults {
    pub kinds: Vec<Kind>,
    period_end: u64,
    services: Vec<Addr>,
    brokers: usize,
    controllers: usize,
    gateways: usize,
}

pub(crate) const TURN: u64 = 10 * MS;

impl Faults {
    pub(crate) fn new(controllers: usize, brokers: usize, gateways: usize) -> Self {
        let services = (0..controllers)
            .map(Addr::Controller)
            .chain((0..brokers).map(Addr::Broker));
        Faults {
            kinds: Vec::new(),
            period_end: 0,
            services: services.collect(),
            brokers,
            controllers,
            gateways,
        }
    }

    /// Begins a period when the last one is over: how the weather is then.
    pub(crate) fn next_period(&mut self, rng: &mut Rng, now: u64) -> Option<Weather> {
        if now < self.period_end {
            return None;
        }
        self.period_end = now + rng.range(SECOND / 4, 2 * SECOND);
        self.kinds.clear();
        if !rng.one_in(4) {
            for _ in 0..rng.range(1, 6) {
                self.kinds.extend(rng.pick(&KINDS));
            }
            self.kinds.sort_unstable();
            self.kinds.dedup();
        }
        let has = |kind| self.kinds.contains(&kind);
        let mut weather = Weather::CALM;
        if has(Kind::Loss) {
            weather.loss = rng.range(5, 200);
            weather.repeat = rng.range(0, 100);
        }
        if has(Kind::Slow) {
            weather.slow = rng.range(20, 300);
            weather.slow_ms_max = rng.range(10, 250);
        }
        if has(Kind::Mute) {
            weather.mute = rng.range(200, 800);
        }
        if has(Kind::SlowDisk) {
            weather.fsync_ms_max = rng.range(20, 300);
        }
        Some(weather)
    }

    fn any(&self, rng: &mut Rng) -> Addr {
        rng.pick(&self.services).unwrap_or(Addr::Broker(0))
    }

    /// Links that break now: (from, to).
    pub(crate) fn cuts(&self, rng: &mut Rng) -> Vec<(Addr, Addr)> {
        let mut cuts = Vec::new();
        if self.kinds.contains(&Kind::Cut) && rng.one_in(25) {
            let (a, b) = (self.any(rng), self.any(rng));
            cuts.push((a, b));
            if rng.one_in(2) {
                cuts.push((b, a));
            }
        }
        if self.kinds.contains(&Kind::Isolate) && rng.one_in(50) {
            let alone = self.any(rng);
            let both = rng.one_in(2);
            // From all, or from the controllers alone.
            let partial = rng.one_in(2);
            for other in &self.services {
                if *other == alone || (partial && !matches!(other, Addr::Controller(_))) {
                    continue;
                }
                cuts.push((*other, alone));
                if both {
                    cuts.push((alone, *other));
                }
            }
        }
        cuts
    }

    /// Whether the cut links heal now.
    pub(crate) fn mends(&self, rng: &mut Rng) -> bool {
        let cutting = self.kinds.contains(&Kind::Cut) || self.kinds.contains(&Kind::Isolate);
        rng.one_in(if cutting { 90 } else { 20 })
    }

    /// What strikes now.
    pub(crate) fn strike(&self, rng: &mut Rng, now: u64) -> Option<Fault> {
        let kind = rng.pick(&self.kinds)?;
        let broker = Addr::Broker(rng.index(self.brokers));
        let controller = Addr::Controller(rng.index(self.controllers));
        let power = !rng.one_in(3);
        let until = now
            + if rng.one_in(2) {
                rng.range(20, 400)
            } else {
                rng.range(400, 2500)
            } * MS;
        let fires = |chance: u64, rng: &mut Rng| rng.one_in(chance);
        let fault = match kind {
            Kind::CrashBroker if fires(25, rng) => Fault::Crash { who: broker, power },
            Kind::CrashLeader if fires(30, rng) => Fault::CrashLeader { power },
            Kind::CrashController if fires(30, rng) => Fault::Crash {
                who: controller,
                power: true,
            },
            Kind::CrashActive if fires(40, rng) => Fault::CrashActive,
            Kind::CrashGateway if fires(30, rng) => Fault::Crash {
                who: Addr::Gateway(rng.index(self.gateways)),
                power: true,
            },
            Kind::CrashAll if fires(80, rng) => Fault::CrashAll,
            Kind::Pause if fires(20, rng) => Fault::Pause {
                who: self.any(rng),
                until,
            },
            Kind::PauseLeader if fires(25, rng) => Fault::PauseLeader { until },
            Kind::Wipe if fires(40, rng) => Fault::Wipe(broker),
            Kind::Rot if fires(25, rng) => Fault::Rot(broker),
            Kind::Stop if fires(30, rng) => Fault::Stop(broker),
            Kind::Elect if fires(12, rng) => Fault::Elect,
            Kind::DeleteRecords if fires(15, rng) => Fault::DeleteRecords,
            Kind::CrashMember if fires(30, rng) => Fault::CrashMember,
            _ => return None,
        };
        Some(fault)
    }
}
