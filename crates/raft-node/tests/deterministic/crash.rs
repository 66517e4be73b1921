//! A single node whose RocksDB breaks at each write in turn: whatever was acknowledged is there after the restart.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use strom_proto::v1::RaftEnvelope;
use strom_raft_node::store::{FailAt, Failing, RocksStore};
use strom_raft_node::transport::Unsent;
use strom_raft_node::{
    Driver, OpenError, Outbox, OutgoingSnapshot, ProposalId, ProposeError, RaftId, ReadError, ReadId,
    RestoreError, Setup, StateMachine, StorageId, Tuning,
};
use strom_types::NodeId;

/// The numbers applied, in order; the snapshot is all of them.
#[derive(Default)]
struct Numbers(Vec<u64>);

impl StateMachine for Numbers {
    fn apply(&mut self, _index: u64, data: &[u8]) {
        self.0.push(std::str::from_utf8(data).unwrap().parse().unwrap());
    }

    fn snapshot(&self) -> Vec<Bytes> {
        self.0
            .iter()
            .map(|number| Bytes::from(number.to_string()))
            .collect()
    }

    fn restore(&mut self, _index: u64, chunks: Vec<Bytes>) -> Result<(), RestoreError> {
        self.0 = chunks
            .iter()
            .map(|chunk| std::str::from_utf8(chunk).unwrap().parse().unwrap())
            .collect();
        Ok(())
    }
}

#[derive(Default)]
struct Outcomes(BTreeMap<ProposalId, Result<u64, ProposeError>>);

impl Outbox for Outcomes {
    fn send(&mut self, _to: RaftId, _envelope: RaftEnvelope) -> Result<(), Unsent> {
        Err(Unsent)
    }
    fn send_snapshot(&mut self, _snapshot: OutgoingSnapshot) {}
    fn proposed(&mut self, id: ProposalId, outcome: Result<u64, ProposeError>) {
        self.0.insert(id, outcome);
    }
    fn read_ready(&mut self, _id: ReadId, _outcome: Result<u64, ReadError>) {}
}

fn open(path: &Path, writes: u64, at: FailAt) -> Result<Driver<Numbers, Failing<RocksStore>>, OpenError> {
    let setup = Setup {
        node_id: NodeId(0),
        cluster_id: "crash".into(),
        voters: vec![NodeId(0)],
        new_storage: StorageId::from_u128(1),
        seed: 1,
        incarnation: 1,
        tick: Duration::from_millis(50),
        tuning: Tuning {
            snapshot_every_entries: 6,
            keep_entries: 2,
            ..Tuning::default()
        },
    };
    Driver::open(
        setup,
        Failing::new(RocksStore::open(path).unwrap(), writes, at),
        Numbers::default(),
    )
}

/// Proposes `0..20` one after the other; returns how many were acknowledged, and whether the store held out.
fn work(path: &Path, writes: u64, at: FailAt) -> (u64, bool) {
    let Ok(mut driver) = open(path, writes, at) else {
        return (0, false);
    };
    let mut out = Outcomes::default();
    let mut acknowledged = 0;
    while driver.has_ready() {
        if driver.on_ready(&mut out).is_err() {
            return (acknowledged, false);
        }
    }
    for number in 0..20u64 {
        let id = driver.propose(Bytes::from(number.to_string())).unwrap();
        while driver.has_ready() {
            if driver.on_ready(&mut out).is_err() {
                // An acknowledgement may still have left before the write that failed.
                acknowledged += u64::from(matches!(out.0.get(&id), Some(Ok(_))));
                return (acknowledged, false);
            }
        }
        assert!(matches!(out.0.get(&id), Some(Ok(_))));
        acknowledged += 1;
    }
    (acknowledged, true)
}

#[test]
fn a_crash_at_every_write_loses_nothing_acknowledged() {
    for at in [FailAt::Before, FailAt::After] {
        let mut writes = 1;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let (acknowledged, finished) = work(dir.path(), writes, at);
            let mut driver = open(dir.path(), u64::MAX, at).unwrap();
            while driver.has_ready() {
                driver.on_ready(&mut Outcomes::default()).unwrap();
            }
            let state = &driver.machine().0;
            let length = u64::try_from(state.len()).unwrap();
            assert_eq!(*state, (0..length).collect::<Vec<u64>>(), "write {writes} {at:?}");
            assert!(
                length == acknowledged || length == acknowledged + 1,
                "write {writes} {at:?}: {acknowledged} acknowledged, {length} there"
            );
            if finished {
                assert!(writes > 40, "the budget was never used up");
                break;
            }
            writes += 1;
        }
    }
}
