//! The RocksDB store against the memory store, reopened, damaged, locked.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::field_reassign_with_default, reason = "raft's messages are generated")]

use std::path::Path;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState};
use raft::{GetEntriesContext, Storage};
use strom_raft_node::store::{MemoryDisk, RocksStore, Store, StoreError, Transaction};
use strom_raft_node::{Identity, StorageId};
use strom_types::NodeId;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn entry(index: u64, term: u64) -> Entry {
    let mut entry = Entry::default();
    entry.index = index;
    entry.term = term;
    entry.data = format!("entry {index} of {term}").into();
    entry
}

fn hard_state(term: u64, commit: u64) -> HardState {
    let mut state = HardState::default();
    state.term = term;
    state.commit = commit;
    state
}

fn bootstrap<St: Store>(store: &mut St) {
    let identity = Identity {
        node_id: NodeId(1),
        cluster_id: "c".into(),
        storage: StorageId::from_u128(9),
    };
    store
        .commit(Transaction::new().identity(identity).synced(true))
        .unwrap();
    let meta = store
        .stage_snapshot(1, 1, &[Bytes::from_static(b"start")])
        .unwrap();
    let mut conf = ConfState::default();
    conf.set_voters(vec![1, 2, 3]);
    store.commit(Transaction::new().bootstrap(meta, conf)).unwrap();
}

fn all<St: Store>(store: &St, max: Option<u64>) -> Vec<Entry> {
    let (first, last) = (store.first_index().unwrap(), store.last_index().unwrap());
    store
        .entries(first, last + 1, max, GetEntriesContext::empty(false))
        .unwrap()
}

fn assert_same<A: Store, B: Store>(a: &A, b: &B) {
    assert_eq!(a.first_index().unwrap(), b.first_index().unwrap());
    assert_eq!(a.last_index().unwrap(), b.last_index().unwrap());
    assert_eq!(
        a.initial_state().unwrap().hard_state,
        b.initial_state().unwrap().hard_state
    );
    assert_eq!(a.header().snapshot, b.header().snapshot);
    assert_eq!(a.header().conf_state, b.header().conf_state);
    assert_eq!(a.header().identity, b.header().identity);
    for index in a.first_index().unwrap() - 1..=a.last_index().unwrap() {
        assert_eq!(a.term(index).unwrap(), b.term(index).unwrap());
    }
    assert_eq!(all(a, None), all(b, None));
    assert_eq!(all(a, Some(100)), all(b, Some(100)));
    let chunk = |source: &dyn strom_raft_node::SnapshotSource| source.chunk(0).unwrap();
    let (a, b) = (a.snapshot_source().unwrap(), b.snapshot_source().unwrap());
    assert_eq!(chunk(a.as_ref()), chunk(b.as_ref()));
}

/// One random step: append with a conflict, own snapshot with a cut, or a leader's snapshot.
fn random_step(random: &mut Random, term: &mut u64, a: &mut RocksStore, b: &mut impl Store) {
    let (first, last) = (b.first_index().unwrap(), b.last_index().unwrap());
    match random.below(10) {
        0 if last > first => {
            let index = first + random.below(last - first);
            let at = b.term(index).unwrap();
            let cut = first - 1 + random.below(index + 2 - first);
            let cut = (cut, b.term(cut).unwrap());
            let chunk = [Bytes::from(format!("own {index}"))];
            let (on_a, on_b) = (
                a.stage_snapshot(index, at, &chunk).unwrap(),
                b.stage_snapshot(index, at, &chunk).unwrap(),
            );
            a.commit(Transaction::new().own_snapshot(on_a, cut).synced(true))
                .unwrap();
            b.commit(Transaction::new().own_snapshot(on_b, cut).synced(true))
                .unwrap();
        }
        1 => {
            *term += 1;
            let index = last + 1 + random.below(5);
            let chunk = [Bytes::from(format!("installed {index}"))];
            let meta = a.stage_snapshot(index, *term, &chunk).unwrap();
            assert_eq!(meta, b.stage_snapshot(index, *term, &chunk).unwrap());
            let mut conf = ConfState::default();
            conf.set_voters(vec![1, 2, 3]);
            let entries = vec![entry(index + 1, *term)];
            let install = Transaction::new()
                .install_snapshot(meta, conf)
                .append(entries)
                .synced(true);
            a.commit(install.clone()).unwrap();
            b.commit(install).unwrap();
        }
        _ => {
            *term += random.below(2);
            let floor = b.header().hard_state.commit.max(first - 1) + 1;
            let from = if last >= floor {
                floor + random.below(last + 2 - floor)
            } else {
                last + 1
            };
            *term = (*term).max(b.term(from - 1).unwrap());
            let entries: Vec<Entry> = (0..=random.below(6))
                .map(|offset| entry(from + offset, *term))
                .collect();
            let commit = b.header().hard_state.commit.max(from - 1);
            let append = Transaction::new()
                .append(entries)
                .hard_state(Some(hard_state(*term, commit)));
            a.commit(append.clone()).unwrap();
            b.commit(append).unwrap();
        }
    }
}

#[test]
fn rocksdb_behaves_like_the_memory_store_also_after_reopening() {
    for seed in 1..=6 {
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random(seed * 7919);
        let mut rocks = RocksStore::open(dir.path()).unwrap();
        let mut memory = MemoryDisk::new().open();
        bootstrap(&mut rocks);
        bootstrap(&mut memory);
        let mut term = 1;
        for step in 0..150 {
            random_step(&mut random, &mut term, &mut rocks, &mut memory);
            assert_same(&rocks, &memory);
            if step % 25 == 24 {
                drop(rocks);
                rocks = RocksStore::open(dir.path()).unwrap();
                assert_same(&rocks, &memory);
            }
        }
    }
}

