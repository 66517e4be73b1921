//! The store on RocksDB: two column families, one write-ahead log, one batch per commit, small buffers.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use protobuf::Message;
use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use rocksdb::{DB, WriteBatch, WriteOptions};

use crate::snapshot::{SnapshotMeta, SnapshotSource};
use crate::store::header::Header;
use crate::store::log_index::LogIndex;
use crate::store::recover::{default_cf, log_cf, read_entries, read_header, read_log};
use crate::store::transaction::{Switch, Transaction};
use crate::store::{SNAPSHOT_CHUNK_BYTES_MAX, SizeLimit, Store, StoreError, check_chain, keys, options};

/// See [`Store`]. Opening checks the CRC and the chain of every entry.
pub struct RocksStore {
    db: Arc<DB>,
    header: Header,
    log: LogIndex,
}

impl RocksStore {
    /// Opens or creates the database in `path`; its lock file keeps other processes out.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let db = options::open(path)?;
        let header = read_header(&db)?;
        let log = read_log(&db, header.cut)?;
        if header.is_bootstrapped() {
            let commit = header.hard_state.commit;
            if commit > log.last() || header.snapshot.is_some_and(|meta| meta.index > commit) {
                return Err(StoreError::Corrupt(format!(
                    "commit {commit} lies outside the log, which ends at {}",
                    log.last()
                )));
            }
        }
        let store = RocksStore {
            db: Arc::new(db),
            header,
            log,
        };
        store.drop_stale_chunks()?;
        Ok(store)
    }

    /// Removes chunks that a crash left between staging and switching.
    fn drop_stale_chunks(&self) -> Result<(), StoreError> {
        let current = self.header.snapshot.map_or(0, |meta| meta.index);
        let (low, high) = keys::chunk_bounds();
        let cf = default_cf(&self.db)?;
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(cf, low, keys::chunk(current, 0));
        batch.delete_range_cf(cf, keys::chunk(current.saturating_add(1), 0), high);
        Ok(self.db.write(batch)?)
    }

    fn put_entries(
        &self,
        batch: &mut WriteBatch,
        entries: &[Entry],
        wiped_to: Option<u64>,
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let log = log_cf(&self.db)?;
        if last.index < self.log.last() && wiped_to.is_none() {
            let stale = (last.index + 1).to_be_bytes();
            batch.delete_range_cf(log, stale, (self.log.last() + 1).to_be_bytes());
        }
        let mut term_before = match wiped_to {
            Some(term) => term,
            None => self.log.term(first.index - 1).map_err(|error| {
                StoreError::Corrupt(format!("no term before entry {}: {error}", first.index))
            })?,
        };
        for entry in entries {
            batch.put_cf(
                log,
                entry.index.to_be_bytes(),
                keys::seal_entry(entry, term_before)?,
            );
            term_before = entry.term;
        }
        Ok(())
    }

    fn put_switch(&self, batch: &mut WriteBatch, switch: &Switch, next: &Header) -> Result<(), StoreError> {
        let default = default_cf(&self.db)?;
        let log = log_cf(&self.db)?;
        let meta = match switch {
            Switch::Installed { meta, conf_state } => {
                batch.delete_range_cf(log, 0u64.to_be_bytes(), u64::MAX.to_be_bytes());
                batch.put_cf(
                    default,
                    keys::CONF_STATE,
                    keys::seal(&conf_state.write_to_bytes()?),
                );
                meta
            }
            Switch::Own { meta, cut } => {
                batch.delete_range_cf(log, 0u64.to_be_bytes(), (cut.0 + 1).to_be_bytes());
                meta
            }
        };
        let (low, high) = keys::chunk_bounds();
        batch.delete_range_cf(default, low, keys::chunk(meta.index, 0));
        batch.delete_range_cf(default, keys::chunk(meta.index.saturating_add(1), 0), high);
        batch.put_cf(
            default,
            keys::CUT,
            keys::encode_numbers(&[next.cut.0, next.cut.1]),
        );
        batch.put_cf(default, keys::SNAPSHOT, keys::encode_meta(meta));
        Ok(())
    }
}

