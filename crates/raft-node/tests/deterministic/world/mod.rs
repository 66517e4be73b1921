//! A deterministic world for raft drivers: virtual time, a lossy network, disks that lose what was not synced, and an
//! oracle that every apply, acknowledgement and read is checked against.

mod network;
mod oracle;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage};
use strom_raft_node::store::{
    FailAt, Failing, Header, MemoryDisk, MemoryStore, Store, StoreError, Transaction,
};
use strom_raft_node::{Driver, RaftRole, Setup, SnapshotMeta, SnapshotSource, StorageId, Tuning};
use strom_types::NodeId;

use network::{Mailroom, Packet};
pub(crate) use oracle::{Ledger, Oracle};

pub(crate) const CLUSTER: &str = "world";

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// A store whose sync does nothing: the planted fault that the world must find.
pub(crate) struct Lying<St> {
    inner: St,
    lies: bool,
}

impl<St: Storage> Storage for Lying<St> {
    fn initial_state(&self) -> raft::Result<RaftState> {
        self.inner.initial_state()
    }
    fn entries(
        &self,
        low: u64,
        high: u64,
        max: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        self.inner.entries(low, high, max, context)
    }
    fn term(&self, index: u64) -> raft::Result<u64> {
        self.inner.term(index)
    }
    fn first_index(&self) -> raft::Result<u64> {
        self.inner.first_index()
    }
    fn last_index(&self) -> raft::Result<u64> {
        self.inner.last_index()
    }
    fn snapshot(&self, index: u64, to: u64) -> raft::Result<Snapshot> {
        self.inner.snapshot(index, to)
    }
}

impl<St: Store> Store for Lying<St> {
    fn header(&self) -> &Header {
        self.inner.header()
    }
    fn stage_snapshot(
        &mut self,
        index: u64,
        term: u64,
        chunks: &[Bytes],
    ) -> Result<SnapshotMeta, StoreError> {
        self.inner.stage_snapshot(index, term, chunks)
    }
    fn commit(&mut self, transaction: Transaction) -> Result<(), StoreError> {
        let transaction = if self.lies {
            transaction.synced(false)
        } else {
            transaction
        };
        self.inner.commit(transaction)
    }
    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource>> {
        self.inner.snapshot_source()
    }
}

type Node = Driver<Ledger, Failing<Lying<MemoryStore>>>;

struct Machine {
    disk: MemoryDisk,
    storage: StorageId,
    lives: u64,
    node: Option<Node>,
    restart_at: u64,
}

/// How rough the world is, per mille and per step.
#[derive(Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) drop: u64,
    pub(crate) repeat: u64,
    pub(crate) delay_max: u64,
    pub(crate) crash: u64,
    pub(crate) cut: u64,
    pub(crate) propose: u64,
    pub(crate) read: u64,
    /// The disks do not sync.
    pub(crate) lying_disks: bool,
}

impl Weather {
    pub(crate) const CALM: Weather = Weather {
        drop: 0,
        repeat: 0,
        delay_max: 1,
        crash: 0,
        cut: 0,
        propose: 0,
        read: 0,
        lying_disks: false,
    };
    pub(crate) const STORM: Weather = Weather {
        drop: 50,
        repeat: 50,
        delay_max: 8,
        crash: 8,
        cut: 6,
        propose: 300,
        read: 100,
        lying_disks: false,
    };
}

pub(crate) struct World {
    seed: u64,
    random: Random,
    weather: Weather,
    now: u64,
    machines: Vec<Machine>,
    mailroom: Mailroom,
    pub(crate) oracle: Arc<Mutex<Oracle>>,
    cut: Option<(usize, u64)>,
    values: u64,
}

pub(crate) fn tuning() -> Tuning {
    Tuning {
        election_ticks: 10,
        heartbeat_ticks: 2,
        snapshot_every_entries: 25,
        keep_entries: 5,
        message_bytes_max: 256,
        inflight_messages_max: 4,
        ..Tuning::default()
    }
}

impl World {
    pub(crate) fn new(seed: u64, size: usize, weather: Weather) -> World {
        let mut world = World {
            seed,
            random: Random(seed),
            weather,
            now: 0,
            machines: Vec::new(),
            mailroom: Mailroom::default(),
            oracle: Arc::new(Mutex::new(Oracle::new(seed))),
            cut: None,
            values: 0,
        };
        for _ in 0..size {
            let storage = StorageId::from_u128(u128::from(world.random.next()));
            world.machines.push(Machine {
                disk: MemoryDisk::new(),
                storage,
                lives: 0,
                node: None,
                restart_at: 0,
            });
        }
        for at in 0..size {
            world.start(at, u64::MAX);
        }
        world
    }

