//! Cuts what a power loss left behind the last complete record of RocksDB's journal, before RocksDB reads it.
//!
//! RocksDB 11.8 never ends when the first byte after the records looks like the type of a recycled record (its reader
//! returns without taking the bytes, `log::Reader::ReadPhysicalRecord`), and refuses a tail that has a plausible length
//! and a wrong checksum, as a record has whose last page did not reach the disk. Nobody was told about such a record: only
//! the last one can be incomplete, since each write is synced before the next. A whole record after a broken one is
//! damage, and an error.
//!
//! The format is that of `db/log_format.h`: blocks of 32 KiB; a record is a masked CRC-32C of all that follows the length
//! (4 bytes), the length (2), the type (1) and the payload; it never spans blocks.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::store::StoreError;

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;
/// Far above the limit that the options set.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;
/// Types in recycled files, which this store has none of.
const RECYCLED: std::ops::RangeInclusive<u8> = 5..=8;

/// Cuts the newest journal in the database's directory, if its tail is torn.
pub(crate) fn cut(database: &Path) -> Result<(), StoreError> {
    let Some(path) = newest(database)? else {
        return Ok(());
    };
    let mut data = Vec::new();
    let length = File::open(&path)
        .and_then(|file| file.take(JOURNAL_BYTES_MAX).read_to_end(&mut data))
        .map_err(|error| unreadable(&path, &error))?;
    let end = complete(&data);
    if end == length || data.get(end..).is_some_and(|rest| rest.iter().all(|b| *b == 0)) {
        return Ok(());
    }
    if begins_again(&data, end) {
        return Err(StoreError::Corrupt(format!(
            "{} has a broken record at {end} and whole ones after it",
            path.display()
        )));
    }
    warn!(journal = %path.display(), end, bytes = length - end, "cutting a torn record off the journal");
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|file| {
            file.set_len(u64::try_from(end).unwrap_or(u64::MAX))?;
            file.sync_all()
        })
        .map_err(|error| unreadable(&path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Corrupt(format!("{}: {error}", path.display()))
}

/// Journals are named by rising numbers.
fn newest(database: &Path) -> Result<Option<PathBuf>, StoreError> {
    let Ok(entries) = fs::read_dir(database) else {
        return Ok(None); // not created yet
    };
    let mut newest = None;
    for entry in entries {
        let path = entry.map_err(|error| unreadable(database, &error))?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".log")?.parse::<u64>().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(most, _)| number > *most)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Where the last whole record ends, with all of its parts.
fn complete(data: &[u8]) -> usize {
    let (mut at, mut end) = (0, 0);
    loop {
        let left = BLOCK - at % BLOCK;
        if left < HEADER {
            at += left;
            continue;
        }
        let Some((kind, length)) = record(data, at) else {
            return end;
        };
        at += length;
        if !(FIRST..LAST).contains(&kind) {
            end = at;
        }
    }
}

/// The type and whole length of the sound record at `at`.
fn record(data: &[u8], at: usize) -> Option<(u8, usize)> {
    let header = data.get(at..)?.first_chunk::<HEADER>()?;
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let length = HEADER + usize::from(u16::from_le_bytes([l0, l1]));
    if kind == 0 || RECYCLED.contains(&kind) || length > BLOCK - at % BLOCK {
        return None;
    }
    let covered = data.get(at + HEADER - 1..at + length)?;
    let masked = crc32c::crc32c(covered).rotate_right(15).wrapping_add(0xa282_ead8);
    (masked == u32::from_le_bytes([c0, c1, c2, c3])).then_some((kind, length))
}

/// Whether a record begins, sound, after the broken one.
fn begins_again(data: &[u8], broken: usize) -> bool {
    (broken + 1..data.len()).any(|at| record(data, at).is_some_and(|(kind, _)| matches!(kind, FULL | FIRST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(kind: u8, payload: &[u8]) -> Vec<u8> {
        let covered = [&[kind], payload].concat();
        let crc = crc32c::crc32c(&covered)
            .rotate_right(15)
            .wrapping_add(0xa282_ead8);
        let length = u16::try_from(payload.len()).unwrap().to_le_bytes();
        [&crc.to_le_bytes()[..], &length, &covered].concat()
    }

    fn after_cut(data: &[u8]) -> Result<Vec<u8>, StoreError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("000012.log");
        fs::write(dir.path().join("000009.log"), b"an older one is left alone").unwrap();
        fs::write(&path, data).unwrap();
        cut(dir.path()).map(|()| fs::read(path).unwrap())
    }

    #[test]
    fn whole_records_and_zeros_stay() {
        let records = [encoded(1, b"one"), encoded(1, b"")].concat();
        let zeros = [records.clone(), vec![0; 100]].concat();
        // The first part fills its block but for a rest that no header fits into.
        let first = encoded(2, &vec![7; BLOCK - 2 * HEADER - 3 - 3]);
        let parts = [encoded(1, b"one"), first, vec![0; 3], encoded(4, b"last")].concat();
        assert_eq!(parts.len(), BLOCK + HEADER + 4);
        for data in [Vec::new(), records, zeros, parts] {
            assert_eq!(after_cut(&data).unwrap(), data);
        }
    }

    #[test]
    fn garbage_of_every_first_type_is_cut() {
        let records = encoded(1, b"kept");
        for kind in 0..=u8::MAX {
            let garbage = [0x5e, 0x21, 0xac, 0x7f, 9, 0, kind, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
            assert_eq!(
                after_cut(&[&records[..], &garbage].concat()).unwrap(),
                records,
                "{kind}"
            );
        }
    }

    #[test]
    fn a_record_whose_parts_are_not_all_there_is_cut_as_a_whole() {
        let kept = encoded(1, b"kept");
        let torn = encoded(1, b"a record of which the end is missing");
        for length in 1..torn.len() {
            let data = [&kept[..], &torn[..length]].concat();
            assert_eq!(after_cut(&data).unwrap(), kept, "{length}");
        }
        let first = [kept.clone(), encoded(2, b"first"), encoded(3, b"middle")].concat();
        assert_eq!(after_cut(&first).unwrap(), kept);
    }

    #[test]
    fn a_broken_record_before_whole_ones_is_damage() {
        let mut data = [encoded(1, b"kept"), encoded(1, b"damaged"), encoded(1, b"sound")].concat();
        data[14] ^= 1;
        assert!(matches!(after_cut(&data), Err(StoreError::Corrupt(_))));
    }

    #[test]
    fn a_database_opens_whatever_lies_behind_its_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        for kind in [1, 5, 6, 7, 8, 11, 131, 200] {
            let db = crate::store::options::open(&path).unwrap();
            let mut synced = rocksdb::WriteOptions::default();
            synced.set_sync(true);
            db.put_opt([kind], b"value", &synced).unwrap();
            drop(db);
            let journal = newest(&path).unwrap().unwrap();
            let mut data = fs::read(&journal).unwrap();
            data.extend([
                0x5e, 0x21, 0xac, 0x7f, 9, 0, kind, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
            ]);
            fs::write(&journal, data).unwrap();
        }
        let db = crate::store::options::open(&path).unwrap();
        assert_eq!(db.get([131]).unwrap().unwrap(), b"value");
        assert_eq!(db.get([1]).unwrap().unwrap(), b"value");
    }
}
