//! Reads a RocksDB store's contents back, distrusting every value.

use protobuf::Message;
use raft::eraftpb::{ConfState, Entry, HardState};
use rocksdb::{ColumnFamily, DB, Direction, IteratorMode};

use crate::identity::{Identity, RaftId, StorageId};
use crate::store::header::Header;
use crate::store::log_index::LogIndex;
use crate::store::{SizeLimit, StoreError, keys};

pub(super) fn log_cf(db: &DB) -> Result<&ColumnFamily, StoreError> {
    db.cf_handle(keys::LOG)
        .ok_or_else(|| StoreError::Corrupt("no log column family".into()))
}

pub(super) fn default_cf(db: &DB) -> Result<&ColumnFamily, StoreError> {
    db.cf_handle("default")
        .ok_or_else(|| StoreError::Corrupt("no default column family".into()))
}

pub(super) fn read_header(db: &DB) -> Result<Header, StoreError> {
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
pub(super) fn read_log(db: &DB, cut: (u64, u64)) -> Result<LogIndex, StoreError> {
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

pub(super) fn read_entries(
    db: &DB,
    low: u64,
    high: u64,
    limit: &mut SizeLimit,
) -> Result<Vec<Entry>, StoreError> {
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
