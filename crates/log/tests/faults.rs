//! Full and failing disks, and files that are damaged while the process is down.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;
use strom_log::*;
use strom_types::{BrokerEpoch, ErrorCode, LeaderEpoch};
use support::*;

#[test]
fn a_failed_sync_kills_the_directory() {
    let disk = FaultStorage::default();
    let (dir, ear) = on(&disk, manual());
    let (one, two) = (
        dir.log(id(0), "t", small()).unwrap(),
        dir.log(id(1), "t", small()).unwrap(),
    );
    append(&one, 1, 10).unwrap();
    settle(&dir);
    append(&one, 1, 10).unwrap();
    append(&two, 1, 10).unwrap();
    dir.write_round();
    disk.fail_syncs();
    dir.flush_round();
    assert_eq!((one.durable_offset(), two.durable_offset()), (1, 0));
    for log in [&one, &two] {
        let error = append(log, 1, 10).unwrap_err();
        assert_eq!(error.code(), ErrorCode::KafkaStorageError);
        assert!(log.truncate_to(0).is_err());
        assert!(log.assign_epoch_start(LeaderEpoch(5)).is_err());
        assert_eq!(
            read_all(log, log.log_end_offset(), 100).len(),
            usize::try_from(log.log_end_offset()).unwrap()
        );
    }
    dir.write_round();
    dir.flush_round();
    let heard = ear.0.lock();
    assert_eq!(heard.failures.len(), 1, "told once: {:?}", heard.failures);
    assert_eq!(heard.flushed, [(id(0), 1)]);
    drop(heard);
    assert!(dir.failure().is_some());
    assert!(dir.close(BrokerEpoch(1)).is_err());
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let disk = FaultStorage::default();
    let config = LogDirConfig {
        disk_reserve_bytes: 10_000,
        ..manual()
    };
    let (dir, ear) = on(&disk, config);
    let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
    append(&log, 1, 3_000).unwrap();
    settle(&dir);
    // Only the reserve is left: what comes is refused, what waits is still written.
    append(&log, 1, 3_000).unwrap();
    disk.set_capacity(disk.used_bytes() + 9_000);
    settle(&dir);
    assert_eq!(ear.durable(id(0)), 2);
    let error = append(&log, 1, 10).unwrap_err();
    assert!(matches!(error, AppendError::DiskFull), "{error}");
    assert_eq!(error.code(), ErrorCode::KafkaStorageError);
    assert_eq!(read_all(&log, 2, 100_000).len(), 2);
    log.set_log_start_offset(1).unwrap();
    disk.set_capacity(u64::MAX);
    dir.housekeep().unwrap();
    append(&log, 1, 10).unwrap();
    settle(&dir);
    assert_eq!((ear.durable(id(0)), dir.is_full()), (3, false));
    assert!(ear.0.lock().failures.is_empty());
}

#[test]
fn no_space_in_the_middle_of_a_write() {
    let disk = FaultStorage::default();
    let (dir, ear) = on(&disk, manual());
    let (log, other) = (
        dir.log(id(0), "t", LogConfig::default()).unwrap(),
        dir.log(id(1), "t", small()).unwrap(),
    );
    append(&log, 1, 100).unwrap();
    settle(&dir);
    for _ in 0..4 {
        append(&log, 1, 1_000).unwrap();
    }
    append(&other, 1, 10).unwrap();
    disk.set_capacity(disk.used_bytes() + 1_500);
    for _ in 0..3 {
        settle(&dir);
        let stalled = std::mem::take(&mut ear.0.lock().stalled);
        assert_eq!(stalled, [id(0), id(1)], "told each round");
        assert_eq!(
            (log.written_offset(), log.durable_offset(), log.log_end_offset()),
            (1, 1, 5)
        );
    }
    // What waits is neither acknowledged nor lost nor given another offset; it can be read.
    assert_eq!(read_all(&log, 5, 100_000).len(), 5);
    assert!(matches!(append(&log, 1, 1), Err(AppendError::DiskFull)));
    assert!(matches!(append(&other, 1, 1), Err(AppendError::DiskFull)));
    // Killed now, the half-written batches are a torn tail.
    let (after, _) = on(&disk.after_kill(), manual());
    assert!((1..3).contains(&after.log(id(0), "t", small()).unwrap().log_end_offset()));
    disk.set_capacity(u64::MAX);
    settle(&dir);
    dir.housekeep().unwrap();
    assert_eq!(
        (ear.durable(id(0)), ear.durable(id(1)), dir.queued_bytes()),
        (5, 1, 0)
    );
    append(&log, 1, 10).unwrap();
    settle(&dir);
    dir.close(BrokerEpoch(1)).unwrap();
    assert!(ear.0.lock().failures.is_empty());
}

