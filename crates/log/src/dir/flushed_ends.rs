//! How far each log is fsynced, noted after every flush round in one small file that nothing waits for.
//!
//! A note is written after the sync it tells of and is not synced itself. So every note that is found whole is true,
//! whatever a power cut has left of the others, and after a kill all are there, to the last round: recovery takes for a
//! torn tail only what lies above. What makes a note untrue (a truncation, a log that begins anew under its old id) is
//! put down durably before it happens.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use strom_types::{Offset, TopicId, TopicIdPartition};

use super::contents::Partitions;
use crate::error::LogError;
use crate::storage::{Storage, StorageFile, read_file, write_all_at};

const FILE: &str = "flushed-ends";
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Topic id, partition, offset, CRC-32C of these. A power of two: no slot lies on two sectors.
const SLOT_BYTES: usize = 32;
const EMPTY: [u8; SLOT_BYTES] = [0; SLOT_BYTES];
/// Dirty slots that lie nearer to each other are written together.
const GAP_SLOTS: usize = 32;

pub(crate) struct FlushedEnds {
    path: PathBuf,
    table: Mutex<Table>,
}

struct Table {
    file: Arc<dyn StorageFile>,
    slots: Vec<Slot>,
    of: HashMap<TopicIdPartition, usize>,
    /// Not written yet.
    dirty: Vec<usize>,
    /// Emptied, but perhaps only in the page cache: not to be used for another log yet.
    emptied: Vec<usize>,
    free: Vec<usize>,
    warned: bool,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    id: Option<TopicIdPartition>,
    end: Offset,
    free: bool,
}

impl FlushedEnds {
    /// Notes of logs that are not there any more are dropped.
    pub(crate) fn open(storage: &dyn Storage, dir: &Path, on_disk: &Partitions) -> Result<Self, LogError> {
        let path = dir.join(FILE);
        let bytes =
            read_file(storage, &path, FILE_BYTES_MAX).map_err(|error| LogError::io("read", &path, error))?;
        let file = storage
            .open(&path, true)
            .map_err(|error| LogError::io("open", &path, error))?;
        let mut table = Table {
            file,
            slots: Vec::new(),
            of: HashMap::new(),
            dirty: Vec::new(),
            emptied: Vec::new(),
            free: Vec::new(),
            warned: false,
        };
        for bytes in bytes.unwrap_or_default().chunks(SLOT_BYTES) {
            let at = table.slots.len();
            let slot = Slot::decode(bytes).unwrap_or_default();
            table.slots.push(slot);
            let known = slot.id.filter(|id| !table.of.contains_key(id));
            if let Some(id) = known {
                table.of.insert(id, at);
            }
            if !known.is_some_and(|id| on_disk.contains_key(&id)) {
                table.empty(at);
            }
        }
        Ok(FlushedEnds {
            path,
            table: Mutex::new(table),
        })
    }

    /// Up to where the log is known to be fsynced.
    pub(crate) fn end_of(&self, id: TopicIdPartition) -> Option<Offset> {
        let table = self.table.lock();
        table.slot(id).map(|slot| slot.end)
    }

    /// Notes a new end in memory; called under the log's lock, so that truncations come before or after it.
    pub(crate) fn note(&self, id: TopicIdPartition, end: Offset) {
        self.table.lock().set(id, end);
    }

