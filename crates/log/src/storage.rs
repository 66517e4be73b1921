//! The file operations a log needs, behind a trait, so that tests and the simulator can lose power and fill disks.

mod disk;
mod fault;

use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub use disk::DiskStorage;
pub use fault::FaultStorage;

/// An open file. Writes reach the page cache; only [`sync_data`](Self::sync_data) makes them durable.
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// One vectored write at `offset`, which may be short. `chunks` may be of any number: the front is written.
    fn write_at(&self, chunks: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Up to `len` bytes from `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// These bytes will not be read again soon: they need not stay in memory.
    fn uncache(&self, _bytes: Range<u64>) {}
    /// These bytes will be read soon; does not wait for them.
    fn prefetch(&self, _bytes: Range<u64>) {}
    fn size(&self) -> io::Result<u64>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// `fdatasync`. After an error the file's contents are unknown: never call it again.
    fn sync_data(&self) -> io::Result<()>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
}

/// Holds a lock until dropped.
pub type StorageLock = Box<dyn Any + Send + Sync>;

/// A file system with one log directory on it.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Opens for reading and writing; `create` makes a missing file.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>>;
    /// Entries with non-UTF-8 names are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Also makes missing parents; an existing directory is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals inside `path` durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes everything on the file system durable (`syncfs`).
    fn sync_all(&self) -> io::Result<()>;
    /// Bytes an unprivileged process may still write.
    fn available_bytes(&self) -> io::Result<u64>;
    /// `None` when another process holds the lock.
    fn try_lock(&self, path: &Path) -> io::Result<Option<StorageLock>>;
}

/// The whole file, or `None` when it does not exist. More than `max` bytes are an error of kind `InvalidData`.
pub(crate) fn read_file(storage: &dyn Storage, path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match storage.open(path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = file.size()?;
    if size > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{size} bytes, at most {max} expected"),
        ));
    }
    let len = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidData)?;
    file.read_at(0, len).map(Some)
}

/// Replaces the file's content; the caller syncs (or checks the content's CRC when reading it back).
pub(crate) fn replace_file(
    storage: &dyn Storage,
    path: &Path,
    bytes: &[u8],
    durable: bool,
) -> io::Result<()> {
    let tmp = path.with_extension("tmp");
    let file = storage.open(&tmp, true)?;
    file.set_len(0)?;
    write_all_at(&*file, bytes, 0)?;
    if durable {
        file.sync_data()?;
    }
    storage.rename(&tmp, path)?;
    if durable && let Some(dir) = path.parent() {
        storage.sync_dir(dir)?;
    }
    Ok(())
}

pub(crate) fn write_all_at(file: &dyn StorageFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut rest = bytes;
    let mut at = offset;
    while !rest.is_empty() {
        let written = file.write_at(&[IoSlice::new(rest)], at)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = rest.get(written..).unwrap_or_default();
        at += written as u64;
    }
    Ok(())
}

/// Writes all chunks end to end from `offset`, in as few system calls as the kernel allows.
pub(crate) fn write_chunks_at(
    file: &dyn StorageFile,
    chunks: &[bytes::Bytes],
    offset: u64,
) -> io::Result<u64> {
    let mut slices: Vec<IoSlice<'_>> = chunks
        .iter()
        .filter(|chunk| !chunk.is_empty())
        .map(|chunk| IoSlice::new(chunk))
        .collect();
    let mut rest = slices.as_mut_slice();
    let mut at = offset;
    while !rest.is_empty() {
        let written = file.write_at(rest, at)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += written as u64;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(at - offset)
}

pub(crate) fn remove_file_if_exists(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match storage.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