#[test]
fn a_full_queue_pushes_back() {
    let disk = FaultStorage::default();
    let (dir, _) = on(
        &disk,
        LogDirConfig {
            queue_bytes_max: 2_000,
            ..manual()
        },
    );
    let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
    append(&log, 1, 5_000).unwrap();
    assert_eq!(append(&log, 1, 1).unwrap_err().code(), ErrorCode::Overloaded);
    dir.write_round();
    append(&log, 1, 1_500).unwrap();
    assert!(append(&log, 1, 1_500).is_err());
    assert!(dir.queued_bytes() > 1_500);
    log.truncate_to(1).unwrap();
    assert_eq!(dir.queued_bytes(), 0);
}

/// A log of four segments, all durable, checkpointed and clean or killed.
fn prepared(clean: bool) -> (FaultStorage, Vec<(i64, i64, bytes::Bytes)>) {
    let disk = FaultStorage::default();
    let (dir, _) = on(&disk, manual());
    let log = dir.log(id(0), "t", small()).unwrap();
    for i in 0..30 {
        if i == 12 {
            log.assign_epoch_start(LeaderEpoch(2)).unwrap();
        }
        log.append_as_leader(producer_batch(5, 0, i * 2, 2), lead(2))
            .unwrap();
        settle(&dir);
    }
    let all = read_all(&log, 60, 100_000);
    dir.housekeep().unwrap();
    if clean {
        dir.close(BrokerEpoch(1)).unwrap();
    }
    (disk.after_kill(), all)
}

fn files(disk: &FaultStorage) -> Vec<PathBuf> {
    let dir = root().join(id(0).to_string());
    let mut files: Vec<_> = Storage::list(disk, &dir)
        .unwrap()
        .into_iter()
        .map(|entry| dir.join(entry.name))
        .collect();
    files.push(root().join("log-checkpoint"));
    files
}

/// Replaces the file's content.
fn put(disk: &FaultStorage, path: &std::path::Path, bytes: &[u8]) {
    let file = disk.open(path, false).unwrap();
    file.set_len(0).unwrap();
    file.write_at(&[std::io::IoSlice::new(bytes)], 0).unwrap();
}

