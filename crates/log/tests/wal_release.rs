//! A checkpoint and the flusher release entries of the write-ahead log at the same time: none goes before its log is synced.
#![allow(clippy::unwrap_used)]

mod support;

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use strom_log::*;
use support::*;

type Hook = Box<dyn FnOnce() + Send>;

/// Does something of its own when the file system is to be synced, before it is.
#[derive(Clone, Default)]
struct Interrupted {
    disk: FaultStorage,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl Storage for Interrupted {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        self.disk.open(path, create)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn sync_all(&self) -> io::Result<()> {
        let hook = self.hook.lock().take();
        if let Some(hook) = hook {
            hook();
        }
        self.disk.sync_all()
    }

    fn available_bytes(&self) -> io::Result<u64> {
        self.disk.available_bytes()
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<StorageLock>> {
        self.disk.try_lock(path)
    }
}

#[test]
fn the_flusher_releases_nothing_that_a_checkpoint_has_yet_to_sync() {
    let storage = Interrupted::default();
    let ear = Arc::new(Ear::default());
    let dir = LogDir::open_on(Arc::new(storage.clone()), &root(), with_wal(), ear).unwrap();
    let dir = Arc::new(dir);
    let quiet = dir.log(id(0), "quiet", LogConfig::default()).unwrap();
    let busy = dir.log(id(1), "busy", LogConfig::default()).unwrap();
    append(&quiet, 1, 10).unwrap();
    settle(&dir);
    append(&quiet, 2, 10).unwrap();
    dir.write_round();
    assert_eq!(quiet.durable_offset(), 3, "by an entry");
    let found = Arc::new(Mutex::new(Vec::new()));
    *storage.hook.lock() = Some(Box::new({
        let (dir, disk, found) = (dir.clone(), storage.disk.clone(), found.clone());
        move || {
            for _ in 0..60 {
                append(&busy, 1, 3_000).unwrap();
                settle(&dir);
            }
            found
                .lock()
                .extend((0..10).map(|seed| disk.after_power_loss(seed)));
        }
    }));
    dir.housekeep().unwrap();
    let found = std::mem::take(&mut *found.lock());
    assert_eq!(found.len(), 10, "the power went during the sync");
    for disk in found {
        let (dir, _) = on(&disk, with_wal());
        let quiet = dir.log(id(0), "quiet", LogConfig::default()).unwrap();
        assert_eq!(quiet.log_end_offset(), 3);
    }
}