impl Storage for RocksStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.header.raft_state())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.log.first() {
            return Err(StorageError::Compacted.into());
        }
        if high > self.log.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let max_size = max_size.into();
        if let Some(entries) = self.log.cached(low, high, &mut SizeLimit::new(max_size)) {
            return Ok(entries);
        }
        Ok(read_entries(&self.db, low, high, &mut SizeLimit::new(max_size))?)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.log.term(index)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        match self.header.raft_snapshot() {
            Some(snapshot) if snapshot.get_metadata().index >= request_index => Ok(snapshot),
            _ => Err(StorageError::SnapshotTemporarilyUnavailable.into()),
        }
    }
}

impl Store for RocksStore {
    fn header(&self) -> &Header {
        &self.header
    }

    fn stage_snapshot(
        &mut self,
        index: u64,
        term: u64,
        chunks: &[Bytes],
    ) -> Result<SnapshotMeta, StoreError> {
        let cf = default_cf(&self.db)?;
        let mut meta = SnapshotMeta {
            index,
            term,
            chunks: 0,
            bytes: 0,
        };
        let mut clear = WriteBatch::default();
        clear.delete_range_cf(cf, keys::chunk(index, 0), keys::chunk(index.saturating_add(1), 0));
        self.db.write(clear)?;
        for chunk in chunks {
            if chunk.len() > SNAPSHOT_CHUNK_BYTES_MAX {
                return Err(StoreError::ChunkTooLarge(chunk.len()));
            }
            self.db
                .put_cf(cf, keys::chunk(index, meta.chunks), keys::seal(chunk))?;
            meta.chunks += 1;
            meta.bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        }
        Ok(meta)
    }

    fn commit(&mut self, transaction: Transaction) -> Result<(), StoreError> {
        let wipes = matches!(transaction.switch, Some(Switch::Installed { .. }));
        if !wipes {
            check_chain(&transaction.entries, self.log.first(), self.log.last())?;
        }
        let mut next = self.header.clone();
        next.apply(&transaction);
        let mut batch = WriteBatch::default();
        let default = default_cf(&self.db)?;
        if let Some(switch) = &transaction.switch {
            self.put_switch(&mut batch, switch, &next)?;
        }
        self.put_entries(&mut batch, &transaction.entries, wipes.then_some(next.cut.1))?;
        if transaction.hard_state.is_some() || transaction.switch.is_some() {
            batch.put_cf(
                default,
                keys::HARD_STATE,
                keys::seal(&next.hard_state.write_to_bytes()?),
            );
        }
        if let Some(identity) = &transaction.identity {
            batch.put_cf(default, keys::IDENTITY, keys::seal(identity.encode().as_bytes()));
        }
        if let Some((peer, storage)) = transaction.pin {
            batch.put_cf(default, keys::pin(peer.get()), keys::seal(storage.as_bytes()));
        }
        if transaction.introduced {
            batch.put_cf(default, keys::INTRODUCED, keys::seal(&[1]));
        }
        let mut how = WriteOptions::default();
        how.set_sync(transaction.sync);
        self.db.write_opt(batch, &how)?;

        match &transaction.switch {
            Some(Switch::Installed { .. }) => self.log = LogIndex::new(next.cut),
            Some(Switch::Own { .. }) => self.log.cut_front(next.cut),
            None => {}
        }
        self.log.append(&transaction.entries);
        self.header = next;
        Ok(())
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource>> {
        let meta = self.header.snapshot?;
        Some(Arc::new(RocksSnapshot {
            db: self.db.clone(),
            meta,
        }))
    }
}

struct RocksSnapshot {
    db: Arc<DB>,
    meta: SnapshotMeta,
}

impl SnapshotSource for RocksSnapshot {
    fn meta(&self) -> SnapshotMeta {
        self.meta
    }

    fn chunk(&self, number: u32) -> Result<Option<Bytes>, StoreError> {
        if number >= self.meta.chunks {
            return Ok(None);
        }
        let value = self
            .db
            .get(keys::chunk(self.meta.index, number))?
            .ok_or(StoreError::NoSnapshot(self.meta.index))?;
        let payload = keys::unseal(&value, "a snapshot chunk")?;
        Ok(Some(Bytes::copy_from_slice(payload)))
    }
}
