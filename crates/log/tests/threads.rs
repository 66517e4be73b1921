//! Many threads on a real disk: appenders, readers, truncation, deletion and checkpoints at once.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strom_log::*;
use strom_records::BatchIter;
use strom_types::{BrokerEpoch, Offset};
use support::*;

/// Follows the log from its start and checks that offsets and CRCs are right; gives the number of batches.
fn follow_log(log: &Log, stop: &AtomicBool) -> usize {
    let (mut from, mut batches) = (0, 0);
    loop {
        let done = stop.load(Ordering::Acquire);
        let chunk = log.read(from, 50_000, Offset::MAX, true).unwrap();
        if chunk.records.is_empty() && done && from == log.log_end_offset() {
            return batches;
        }
        for batch in BatchIter::new(chunk.records) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            assert_eq!(batch.header.base_offset, from);
            from = batch.header.next_offset();
            batches += 1;
        }
    }
}

#[test]
fn appenders_and_readers() {
    let tmp = tempfile::tempdir().unwrap();
    let ear = Arc::new(Ear::default());
    let config = LogDirConfig {
        threads: true,
        checkpoint_interval_ms: 20,
        tail_cache_bytes_max: 20_000,
        open_files_max: 5,
        queue_bytes_max: 1 << 20,
        ..manual()
    };
    let dir = LogDir::open(tmp.path(), config.clone(), ear.clone()).unwrap();
    let segments = LogConfig {
        segment_bytes: 20_000,
        ..small()
    };
    let logs: Vec<_> = (0..12).map(|n| dir.log(id(n), "t", segments).unwrap()).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let readers: Vec<_> = logs
            .iter()
            .map(|log| scope.spawn(move || follow_log(log, stop)))
            .collect();
        let writers: Vec<_> = logs
            .chunks(3)
            .map(|logs| {
                scope.spawn(move || {
                    for i in 0..300 {
                        for log in logs {
                            while append(log, 1 + i % 4, 200).is_err() {
                                std::thread::yield_now();
                            }
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        stop.store(true, Ordering::Release);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 300);
        }
    });
    for log in &logs {
        wait_until("all is durable", || ear.durable(log.id()) == log.log_end_offset());
    }
    let ends: Vec<_> = logs.iter().map(|log| log.log_end_offset()).collect();
    dir.close(BrokerEpoch(1)).unwrap();
    let dir = LogDir::open(tmp.path(), config, ear).unwrap();
    for (n, end) in (0..12).zip(ends) {
        let log = dir.log(id(n), "t", segments).unwrap();
        assert_eq!(
            (log.log_end_offset(), read_all(&log, end, 7_000).len()),
            (end, 300)
        );
    }
}

#[test]
fn truncation_and_deletion_beside_the_writer() {
    let tmp = tempfile::tempdir().unwrap();
    let ear = Arc::new(Ear::default());
    let config = LogDirConfig {
        threads: true,
        checkpoint_interval_ms: 20,
        ..manual()
    };
    let dir = LogDir::open(tmp.path(), config.clone(), ear.clone()).unwrap();
    let (log, busy) = (
        dir.log(id(0), "t", small()).unwrap(),
        dir.log(id(1), "t", small()).unwrap(),
    );
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for _ in 0..2_000 {
                let (start, end) = (log.log_start_offset(), log.log_end_offset());
                // What is read while the log is cut may end early or be out of range, but is whole.
                if let Ok(chunk) = log.read((start + end) / 2, 700, Offset::MAX, true) {
                    BatchIter::new(chunk.records).for_each(|batch| batch.unwrap().verify_crc().unwrap());
                }
                assert!(log.quarantined().is_none(), "{:?}", log.quarantined());
            }
        });
        for n in 0..30 {
            for _ in 0..5 {
                append(&log, 2, 150).unwrap();
                append(&busy, 1, 50).unwrap();
            }
            if n % 7 == 0 {
                let start = log.durable_offset().min(log.log_end_offset() - 6);
                log.set_log_start_offset(start.max(log.log_start_offset()))
                    .unwrap();
            }
            let to = (log.log_end_offset() - 3).max(log.log_start_offset() + 1);
            log.truncate_to(to).unwrap();
            if n % 10 == 0 {
                let other = dir.log(id(2), "t", small()).unwrap();
                append(&other, 1, 10).unwrap();
                dir.delete_log(id(2)).unwrap();
            }
        }
        reader.join().unwrap();
    });
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    wait_until("all is durable", || {
        log.durable_offset() == end && busy.durable_offset() == busy.log_end_offset()
    });
    let all = read_all(&log, end, 1_000);
    assert!(dir.failure().is_none());
    drop(dir);
    let dir = LogDir::open(tmp.path(), config, ear).unwrap();
    let log = dir.log(id(0), "t", small()).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (start, end));
    assert_eq!(read_all(&log, end, 1_000), all);
}

#[test]
fn the_reserve_holds_however_fast_a_disk_fills() {
    const RESERVE: u64 = 64 * 1024;
    let disk = FaultStorage::default();
    disk.set_capacity(RESERVE + 30_000);
    let config = LogDirConfig {
        threads: true,
        disk_reserve_bytes: RESERVE,
        ..manual()
    };
    let (dir, _) = on(&disk, config);
    let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
    let refused = (0..1_000).find_map(|_| {
        let refused = append(&log, 1, 1_000).err();
        let end = log.log_end_offset();
        wait_until("the append is durable", || log.durable_offset() == end);
        refused
    });
    assert!(matches!(refused, Some(AppendError::DiskFull)), "{refused:?}");
    let left = disk.available_bytes().unwrap();
    assert!(left > RESERVE - 8 * 1024, "{left} of {RESERVE} bytes are left");
}
