//! The write-ahead log of a directory: one place where a round of small appends to many logs becomes durable with one
//! write and one sync (docs/durability.md has what that is worth).
//!
//! An entry repeats bytes that lie in the page cache of the logs' own segments. It counts until those are synced, which
//! [`release`](Wal::release) notes; after a crash [`replay`] puts what still counts back into the segments, before any
//! log is looked at. So segments stay what everything else works with, and without room here a round is synced there.
//!
//! Files are of one size, written with zeros once, so that a sync has nothing but the entry's bytes to write. They are
//! used one after the other, the one released first is used again first; where entries end in a file is told by their
//! sequence, which has no gaps.

mod entry;
mod replay;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use strom_types::TopicIdPartition;

use crate::error::LogError;
use crate::log::Log;
use crate::storage::{Storage, StorageFile, write_all_at, write_chunks_at};
use entry::{Head, room_for};

pub(crate) use entry::{Part, Place};
pub(crate) use replay::replay;

const DIR: &str = "wal";
const SUFFIX: &str = ".wal";
/// After so many bytes of entries their logs are synced, though there is room: many short syncs in the background hold up
/// the entries that come meanwhile less than a long one.
const RELEASE_EVERY_BYTES: u64 = 4 << 20;
/// With a small bound the files are small, so that there are some to go round.
const FILES_MIN: u64 = 4;
/// No file is smaller: a note must fit.
const FILE_BYTES_MIN: u64 = 4 * entry::ALIGNMENT;
/// A file is made where there is room for so many.
const SPACE_FILES: u64 = 16;
/// Zeros are written in pieces of this size.
const ZEROS: usize = 1 << 20;

/// One part of an entry to be: what a log has written but not made durable.
pub(crate) struct WalPart {
    pub(crate) id: TopicIdPartition,
    pub(crate) place: Place,
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) log: Weak<Log>,
}

pub(crate) struct Wal {
    dir: PathBuf,
    storage: Arc<dyn Storage>,
    file_bytes: u64,
    files_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In the order they are used; the first ones are full.
    files: VecDeque<WalFile>,
    /// Released; the front is used next.
    free: VecDeque<Arc<dyn StorageFile>>,
    files_made: u64,
    /// Of the next entry.
    next_seq: u64,
    /// Entries below it are in the segments: durably noted.
    released: u64,
    /// Of entries since what [`Wal::release_due`] last gave.
    unreleased_bytes: u64,
    /// A round found no room since the last [`Wal::prepare`].
    wanted: bool,
}

struct WalFile {
    file: Arc<dyn StorageFile>,
    used: u64,
    last_seq: u64,
    /// The logs with bytes in it; each may be named several times.
    logs: Vec<Weak<Log>>,
}

/// What is to be synced before entries can be released.
pub(crate) struct Release {
    bound: u64,
    pub(crate) logs: Vec<Arc<Log>>,
}

impl Wal {
    /// `bytes_max` = 0 switches it off.
    pub(crate) fn new(root: &Path, storage: Arc<dyn Storage>, bytes_max: u64, file_bytes: u64) -> Self {
        let file_bytes = file_bytes.min(bytes_max / FILES_MIN).max(FILE_BYTES_MIN);
        Wal {
            dir: root.join(DIR),
            storage,
            file_bytes,
            files_max: usize::try_from(bytes_max / file_bytes).unwrap_or(0),
            state: Mutex::new(State {
                next_seq: 1,
                released: 1,
                ..State::default()
            }),
        }
    }

    /// Makes the parts' bytes durable: when this returns `Some`, they are. `None` = no room just now. The caller keeps
    /// what the bytes mean from changing meanwhile: it holds the logs' `io` locks.
    pub(crate) fn append(&self, parts: &[WalPart]) -> Result<Option<u64>, LogError> {
        if self.files_max == 0 {
            return Ok(None);
        }
        let mut state = self.state.lock();
        if state.files.is_empty() && state.free.is_empty() {
            state.wanted = true;
            return Ok(None);
        }
        let heads = parts
            .iter()
            .map(|part| (part.id, Part::Batches(part.place.clone())));
        let payload = parts.iter().flat_map(|part| part.chunks.iter().cloned());
        let Some((chunks, len)) = state.head(heads.collect()).encode(payload.collect()) else {
            return Ok(None);
        };
        if !state.make_room(room_for(len), self.file_bytes) {
            state.wanted = true;
            return Ok(None);
        }
        let seq = self.write(&mut state, &chunks, len)?;
        if let Some(current) = state.files.back_mut() {
            current.logs.extend(parts.iter().map(|part| part.log.clone()));
        }
        Ok(Some(seq))
    }

    /// Whether an entry of this sequence would be replayed after a crash.
    pub(crate) fn counts(&self, seq: u64) -> bool {
        seq >= self.state.lock().released
    }

    /// Takes all earlier entries' bytes of one log out of a replay; durable when this returns.
    pub(crate) fn forget(&self, id: TopicIdPartition) -> Result<(), LogError> {
        self.note(vec![(id, Part::Forget)], None)
    }

    /// Whether there is something to do in the background: [`release`](Self::release) or [`prepare`](Self::prepare).
    pub(crate) fn needs_upkeep(&self) -> bool {
        let state = self.state.lock();
        state.wanted || self.is_release_due(&state)
    }

    /// Enough has been written, or the last file is in use and there are as many as may be.
    fn is_release_due(&self, state: &State) -> bool {
        let short = state.free.is_empty() && state.files.len() + 1 >= self.files_max.max(2);
        short || state.unreleased_bytes >= RELEASE_EVERY_BYTES
    }

    /// All entries so far: to be released once everything in the file system was synced. The logs are left to
    /// [`release_due`](Self::release_due), which may come first.
    pub(crate) fn everything(&self) -> Release {
        Release {
            bound: self.state.lock().next_seq,
            logs: Vec::new(),
        }
    }

