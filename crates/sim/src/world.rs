//! All nodes of a run, and the loop that lets one thing happen after the other.

use std::collections::BTreeMap;

use strom_replication::Durability;

use crate::broker_node::{BrokerNode, broker_index};
use crate::clients::ClientNode;
use crate::clock::MS;
use crate::controller_node::ControllerNode;
use crate::env::Env;
use crate::faults::{Fault, Faults, TURN};
use crate::gateway_node::GatewayNode;
use crate::message::{Addr, Ask, Body, Death};
use crate::network::{Happening, Packet};
use crate::scenario::Scenario;
use crate::watch::Watch;

pub(crate) struct World {
    pub env: Env,
    pub scenario: Scenario,
    pub controllers: Vec<ControllerNode>,
    pub brokers: Vec<BrokerNode>,
    pub gateways: Vec<GatewayNode>,
    pub clients: Vec<ClientNode>,
    faults: Faults,
    raging: bool,
    /// When those that are down come back.
    restarts: BTreeMap<Addr, u64>,
    watch: Watch,
    pub strikes: u64,
}

impl World {
    pub(crate) fn new(mut env: Env, forgets_synced: bool) -> World {
        let scenario = Scenario::draw(&mut env);
        let (c, b, g) = (scenario.controllers, scenario.brokers, scenario.gateways);
        (0..c).for_each(|at| env.add(Addr::Controller(at)));
        (0..b).for_each(|at| env.add(Addr::Broker(at)));
        (0..g).for_each(|at| env.add(Addr::Gateway(at)));
        let clients = scenario.clients(&mut env);
        let controllers = (0..c).map(|at| ControllerNode::new(&mut env, at, c, forgets_synced));
        let controllers: Vec<_> = controllers.collect();
        let brokers = (0..b).map(|at| BrokerNode::new(&mut env, at, scenario.durability, c));
        let brokers: Vec<_> = brokers.collect();
        let mut world = World {
            controllers,
            brokers,
            gateways: (0..g).map(|at| GatewayNode::new(at, c, b)).collect(),
            clients,
            faults: Faults::new(c, b, g),
            raging: false,
            restarts: BTreeMap::new(),
            watch: Watch::new(scenario.keys()),
            strikes: 0,
            scenario,
            env,
        };
        world.boot();
        world
    }

    fn boot(&mut self) {
        let env = &mut self.env;
        self.controllers.iter_mut().for_each(|node| node.start(env));
        self.brokers.iter_mut().for_each(|node| node.start(env));
        self.gateways.iter_mut().for_each(|node| node.start(env));
        for at in 0..self.clients.len() {
            env.add(Addr::Client(at));
            env.start(Addr::Client(at));
        }
        env.net.schedule(TURN, Happening::Faults);
    }