    /// Starts a machine whose disk breaks after `writes` writes.
    pub(crate) fn start(&mut self, at: usize, writes: u64) {
        let voters = (0..self.machines.len())
            .map(|node| NodeId(i32::try_from(node).unwrap()))
            .collect();
        let machine = &mut self.machines[at];
        machine.lives += 1;
        let seed = self.random.next();
        let setup = Setup {
            node_id: NodeId(i32::try_from(at).unwrap()),
            cluster_id: CLUSTER.into(),
            voters,
            new_storage: machine.storage,
            seed,
            incarnation: machine.lives,
            tick: Duration::from_millis(50),
            tuning: tuning(),
        };
        let fail = if self.random.chance(500) {
            FailAt::Before
        } else {
            FailAt::After
        };
        let lying = Lying {
            inner: machine.disk.open(),
            lies: self.weather.lying_disks,
        };
        let ledger = Ledger::new(at, self.oracle.clone());
        match Driver::open(setup, Failing::new(lying, writes, fail), ledger) {
            Ok(node) => machine.node = Some(node),
            Err(error) => {
                assert!(
                    error.to_string().contains("injected"),
                    "seed {}: {error}",
                    self.seed
                );
                self.crash(at);
            }
        }
    }

    /// Power loss: some prefix of the unsynced writes survives.
    pub(crate) fn crash(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.node = None;
        let kept = self
            .random
            .below(u64::try_from(machine.disk.unsynced()).unwrap() + 1);
        machine.disk.crash(usize::try_from(kept).unwrap());
        machine.restart_at = self.now + 5 + self.random.below(60);
        self.oracle.lock().crashed(at);
    }

    pub(crate) fn wipe(&mut self, at: usize) {
        self.crash(at);
        self.machines[at].disk = MemoryDisk::new();
        self.machines[at].storage = StorageId::from_u128(u128::from(self.random.next()) << 64);
    }

    pub(crate) fn isolate(&mut self, at: Option<usize>) {
        self.cut = at.map(|at| (at, u64::MAX));
    }

    pub(crate) fn node(&self, at: usize) -> Option<&Node> {
        self.machines[at].node.as_ref()
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        let status = |at: &usize| {
            self.node(*at)
                .map(Driver::status)
                .filter(|status| status.ready_to_lead)
        };
        (0..self.machines.len())
            .filter(|at| status(at).is_some())
            .max_by_key(|at| status(at).map(|s| s.term))
    }

    /// One step of time: deliveries, ticks, clients, faults.
    pub(crate) fn step(&mut self) {
        self.now += 1;
        for (to, packet) in self.mailroom.due(self.now) {
            if !self.is_cut(to) {
                self.deliver(to, packet);
            }
        }
        for at in 0..self.machines.len() {
            if self.machines[at].node.is_none() {
                if self.machines[at].restart_at <= self.now {
                    let writes = if self.weather.crash > 0 && self.random.chance(300) {
                        1 + self.random.below(40)
                    } else {
                        u64::MAX
                    };
                    self.start(at, writes);
                }
                continue;
            }
            if self.random.chance(950) {
                self.act(at, |node| node.tick());
            }
            if self.random.chance(self.weather.propose) {
                self.propose(at);
            }
            if self.random.chance(self.weather.read) {
                self.read(at);
            }
            if self.random.chance(self.weather.crash) {
                self.crash(at);
            }
        }
        if self.cut.is_some_and(|(_, until)| until <= self.now) {
            self.cut = None;
        }
        if self.cut.is_none() && self.random.chance(self.weather.cut) {
            let at = usize::try_from(self.random.below(u64::try_from(self.machines.len()).unwrap())).unwrap();
            self.cut = Some((at, self.now + 20 + self.random.below(100)));
        }
    }

    fn is_cut(&self, at: usize) -> bool {
        self.cut.is_some_and(|(cut, _)| cut == at)
    }

    fn deliver(&mut self, to: usize, packet: Packet) {
        match packet {
            Packet::Envelope(envelope) => self.act(to, |node| node.step(&envelope)),
            Packet::Snapshot(snapshot) => {
                let from = usize::try_from(snapshot.envelope.from - 1).unwrap();
                let peer = self.machines[to].node.as_ref().map(Driver::id);
                let alive = peer.is_some();
                self.act(to, |node| node.install_snapshot(snapshot));
                if let Some(peer) = peer {
                    self.act(from, |node| {
                        node.report_snapshot(peer, alive);
                        Ok(())
                    });
                }
            }
            Packet::SnapshotLost { to: peer } => self.act(to, |node| {
                node.report_snapshot(peer, false);
                Ok(())
            }),
        }
    }

