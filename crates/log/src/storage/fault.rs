//! A file system in memory that loses power, tears writes, fills up and fails syncs on demand.

mod operations;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// What the page cache knows and the platter may not.
#[derive(Clone, Debug)]
enum Unsynced {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    data: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(PathBuf, u64),
    CreateDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Names {
    files: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: Names,
    durable_names: Names,
    name_changes: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    next_inode: u64,
    /// Writes, syncs and name changes so far.
    operations: u64,
    power_lost_at: Option<u64>,
    sync_fails: bool,
    capacity: u64,
}

/// Shared by all clones; [`after_power_loss`](Self::after_power_loss) gives the disk as the next boot finds it.
#[derive(Clone, Debug)]
pub struct FaultStorage(Arc<Mutex<Disk>>);

impl Default for FaultStorage {
    fn default() -> Self {
        FaultStorage(Arc::new(Mutex::new(Disk {
            inodes: BTreeMap::new(),
            names: Names::default(),
            durable_names: Names::default(),
            name_changes: Vec::new(),
            locks: BTreeSet::new(),
            next_inode: 1,
            operations: 0,
            power_lost_at: None,
            sync_fails: false,
            capacity: u64::MAX,
        })))
    }
}

impl FaultStorage {
    /// Operations that change or sync something, so far.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Every changing operation from the `n`-th on fails, and nothing after it reaches the disk.
    pub fn lose_power_at(&self, n: u64) {
        self.0.lock().power_lost_at = Some(n);
    }

    /// Every sync from now on fails with EIO.
    pub fn fail_syncs(&self) {
        self.0.lock().sync_fails = true;
    }

    /// Total bytes of all files that the disk holds; less than what is there is allowed.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity = bytes;
    }

    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used()
    }

    /// Flips the bits of `mask` in one byte, as rot does: in what is cached and on the disk.
    pub fn rot(&self, path: &Path, at: usize, mask: u8) {
        let mut disk = self.0.lock();
        let Some(inode) = disk.names.files.get(path).copied() else {
            return;
        };
        if let Some(inode) = disk.inodes.get_mut(&inode) {
            for copy in [&mut inode.data, &mut inode.durable] {
                if let Some(byte) = copy.get_mut(at) {
                    *byte ^= mask;
                }
            }
        }
    }

    /// A kill -9: the page cache survives, locks are gone.
    pub fn after_kill(&self) -> FaultStorage {
        let mut disk = self.0.lock().clone();
        disk.locks.clear();
        disk.power_lost_at = None;
        FaultStorage(Arc::new(Mutex::new(disk)))
    }

    /// What a power loss leaves: everything synced, and of the rest whatever `seed` picks: writes may be kept, lost,
    /// torn or out of order; name changes are kept up to some point, in order.
    pub fn after_power_loss(&self, seed: u64) -> FaultStorage {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 33).unwrap_or(0) % below.max(1)
        };
        let mut disk = self.0.lock().clone();
        let mut names = disk.durable_names.clone();
        let kept = next(disk.name_changes.len() + 1);
        for change in disk.name_changes.drain(..).take(kept) {
            names.apply(&change);
        }
        // What lies in a directory whose own name was lost cannot be reached.
        let dirs = names.dirs.clone();
        names
            .files
            .retain(|path, _| path.parent().is_some_and(|dir| dirs.contains(dir)));
        for inode in disk.inodes.values_mut() {
            let mut data = inode.durable.clone();
            for change in inode.unsynced.drain(..) {
                match change {
                    Unsynced::SetLen(len) if next(2) == 0 => data.resize(len, 0),
                    Unsynced::SetLen(_) => {}
                    Unsynced::Write { offset, bytes } => match next(4) {
                        0 => {}
                        1 => write(
                            &mut data,
                            offset,
                            bytes.get(..next(bytes.len())).unwrap_or_default(),
                        ),
                        2 => write(&mut data, offset, &vec![0; bytes.len()]),
                        _ => write(&mut data, offset, &bytes),
                    },
                }
            }
            inode.data.clone_from(&data);
            inode.durable = data;
        }
        disk.names = names.clone();
        disk.durable_names = names;
        disk.locks.clear();
        disk.power_lost_at = None;
        disk.sync_fails = false;
        FaultStorage(Arc::new(Mutex::new(disk)))
    }
}

fn write(data: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if data.len() < end {
        data.resize(end, 0);
    }
    if let Some(target) = data.get_mut(offset..end) {
        target.copy_from_slice(bytes);
    }
}

impl Names {
    fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Create(path, inode) => {
                self.files.insert(path.clone(), *inode);
            }
            NameChange::CreateDir(path) => {
                self.dirs.extend(path.ancestors().map(Path::to_owned));
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = self.files.remove(from) {
                    self.files.insert(to.clone(), inode);
                }
                let moved = |path: &PathBuf| path.strip_prefix(from).ok().map(|rest| to.join(rest));
                self.files = std::mem::take(&mut self.files)
                    .into_iter()
                    .map(|(path, inode)| (moved(&path).unwrap_or(path), inode))
                    .collect();
                self.dirs = std::mem::take(&mut self.dirs)
                    .into_iter()
                    .map(|path| moved(&path).map_or(path, |p| p.components().collect()))
                    .collect();
            }
            NameChange::Remove(path) => {
                self.files.retain(|file, _| !file.starts_with(path));
                self.dirs.retain(|dir| !dir.starts_with(path));
            }
        }
    }
}

impl Disk {
    fn used(&self) -> u64 {
        self.names
            .files
            .values()
            .filter_map(|i| self.inodes.get(i))
            .map(|i| i.data.len() as u64)
            .sum()
    }

    fn operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.power_lost_at {
            Some(n) if self.operations >= n => Err(io::Error::other("power lost")),
            _ => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.operation()?;
        if self.sync_fails {
            Err(io::Error::from_raw_os_error(5))
        } else {
            Ok(())
        }
    }

    fn change_names(&mut self, change: NameChange) -> io::Result<()> {
        self.operation()?;
        self.names.apply(&change);
        self.name_changes.push(change);
        Ok(())
    }

    fn make_names_durable(&mut self, concerns: impl Fn(&Path) -> bool) {
        let (done, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.name_changes)
                .into_iter()
                .partition(|change| match change {
                    NameChange::Create(path, _) | NameChange::CreateDir(path) | NameChange::Remove(path) => {
                        concerns(path)
                    }
                    NameChange::Rename(from, to) => concerns(from) || concerns(to),
                });
        for change in &done {
            self.durable_names.apply(change);
        }
        self.name_changes = rest;
    }
}
