//! What replication and coordinators rest on: followers' appends, epochs, producers and transactions over restarts.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use strom_log::*;
use strom_records::{BatchBuilder, ControlMarker, MarkerKind};
use strom_types::{BrokerEpoch, ErrorCode, LeaderEpoch, ProducerEpoch, ProducerId};
use support::*;

fn at(offset: i64, epoch: i32, count: i64) -> Vec<u8> {
    let builder = BatchBuilder::new()
        .base_offset(offset)
        .leader_epoch(LeaderEpoch(epoch));
    fill_batch(builder, count, 30, 1_000, 1).to_vec()
}

#[test]
fn followers_take_only_what_fits() {
    let disk = FaultStorage::default();
    let (dir, _) = on(&disk, manual());
    let log = dir.log(id(0), "t", small()).unwrap();
    let append = |bytes: Vec<u8>, epoch| {
        log.append_as_follower(&bytes.into(), follow(epoch))
            .map_err(|e| e.code())
    };
    let ok = append([at(0, 1, 2), at(2, 1, 3), at(5, 3, 1)].concat(), 3).unwrap();
    assert_eq!((ok.base_offset, ok.last_offset), (0, 5));
    let cut = at(6, 3, 1)[..70].to_vec();
    for (bytes, epoch, want) in [
        (at(7, 3, 1), 3, ErrorCode::OffsetOutOfRange),
        (at(5, 3, 1), 3, ErrorCode::OffsetOutOfRange),
        (
            [at(6, 3, 1), at(8, 3, 1)].concat(),
            3,
            ErrorCode::OffsetOutOfRange,
        ),
        (at(6, 2, 1), 3, ErrorCode::FencedLeaderEpoch),
        (at(6, 4, 1), 3, ErrorCode::UnknownLeaderEpoch),
        (cut, 3, ErrorCode::CorruptMessage),
        (Vec::new(), 3, ErrorCode::CorruptMessage),
        (vec![0; 200], 3, ErrorCode::CorruptMessage),
    ] {
        assert_eq!(append(bytes, epoch).unwrap_err(), want);
        assert_eq!(log.log_end_offset(), 6, "all or nothing");
    }
    let entries = log.epoch_entries().unwrap();
    assert_eq!(entries, [(LeaderEpoch(1), 0), (LeaderEpoch(3), 5)]);
    // Unwritten bytes are there for followers of ours.
    assert_eq!(log.read(0, 10_000, 6, true).unwrap().next_offset, 6);
    assert_eq!(log.written_offset(), 0);
}

#[test]
fn epochs_outlive_restarts_and_follow_truncation() {
    let disk = FaultStorage::default();
    let (dir, _) = on(&disk, manual());
    let logs: Vec<_> = (0..3).map(|n| dir.log(id(n), "t", small()).unwrap()).collect();
    for log in &logs {
        log.append_as_leader(batch(10, 5, 1, 1), lead(1)).unwrap();
    }
    settle(&dir);
    let starts: Vec<_> = logs.iter().map(|log| (log.clone(), LeaderEpoch(4))).collect();
    let starts: Vec<_> = dir
        .assign_epoch_starts(&starts)
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(starts, [10, 10, 10]);
    assert_eq!(
        logs[0].assign_epoch_start(LeaderEpoch(3)).unwrap_err().code(),
        ErrorCode::FencedLeaderEpoch
    );
    assert_eq!(
        append(&logs[0], 1, 1).unwrap_err().code(),
        ErrorCode::FencedLeaderEpoch
    );
    drop(dir);
    let (dir, _) = on(&disk.after_power_loss(3), manual());
    for n in 0..3 {
        let log = dir.log(id(n), "t", small()).unwrap();
        assert_eq!(
            log.epoch_entries().unwrap(),
            [(LeaderEpoch(1), 0), (LeaderEpoch(4), 10)]
        );
        assert_eq!(
            log.end_offset_for_epoch(LeaderEpoch(3)).unwrap(),
            Some((LeaderEpoch(1), 10))
        );
        assert_eq!(log.end_offset_for_epoch(LeaderEpoch(5)).unwrap(), None);
        // Past the end it still cleans the epochs (KAFKA-10706).
        assert_eq!(log.truncate_to(10).unwrap(), 10);
        assert_eq!(log.latest_epoch(), LeaderEpoch(1));
        assert_eq!(
            log.truncate_to(3).unwrap(),
            0,
            "to the start of the batch that holds it"
        );
        assert_eq!(log.latest_epoch(), LeaderEpoch::NONE);
    }
}