    /// What must be synced so that earlier files can be used again; `None` while that can wait.
    pub(crate) fn release_due(&self) -> Option<Release> {
        let mut state = self.state.lock();
        if !self.is_release_due(&state) || state.next_seq == state.released {
            return None;
        }
        state.unreleased_bytes = 0;
        let bound = state.next_seq;
        let mut logs: Vec<Arc<Log>> = Vec::new();
        for file in &mut state.files {
            logs.extend(std::mem::take(&mut file.logs).iter().filter_map(Weak::upgrade));
        }
        // A log that was made again under its id is another one.
        logs.sort_by_key(Arc::as_ptr);
        logs.dedup_by(|one, other| Arc::ptr_eq(one, other));
        Some(Release { bound, logs })
    }

    /// After the logs of `release` were synced: their entries do not count any more, and their files can be used again.
    pub(crate) fn release(&self, release: &Release) -> Result<(), LogError> {
        if !self.counts(release.bound.saturating_sub(1)) {
            return Ok(());
        }
        self.note(Vec::new(), Some(release.bound))
    }

    /// Makes a file with room, if rounds missed one and there may be more files, and `available` bytes are plenty: this log
    /// is a convenience, which must not fill a disk. Slow: zeros are written and synced.
    pub(crate) fn prepare(&self, available: u64) -> Result<(), LogError> {
        let number = {
            let mut state = self.state.lock();
            let files = state.files.len() + state.free.len();
            let wanted = std::mem::take(&mut state.wanted) && state.free.is_empty();
            if !wanted || files >= self.files_max || available / SPACE_FILES < self.file_bytes {
                return Ok(());
            }
            state.files_made += 1;
            state.files_made
        };
        let file = self.make_file(number)?;
        self.state.lock().free.push_back(file);
        Ok(())
    }

    /// After everything was synced and nothing is appended any more: the next start has nothing to replay.
    pub(crate) fn discard(&self) -> Result<(), LogError> {
        let mut state = self.state.lock();
        state.files.clear();
        state.free.clear();
        // Nothing is left that a later deletion would have to take out of a replay.
        state.released = u64::MAX;
        replay::discard(&*self.storage, &self.dir)
    }

    /// An entry without bytes; where there is no room for it, a file is made.
    fn note(&self, parts: Vec<(TopicIdPartition, Part)>, released: Option<u64>) -> Result<(), LogError> {
        let mut state = self.state.lock();
        let mut head = state.head(parts);
        head.released = head.released.max(released.unwrap_or(0));
        let released = head.released;
        let Some((chunks, len)) = head.encode(Vec::new()) else {
            return Ok(());
        };
        if !state.make_room(room_for(len), self.file_bytes) {
            state.files_made += 1;
            let number = state.files_made;
            let file = self.make_file(number)?;
            state.free.push_back(file);
            state.make_room(room_for(len), self.file_bytes);
        }
        self.write(&mut state, &chunks, len)?;
        state.released = released;
        while state.files.len() > 1 && state.files.front().is_some_and(|file| file.last_seq < released) {
            let file = state.files.pop_front();
            state.free.extend(file.map(|file| file.file));
        }
        Ok(())
    }

    /// Writes an entry for which there is room, and syncs it.
    fn write(&self, state: &mut State, chunks: &[Bytes], len: usize) -> Result<u64, LogError> {
        let seq = state.next_seq;
        let Some(current) = state.files.back_mut() else {
            return Err(self.failed(io::ErrorKind::NotFound.into()));
        };
        write_chunks_at(&*current.file, chunks, current.used)
            .and_then(|_| current.file.sync_data())
            .map_err(|error| self.failed(error))?;
        current.used += room_for(len);
        current.last_seq = seq;
        state.unreleased_bytes += room_for(len);
        state.next_seq += 1;
        Ok(seq)
    }

    fn make_file(&self, number: u64) -> Result<Arc<dyn StorageFile>, LogError> {
        let path = self.dir.join(format!("{number:08}{SUFFIX}"));
        let make = || {
            self.storage.create_dir(&self.dir)?;
            let file = self.storage.open(&path, true)?;
            let zeros = vec![0; ZEROS.min(usize::try_from(self.file_bytes).unwrap_or(ZEROS))];
            let mut at = 0;
            while at < self.file_bytes {
                write_all_at(&*file, &zeros, at)?;
                at += zeros.len() as u64;
            }
            file.sync_data()?;
            self.storage.sync_dir(&self.dir)?;
            if let Some(root) = self.dir.parent() {
                self.storage.sync_dir(root)?;
            }
            Ok(file)
        };
        make().map_err(|error| {
            // Half a file would only take the space.
            let _ = self.storage.remove_file(&path);
            self.failed(error)
        })
    }

    fn failed(&self, error: io::Error) -> LogError {
        LogError::io("write", &self.dir, error)
    }
}

impl State {
    fn head(&self, parts: Vec<(TopicIdPartition, Part)>) -> Head {
        Head {
            seq: self.next_seq,
            released: self.released,
            parts,
        }
    }

    /// Whether the last file has room for `bytes`, after moving on to a free one if need be.
    fn make_room(&mut self, bytes: u64, file_bytes: u64) -> bool {
        let fits = |file: &WalFile| file.used + bytes <= file_bytes;
        if self.files.back().is_some_and(fits) {
            return true;
        }
        if bytes > file_bytes {
            return false;
        }
        let next = self.free.pop_front().map(|file| WalFile {
            file,
            used: 0,
            last_seq: 0,
            logs: Vec::new(),
        });
        let found = next.is_some();
        self.files.extend(next);
        found
    }
}
