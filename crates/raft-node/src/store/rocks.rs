//! The store on RocksDB: two column families, one write-ahead log, one batch per commit, small buffers.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use protobuf::Message;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use rocksdb::{ColumnFamily, DB, Direction, IteratorMode, WriteBatch, WriteOptions};

use crate::identity::{Identity, RaftId, StorageId};
use crate::snapshot::{SnapshotMeta, SnapshotSource};
use crate::store::header::Header;
use crate::store::log_index::LogIndex;
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

fn log_cf(db: &DB) -> Result<&ColumnFamily, StoreError> {
    db.cf_handle(keys::LOG)
        .ok_or_else(|| StoreError::Corrupt("no log column family".into()))
}

fn default_cf(db: &DB) -> Result<&ColumnFamily, StoreError> {
    db.cf_handle("default")
        .ok_or_else(|| StoreError::Corrupt("no default column family".into()))
}

fn read_header(db: &DB) -> Result<Header, StoreError> {
    let mut header = Header::default();
    if let Some(value) = db.get(keys::IDENTITY)? {
        let text = String::from_utf8_lossy(keys::unseal(&value, "the identity")?).into_owned();
        let identity = Identity::decode(&text).ok_or_else(|| StoreError::Corrupt("the identity".into()))?;
        header.identity = Some(identity);
    }
    header.introduced = db.get(keys::INTRODUCED)?.is_some();
    if let Some(value) = db.get(keys::HARD_STATE)? {
        header.hard_state = HardState::parse_from_bytes(keys::unseal(&value, "the hard state")?)?;
    }
    if let Some(value) = db.get(keys::CONF_STATE)? {
        header.conf_state = ConfState::parse_from_bytes(keys::unseal(&value, "the conf state")?)?;
    }
    if let Some(value) = db.get(keys::CUT)? {
        let [index, term] = keys::decode_numbers::<2>(&value, "the log's cut")?;
        header.cut = (index, term);
    }
    if let Some(value) = db.get(keys::SNAPSHOT)? {
        header.snapshot = Some(keys::decode_meta(&value)?);
    }
    for item in db.iterator(IteratorMode::From(keys::PIN, Direction::Forward)) {
        let (key, value) = item?;
        let Some(id) = key.strip_prefix(keys::PIN) else {
            break;
        };
        let peer = RaftId::from_raft(keys::index_of(id)?);
        let storage = StorageId::from_slice(keys::unseal(&value, "a peer's storage")?);
        let (Some(peer), Some(storage)) = (peer, storage) else {
            return Err(StoreError::Corrupt("a peer's storage".into()));
        };
        header.pins.insert(peer, storage);
    }
    Ok(header)
}

/// Reads the whole log, checking that it starts after the cut and that each entry follows the one before.
fn read_log(db: &DB, cut: (u64, u64)) -> Result<LogIndex, StoreError> {
    let mut log = LogIndex::new(cut);
    for item in db.iterator_cf(log_cf(db)?, IteratorMode::Start) {
        let (key, value) = item?;
        let (entry, term_before) = keys::unseal_entry(keys::index_of(&key)?, &value)?;
        if entry.index != log.last() + 1 || term_before != log.last_term() || entry.term < term_before {
            return Err(StoreError::Corrupt(format!(
                "entry {} does not follow {}",
                entry.index,
                log.last()
            )));
        }
        log.append(&[entry]);
    }
    Ok(log)
}

fn read_entries(db: &DB, low: u64, high: u64, limit: &mut SizeLimit) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    let start = low.to_be_bytes();
    let from = IteratorMode::From(&start, Direction::Forward);
    for (expected, item) in (low..high).zip(db.iterator_cf(log_cf(db)?, from)) {
        let (key, value) = item?;
        let (entry, _) = keys::unseal_entry(keys::index_of(&key)?, &value)?;
        if entry.index != expected {
            return Err(StoreError::Corrupt(format!("entry {expected} is missing")));
        }
        if !limit.admits(&entry) {
            break;
        }
        entries.push(entry);
    }
    if entries.is_empty() && low < high {
        return Err(StoreError::Corrupt(format!("entry {low} is missing")));
    }
    Ok(entries)
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