    pub(crate) fn propose(&mut self, at: usize) {
        self.values += 1;
        let data = Bytes::from(format!("{}-{}", at, self.values));
        let oracle = self.oracle.clone();
        self.act(at, |node| {
            if let Ok(id) = node.propose(data.clone()) {
                oracle.lock().proposed(at, id, data);
            }
            Ok(())
        });
    }

    pub(crate) fn read(&mut self, at: usize) {
        let oracle = self.oracle.clone();
        self.act(at, |node| {
            if let Ok(id) = node.read_index() {
                oracle.lock().asked(at, id);
            }
            Ok(())
        });
    }

    /// Does something with a node, then turns until it is quiet. A store failure is a crash.
    fn act(&mut self, at: usize, action: impl FnOnce(&mut Node) -> Result<(), strom_raft_node::DriverError>) {
        let Some(node) = self.machines[at].node.as_mut() else {
            return;
        };
        let mut outcome = action(node);
        let mut out = network::Sorter::new(at, self.oracle.clone());
        let mut turns = 0;
        while outcome.is_ok() && node.has_ready() {
            outcome = node.on_ready(&mut out);
            turns += 1;
            assert!(turns < 1000, "seed {}: node {at} never comes to rest", self.seed);
        }
        let status = node.status();
        if status.role == RaftRole::Leader {
            self.oracle.lock().leads(at, status.term);
        }
        let reads = out.take_reads();
        for (id, index) in reads {
            let applied = status.applied;
            self.oracle.lock().read(at, id, index, applied);
        }
        let cut = self.is_cut(at);
        for (to, packet) in out.into_packets() {
            self.post(at, to, packet, cut);
        }
        if let Err(error) = outcome {
            assert!(
                error.to_string().contains("injected"),
                "seed {}: {error}",
                self.seed
            );
            self.crash(at);
        }
    }

    fn post(&mut self, from: usize, to: usize, packet: Packet, cut: bool) {
        if cut || self.random.chance(self.weather.drop) {
            if let Packet::Snapshot(snapshot) = &packet {
                let to = strom_raft_node::RaftId::from_raft(snapshot.envelope.to).unwrap();
                let due = self.now + 10;
                self.mailroom.post(due, from, Packet::SnapshotLost { to });
            }
            return;
        }
        if self.random.chance(self.weather.repeat)
            && let Packet::Envelope(envelope) = &packet
        {
            let due = self.now + 1 + self.random.below(self.weather.delay_max * 4);
            self.mailroom.post(due, to, Packet::Envelope(envelope.clone()));
        }
        let due = self.now + 1 + self.random.below(self.weather.delay_max);
        self.mailroom.post(due, to, packet);
    }

    /// Steps until `done` holds, at most `steps` times.
    pub(crate) fn until(&mut self, steps: u64, what: &str, done: impl Fn(&World) -> bool) {
        for _ in 0..steps {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("seed {}: not within {steps} steps: {what}", self.seed);
    }

    /// Faults end; everybody must come back, agree, and commit something new.
    pub(crate) fn converge(&mut self) {
        self.weather = Weather {
            lying_disks: self.weather.lying_disks,
            ..Weather::CALM
        };
        self.cut = None;
        let size = self.machines.len();
        for at in 0..size {
            // Disks that were about to break are replaced by sound controllers on the same platters.
            self.crash(at);
            self.start(at, u64::MAX);
        }
        self.until(3000, "a leader", |world| world.leader().is_some());
        for _ in 0..30 {
            if let Some(leader) = self.leader() {
                self.propose(leader);
                self.read(leader);
            }
            self.step();
        }
        self.until(3000, "equal states", |world| {
            let applied = |at: usize| world.node(at).map(|node| node.status().applied);
            let last = world
                .leader()
                .and_then(|leader| world.node(leader))
                .map(|node| node.describe().log_end);
            last.is_some() && (0..size).all(|at| applied(at) == last)
        });
        let histories: Vec<_> = (0..size)
            .map(|at| self.node(at).unwrap().machine().history().clone())
            .collect();
        for history in &histories {
            assert_eq!(history, &histories[0], "seed {}: states differ", self.seed);
        }
        self.oracle.lock().finish(&histories[0]);
    }
}
