//! The file operations on the faulty disk.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, FaultStorage, Inode, NameChange, Unsynced, write};
use crate::storage::{DirEntry, Storage, StorageFile, StorageLock};

impl Storage for FaultStorage {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.0.lock();
        let inode = match disk.names.files.get(path) {
            Some(inode) => *inode,
            None if create && path.parent().is_some_and(|dir| disk.names.dirs.contains(dir)) => {
                let inode = disk.next_inode;
                disk.change_names(NameChange::Create(path.to_owned(), inode))?;
                disk.next_inode += 1;
                disk.inodes.insert(inode, Inode::default());
                inode
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(FaultFile {
            disk: self.0.clone(),
            inode,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let disk = self.0.lock();
        if !disk.names.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = |paths: Vec<&PathBuf>, is_dir| -> Vec<DirEntry> {
            paths
                .into_iter()
                .filter(|path| path.parent() == Some(dir))
                .filter_map(|path| {
                    Some(DirEntry {
                        name: path.file_name()?.to_str()?.to_owned(),
                        is_dir,
                    })
                })
                .collect()
        };
        let mut entries = names(disk.names.files.keys().collect(), false);
        entries.extend(names(disk.names.dirs.iter().collect(), true));
        Ok(entries)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.lock().change_names(NameChange::CreateDir(path.to_owned()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0
            .lock()
            .change_names(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        if !disk.names.files.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_names(NameChange::Remove(path.to_owned()))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.lock().change_names(NameChange::Remove(path.to_owned()))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.sync()?;
        disk.make_names_durable(|changed| changed.parent() == Some(path));
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.sync()?;
        disk.make_names_durable(|_| true);
        disk.inodes.values_mut().for_each(Inode::settle);
        Ok(())
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let disk = self.0.lock();
        Ok(disk.capacity.saturating_sub(disk.used()))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<StorageLock>> {
        let taken = self.0.lock().locks.insert(path.to_owned());
        Ok(taken.then(|| -> StorageLock {
            Box::new(Unlock {
                disk: self.0.clone(),
                path: path.to_owned(),
            })
        }))
    }
}

struct Unlock {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        self.disk.lock().locks.remove(&self.path);
    }
}

impl Inode {
    fn settle(&mut self) {
        if !self.unsynced.is_empty() {
            self.unsynced.clear();
            self.durable.clone_from(&self.data);
        }
    }
}

#[derive(Debug)]
struct FaultFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
}

impl FaultFile {
    fn with<T>(&self, act: impl FnOnce(&mut Inode) -> T) -> io::Result<T> {
        let mut disk = self.disk.lock();
        Ok(act(disk
            .inodes
            .get_mut(&self.inode)
            .ok_or(io::ErrorKind::NotFound)?))
    }
}

impl StorageFile for FaultFile {
    fn write_at(&self, chunks: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        disk.operation()?;
        let room = disk.capacity.saturating_sub(disk.used());
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let inode = disk.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let mut bytes: Vec<u8> = chunks
            .iter()
            .take(1024)
            .flat_map(|chunk| chunk.iter().copied())
            .collect();
        let growth = (offset + bytes.len()).saturating_sub(inode.data.len()) as u64;
        if growth > room {
            let over = usize::try_from(growth - room).unwrap_or(usize::MAX);
            bytes.truncate(bytes.len().saturating_sub(over));
            if bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        write(&mut inode.data, offset, &bytes);
        let written = bytes.len();
        inode.unsynced.push(Unsynced::Write { offset, bytes });
        Ok(written)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.with(|inode| {
            let end = offset.saturating_add(len).min(inode.data.len());
            inode.data.get(offset..end).unwrap_or_default().to_vec()
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.with(|inode| inode.data.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.lock().operation()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.with(|inode| {
            inode.data.resize(len, 0);
            inode.unsynced.push(Unsynced::SetLen(len));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().sync()?;
        self.with(Inode::settle)
    }
}
