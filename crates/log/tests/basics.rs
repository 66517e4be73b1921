//! Appending, reading, rolling, restarting and deleting on a healthy disk.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use strom_log::*;
use strom_types::{BrokerEpoch, LeaderEpoch, WallMs};
use support::*;

#[test]
fn append_read_restart() {
    let tmp = tempfile::tempdir().unwrap();
    let ear = Arc::new(Ear::default());
    let config = LogDirConfig {
        threads: true,
        ..manual()
    };
    let dir = LogDir::open(tmp.path(), config.clone(), ear.clone()).unwrap();
    let log = dir.log(id(0), "topic", small()).unwrap();
    let mut total = 0;
    for i in 0..100 {
        let info = append(&log, 1 + i % 3, 50).unwrap();
        assert_eq!(info.base_offset, total);
        total = info.last_offset + 1;
    }
    assert_eq!(log.log_end_offset(), total);
    wait_until("all is durable", || ear.durable(id(0)) == total);
    assert_eq!(log.durable_offset(), total);
    let before = read_all(&log, total, 300);
    assert_eq!(before.len(), 100);
    let size = log.size_bytes();
    dir.close(BrokerEpoch(7)).unwrap();

    let dir = LogDir::open(tmp.path(), config, ear).unwrap();
    assert_eq!(dir.clean_shutdown_epoch(), Some(BrokerEpoch(7)));
    assert_eq!(dir.partitions(), [(id(0), Some("topic".into()))]);
    let log = dir.log(id(0), "topic", small()).unwrap();
    assert_eq!(
        (log.log_end_offset(), log.durable_offset(), log.size_bytes()),
        (total, total, size)
    );
    assert_eq!(log.latest_epoch(), LeaderEpoch(0));
    for max_bytes in [1, 150, 10_000] {
        assert_eq!(read_all(&log, total, max_bytes), before);
    }
    assert_eq!(append(&log, 1, 10).unwrap().base_offset, total);
}

#[test]
fn reads_obey_bounds() {
    let disk = FaultStorage::default();
    let (dir, _) = on(
        &disk,
        LogDirConfig {
            tail_cache_bytes_max: 0,
            ..manual()
        },
    );
    let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
    for _ in 0..10 {
        append(&log, 10, 20).unwrap();
    }
    let check = || {
        let len = log.read(0, 1, 100, true).unwrap().records.len();
        let shape = |from, max, bound, min_one| {
            let chunk = log.read(from, max, bound, min_one).unwrap();
            (chunk.base_offset, chunk.next_offset, chunk.records.len() / len)
        };
        assert_eq!(shape(0, 1, 100, true), (0, 10, 1), "one batch however large");
        assert_eq!(shape(0, 1, 100, false), (0, 0, 0), "unless not wanted");
        assert_eq!(shape(15, 2 * len, 100, true), (10, 30, 2), "from inside a batch");
        assert_eq!(
            shape(15, 3 * len - 1, 100, true),
            (10, 30, 2),
            "whole batches only"
        );
        assert_eq!(shape(0, 99 * len, 35, true), (0, 30, 3), "not past the bound");
        assert_eq!(shape(0, 99 * len, 9, true), (0, 0, 0), "not even one");
        assert_eq!(shape(95, 99 * len, 1_000, true), (90, 100, 1));
        assert_eq!(shape(100, 99 * len, 1_000, true), (100, 100, 0), "at the end");
        for outside in [-1, 101] {
            let error = log.read(outside, 1, 100, true).unwrap_err();
            assert!(matches!(
                error,
                ReadError::OffsetOutOfRange {
                    log_start: 0,
                    log_end: 100,
                    ..
                }
            ));
        }
    };
    check();
    assert!(
        log.read_tail(35, 1_000, 100, true)
            .unwrap()
            .is_some_and(|tail| tail.base_offset == 30)
    );
    settle(&dir);
    assert!(
        log.read_tail(0, 1_000, 100, true).unwrap().is_none(),
        "no longer in memory"
    );
    check();
}

