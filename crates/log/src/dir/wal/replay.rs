//! After a crash: what the write-ahead log still vouches for goes back into the segments, before any log is opened.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strom_types::TopicIdPartition;

use super::entry::{Head, Part, Place, room_for};
use super::{DIR, SUFFIX};
use crate::dir::{TRASH_SUFFIX, contents};
use crate::error::LogError;
use crate::segment::SegmentFile;
use crate::storage::{Storage, StorageFile, write_all_at};

/// An entry on the disk, and where the bytes of its parts begin.
struct Found {
    head: Head,
    file: Arc<dyn StorageFile>,
    payload_at: u64,
}

/// Writes to the segments what counts, syncs them, and takes the write-ahead log away. Repeatable at any point.
pub(crate) fn replay(storage: &dyn Storage, root: &Path) -> Result<(), LogError> {
    let dir = root.join(DIR);
    let failed = |error| LogError::io("replay", &dir, error);
    let mut found = read_entries(storage, &dir).map_err(failed)?;
    let Some(released) = found.iter().map(|entry| entry.head.released).max() else {
        return discard(storage, &dir);
    };
    found.retain(|entry| entry.head.seq >= released);
    found.sort_by_key(|entry| entry.head.seq);
    let mut expected = released;
    let mut forgotten: HashMap<TopicIdPartition, u64> = HashMap::new();
    for entry in &found {
        if entry.head.seq != expected {
            tracing::error!(dir = %dir.display(), expected, found = entry.head.seq,
                "the write-ahead log is damaged: acknowledged records may be missing");
        }
        expected = entry.head.seq + 1;
        for (id, part) in &entry.head.parts {
            if *part == Part::Forget {
                forgotten.insert(*id, entry.head.seq);
            }
        }
    }
    let mut replay = Replay {
        storage,
        root,
        forgotten,
        named: HashSet::new(),
    };
    let mut bytes = 0;
    for entry in &found {
        bytes += replay.write_back(entry).map_err(failed)?;
    }
    if bytes > 0 {
        tracing::info!(dir = %dir.display(), entries = found.len(), bytes, "replayed the write-ahead log");
    }
    storage.sync_all().map_err(failed)?;
    discard(storage, &dir)
}

/// Takes the files away at one stroke: half of them must never be found.
pub(super) fn discard(storage: &dyn Storage, dir: &Path) -> Result<(), LogError> {
    let trash = PathBuf::from(format!("{}{TRASH_SUFFIX}", dir.display()));
    let gone = || -> io::Result<()> {
        remove_dir_if_exists(storage, &trash)?;
        match storage.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        storage.rename(dir, &trash)?;
        if let Some(root) = dir.parent() {
            storage.sync_dir(root)?;
        }
        remove_dir_if_exists(storage, &trash)
    };
    gone().map_err(|error| LogError::io("remove", dir, error))
}

fn remove_dir_if_exists(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    match storage.remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_entries(storage: &dyn Storage, dir: &Path) -> io::Result<Vec<Found>> {
    let entries = match storage.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries.into_iter().filter(|entry| entry.name.ends_with(SUFFIX)) {
        let file = storage.open(&dir.join(entry.name), false)?;
        let size = usize::try_from(file.size()?).map_err(|_| io::ErrorKind::InvalidData)?;
        let bytes = file.read_at(0, size)?;
        let mut at = 0;
        let mut expected = None;
        while let Some(decoded) = bytes.get(at..).and_then(Head::decode) {
            // What lies behind the newest entry is left from the file's earlier use.
            if expected.is_some_and(|seq| decoded.head.seq != seq) {
                break;
            }
            expected = Some(decoded.head.seq + 1);
            found.push(Found {
                head: decoded.head,
                file: file.clone(),
                payload_at: (at + decoded.payload_at) as u64,
            });
            at += usize::try_from(room_for(decoded.len)).unwrap_or(usize::MAX);
        }
    }
    Ok(found)
}

struct Replay<'a> {
    storage: &'a dyn Storage,
    root: &'a Path,
    /// Up to which entry a log's parts do not count.
    forgotten: HashMap<TopicIdPartition, u64>,
    /// Partitions whose directories are known to be whole.
    named: HashSet<TopicIdPartition>,
}

impl Replay<'_> {
    /// Gives the bytes written.
    fn write_back(&mut self, entry: &Found) -> io::Result<usize> {
        let mut at = entry.payload_at;
        let mut written = 0;
        for (id, part) in &entry.head.parts {
            let from = at;
            at += part.len();
            let Part::Batches(place) = part else { continue };
            if self.forgotten.get(id).is_some_and(|seq| *seq > entry.head.seq) {
                continue;
            }
            let len = usize::try_from(place.len).map_err(|_| io::ErrorKind::InvalidData)?;
            let bytes = entry.file.read_at(from, len)?;
            let segment = self.segment(*id, place)?;
            write_all_at(&*segment, &bytes, place.position)?;
            written += len;
        }
        Ok(written)
    }

    /// The segment's file. The power may have gone before its name was on the disk, or the directory's with the topic.
    fn segment(&mut self, id: TopicIdPartition, place: &Place) -> io::Result<Arc<dyn StorageFile>> {
        let dir = self.root.join(id.to_string());
        if self.named.insert(id) && contents::read_topic(self.storage, self.root, id).is_none() {
            contents::create_partition(self.storage, &dir, id, &place.topic)?;
        }
        self.storage
            .open(&SegmentFile::Log.path(&dir, place.segment_base), true)
    }
}
