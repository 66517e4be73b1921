//! A store that breaks at a chosen write: the crash-at-every-write tests.

use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage};

use crate::snapshot::{SnapshotMeta, SnapshotSource};
use crate::store::{Header, Store, StoreError, Transaction};

/// Where the write breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailAt {
    /// Nothing of it is written.
    Before,
    /// All of it is written, but the caller does not learn so.
    After,
}

/// Passes everything through until its budget of writes is used up; every later write fails.
pub struct Failing<St> {
    inner: St,
    writes_left: u64,
    at: FailAt,
}

impl<St> Failing<St> {
    pub fn new(inner: St, writes_left: u64, at: FailAt) -> Self {
        Failing {
            inner,
            writes_left,
            at,
        }
    }

    fn write<T>(&mut self, write: impl FnOnce(&mut St) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.writes_left > 1 {
            self.writes_left -= 1;
            return write(&mut self.inner);
        }
        if self.writes_left == 1 && self.at == FailAt::After {
            drop(write(&mut self.inner)?);
        }
        self.writes_left = 0;
        Err(StoreError::Injected)
    }
}

impl<St: Storage> Storage for Failing<St> {
    fn initial_state(&self) -> raft::Result<RaftState> {
        self.inner.initial_state()
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        self.inner.entries(low, high, max_size, context)
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

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        self.inner.snapshot(request_index, to)
    }
}

impl<St: Store> Store for Failing<St> {
    fn header(&self) -> &Header {
        self.inner.header()
    }

    fn stage_snapshot(
        &mut self,
        index: u64,
        term: u64,
        chunks: &[Bytes],
    ) -> Result<SnapshotMeta, StoreError> {
        self.write(|inner| inner.stage_snapshot(index, term, chunks))
    }

    fn commit(&mut self, transaction: Transaction) -> Result<(), StoreError> {
        self.write(|inner| inner.commit(transaction))
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource>> {
        self.inner.snapshot_source()
    }
}
