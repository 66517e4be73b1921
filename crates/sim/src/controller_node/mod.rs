//! A controller: real raft-rs on a virtual disk, and the loop of the active one around `ControllerCore`.

mod active;
mod machine;

use std::time::Duration;

use strom_raft_node::store::{FailAt, Failing, MemoryDisk, MemoryStore};
use strom_raft_node::{
    Driver, DriverError, IncomingSnapshot, Outbox, OutgoingSnapshot, ProposalId, ProposeError, RaftId,
    RaftRole, ReadError, ReadId, Setup, StorageId, Tuning, transport::Unsent,
};
use strom_types::{Mono, NodeId};

use crate::clock::{MS, SECOND};
use crate::env::Env;
use crate::message::{Addr, Body, Death};
use crate::network::Happening;

use active::Active;
use machine::Machine;

pub(crate) const CLUSTER: &str = "sim";
const TICK: Duration = Duration::from_millis(50);
const ELECTION_TICKS: u32 = 8;
pub(crate) const HANDOVER_GRACE: Duration = Duration::from_millis(50 * 8);

type Raft = Driver<Machine, Failing<MemoryStore>>;

pub(crate) struct ControllerNode {
    index: usize,
    voters: usize,
    disk: MemoryDisk,
    storage: StorageId,
    running: Option<Running>,
    /// The mutant: what was synced since this copy is lost in a crash.
    stale: Option<(u64, MemoryStore)>,
    forgets_synced: bool,
}

struct Running {
    raft: Raft,
    active: Active,
    ticked: Mono,
}

fn node_id(index: usize) -> NodeId {
    NodeId(i32::try_from(index).unwrap_or(i32::MAX))
}

fn place(id: RaftId) -> usize {
    id.node()
        .and_then(|node| usize::try_from(node.get()).ok())
        .unwrap_or(0)
}

impl ControllerNode {
    pub(crate) fn new(env: &mut Env, index: usize, voters: usize, forgets_synced: bool) -> Self {
        let storage = u128::from(env.rng.next()) + 1;
        ControllerNode {
            index,
            voters,
            disk: MemoryDisk::new(),
            storage: StorageId::from_u128(storage),
            running: None,
            stale: None,
            forgets_synced,
        }
    }

    pub(crate) fn addr(&self) -> Addr {
        Addr::Controller(self.index)
    }

    /// The term it leads the metadata in.
    pub(crate) fn leads(&self) -> Option<u64> {
        let running = self.running.as_ref()?;
        running.active.is_leading().then(|| running.raft.status().term)
    }

    pub(crate) fn start(&mut self, env: &mut Env) {
        env.start(self.addr());
        let setup = Setup {
            node_id: node_id(self.index),
            cluster_id: CLUSTER.into(),
            voters: (0..self.voters).map(node_id).collect(),
            new_storage: self.storage,
            seed: env.rng.next(),
            incarnation: env.life(self.addr()),
            tick: TICK,
            tuning: Tuning {
                election_ticks: usize::try_from(ELECTION_TICKS).unwrap_or(8),
                heartbeat_ticks: 2,
                snapshot_every_entries: 40,
                keep_entries: 10,
                ..Tuning::default()
            },
        };
        // Some disks break in the middle of a turn: a crash between any two writes.
        let breaks = !env.healed && env.rng.one_in(4);
        let writes = if breaks { env.rng.range(5, 200) } else { u64::MAX };
        let at = if env.rng.one_in(2) {
            FailAt::Before
        } else {
            FailAt::After
        };
        let store = match self.stale.take() {
            Some((_, stale)) => stale,
            None => self.disk.open(),
        };
        match Driver::open(setup, Failing::new(store, writes, at), Machine::default()) {
            Ok(raft) => {
                let ticked = env.mono(self.addr());
                self.running = Some(Running {
                    raft,
                    active: Active::new(self.index, ticked),
                    ticked,
                });
                self.act(env, |_| Ok(()));
            }
            Err(error) => self.broken(env, &error.to_string()),
        }
    }

    /// Power loss: some prefix of the unsynced writes survives.
    pub(crate) fn crash(&mut self, env: &mut Env) {
        self.running = None;
        let unsynced = u64::try_from(self.disk.unsynced()).unwrap_or(0);
        let kept = env.rng.below(unsynced + 1);
        self.disk.crash(usize::try_from(kept).unwrap_or(0));
        env.stop(self.addr());
    }

    fn broken(&mut self, env: &mut Env, error: &str) {
        if !error.contains("injected") {
            env.judge.fail(format!("controller {}: {error}", self.index));
        }
        self.crash(env);
    }

    pub(crate) fn wake(&mut self, env: &mut Env) -> u64 {
        let now = env.mono(self.addr());
        if self.forgets_synced && self.stale.as_ref().is_none_or(|(at, _)| env.now > at + SECOND) {
            self.stale = Some((env.now, self.disk.durable()));
        }
        let mut due = false;
        if let Some(running) = &mut self.running
            && now.since(running.ticked) >= TICK
        {
            // Missed ticks are not made up for.
            running.ticked = now;
            due = true;
        }
        self.act(env, |raft| if due { raft.tick() } else { Ok(()) });
        env.rng.range(8 * MS, 14 * MS)
    }

