//! Tables of idempotence (gotchas 24 to 26 of the protocol notes) and of open transactions.

use strom_records::{Attributes, MarkerKind};
use strom_types::LeaderEpoch;

use super::*;

const DAY_MS: i64 = 24 * 3_600_000;

fn header(id: i64, epoch: i16, sequence: i32, count: i32, base_offset: Offset) -> BatchHeader {
    BatchHeader {
        base_offset,
        batch_length: 49,
        partition_leader_epoch: LeaderEpoch(0),
        magic: 2,
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: sequence,
        record_count: count,
    }
}

/// ((epoch, first sequence, records), (offset, whether a duplicate) or the error).
type Step = ((i16, i32, i32), Result<(Offset, bool), ErrorCode>);

/// Offset of the append, or of the first time, or the error's code.
fn append(
    producers: &mut Producers,
    at: &mut Offset,
    batch: (i16, i32, i32),
) -> Result<(Offset, bool), ErrorCode> {
    let (epoch, sequence, count) = batch;
    let header = header(7, epoch, sequence, count, *at);
    match producers
        .check(&header, None, WallMs(0), DAY_MS)
        .map_err(|e| e.code())?
    {
        Verdict::Duplicate(meta) => Ok((meta.base_offset(), true)),
        Verdict::Append => {
            producers.apply(&header, None, 0);
            *at += i64::from(count);
            Ok((header.base_offset, false))
        }
    }
}

#[test]
fn idempotence() {
    use ErrorCode::{InvalidProducerEpoch, OutOfOrderSequenceNumber};
    let (mut producers, mut at) = (Producers::default(), 0);
    let steps: &[Step] = &[
        // An unknown producer may start anywhere.
        ((3, 40, 2), Ok((0, false))),
        ((3, 40, 2), Ok((0, true))),
        // Part of it, or other bounds, is no duplicate.
        ((3, 40, 1), Err(OutOfOrderSequenceNumber)),
        ((3, 41, 1), Err(OutOfOrderSequenceNumber)),
        ((3, 43, 1), Err(OutOfOrderSequenceNumber)),
        ((3, 42, 1), Ok((2, false))),
        ((3, 43, 1), Ok((3, false))),
        ((3, 44, 1), Ok((4, false))),
        ((3, 45, 1), Ok((5, false))),
        ((3, 40, 2), Ok((0, true))),
        // The sixth pushes the first out.
        ((3, 46, 1), Ok((6, false))),
        ((3, 40, 2), Err(OutOfOrderSequenceNumber)),
        ((3, 42, 1), Ok((2, true))),
        ((2, 47, 1), Err(InvalidProducerEpoch)),
        // A new epoch starts at 0.
        ((4, 47, 1), Err(OutOfOrderSequenceNumber)),
        ((4, 0, 1), Ok((7, false))),
        ((3, 47, 1), Err(InvalidProducerEpoch)),
        ((4, 46, 1), Err(OutOfOrderSequenceNumber)),
    ];
    for (i, (batch, want)) in steps.iter().enumerate() {
        assert_eq!(
            append(&mut producers, &mut at, *batch),
            *want,
            "step {i}: {batch:?}"
        );
        producers = decode_snapshot(&encode_snapshot(&producers, 3))
            .unwrap_or_default()
            .0;
    }
}

#[test]
fn sequences_wrap() {
    let (mut producers, mut at) = (Producers::default(), 0);
    assert_eq!(
        append(&mut producers, &mut at, (0, i32::MAX - 1, 2)),
        Ok((0, false))
    );
    assert_eq!(append(&mut producers, &mut at, (0, 0, 1)), Ok((2, false)));
    // Inside a batch too.
    let (mut producers, mut at) = (Producers::default(), 0);
    assert_eq!(append(&mut producers, &mut at, (0, i32::MAX, 3)), Ok((0, false)));
    assert_eq!(append(&mut producers, &mut at, (0, 2, 1)), Ok((3, false)));
    assert_eq!(append(&mut producers, &mut at, (0, i32::MAX, 3)), Ok((0, true)));
}

#[test]
fn expired_producers_may_continue_anywhere() {
    let mut producers = Producers::default();
    producers.apply(&header(7, 0, 0, 1, 0), None, 1_000);
    let late = header(7, 0, 9, 1, 1);
    let check = |producers: &mut Producers, now| producers.check(&late, None, WallMs(now), DAY_MS);
    assert!(check(&mut producers, 1_000 + DAY_MS - 1).is_err());
    assert_eq!(
        check(&mut producers, 1_000 + DAY_MS + 60_000),
        Ok(Verdict::Append)
    );
}

#[test]
fn transactions() {
    let mut producers = Producers::default();
    let marker = |kind, coordinator_epoch| ControlMarker {
        kind,
        coordinator_epoch,
    };
    let data = |id, at| {
        let mut data = header(id, 0, 0, 2, at);
        data.attributes = data.attributes.with_transactional(true);
        data
    };
    let control = |id, at| {
        let mut control = header(id, 0, -1, 1, at);
        control.attributes = control.attributes.with_transactional(true).with_control(true);
        control
    };
    producers.apply(&data(1, 0), None, 0);
    producers.apply(&data(2, 2), None, 0);
    assert_eq!(producers.first_unstable(0), Some(0));
    let aborted = producers.apply(&control(1, 4), Some(&marker(MarkerKind::Abort, 5)), 0);
    let want = AbortedTransaction {
        producer_id: ProducerId(1),
        first_offset: 0,
        last_offset: 4,
        last_stable_offset: 2,
    };
    assert_eq!(aborted, Some(want));
    // The marker at 4 counts only once the high watermark is past it.
    assert_eq!(producers.first_unstable(4), Some(0));
    assert_eq!(producers.first_unstable(5), Some(2));
    let fenced = producers.check(
        &control(1, 5),
        Some(&marker(MarkerKind::Commit, 4)),
        WallMs(0),
        DAY_MS,
    );
    assert_eq!(
        fenced.map_err(|e| e.code()),
        Err(ErrorCode::TransactionCoordinatorFenced)
    );
    // The open one survives expiry and snapshots.
    let kept = decode_snapshot(&encode_snapshot(&producers, 3))
        .unwrap_or_default()
        .0;
    assert_eq!(
        kept.states()
            .iter()
            .map(|s| s.txn_start_offset)
            .collect::<Vec<_>>(),
        [-1, 2]
    );
    producers.purge(WallMs(10 * DAY_MS), DAY_MS);
    assert_eq!(producers.states().len(), 1);
    assert_eq!(
        producers.apply(&control(2, 5), Some(&marker(MarkerKind::Commit, 5)), 0),
        None
    );
    assert_eq!(producers.first_unstable(6), None);
}

#[test]
fn damaged_snapshots_are_refused() {
    let mut producers = Producers::default();
    producers.apply(&header(7, 0, 0, 1, 0), None, 1_000);
    let bytes = encode_snapshot(&producers, 0);
    for at in 0..bytes.len() {
        assert_eq!(decode_snapshot(&bytes[..at]), None, "cut at {at}");
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert_eq!(decode_snapshot(&changed), None, "bit at {at}");
    }
    assert_eq!(decode_snapshot(&[0; 100]), None);
}