    /// Lets everything happen that is due before `end`; false once there is a violation.
    pub(crate) fn run_until(&mut self, end: u64) -> bool {
        while let Some((at, happening)) = self.env.net.next_before(end) {
            self.env.now = at;
            self.happen(happening);
            self.watch.look(&mut self.env, &self.brokers);
            if self.env.judge.violation.is_some() {
                return false;
            }
        }
        self.env.now = end;
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Packet(packet) => self.deliver(packet),
            Happening::Wake { addr, life } => self.wake(addr, life),
            Happening::Flushed { broker, life, key } => {
                let addr = Addr::Broker(broker);
                if self.delayed(addr, life, Happening::Flushed { broker, life, key }) {
                    return;
                }
                if let Some(node) = self.brokers.get_mut(broker) {
                    node.flushed(&mut self.env, key);
                }
            }
            Happening::Death {
                controller,
                broker,
                death,
            } => self.notice_death(controller, broker, death),
            Happening::Resume { addr } => self.resume(addr),
            Happening::Faults => self.turn_faults(),
        }
    }

    /// Whether the process is of another life, or paused: then the happening waits for it, in its order.
    fn delayed(&mut self, addr: Addr, life: u64, happening: Happening) -> bool {
        let Some(process) = self.env.processes.get_mut(&addr) else {
            return true;
        };
        if !process.up || process.life != life {
            return true;
        }
        let paused = process.is_paused(self.env.now);
        if paused {
            process.held.push_back(happening);
        }
        paused
    }

    /// A pause is over: what came meanwhile happens now.
    fn resume(&mut self, addr: Addr) {
        let Some(process) = self.env.processes.get_mut(&addr) else {
            return;
        };
        if process.paused_until > self.env.now {
            // It was paused again.
            let until = process.paused_until;
            return self.env.net.schedule(until, Happening::Resume { addr });
        }
        process.paused_until = 0;
        for happening in std::mem::take(&mut process.held) {
            self.happen(happening);
            self.watch.look(&mut self.env, &self.brokers);
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let (from, to, life) = (packet.from, packet.to, packet.to_life);
        let alive = self
            .env
            .processes
            .get(&to)
            .is_some_and(|process| process.up && process.life == life);
        let now = self.env.now;
        if let Some(process) = self.env.processes.get_mut(&to)
            && alive
            && process.is_paused(now)
        {
            process.held.push_back(Happening::Packet(packet));
            return;
        }
        if !alive || !self.env.net.arrives(&packet) {
            return;
        }
        let env = &mut self.env;
        env.trace
            .line(env.now, format_args!("{from:?} > {to:?} {}", packet.body.kind()));
        let body: Body = packet.body;
        env.trace.remark(env.now, || format!("    {body:?}"));
        match to {
            Addr::Controller(at) => {
                if let Some(node) = self.controllers.get_mut(at) {
                    node.receive(env, from, body);
                }
            }
            Addr::Broker(at) => {
                if let Some(node) = self.brokers.get_mut(at) {
                    node.receive(env, from, body);
                }
            }
            Addr::Gateway(at) => {
                if let Some(node) = self.gateways.get_mut(at) {
                    node.receive(env, from, body);
                }
            }
            Addr::Client(at) => {
                if let Some(node) = self.clients.get_mut(at) {
                    node.receive(env, body);
                }
            }
        }
    }

    fn wake(&mut self, addr: Addr, life: u64) {
        if self.delayed(addr, life, Happening::Wake { addr, life }) {
            return;
        }
        let env = &mut self.env;
        let next = match addr {
            Addr::Controller(at) => self.controllers.get_mut(at).map(|node| node.wake(env)),
            Addr::Broker(at) => self.brokers.get_mut(at).map(|node| node.wake(env)),
            Addr::Gateway(at) => self.gateways.get_mut(at).map(|node| node.wake(env)),
            Addr::Client(at) => self.clients.get_mut(at).map(|node| node.wake(env)),
        };
        let again = env.now + next.unwrap_or(TURN);
        env.net.schedule(again, Happening::Wake { addr, life });
    }

    /// From here on things break.
    pub(crate) fn rage(&mut self) {
        self.raging = true;
    }

    /// Nothing breaks any more, and what is broken is mended.
    pub(crate) fn heal(&mut self) {
        self.raging = false;
        self.env.healed = true;
        self.env.net.calm();
        let mut paused = Vec::new();
        for (addr, process) in &mut self.env.processes {
            if process.is_paused(self.env.now) {
                process.paused_until = self.env.now;
                paused.push(*addr);
            }
        }
        paused.into_iter().for_each(|addr| self.resume(addr));
        let soon = self.env.now + 50 * MS;
        self.restarts.values_mut().for_each(|at| *at = soon);
        // Disks that were about to break are replaced by sound ones with the same data.
        for at in 0..self.controllers.len() {
            self.crash(Addr::Controller(at), true);
        }
        self.env.trace.line(self.env.now, format_args!("healed"));
    }

    fn turn_faults(&mut self) {
        self.env.net.schedule(self.env.now + TURN, Happening::Faults);
        self.bring_back();
        if !self.raging {
            return;
        }
        let now = self.env.now;
        if let Some(weather) = self.faults.next_period(&mut self.env.rng, now) {
            self.env.net.weather = weather;
            let kinds = &self.faults.kinds;
            self.env.trace.line(now, format_args!("period {kinds:?}"));
        }
        if self.faults.mends(&mut self.env.rng) {
            self.env.net.cuts.clear();
        }
        for (from, to) in self.faults.cuts(&mut self.env.rng) {
            self.env.net.cuts.insert((from, to));
        }
        if let Some(fault) = self.faults.strike(&mut self.env.rng, now) {
            self.strike(fault);
        }
    }

    /// Starts again what has been down for long enough.
    fn bring_back(&mut self) {
        let down: Vec<Addr> = self
            .env
            .processes
            .iter()
            .filter(|(_, process)| !process.up)
            .map(|(addr, _)| *addr)
            .collect();
        for addr in down {
            let pause = if self.env.healed {
                50
            } else {
                self.env.rng.range(20, 1500)
            };
            let at = *self.restarts.entry(addr).or_insert(self.env.now + pause * MS);
            if at > self.env.now {
                continue;
            }
            self.restarts.remove(&addr);
            let env = &mut self.env;
            match addr {
                Addr::Controller(at) => {
                    if let Some(node) = self.controllers.get_mut(at) {
                        node.start(env);
                    }
                }
                Addr::Broker(at) => {
                    if let Some(node) = self.brokers.get_mut(at) {
                        node.start(env);
                    }
                }
                Addr::Gateway(at) => {
                    if let Some(node) = self.gateways.get_mut(at) {
                        node.start(env);
                    }
                }
                Addr::Client(_) => {}
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        self.strikes += 1;
        self.env.trace.line(self.env.now, format_args!("fault {fault:?}"));
        match fault {
            Fault::Crash { who, power } => self.crash(who, power),
            Fault::CrashLeader { power } => {
                if let Some(leader) = self.some_leader() {
                    self.crash(leader, power);
                }
            }
            Fault::CrashActive => {
                let active = self.controllers.iter().find(|node| node.leads().is_some());
                if let Some(addr) = active.map(ControllerNode::addr) {
                    self.crash(addr, true);
                }
            }
            Fault::CrashAll => {
                (0..self.controllers.len()).for_each(|at| self.crash(Addr::Controller(at), true));
                (0..self.brokers.len()).for_each(|at| self.crash(Addr::Broker(at), true));
            }
            Fault::Wipe(Addr::Broker(at)) => self.wipe(at),
            Fault::Rot(Addr::Broker(at)) => self.rot(at),
            Fault::Wipe(_) | Fault::Rot(_) => {}
            Fault::Pause { who, until } => self.pause(who, until),
            Fault::PauseLeader { until } => {
                if let Some(leader) = self.some_leader() {
                    self.pause(leader, until);
                }
            }
            Fault::Stop(Addr::Broker(at)) => {
                if let Some(node) = self.brokers.get_mut(at) {
                    node.stop();
                }
            }
            Fault::Stop(_) => {}
            Fault::Elect => self.elect(),
            Fault::DeleteRecords => self.delete_records(),
            Fault::CrashMember => self.crash_member(),
        }
    }

    fn some_leader(&mut self) -> Option<Addr> {
        let leaders = self
            .env
            .judge
            .image
            .partitions()
            .filter_map(|(_, state)| state.leader);
        let leaders: Vec<_> = leaders.collect();
        let leader = self.env.rng.pick(&leaders)?;
        Some(Addr::Broker(broker_index(leader)))
    }

    fn pause(&mut self, who: Addr, until: u64) {
        if let Some(process) = self.env.processes.get_mut(&who) {
            if !process.is_paused(self.env.now) {
                self.env.net.schedule(until, Happening::Resume { addr: who });
            }
            process.paused_until = process.paused_until.max(until);
        }
    }

    fn crash(&mut self, who: Addr, power: bool) {
        if !self.env.is_up(who) {
            return;
        }
        match who {
            Addr::Controller(at) => {
                if let Some(node) = self.controllers.get_mut(at) {
                    node.crash(&mut self.env);
                }
            }
            Addr::Broker(at) => self.crash_broker(at, power),
            Addr::Gateway(at) => {
                if let Some(node) = self.gateways.get_mut(at) {
                    node.crash(&mut self.env);
                }
            }
            Addr::Client(_) => {}
        }
    }

    /// In page-cache mode only what that mode promises to survive: one process at a time, with everybody in sync.
    pub(crate) fn crash_broker(&mut self, at: usize, power: bool) {
        let page_cache = self.scenario.durability == Durability::PageCache;
        if page_cache && !self.everybody_is_in_sync() {
            return;
        }
        let Some(node) = self.brokers.get_mut(at) else {
            return;
        };
        let (id, epoch) = (node.id(), node.registered());
        node.crash(&mut self.env, power && !page_cache);
        let active = self.controllers.iter().find(|node| node.leads().is_some());
        if let (Some(controller), Some(epoch)) = (active, epoch)
            && self.env.rng.one_in(2)
        {
            let Addr::Controller(controller) = controller.addr() else {
                return;
            };
            let death = Death { broker: id, epoch };
            let due = self.env.now + self.env.rng.range(5, 300) * MS;
            let happening = Happening::Death {
                controller,
                broker: at,
                death,
            };
            self.env.net.schedule(due, happening);
        }
    }

    /// The address of a dead process refuses connections, as long as its host can be reached.
    fn notice_death(&mut self, controller: usize, broker: usize, death: Death) {
        let (own, dead) = (Addr::Controller(controller), Addr::Broker(broker));
        let cut = self.env.net.is_cut(own, dead) || self.env.net.is_cut(dead, own);
        if cut || self.env.is_up(dead) || !self.env.is_up(own) {
            return;
        }
        let paused = self
            .env
            .processes
            .get(&own)
            .is_some_and(|process| process.is_paused(self.env.now));
        if let Some(node) = self.controllers.get_mut(controller).filter(|_| !paused) {
            node.on_death(&mut self.env, death);
        }
    }

    fn elect(&mut self) {
        for client in &self.clients {
            if let ClientNode::Admin(admin) = client {
                admin.elect(&mut self.env);
            }
        }
    }

    fn delete_records(&mut self) {
        if let Some(key) = self.env.rng.pick(&self.scenario.plain) {
            let call = self.env.number();
            let ask = Ask::DeleteRecords { key };
            let body = Body::Ask { call, ask };
            self.env.send(Addr::Client(0), Addr::Gateway(0), body);
        }
    }

    fn crash_member(&mut self) {
        for client in &mut self.clients {
            if let ClientNode::Member(member) = client
                && self.env.rng.one_in(2)
            {
                if self.env.rng.one_in(2) {
                    member.crash();
                } else {
                    member.leave(&mut self.env);
                }
            }
        }
    }
}