#[test]
fn holes_and_compacted_entries_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open(dir.path()).unwrap();
    bootstrap(&mut store);
    let append = |entries: Vec<Entry>| Transaction::new().append(entries).synced(true);
    for bad in [
        vec![entry(3, 1)],
        vec![entry(1, 1)],
        vec![entry(2, 2), entry(4, 2)],
        vec![entry(2, 2), entry(3, 1)],
    ] {
        assert!(matches!(store.commit(append(bad)), Err(StoreError::Hole { .. })));
    }
    store.commit(append(vec![entry(2, 1)])).unwrap();
    assert!(matches!(
        store.term(0),
        Err(raft::Error::Store(raft::StorageError::Compacted))
    ));
    assert!(matches!(
        store.term(3),
        Err(raft::Error::Store(raft::StorageError::Unavailable))
    ));
    assert_eq!(store.term(1).unwrap(), 1);
}

/// Changes the raw database behind the store's back.
fn tamper(path: &Path, change: impl FnOnce(&rocksdb::DB, &rocksdb::ColumnFamily)) {
    let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), path, ["default", "log"]).unwrap();
    change(&db, db.cf_handle("log").unwrap());
}

#[test]
fn damage_is_noticed_when_opening() {
    type Tamper = fn(&rocksdb::DB, &rocksdb::ColumnFamily);
    let tampers: [(&str, Tamper); 4] = [
        ("a flipped bit", |db, log| {
            let mut value = db.get_cf(log, 4u64.to_be_bytes()).unwrap().unwrap();
            value[30] ^= 1;
            db.put_cf(log, 4u64.to_be_bytes(), value).unwrap();
        }),
        ("a missing entry", |db, log| {
            db.delete_cf(log, 4u64.to_be_bytes()).unwrap();
        }),
        ("a moved entry", |db, log| {
            let value = db.get_cf(log, 5u64.to_be_bytes()).unwrap().unwrap();
            db.put_cf(log, 4u64.to_be_bytes(), value).unwrap();
        }),
        ("a lost tail below the commit index", |db, log| {
            db.delete_cf(log, 6u64.to_be_bytes()).unwrap();
        }),
    ];
    for (what, change) in tampers {
        let dir = tempfile::tempdir().unwrap();
        let mut store = RocksStore::open(dir.path()).unwrap();
        bootstrap(&mut store);
        let entries = (2..=6).map(|index| entry(index, 1)).collect();
        store
            .commit(
                Transaction::new()
                    .append(entries)
                    .hard_state(Some(hard_state(1, 6)))
                    .synced(true),
            )
            .unwrap();
        drop(store);
        assert!(RocksStore::open(dir.path()).is_ok());
        tamper(dir.path(), change);
        assert!(
            matches!(RocksStore::open(dir.path()), Err(StoreError::Corrupt(_))),
            "{what} went unnoticed"
        );
    }
}

#[test]
fn a_torn_tail_of_the_write_ahead_log_is_cut_to_what_was_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open(dir.path()).unwrap();
    bootstrap(&mut store);
    for index in 2..=5 {
        store
            .commit(Transaction::new().append(vec![entry(index, 1)]).synced(true))
            .unwrap();
    }
    drop(store);
    let wal = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max()
        .unwrap();
    let length = std::fs::metadata(&wal).unwrap().len();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&wal)
        .unwrap()
        .set_len(length - 3)
        .unwrap();
    let store = RocksStore::open(dir.path()).unwrap();
    assert_eq!(store.last_index().unwrap(), 4);
    assert_eq!(all(&store, None).len(), 3);
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let _first = RocksStore::open(dir.path()).unwrap();
    assert!(matches!(RocksStore::open(dir.path()), Err(StoreError::Locked(_))));
}

#[test]
fn a_replaced_snapshot_can_no_longer_be_read_and_stale_chunks_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open(dir.path()).unwrap();
    bootstrap(&mut store);
    store
        .commit(
            Transaction::new()
                .append(vec![entry(2, 1), entry(3, 1)])
                .synced(true),
        )
        .unwrap();
    let old = store.snapshot_source().unwrap();
    assert_eq!(old.chunk(0).unwrap().unwrap(), "start");
    assert_eq!(old.chunk(1).unwrap(), None);
    // Staged twice, as after a crash in between: the second one counts.
    store
        .stage_snapshot(3, 1, &[Bytes::from_static(b"a"), Bytes::from_static(b"b")])
        .unwrap();
    let meta = store.stage_snapshot(3, 1, &[Bytes::from_static(b"c")]).unwrap();
    store
        .commit(Transaction::new().own_snapshot(meta, (2, 1)).synced(true))
        .unwrap();
    assert!(matches!(old.chunk(0), Err(StoreError::NoSnapshot(1))));
    store
        .stage_snapshot(9, 1, &[Bytes::from_static(b"orphan")])
        .unwrap();
    drop((store, old));
    let store = RocksStore::open(dir.path()).unwrap();
    let source = store.snapshot_source().unwrap();
    assert_eq!(
        (source.chunk(0).unwrap().unwrap(), source.chunk(1).unwrap()),
        (Bytes::from_static(b"c"), None)
    );
}
