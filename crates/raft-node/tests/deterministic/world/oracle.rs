//! What must hold: one value per index, one leader per term, nothing acknowledged is lost, no read is stale.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use strom_raft_node::{ProposalId, ProposeError, ReadId, RestoreError, StateMachine};

#[derive(Default)]
pub(crate) struct Oracle {
    seed: u64,
    committed: BTreeMap<u64, Bytes>,
    leaders: BTreeMap<u64, usize>,
    acknowledged: BTreeMap<u64, Bytes>,
    pending: BTreeMap<(usize, ProposalId), Bytes>,
    reads: BTreeMap<(usize, ReadId), u64>,
    pub(crate) indeterminate: u64,
    pub(crate) reads_served: u64,
    pub(crate) snapshots_restored: u64,
    pub(crate) elections: u64,
    pub(crate) hash: u64,
}

impl Oracle {
    pub(crate) fn new(seed: u64) -> Self {
        Oracle {
            seed,
            ..Oracle::default()
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    fn trace(&mut self, what: &[u8]) {
        for byte in what {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn crashed(&mut self, at: usize) {
        self.pending.retain(|(node, _), _| *node != at);
        self.reads.retain(|(node, _), _| *node != at);
    }

    pub(crate) fn leads(&mut self, at: usize, term: u64) {
        let seed = self.seed;
        let leader = *self.leaders.entry(term).or_insert_with(|| {
            self.elections += 1;
            at
        });
        assert_eq!(leader, at, "seed {seed}: two leaders in term {term}");
    }

    pub(crate) fn proposed(&mut self, at: usize, id: ProposalId, data: Bytes) {
        self.pending.insert((at, id), data);
    }

    pub(crate) fn outcome(&mut self, at: usize, id: ProposalId, outcome: &Result<u64, ProposeError>) {
        let data = self
            .pending
            .remove(&(at, id))
            .expect("an outcome nobody waits for");
        match outcome {
            Ok(index) => {
                assert_eq!(
                    self.committed.get(index),
                    Some(&data),
                    "seed {}: acked another entry",
                    self.seed
                );
                self.acknowledged.insert(*index, data);
            }
            Err(ProposeError::Indeterminate) => self.indeterminate += 1,
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
    }

    pub(crate) fn asked(&mut self, at: usize, id: ReadId) {
        let newest = self.acknowledged.last_key_value().map_or(0, |(index, _)| *index);
        self.reads.insert((at, id), newest);
    }

    pub(crate) fn read(&mut self, at: usize, id: ReadId, index: u64, applied: u64) {
        let newest = self.reads.remove(&(at, id)).expect("a read nobody asked for");
        assert!(
            index >= newest,
            "seed {}: stale read {index} < {newest}",
            self.seed
        );
        assert!(applied >= index, "seed {}: read before applied", self.seed);
        self.reads_served += 1;
    }

    fn applied(&mut self, at: usize, index: u64, data: &[u8]) {
        let seed = self.seed;
        self.trace(&[u8::try_from(at).unwrap()]);
        self.trace(data);
        let known = self
            .committed
            .entry(index)
            .or_insert_with(|| Bytes::copy_from_slice(data));
        assert_eq!(
            known, data,
            "seed {seed}: node {at} applies another entry at {index}"
        );
    }

    pub(crate) fn finish(&self, history: &BTreeMap<u64, Bytes>) {
        for (index, data) in &self.acknowledged {
            assert_eq!(
                history.get(index),
                Some(data),
                "seed {}: acknowledged {index} is lost",
                self.seed
            );
        }
    }
}

/// A state machine that remembers everything.
pub(crate) struct Ledger {
    at: usize,
    oracle: Arc<Mutex<Oracle>>,
    history: BTreeMap<u64, Bytes>,
}

impl Ledger {
    pub(crate) fn new(at: usize, oracle: Arc<Mutex<Oracle>>) -> Self {
        Ledger {
            at,
            oracle,
            history: BTreeMap::new(),
        }
    }

    pub(crate) fn history(&self) -> &BTreeMap<u64, Bytes> {
        &self.history
    }
}

impl StateMachine for Ledger {
    fn apply(&mut self, index: u64, data: &[u8]) {
        let last = self.history.last_key_value().map_or(0, |(last, _)| *last);
        assert!(index > last, "applied {index} after {last}");
        self.oracle.lock().applied(self.at, index, data);
        self.history.insert(index, Bytes::copy_from_slice(data));
    }

    fn snapshot(&self) -> Vec<Bytes> {
        let entry = |(index, data): (&u64, &Bytes)| {
            let mut chunk = BytesMut::new();
            chunk.put_u64(*index);
            chunk.put_slice(data);
            chunk.freeze()
        };
        self.history.iter().map(entry).collect()
    }

    fn restore(&mut self, index: u64, chunks: Vec<Bytes>) -> Result<(), RestoreError> {
        self.history.clear();
        for mut chunk in chunks {
            let at = chunk
                .try_get_u64()
                .map_err(|error| RestoreError(error.to_string()))?;
            assert!(at <= index, "a snapshot of {index} holds {at}");
            self.oracle.lock().applied(self.at, at, &chunk);
            self.history.insert(at, chunk);
        }
        if index > 1 {
            self.oracle.lock().snapshots_restored += 1;
        }
        Ok(())
    }
}
