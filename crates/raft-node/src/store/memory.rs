//! A store in memory with RocksDB's crash model: writes come back in order up to some point past the last sync.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::snapshot::{SnapshotMeta, SnapshotSource};
use crate::store::header::Header;
use crate::store::transaction::{Switch, Transaction};
use crate::store::{SizeLimit, Store, StoreError, check_chain};

#[derive(Clone, Debug)]
enum Write {
    Commit(Box<Transaction>),
    Stage(SnapshotMeta, Vec<Bytes>),
}

#[derive(Clone, Debug, Default)]
struct Image {
    header: Header,
    entries: BTreeMap<u64, Entry>,
    chunks: BTreeMap<u64, Vec<Bytes>>,
}

impl Image {
    fn last(&self) -> u64 {
        self.entries
            .last_key_value()
            .map_or(self.header.cut.0, |(index, _)| *index)
    }

    fn apply(&mut self, write: &Write) {
        let transaction = match write {
            Write::Stage(meta, chunks) => {
                self.chunks.insert(meta.index, chunks.clone());
                return;
            }
            Write::Commit(transaction) => transaction,
        };
        match &transaction.switch {
            Some(Switch::Installed { meta, .. }) => {
                self.entries.clear();
                self.chunks.retain(|index, _| *index == meta.index);
            }
            Some(Switch::Own { meta, cut }) => {
                self.entries = self.entries.split_off(&(cut.0 + 1));
                self.chunks.retain(|index, _| *index == meta.index);
            }
            None => {}
        }
        self.header.apply(transaction);
        if let Some(first) = transaction.entries.first() {
            drop(self.entries.split_off(&first.index));
        }
        for entry in &transaction.entries {
            self.entries.insert(entry.index, entry.clone());
        }
    }
}

#[derive(Debug, Default)]
struct Disk {
    durable: Image,
    unsynced: Vec<Write>,
}

/// The disk under a [`MemoryStore`]: outlives it, as a real one does.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

impl MemoryDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes since the last sync.
    pub fn unsynced(&self) -> usize {
        self.0.lock().unsynced.len()
    }

    /// A power loss: the first `kept` unsynced writes happen to be on the disk, the others are gone.
    pub fn crash(&self, kept: usize) {
        let mut disk = self.0.lock();
        let writes = std::mem::take(&mut disk.unsynced);
        for write in writes.iter().take(kept) {
            disk.durable.apply(write);
        }
    }

    /// Opens what the disk would show to the next process (also without a crash: everything written).
    pub fn open(&self) -> MemoryStore {
        let disk = self.0.lock();
        let mut image = disk.durable.clone();
        for write in &disk.unsynced {
            image.apply(write);
        }
        MemoryStore {
            disk: self.clone(),
            image,
        }
    }

    /// Opens what a crash that keeps no unsynced write would leave, without crashing.
    pub fn durable(&self) -> MemoryStore {
        MemoryStore {
            disk: MemoryDisk::new(),
            image: self.0.lock().durable.clone(),
        }
    }

    fn write(&self, write: Write, sync: bool) {
        let mut disk = self.0.lock();
        disk.unsynced.push(write);
        if sync {
            let writes = std::mem::take(&mut disk.unsynced);
            for write in &writes {
                disk.durable.apply(write);
            }
        }
    }
}

/// See [`MemoryDisk::open`].
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
    image: Image,
}

impl Storage for MemoryStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.image.header.raft_state())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.image.header.cut.0 {
            return Err(StorageError::Compacted.into());
        }
        if high > self.image.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let mut limit = SizeLimit::new(max_size.into());
        let range = self.image.entries.range(low..high).map(|(_, entry)| entry);
        Ok(range.take_while(|entry| limit.admits(entry)).cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let cut = self.image.header.cut;
        if index == cut.0 {
            return Ok(cut.1);
        }
        if index < cut.0 {
            return Err(StorageError::Compacted.into());
        }
        match self.image.entries.get(&index) {
            Some(entry) => Ok(entry.term),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.image.header.cut.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.image.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        match self.image.header.raft_snapshot() {
            Some(snapshot) if snapshot.get_metadata().index >= request_index => Ok(snapshot),
            _ => Err(StorageError::SnapshotTemporarilyUnavailable.into()),
        }
    }
}

impl Store for MemoryStore {
    fn header(&self) -> &Header {
        &self.image.header
    }

    fn stage_snapshot(
        &mut self,
        index: u64,
        term: u64,
        chunks: &[Bytes],
    ) -> Result<SnapshotMeta, StoreError> {
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        let meta = SnapshotMeta {
            index,
            term,
            chunks: u32::try_from(chunks.len()).unwrap_or(u32::MAX),
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        };
        let write = Write::Stage(meta, chunks.to_vec());
        self.image.apply(&write);
        self.disk.write(write, false);
        Ok(meta)
    }

    fn commit(&mut self, transaction: Transaction) -> Result<(), StoreError> {
        let installs = matches!(transaction.switch, Some(Switch::Installed { .. }));
        if !installs {
            check_chain(
                &transaction.entries,
                self.image.header.cut.0 + 1,
                self.image.last(),
            )?;
        }
        let sync = transaction.sync;
        let write = Write::Commit(Box::new(transaction));
        self.image.apply(&write);
        self.disk.write(write, sync);
        Ok(())
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource>> {
        let meta = self.image.header.snapshot?;
        let chunks = self.image.chunks.get(&meta.index)?.clone();
        Some(Arc::new(MemorySnapshot { meta, chunks }))
    }
}

struct MemorySnapshot {
    meta: SnapshotMeta,
    chunks: Vec<Bytes>,
}

impl SnapshotSource for MemorySnapshot {
    fn meta(&self) -> SnapshotMeta {
        self.meta
    }

    fn chunk(&self, number: u32) -> Result<Option<Bytes>, StoreError> {
        Ok(usize::try_from(number)
            .ok()
            .and_then(|number| self.chunks.get(number))
            .cloned())
    }
}