    /// Writes what was noted. A failure costs evidence, nothing else.
    pub(crate) fn write(&self) {
        let mut table = self.table.lock();
        if let Err(error) = table.write()
            && !std::mem::replace(&mut table.warned, true)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot note how far logs are flushed");
        }
    }

    /// Before the log gets shorter: durably not beyond `end`.
    pub(crate) fn lower(&self, id: TopicIdPartition, end: Offset) -> Result<(), LogError> {
        let mut table = self.table.lock();
        if table.slot(id).is_none_or(|slot| slot.end <= end) {
            return Ok(());
        }
        table.set(id, end);
        table
            .sync()
            .map_err(|error| LogError::io("write", &self.path, error))
    }

    /// Before a log's directory is made: durably nothing of an earlier log of this id.
    pub(crate) fn begin(&self, id: TopicIdPartition) -> Result<(), LogError> {
        let mut table = self.table.lock();
        let Some(at) = table.of.get(&id).copied() else {
            return Ok(());
        };
        table.empty(at);
        table
            .sync()
            .map_err(|error| LogError::io("write", &self.path, error))
    }

    /// The log is deleted.
    pub(crate) fn forget(&self, id: TopicIdPartition) {
        let mut table = self.table.lock();
        if let Some(at) = table.of.get(&id).copied() {
            table.empty(at);
        }
    }

    /// Slots that were emptied so far, now in the page cache: once that is synced, see [`reuse`](Self::reuse).
    pub(crate) fn emptied(&self) -> Vec<usize> {
        let mut table = self.table.lock();
        match table.write() {
            Ok(()) => std::mem::take(&mut table.emptied),
            Err(_) => Vec::new(),
        }
    }

    pub(crate) fn reuse(&self, emptied: Vec<usize>) {
        let mut table = self.table.lock();
        for at in emptied {
            let Some(slot) = table.slots.get_mut(at).filter(|slot| slot.end == 0 && !slot.free) else {
                continue;
            };
            slot.free = true;
            if let Some(id) = slot.id.take().filter(|id| table.of.get(id) == Some(&at)) {
                table.of.remove(&id);
            }
            table.free.push(at);
        }
    }
}

impl Table {
    fn slot(&self, id: TopicIdPartition) -> Option<Slot> {
        self.slots.get(*self.of.get(&id)?).copied()
    }

    fn set(&mut self, id: TopicIdPartition, end: Offset) {
        let at = self.of.get(&id).copied().or_else(|| self.free.pop());
        let at = at.unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.of.insert(id, at);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot {
                id: Some(id),
                end,
                free: false,
            };
            self.dirty.push(at);
        }
    }

    fn empty(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.end = 0;
            self.dirty.push(at);
            self.emptied.push(at);
        }
    }

    /// After an error all of it is still to be written.
    fn write(&mut self) -> io::Result<()> {
        self.dirty.sort_unstable();
        self.dirty.dedup();
        let near = |one: &usize, next: &usize| next - one <= GAP_SLOTS;
        for run in self.dirty.chunk_by(near) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let slots = self.slots.get(*first..=*last).unwrap_or_default();
            let bytes: Vec<u8> = slots.iter().flat_map(Slot::encode).collect();
            write_all_at(&*self.file, &bytes, (first * SLOT_BYTES) as u64)?;
        }
        self.dirty.clear();
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        self.file.sync_data()
    }
}

impl Slot {
    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = EMPTY;
        let Some(id) = self.id.filter(|_| self.end > 0) else {
            return bytes;
        };
        let fields = [
            &id.topic_id.as_bytes()[..],
            &id.partition.to_be_bytes(),
            &self.end.to_be_bytes(),
        ]
        .concat();
        let crc = crc32c::crc32c(&fields).to_be_bytes();
        let all = fields.into_iter().chain(crc);
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        bytes
    }

    /// `None` for an empty slot and a damaged one.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, crc) = bytes.split_at_checked(SLOT_BYTES - 4)?;
        if crc32c::crc32c(fields).to_be_bytes() != crc {
            return None;
        }
        let (topic, fields) = fields.split_first_chunk()?;
        let (partition, end) = fields.split_first_chunk()?;
        let slot = Slot {
            id: Some(TopicIdPartition::new(
                TopicId::from_bytes(*topic),
                i32::from_be_bytes(*partition),
            )),
            end: Offset::from_be_bytes(end.try_into().ok()?),
            free: false,
        };
        (slot.end > 0).then_some(slot)
    }
}

#[cfg(test)]
mod tests;