    pub(crate) fn receive(&mut self, env: &mut Env, from: Addr, body: Body) {
        match body {
            Body::Raft(envelope) => self.act(env, |raft| raft.step(&envelope)),
            Body::Snapshot(snapshot) => {
                let me = self.running.as_ref().map(|running| running.raft.id());
                self.act(env, |raft| raft.install_snapshot(snapshot));
                if let Some(peer) = me {
                    let delivered = true;
                    env.send(self.addr(), from, Body::SnapshotFate { peer, delivered });
                }
            }
            Body::SnapshotFate { peer, delivered } => self.act(env, |raft| {
                raft.report_snapshot(peer, delivered);
                Ok(())
            }),
            Body::Control { call, request } => {
                if let Some(Running { raft, active, .. }) = &mut self.running {
                    active.take(env, raft, (from, call), request);
                }
                self.act(env, |_| Ok(()));
            }
            _ => {}
        }
    }

    pub(crate) fn on_death(&mut self, env: &mut Env, death: Death) {
        if let Some(running) = &mut self.running {
            running.active.broker_died(death);
        }
        self.act(env, |_| Ok(()));
    }

    /// Does something with raft, turns until it is quiet, and lets the active loop go on from there.
    fn act(&mut self, env: &mut Env, action: impl FnOnce(&mut Raft) -> Result<(), DriverError>) {
        let Some(Running { raft, active, .. }) = &mut self.running else {
            return;
        };
        let mut outcome = action(raft);
        loop {
            let mut out = Sorter::default();
            let mut turns = 0;
            while outcome.is_ok() && raft.has_ready() {
                outcome = raft.on_ready(&mut out);
                turns += 1;
                if turns > 2000 {
                    env.judge
                        .fail(format!("controller {} never comes to rest", self.index));
                    return;
                }
            }
            let status = raft.status();
            if status.role == RaftRole::Leader {
                env.judge.on_raft_leader(self.index, status.term);
            }
            post(env, self.index, &mut out);
            env.judge.on_image(self.index, raft.machine().image());
            if let Some(why) = raft.machine().stuck() {
                env.judge
                    .fail(format!("controller {} is stuck: {why}", self.index));
            }
            if outcome.is_err() {
                break;
            }
            active.go_on(env, raft, &out.proposed, &out.read);
            if !raft.has_ready() {
                return;
            }
        }
        if let Err(error) = outcome {
            self.broken(env, &error.to_string());
        }
    }

    pub(crate) fn describe(&self) -> String {
        match &self.running {
            None => format!("controller {} is down", self.index),
            Some(running) => format!("controller {} {:?}", self.index, running.raft.status()),
        }
    }
}

fn post(env: &mut Env, from: usize, out: &mut Sorter) {
    for (to, body) in std::mem::take(&mut out.packets) {
        env.send(Addr::Controller(from), Addr::Controller(to), body);
    }
    for (to, snapshot) in std::mem::take(&mut out.snapshots) {
        // Its fate must become known, whatever it is: the stream breaks, at the latest after a while.
        let peer = RaftId::from_raft(snapshot.envelope.to);
        env.send(
            Addr::Controller(from),
            Addr::Controller(to),
            Body::Snapshot(snapshot),
        );
        if let Some(peer) = peer {
            let packet = Body::SnapshotFate {
                peer,
                delivered: false,
            };
            let later = env.now + 500 * MS;
            let life = env.life(Addr::Controller(from));
            let own = Addr::Controller(from);
            env.net.schedule(
                later,
                Happening::Packet(crate::network::Packet::local(own, life, packet)),
            );
        }
    }
}

/// Sorts a turn's output.
#[derive(Default)]
struct Sorter {
    packets: Vec<(usize, Body)>,
    snapshots: Vec<(usize, IncomingSnapshot)>,
    proposed: Vec<(ProposalId, Result<u64, ProposeError>)>,
    read: Vec<(ReadId, bool)>,
}

impl Outbox for Sorter {
    fn send(&mut self, to: RaftId, envelope: strom_proto::v1::RaftEnvelope) -> Result<(), Unsent> {
        self.packets.push((place(to), Body::Raft(envelope)));
        Ok(())
    }

    fn send_snapshot(&mut self, snapshot: OutgoingSnapshot) {
        let mut chunks = Vec::new();
        while let Ok(Some(chunk)) = snapshot
            .source
            .chunk(u32::try_from(chunks.len()).unwrap_or(u32::MAX))
        {
            chunks.push(chunk);
        }
        let incoming = IncomingSnapshot {
            envelope: snapshot.envelope,
            chunks,
        };
        self.snapshots.push((place(snapshot.to), incoming));
    }

    fn proposed(&mut self, id: ProposalId, outcome: Result<u64, ProposeError>) {
        self.proposed.push((id, outcome));
    }

    fn read_ready(&mut self, id: ReadId, outcome: Result<u64, ReadError>) {
        self.read.push((id, outcome.is_ok()));
    }
}
