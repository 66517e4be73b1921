//! The write-ahead log: what it makes durable, what it must not bring back, and that its room comes back.
#![allow(clippy::unwrap_used)]

mod support;

use strom_log::*;
use strom_types::BrokerEpoch;
use support::*;

/// A directory whose write-ahead log has a file already, and a log with one durable batch in its segment.
fn prepared(disk: &FaultStorage) -> (LogDir, std::sync::Arc<Log>) {
    let (dir, _) = on(disk, with_wal());
    let log = dir.log(id(0), "orders", LogConfig::default()).unwrap();
    append(&log, 1, 10).unwrap();
    settle(&dir);
    assert_eq!(log.durable_offset(), 1);
    (dir, log)
}

fn reopened(disk: &FaultStorage) -> (LogDir, std::sync::Arc<Log>) {
    let (dir, _) = on(disk, with_wal());
    let log = dir.log(id(0), "orders", LogConfig::default()).unwrap();
    assert!(log.quarantined().is_none(), "{:?}", log.quarantined());
    (dir, log)
}

#[test]
fn a_small_append_is_durable_after_the_round_that_wrote_it() {
    let disk = FaultStorage::default();
    let (dir, log) = prepared(&disk);
    append(&log, 2, 10).unwrap();
    dir.write_round();
    assert_eq!(log.durable_offset(), 3);
    for seed in 0..20 {
        let (_dir, log) = reopened(&disk.after_power_loss(seed));
        assert_eq!(log.log_end_offset(), 3);
        read_all(&log, 3, 1_000);
    }
}

#[test]
fn a_log_that_only_the_write_ahead_log_knows_is_found() {
    let disk = FaultStorage::default();
    let (dir, _log) = prepared(&disk);
    let young = dir.log(id(7), "young", LogConfig::default()).unwrap();
    append(&young, 4, 10).unwrap();
    dir.write_round();
    assert_eq!(young.durable_offset(), 4);
    for seed in 0..20 {
        let (dir, _) = on(&disk.after_power_loss(seed), with_wal());
        assert!(dir.partitions().contains(&(id(7), Some("young".into()))));
        let young = dir.log(id(7), "young", LogConfig::default()).unwrap();
        assert_eq!(young.log_end_offset(), 4);
    }
}

#[test]
fn a_deleted_log_does_not_come_back() {
    let disk = FaultStorage::default();
    let (dir, log) = prepared(&disk);
    append(&log, 2, 10).unwrap();
    dir.write_round();
    dir.delete_log(id(0)).unwrap();
    // The rename is on the disk once the next flush has synced the directory.
    let other = dir.log(id(1), "other", LogConfig::default()).unwrap();
    append(&other, 1, 40_000).unwrap();
    settle(&dir);
    for seed in 0..20 {
        let (dir, _) = on(&disk.after_power_loss(seed), with_wal());
        assert!(dir.partitions().iter().all(|(log, _)| *log != id(0)));
    }
}

#[test]
fn what_only_an_entry_vouches_for_outlives_the_removal_of_old_segments() {
    let disk = FaultStorage::default();
    let (dir, _) = on(&disk, with_wal());
    let log = dir.log(id(0), "orders", small()).unwrap();
    for _ in 0..9 {
        append(&log, 1, 400).unwrap();
        settle(&dir);
    }
    append(&log, 1, 10).unwrap();
    dir.write_round();
    assert_eq!(log.durable_offset(), 10);
    assert!(log.delete_segments_before(8).unwrap() > 0);
    for seed in 0..20 {
        let (dir, _) = on(&disk.after_power_loss(seed), with_wal());
        let log = dir.log(id(0), "orders", small()).unwrap();
        assert!(log.quarantined().is_none(), "{:?}", log.quarantined());
        assert_eq!(log.log_end_offset(), 10);
    }
}

#[test]
fn room_comes_back_and_rounds_without_room_are_synced_in_the_segments() {
    let disk = FaultStorage::default();
    let (dir, log) = prepared(&disk);
    let mut unassisted = 0;
    for n in 0..300 {
        append(&log, 1, 3_000).unwrap();
        dir.write_round();
        unassisted += u32::from(log.durable_offset() < log.log_end_offset());
        dir.flush_round();
        assert_eq!(log.durable_offset(), log.log_end_offset(), "round {n}");
    }
    assert!(unassisted < 30, "{unassisted} of 300 rounds found no room");
    let files = disk.list(&root().join("wal")).unwrap().len();
    assert!(files <= 4, "{files} files");
    let (_dir, log) = reopened(&disk.after_power_loss(5));
    assert_eq!(log.log_end_offset(), 301);
}

#[test]
fn a_round_too_large_for_an_entry_goes_to_the_segments() {
    let disk = FaultStorage::default();
    let (dir, log) = prepared(&disk);
    append(&log, 1, 40_000).unwrap();
    dir.write_round();
    assert_eq!(log.durable_offset(), 1);
    dir.flush_round();
    assert_eq!(log.durable_offset(), 2);
}

#[test]
fn a_log_that_waited_for_space_is_durable_once_there_is_some() {
    let disk = FaultStorage::default();
    let (dir, log) = prepared(&disk);
    disk.set_capacity(disk.used_bytes());
    append(&log, 1, 10).unwrap();
    dir.write_round();
    assert_eq!(log.durable_offset(), 1);
    append(&log, 1, 10).unwrap_err();
    disk.set_capacity(u64::MAX);
    settle(&dir);
    assert_eq!(log.durable_offset(), 2);
    dir.housekeep().unwrap();
    append(&log, 1, 10).unwrap();
    dir.write_round();
    assert_eq!(log.durable_offset(), 3);
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay() {
    let disk = FaultStorage::default();
    let (dir, log) = prepared(&disk);
    append(&log, 2, 10).unwrap();
    dir.write_round();
    dir.close(BrokerEpoch(3)).unwrap();
    assert!(disk.list(&root().join("wal")).is_err());
    let (dir, log) = reopened(&disk.after_kill());
    assert_eq!(dir.clean_shutdown_epoch(), Some(BrokerEpoch(3)));
    assert_eq!(log.log_end_offset(), 3);
}

#[test]
fn a_failed_sync_of_an_entry_kills_the_directory() {
    let disk = FaultStorage::default();
    let (dir, log) = prepared(&disk);
    append(&log, 2, 10).unwrap();
    disk.fail_syncs();
    dir.write_round();
    assert!(dir.failure().is_some());
    assert_eq!(log.durable_offset(), 1);
    assert!(append(&log, 1, 10).is_err());
}

#[test]
fn a_log_made_again_under_its_id_is_not_mixed_with_the_deleted_one() {
    let disk = FaultStorage::default();
    let (dir, log) = prepared(&disk);
    append(&log, 7, 90).unwrap();
    settle(&dir);
    dir.delete_log(id(0)).unwrap();
    let again = dir.log(id(0), "orders", LogConfig::default()).unwrap();
    append(&again, 2, 10).unwrap();
    dir.write_round();
    assert_eq!(again.durable_offset(), 2);
    for seed in 0..40 {
        let (_dir, log) = reopened(&disk.after_power_loss(seed));
        assert_eq!(log.log_end_offset(), 2);
        read_all(&log, 2, 1_000);
    }
}
