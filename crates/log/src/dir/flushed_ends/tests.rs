//! Notes survive kills whole, power cuts as far as they may, and never speak of another log.

use super::*;
use crate::FaultStorage;

fn id(n: u8) -> TopicIdPartition {
    TopicIdPartition::new(TopicId::from_bytes([n; 16]), i32::from(n))
}

fn on(disk: &FaultStorage, ids: impl IntoIterator<Item = u8>) -> FlushedEnds {
    let on_disk = ids.into_iter().map(|n| (id(n), None)).collect();
    disk.create_dir(Path::new("/data")).unwrap();
    FlushedEnds::open(disk, Path::new("/data"), &on_disk).unwrap()
}

fn size(disk: &FaultStorage) -> u64 {
    disk.open(&Path::new("/data").join(FILE), false)
        .unwrap()
        .size()
        .unwrap()
}

#[test]
fn notes_are_read_back_and_damaged_ones_are_not_there() {
    let disk = FaultStorage::default();
    let ends = on(&disk, []);
    for n in 1..=100 {
        ends.note(id(n), i64::from(n) * 10);
    }
    ends.note(id(7), 77);
    ends.write();
    let after = on(&disk.after_kill(), 1..=100);
    assert_eq!(
        (after.end_of(id(7)), after.end_of(id(100))),
        (Some(77), Some(1000))
    );
    for byte in 0..SLOT_BYTES {
        let disk = disk.after_kill();
        disk.rot(&Path::new("/data").join(FILE), 2 * SLOT_BYTES + byte, 1);
        let ends = on(&disk, 1..=100);
        assert_eq!((ends.end_of(id(3)), ends.end_of(id(4))), (None, Some(40)));
    }
    assert_eq!(
        on(&disk, [1]).end_of(id(2)),
        Some(0),
        "a log that is gone has no note"
    );
}

#[test]
fn what_was_lowered_stays_so_over_any_power_cut() {
    let disk = FaultStorage::default();
    let ends = on(&disk, []);
    disk.sync_all().unwrap();
    for n in 1..=3 {
        ends.note(id(n), 100);
    }
    ends.write();
    ends.lower(id(1), 40).unwrap();
    ends.lower(id(2), 200).unwrap();
    ends.forget(id(3));
    ends.begin(id(3)).unwrap();
    // Not written yet, or not synced.
    ends.note(id(1), 60);
    ends.write();
    ends.note(id(3), 5);
    for seed in 0..50 {
        let after = on(&disk.after_power_loss(seed), 1..=3);
        assert!([None, Some(40), Some(60)].contains(&after.end_of(id(1))));
        assert_eq!(after.end_of(id(2)), Some(100));
        assert!([None, Some(0)].contains(&after.end_of(id(3))), "{seed}");
    }
}

#[test]
fn slots_of_deleted_logs_are_used_again_once_that_is_synced() {
    let disk = FaultStorage::default();
    let ends = on(&disk, []);
    for n in 1..=10 {
        ends.note(id(n), 1);
        ends.write();
        ends.forget(id(n));
    }
    assert_eq!(size(&disk), 10 * SLOT_BYTES as u64);
    let emptied = ends.emptied();
    ends.note(id(3), 33);
    ends.reuse(emptied);
    for n in 21..=29 {
        ends.note(id(n), 2);
    }
    ends.write();
    assert_eq!(size(&disk), 10 * SLOT_BYTES as u64);
    assert_eq!((ends.end_of(id(3)), ends.end_of(id(21))), (Some(33), Some(2)));
    assert_eq!(ends.end_of(id(4)), None);
}