#[test]
fn a_log_costs_nothing_before_its_first_append() {
    let disk = FaultStorage::default();
    let (dir, _) = on(&disk, manual());
    let before = disk.operations();
    for n in 0..1_000 {
        let log = dir.log(id(n), "t", LogConfig::default()).unwrap();
        assert_eq!(log.assign_epoch_start(LeaderEpoch(3)).unwrap(), 0);
        assert_eq!(
            log.end_offset_for_epoch(LeaderEpoch(3)).unwrap(),
            Some((LeaderEpoch(3), 0))
        );
    }
    settle(&dir);
    assert_eq!(disk.operations(), before);
    assert!(std::mem::size_of::<Log>() < 900, "{}", std::mem::size_of::<Log>());
}

#[test]
fn one_process_per_directory() {
    let tmp = tempfile::tempdir().unwrap();
    let open = |config| LogDir::open(tmp.path(), config, Arc::new(Ear::default()));
    let first = open(manual()).unwrap();
    let error = open(manual()).map(drop).unwrap_err();
    assert!(matches!(error, LogError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    let directory_id = first.directory_id();
    drop(first);
    let error = open(LogDirConfig {
        node_id: 2,
        ..manual()
    })
    .map(drop)
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("node.id is 1, but this process was told 2"),
        "{error}"
    );
    let other = Some("c2".to_owned());
    let error = open(LogDirConfig {
        cluster_id: other,
        ..manual()
    })
    .map(drop)
    .unwrap_err();
    assert!(error.to_string().contains("cluster.id is c1"), "{error}");
    let dir = open(LogDirConfig {
        cluster_id: None,
        ..manual()
    })
    .unwrap();
    assert_eq!(dir.directory_id(), directory_id);
    assert!(dir.registered("c2", BrokerEpoch(1)).is_err());
    dir.registered("c1", BrokerEpoch(1)).unwrap();
}

#[test]
fn segments_roll_by_time_and_size() {
    let disk = FaultStorage::default();
    let (dir, _) = on(&disk, manual());
    let config = LogConfig {
        segment_ms: 100,
        ..small()
    };
    let log = dir.log(id(0), "t", config).unwrap();
    for timestamp in [1_000, 1_050, 1_100, 1_101, 1_150, 1_300] {
        log.append_as_leader(batch(1, 10, timestamp, 1), lead(0)).unwrap();
    }
    assert_eq!(
        append(&log, 1, 2_000).unwrap_err().code(),
        strom_types::ErrorCode::RecordListTooLarge
    );
    settle(&dir);
    let names = |suffix: &str| -> Vec<i64> {
        let dir = root().join(id(0).to_string());
        let names = Storage::list(&disk, &dir)
            .unwrap()
            .into_iter()
            .map(|entry| entry.name);
        names
            .filter_map(|name| name.strip_suffix(suffix)?.parse().ok())
            .collect()
    };
    assert_eq!(names(".log"), [0, 3, 5]);
    assert_eq!(names(".snapshot"), [3, 5]);
    assert_eq!(names(".timeindex"), [0, 3]);
    // Deleting records removes whole segments, never the active one.
    assert_eq!(log.set_log_start_offset(4).unwrap(), 4);
    assert_eq!(names(".log"), [3, 5]);
    assert_eq!(log.set_log_start_offset(6).unwrap(), 6);
    assert_eq!(names(".log"), [5]);
    assert!(log.set_log_start_offset(7).is_err());
    assert_eq!(log.set_log_start_offset(2).unwrap(), 6);
    let (dir, _) = {
        drop(dir);
        on(&disk.after_kill(), manual())
    };
    assert_eq!(dir.log(id(0), "t", config).unwrap().log_start_offset(), 6);
}

#[test]
fn timestamps() {
    let disk = FaultStorage::default();
    let (dir, _) = on(&disk, manual());
    let log = dir
        .log(
            id(0),
            "t",
            LogConfig {
                segment_bytes: 400,
                ..small()
            },
        )
        .unwrap();
    // Batches of three records, 1 ms apart; the seventh is the youngest.
    for timestamp in [100, 110, 105, 130, 140, 135, 900, 150, 160, 170] {
        log.append_as_leader(batch(3, 20, timestamp, 1), lead(0)).unwrap();
    }
    let check = |log: &Log| {
        for (asked, want) in [
            (0, Some((100, 0))),
            (101, Some((101, 1))),
            (103, Some((110, 3))),
            (113, Some((130, 9))),
            (136, Some((140, 12))),
            (143, Some((900, 18))),
            (902, Some((902, 20))),
            (903, None),
        ] {
            assert_eq!(log.offset_for_timestamp(asked, 30).unwrap(), want, "at {asked}");
        }
        assert_eq!(
            log.offset_for_timestamp(143, 18).unwrap(),
            None,
            "below the bound only"
        );
        assert_eq!(log.max_timestamp_offset(30).unwrap(), Some((902, 20)));
        assert_eq!(log.max_timestamp_offset(18).unwrap(), Some((142, 14)));
        assert_eq!(log.max_timestamp_offset(0).unwrap(), None);
    };
    check(&log);
    settle(&dir);
    check(&log);
    dir.close(BrokerEpoch(1)).unwrap();
    let (dir, _) = on(&disk, manual());
    check(&dir.log(id(0), "t", small()).unwrap());
}

#[test]
fn log_append_time() {
    let disk = FaultStorage::default();
    let (dir, _) = on(&disk, manual());
    let log = dir.log(id(0), "t", LogConfig::default()).unwrap();
    let by = LeaderAppend {
        log_append_time: true,
        now: WallMs(77),
        ..lead(4)
    };
    // In its own buffer, in a shared one, and too large to copy.
    for size in [10, 20_000] {
        let mine = batch(2, size, 1, 1);
        let shared = bytes::Bytes::from([&mine[..], b"more"].concat());
        for bytes in [mine.clone(), shared.slice(..mine.len())] {
            drop(mine.clone());
            let info = log.append_as_leader(bytes, by).unwrap();
            assert_eq!(info.log_append_time, Some(WallMs(77)));
        }
    }
    settle(&dir);
    for (_, _, bytes) in read_all(&log, 8, 1) {
        let header = strom_records::BatchHeader::parse(&bytes).unwrap();
        assert_eq!(
            (header.max_timestamp, header.partition_leader_epoch),
            (77, LeaderEpoch(4))
        );
        assert_eq!(
            header.timestamp_type(),
            strom_records::TimestampType::LogAppendTime
        );
    }
}

#[test]
fn deletion_is_complete() {
    let tmp = tempfile::tempdir().unwrap();
    let ear = Arc::new(Ear::default());
    let dir = LogDir::open(
        tmp.path(),
        LogDirConfig {
            threads: true,
            ..manual()
        },
        ear.clone(),
    )
    .unwrap();
    let log = dir.log(id(0), "t", small()).unwrap();
    append(&log, 1, 10).unwrap();
    wait_until("it is durable", || ear.durable(id(0)) == 1);
    append(&log, 1, 10).unwrap();
    dir.delete_log(id(0)).unwrap();
    assert!(matches!(
        append(&log, 1, 10),
        Err(AppendError::Log(LogError::Deleted(_)))
    ));
    assert!(log.read(0, 1, 1, true).is_err());
    wait_until("the files are gone", || {
        !std::fs::read_dir(tmp.path())
            .unwrap()
            .any(|e| e.unwrap().file_type().unwrap().is_dir())
    });
    assert_eq!((dir.partitions().len(), dir.queued_bytes()), (0, 0));
    let again = dir.log(id(0), "t", small()).unwrap();
    assert_eq!(append(&again, 1, 10).unwrap().base_offset, 0);
    dir.delete_log(id(5)).unwrap();
}
