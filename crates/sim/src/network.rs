//! The virtual network and the agenda of everything that is to happen: delay, loss, repetition, reordering, cut links.

use std::collections::{BTreeMap, BTreeSet};

use strom_types::TopicIdPartition;

use crate::clock::MS;
use crate::message::{Addr, Body, Controlled, Death};
use crate::rng::Rng;

#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub from: Addr,
    pub to: Addr,
    /// The receiver's life when it was sent: a connection dies with the process.
    pub to_life: u64,
    /// The connection of what travels in order.
    connection: Option<u64>,
    pub body: Body,
}

impl Packet {
    /// To oneself: a timer.
    pub(crate) fn local(own: Addr, life: u64, body: Body) -> Packet {
        Packet {
            from: own,
            to: own,
            to_life: life,
            connection: None,
            body,
        }
    }
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "most of them are packets")]
pub(crate) enum Happening {
    Packet(Packet),
    /// A process looks round.
    Wake {
        addr: Addr,
        life: u64,
    },
    /// An fsync is done.
    Flushed {
        broker: usize,
        life: u64,
        key: TopicIdPartition,
    },
    /// A controller has noticed that a broker's address refuses connections.
    Death {
        controller: usize,
        broker: usize,
        death: Death,
    },
    /// A pause should be over.
    Resume {
        addr: Addr,
    },
    /// The schedule of faults has its turn.
    Faults,
}

/// How rough the network and the disks are, in chances per mille.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub loss: u64,
    pub repeat: u64,
    pub slow: u64,
    pub slow_ms_max: u64,
    /// Answers of controllers to AlterPartition that get lost.
    pub mute: u64,
    pub fsync_ms_max: u64,
}

impl Weather {
    pub(crate) const CALM: Weather = Weather {
        loss: 0,
        repeat: 0,
        slow: 0,
        slow_ms_max: 1,
        mute: 0,
        fsync_ms_max: 4,
    };
}

#[derive(Default)]
pub(crate) struct Network {
    agenda: BTreeMap<(u64, u64), Happening>,
    next: u64,
    pub cuts: BTreeSet<(Addr, Addr)>,
    pub weather: Weather,
    /// Number of the present connection of each pair.
    connections: BTreeMap<(Addr, Addr), u64>,
    /// When the last ordered packet from one to the other arrives.
    ordered: BTreeMap<(Addr, Addr), u64>,
    pub lost: u64,
    pub delivered: u64,
}

fn pair(a: Addr, b: Addr) -> (Addr, Addr) {
    (a.min(b), a.max(b))
}

impl Network {
    pub(crate) fn schedule(&mut self, at: u64, happening: Happening) {
        self.next += 1;
        self.agenda.insert((at, self.next), happening);
    }

    pub(crate) fn next_before(&mut self, end: u64) -> Option<(u64, Happening)> {
        let first = self.agenda.first_entry()?;
        let (at, _) = *first.key();
        (at < end).then(|| (at, first.remove()))
    }

    pub(crate) fn is_cut(&self, from: Addr, to: Addr) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// What is under way on the connection of the two is lost; what is sent later goes over a new one.
    pub(crate) fn break_connection(&mut self, a: Addr, b: Addr) {
        *self.connections.entry(pair(a, b)).or_default() += 1;
    }

    /// Number of the present connection of the two.
    pub(crate) fn connection(&self, a: Addr, b: Addr) -> u64 {
        self.connections.get(&pair(a, b)).copied().unwrap_or_default()
    }

    fn delay(&self, rng: &mut Rng) -> u64 {
        if rng.per_mille(self.weather.slow) {
            return rng.range(2, self.weather.slow_ms_max.max(3)) * MS;
        }
        rng.range(MS / 2, 3 * MS)
    }

    pub(crate) fn send(
        &mut self,
        rng: &mut Rng,
        now: u64,
        (from, to): (Addr, Addr),
        to_life: u64,
        body: Body,
    ) {
        let ordered = body.is_ordered();
        let muted = matches!(
            &body,
            Body::Controlled {
                reply: Controlled::Reply(strom_metadata::Reply::AlterPartition(_)),
                ..
            }
        ) && rng.per_mille(self.weather.mute);
        let loss = if ordered {
            self.weather.loss / 8
        } else {
            self.weather.loss
        };
        if self.is_cut(from, to) || muted || rng.per_mille(loss) {
            self.lost += 1;
            if ordered {
                self.break_connection(from, to);
            }
            return;
        }
        let mut due = now + self.delay(rng);
        let connection = ordered.then(|| *self.connections.entry(pair(from, to)).or_default());
        if ordered {
            let last = self.ordered.entry((from, to)).or_default();
            due = due.max(*last + 1);
            *last = due;
        } else if rng.per_mille(self.weather.repeat) {
            let again = now + self.delay(rng) * 4;
            let packet = Packet {
                from,
                to,
                to_life,
                connection,
                body: body.clone(),
            };
            self.schedule(again, Happening::Packet(packet));
        }
        let packet = Packet {
            from,
            to,
            to_life,
            connection,
            body,
        };
        self.schedule(due, Happening::Packet(packet));
    }

    /// Whether a packet still gets through when it arrives.
    pub(crate) fn arrives(&mut self, packet: &Packet) -> bool {
        let (from, to) = (packet.from, packet.to);
        let same = packet
            .connection
            .is_none_or(|connection| self.connection(from, to) == connection);
        let arrives = same && !self.is_cut(from, to);
        if arrives {
            self.delivered += 1;
        } else {
            self.lost += 1;
            if packet.connection.is_some() && same {
                self.break_connection(from, to);
            }
        }
        arrives
    }

    pub(crate) fn calm(&mut self) {
        self.cuts.clear();
        self.weather = Weather::CALM;
    }
}
