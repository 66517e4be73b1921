//! The real file system.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, FlockOperation};

use super::{DirEntry, Storage, StorageFile, StorageLock};

/// Linux's `IOV_MAX`.
const CHUNKS_PER_WRITE_MAX: usize = 1024;
/// No page is smaller.
const PAGE: u64 = 4096;

/// One directory tree on a local file system.
#[derive(Debug)]
pub struct DiskStorage {
    /// Opened before any write, so that `syncfs` reports every later write-back error once.
    root: File,
}

impl DiskStorage {
    /// Makes the directory when it is missing.
    pub fn open(root: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        Ok(DiskStorage {
            root: File::open(root)?,
        })
    }
}

impl Storage for DiskStorage {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .open(path)?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry {
                    name,
                    is_dir: entry.file_type()?.is_dir(),
                });
            }
        }
        Ok(entries)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<StorageLock>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[derive(Debug)]
struct DiskFile(File);

impl StorageFile for DiskFile {
    fn write_at(&self, chunks: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let front = chunks.get(..CHUNKS_PER_WRITE_MAX).unwrap_or(chunks);
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::pwritev(&self.0, front, offset)
        })?)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        let mut at = offset;
        while bytes.len() < len {
            let read =
                rustix::io::retry_on_intr(|| rustix::io::pread(&self.0, spare_capacity(&mut bytes), at))?;
            if read == 0 {
                break;
            }
            at += read as u64;
        }
        // An allocator may give more room than was asked for.
        bytes.truncate(len);
        Ok(bytes)
    }

    // Both are advice: where it is not taken, nothing but time is lost.
    fn uncache(&self, bytes: Range<u64>) {
        // Whole pages: what is left of the last one will be asked for next.
        let (from, end) = (bytes.start & !(PAGE - 1), bytes.end & !(PAGE - 1));
        if let Some(len) = NonZeroU64::new(end.saturating_sub(from)) {
            let _ = rustix::fs::fadvise(&self.0, from, Some(len), Advice::DontNeed);
        }
    }

    fn prefetch(&self, bytes: Range<u64>) {
        if let Some(len) = NonZeroU64::new(bytes.end.saturating_sub(bytes.start)) {
            let _ = rustix::fs::fadvise(&self.0, bytes.start, Some(len), Advice::WillNeed);
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