#[test]
fn duplicates_are_known_after_restart_and_truncation() {
    for clean in [true, false] {
        let disk = FaultStorage::default();
        let (dir, _) = on(&disk, manual());
        let log = dir.log(id(0), "t", small()).unwrap();
        for i in 0..30 {
            let info = log
                .append_as_leader(producer_batch(5, 1, i * 2, 2), lead(0))
                .unwrap();
            assert_eq!((info.base_offset, info.duplicate), (i64::from(i) * 2, false));
        }
        settle(&dir);
        if clean {
            dir.close(BrokerEpoch(1)).unwrap();
        }
        drop(dir);
        let (dir, _) = on(&disk.after_kill(), manual());
        let log = dir.log(id(0), "t", small()).unwrap();
        for back in 1..=5 {
            let info = log
                .append_as_leader(producer_batch(5, 1, 60 - back * 2, 2), lead(0))
                .unwrap();
            assert_eq!(
                (info.base_offset, info.duplicate),
                (60 - i64::from(back) * 2, true)
            );
        }
        let code = |sequence, epoch| {
            log.append_as_leader(producer_batch(5, epoch, sequence, 2), lead(0))
                .unwrap_err()
                .code()
        };
        assert_eq!(
            code(48, 1),
            ErrorCode::OutOfOrderSequenceNumber,
            "the sixth is forgotten"
        );
        assert_eq!(code(62, 1), ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(code(60, 0), ErrorCode::InvalidProducerEpoch);
        // After a truncation the producer stands where the log does.
        assert_eq!(log.truncate_to(41).unwrap(), 40);
        assert_eq!(log.producer_states().unwrap()[0].last_sequence, 39);
        assert!(
            log.append_as_leader(producer_batch(5, 1, 36, 2), lead(0))
                .unwrap()
                .duplicate
        );
        let info = log
            .append_as_leader(producer_batch(5, 1, 40, 2), lead(0))
            .unwrap();
        assert_eq!((info.base_offset, info.duplicate), (40, false));
        settle(&dir);
        assert_eq!(read_all(&log, 42, 100).len(), 21);
    }
}

#[test]
fn aborted_transactions_are_listed() {
    let txn = |id: i64, sequence| {
        let builder = BatchBuilder::new()
            .producer(ProducerId(id), ProducerEpoch(0), sequence)
            .transactional(true);
        fill_batch(builder, 2, 100, 1_000, 1)
    };
    let marker = |id, kind| {
        let marker = ControlMarker {
            kind,
            coordinator_epoch: 0,
        };
        marker.build(ProducerId(id), ProducerEpoch(0), 1_000).unwrap()
    };
    for (clean, damaged) in [(true, false), (false, false), (true, true)] {
        let disk = FaultStorage::default();
        let (dir, _) = on(&disk, manual());
        let log = dir.log(id(0), "t", small()).unwrap();
        let append = |log: &Log, batch| log.append_as_leader(batch, lead(0)).unwrap().base_offset;
        let mut aborted = Vec::new();
        for round in 0..8 {
            let first = append(&log, txn(1, round * 2));
            append(&log, txn(2, round * 2));
            assert_eq!(log.last_stable_offset_bound(first).unwrap(), Some(first));
            let marker_at = append(&log, marker(1, MarkerKind::Abort));
            append(&log, marker(2, MarkerKind::Commit));
            aborted.push((1, first, marker_at));
            settle(&dir);
        }
        let open = append(&log, txn(3, 0));
        settle(&dir);
        let list = |log: &Log, from, to| -> Vec<_> {
            let found = log.aborted_transactions(from, to).unwrap().into_iter();
            found
                .map(|txn| (txn.producer_id.get(), txn.first_offset, txn.last_offset))
                .collect()
        };
        let check = |log: &Log| {
            assert_eq!(list(log, 0, open), aborted, "clean {clean}, damaged {damaged}");
            let (_, first, last) = aborted[3];
            assert_eq!(list(log, last, last + 1), [aborted[3]], "the marker alone");
            assert_eq!(list(log, first, first + 1), [aborted[3]]);
            assert_eq!(list(log, last + 1, last + 2), []);
            assert_eq!(log.last_stable_offset_bound(open + 2).unwrap(), Some(open));
        };
        check(&log);
        if clean {
            dir.close(BrokerEpoch(1)).unwrap();
        }
        drop(dir);
        let disk = disk.after_kill();
        if damaged {
            let path = root()
                .join(id(0).to_string())
                .join("00000000000000000000.txnindex");
            disk.rot(&path, 20, 0xff);
        }
        let (dir, _) = on(&disk, manual());
        check(&dir.log(id(0), "t", small()).unwrap());
    }
}

#[test]
fn a_log_begun_anew_is_not_measured_by_what_the_checkpoint_says_of_the_old_one() {
    let disk = FaultStorage::default();
    let (dir, _) = on(&disk, manual());
    let old = dir.log(id(1), "t", LogConfig::default()).unwrap();
    for _ in 0..10 {
        append(&old, 1, 100).unwrap();
    }
    settle(&dir);
    dir.housekeep().unwrap();
    dir.set_aside(&[id(1)], Duration::from_secs(60)).unwrap();
    let new = dir.log(id(1), "t", LogConfig::default()).unwrap();
    append(&new, 1, 100).unwrap();
    settle(&dir);
    assert_eq!(new.durable_offset(), 1);
    for seed in 0..50 {
        let (dir, _) = on(&disk.after_power_loss(seed), manual());
        let log = dir.log(id(1), "t", LogConfig::default()).unwrap();
        assert!(log.quarantined().is_none(), "{:?}", log.quarantined());
        assert_eq!(log.log_end_offset(), 1);
    }
}