#[test]
fn damaged_files_never_give_wrong_bytes() {
    let mut seen = 0;
    for clean in [true, false] {
        let (intact, all) = prepared(clean);
        for path in files(&intact) {
            let good = intact.open(&path, false).unwrap().read_at(0, 1 << 20).unwrap();
            let mut random = 88_172_645_463_325_252u64;
            let noise: Vec<u8> = (0..good.len())
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random.to_be_bytes()[0]
                })
                .collect();
            let half = &good[..good.len() / 2];
            let mut flipped = good.clone();
            flipped
                .iter_mut()
                .skip(good.len() / 3)
                .step_by(101)
                .for_each(|byte| *byte ^= 0x20);
            for (kind, bytes) in [
                ("zeroed", &vec![0; good.len()][..]),
                ("random", &noise),
                ("cut", half),
                ("empty", &[]),
                ("flipped", &flipped),
            ] {
                let what = format!("{} {kind}, clean {clean}", path.display());
                let disk = intact.after_kill();
                put(&disk, &path, bytes);
                let (dir, _) = on(&disk, manual());
                let log = dir.log(id(0), "t", small()).unwrap();
                seen += 1;
                let is_log = path.extension().is_some_and(|suffix| suffix == "log");
                let mut from = 0;
                while let Ok(chunk) = log.read(from, 500, 60, true) {
                    if chunk.records.is_empty() {
                        break;
                    }
                    for batch in strom_records::BatchIter::new(chunk.records) {
                        let Ok(batch) = batch else { break };
                        // A flipped bit in a payload is for the CRC's readers to find, and for the scrub.
                        if batch.verify_crc().is_ok() {
                            let same = all.iter().any(|(base, _, bytes)| {
                                *base == batch.header.base_offset && *bytes == batch.bytes
                            });
                            assert!(
                                same || is_log,
                                "{what}: other bytes at {}",
                                batch.header.base_offset
                            );
                        }
                    }
                    from = chunk.next_offset;
                }
                if is_log {
                    // Never shorter without saying so.
                    let whole = from == 60 || log.quarantined().is_some();
                    assert!(whole, "{what}: read to {from}, {:?}", log.read(from, 1, 60, true));
                    continue;
                }
                assert!(log.quarantined().is_none(), "{what}: {:?}", log.quarantined());
                assert_eq!(read_all(&log, 60, 300), all, "{what}");
                assert_eq!(
                    log.offset_for_timestamp(1_001, 60).unwrap(),
                    Some((1_001, 1)),
                    "{what}"
                );
                let latest = log.end_offset_for_epoch(LeaderEpoch(2)).unwrap();
                assert_eq!(latest, Some((LeaderEpoch(2), 60)), "{what}");
                let again = log
                    .append_as_leader(producer_batch(5, 0, 58, 2), lead(2))
                    .unwrap();
                assert!(again.duplicate && again.base_offset == 58, "{what}: {again:?}");
                assert_eq!(
                    append(&log, 1, 10).map(|info| info.base_offset).ok(),
                    None,
                    "{what}: epoch 0 is fenced"
                );
            }
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn damage_below_the_recovery_point_quarantines() {
    for clean in [true, false] {
        let (disk, _) = prepared(clean);
        let last = files(&disk)
            .into_iter()
            .rfind(|path| path.extension().is_some_and(|s| s == "log"))
            .unwrap();
        let good = disk.open(&last, false).unwrap().read_at(0, 1 << 20).unwrap();
        put(&disk, &last, &good[..good.len() - 1]);
        let (dir, _) = on(&disk, manual());
        let log = dir.log(id(0), "t", small()).unwrap();
        let error = log.read(0, 1, 60, true).unwrap_err();
        assert_eq!(error.code(), ErrorCode::KafkaStorageError);
        assert!(
            matches!(log.quarantined(), Some(LogError::Corrupt { .. })),
            "{error}"
        );
        assert!(append(&log, 1, 1).is_err() && log.truncate_to(0).is_err());
        let kept = disk.open(&last, false).unwrap().size().unwrap();
        assert_eq!(kept, good.len() as u64 - 1, "the bytes are kept");
        dir.delete_log(id(0)).unwrap();
        assert_eq!(dir.log(id(0), "t", small()).unwrap().log_end_offset(), 0);
    }
}

/// Batches 0 to 3 are in the checkpoint, 4 to 6 were flushed after it, 7 to 9 are only written.
#[test]
fn rot_is_a_torn_tail_only_above_what_was_flushed() {
    let disk = FaultStorage::default();
    let (dir, _) = on(&disk, manual());
    let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
    for n in 0..10 {
        append(&log, 1, 100).unwrap();
        match n {
            7.. => dir.write_round(),
            3 => {
                settle(&dir);
                dir.housekeep().unwrap();
            }
            _ => settle(&dir),
        }
    }
    let len = usize::try_from(log.size_bytes()).unwrap() / 10;
    let path = root().join(id(0).to_string()).join("00000000000000000000.log");
    let found = |rotten: usize| {
        let disk = disk.after_kill();
        disk.rot(&path, rotten * len + 100, 4);
        let (dir, _) = on(&disk, manual());
        let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
        (log.log_end_offset(), log.quarantined().is_some())
    };
    for torn in 7..10 {
        assert_eq!(found(torn), (i64::try_from(torn).unwrap(), false));
    }
    for flushed in 4..7 {
        assert!(found(flushed).1, "batch {flushed} had been acknowledged");
    }
    // A power cut leaves of the notes what it will: never more than was flushed.
    for seed in 0..50 {
        let (dir, _) = on(&disk.after_power_loss(seed), manual());
        let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
        assert!(log.quarantined().is_none() && log.log_end_offset() >= 7);
    }
}

#[test]
fn a_log_that_begins_anew_under_its_id_is_not_measured_by_the_old_one() {
    let disk = FaultStorage::default();
    let (dir, _) = on(&disk, manual());
    let other = dir.log(id(1), "t", LogConfig::default()).unwrap();
    for round in 0..3 {
        let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
        for _ in 0..10 - round {
            append(&log, 1, 100).unwrap();
            settle(&dir);
        }
        for cut in [7, 5, 3] {
            log.truncate_to(cut).unwrap();
            for seed in 0..10 {
                let (dir, _) = on(&disk.after_power_loss(seed), manual());
                let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
                assert!(
                    log.quarantined().is_none(),
                    "round {round}, cut {cut}, seed {seed}: {:?}",
                    log.quarantined()
                );
            }
        }
        dir.delete_log(id(0)).unwrap();
        let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
        append(&log, 1, 100).unwrap();
        dir.write_round();
        for seed in 0..20 {
            let (dir, _) = on(&disk.after_power_loss(seed), manual());
            let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
            assert!(log.quarantined().is_none(), "{:?}", log.quarantined());
        }
        log.truncate_fully_and_start_at(2).unwrap();
        dir.delete_log(id(0)).unwrap();
        // The disk's model knows files by their paths: first the old directory's name has to be gone for good.
        append(&other, 1, 1).unwrap();
        settle(&dir);
    }
}

#[test]
fn a_small_tmpfs_like_disk_with_threads() {
    let disk = FaultStorage::default();
    let (dir, ear) = on(
        &disk,
        LogDirConfig {
            threads: true,
            ..manual()
        },
    );
    let log = dir.log(id(0), "t", small()).unwrap();
    disk.set_capacity(8_000);
    wait_until("the disk is full", || append(&log, 1, 200).is_err());
    let end = log.log_end_offset();
    assert!(end > 10);
    disk.set_capacity(u64::MAX);
    wait_until("it takes appends again", || append(&log, 1, 200).is_ok());
    wait_until("all is durable", || ear.durable(id(0)) == log.log_end_offset());
    assert!(ear.0.lock().failures.is_empty());
    assert_eq!(
        read_all(&log, log.log_end_offset(), 1_000).len(),
        usize::try_from(log.log_end_offset()).unwrap()
    );
    dir.close(BrokerEpoch(1)).unwrap();
    dir.close(BrokerEpoch(1)).unwrap();
    assert!(append(&log, 1, 1).is_err());
}
