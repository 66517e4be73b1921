//! `end_offset_for`, check 6 and the cut of F2, one case per shape of two histories.

use proptest::prelude::*;
use strom_types::{LeaderEpoch, Offset};

use crate::toy_log::ToyLog;
use crate::{EpochEnd, LogView, Prefix, check_prefix, end_offset_for, truncation_point};

fn end(epoch: i32, end_offset: Offset) -> Option<EpochEnd> {
    Some(EpochEnd {
        epoch: LeaderEpoch(epoch),
        end_offset,
    })
}

#[test]
fn end_offset_for_takes_the_floor() {
    let log = ToyLog::of(&[(2, 3), (4, 2), (7, 1)]);
    for (asked, want) in [
        (7, end(7, 6)),
        (8, None),
        (1, end(1, 0)),
        (2, end(2, 3)),
        (3, end(2, 3)),
        (4, end(4, 5)),
        (6, end(4, 5)),
    ] {
        assert_eq!(
            end_offset_for(&log.epochs, log.end(), LeaderEpoch(asked)),
            want,
            "epoch {asked}"
        );
    }
    assert_eq!(end_offset_for(&[], 0, LeaderEpoch(0)), None);
}

/// A follower's loop of F2 against a leader: the ends it cut to, until the leader finds nothing more.
fn rounds(leader: &ToyLog, follower: &mut ToyLog) -> Vec<Offset> {
    let mut cuts = Vec::new();
    loop {
        match check_prefix(leader, follower.latest_epoch(), follower.end()).unwrap() {
            Prefix::Shared => return cuts,
            Prefix::Unknown => panic!("the leader knows every epoch below its own"),
            Prefix::Diverges(diverging) => {
                let before = (follower.latest_epoch(), follower.end());
                let to = truncation_point(follower, diverging).unwrap();
                follower.truncate(to);
                let after = (follower.latest_epoch(), follower.end());
                assert!(
                    after.0 < before.0 || after.1 < before.1,
                    "a round got nowhere at {to}"
                );
                cuts.push(to);
            }
        }
    }
}

#[test]
fn each_shape_of_divergence_ends_at_the_highest_common_point() {
    type Runs = &'static [(i32, usize)];
    // Name, leader, follower, the follower's cuts.
    let shapes: [(&str, Runs, Runs, &[Offset]); 9] = [
        ("equal", &[(1, 5)], &[(1, 5)], &[]),
        ("behind", &[(1, 5), (2, 3)], &[(1, 4)], &[]),
        ("empty", &[(1, 5), (2, 3)], &[], &[]),
        ("own tail", &[(1, 5), (3, 2)], &[(1, 5), (2, 2)], &[5]),
        ("longer in a shared epoch", &[(1, 5), (2, 1)], &[(1, 8)], &[5]),
        (
            "leader without records keeps its epoch",
            &[(1, 5), (3, 0)],
            &[(1, 5), (2, 4)],
            &[5],
        ),
        (
            "follower was a leader without records",
            &[(1, 5), (3, 1)],
            &[(1, 5), (2, 0)],
            &[5],
        ),
        (
            "two quick leader changes (KIP-279)",
            &[(0, 10), (2, 10), (4, 0)],
            &[(0, 8), (1, 4), (3, 5)],
            &[12, 8],
        ),
        ("nothing in common", &[(4, 3)], &[(2, 5)], &[0]),
    ];
    for (name, leader, follower, want) in shapes {
        let leader = ToyLog::of(leader);
        let mut follower = ToyLog::of(follower);
        assert_eq!(rounds(&leader, &mut follower), want, "{name}");
    }
}

#[test]
fn a_fetcher_with_nothing_may_start_anywhere_in_the_log() {
    let log = ToyLog::of(&[(1, 5)]);
    assert_eq!(check_prefix(&log, LeaderEpoch::NONE, 5), Ok(Prefix::Shared));
    assert_eq!(check_prefix(&log, LeaderEpoch::NONE, 6), Ok(Prefix::Unknown));
    assert_eq!(check_prefix(&log, LeaderEpoch(2), 3), Ok(Prefix::Unknown));
}

/// Logs as the protocol makes them: each epoch has one leader, whose log is a prefix of an earlier one plus its own.
fn histories() -> impl Strategy<Value = Vec<ToyLog>> {
    proptest::collection::vec((any::<u8>(), any::<u8>(), 0usize..4), 1..12).prop_map(|elections| {
        let mut logs = vec![ToyLog::default()];
        for (epoch, (from, cut, count)) in elections.into_iter().enumerate() {
            let mut log = logs[usize::from(from) % logs.len()].clone();
            log.truncate(Offset::from(cut) % (log.end() + 1));
            let epoch = LeaderEpoch(i32::try_from(epoch).unwrap());
            log.assign_epoch(epoch, log.end());
            for value in 0..count {
                log.append(epoch, u64::try_from(value).unwrap());
            }
            logs.push(log);
        }
        logs
    })
}

proptest! {
    #[test]
    fn rounds_keep_exactly_the_common_prefix(logs in histories(), pick in any::<prop::sample::Index>()) {
        let leader = logs.last().unwrap();
        let mut follower = pick.get(&logs).clone();
        let common = leader.records.iter().zip(&follower.records).take_while(|(a, b)| a == b).count();
        rounds(leader, &mut follower);
        prop_assert!(follower.records.len() <= common);
        prop_assert_eq!(&follower.records[..], &leader.records[..follower.records.len()]);
        // Epochs without records may cost shared records, never more than to their start.
        let lost = &leader.records[follower.records.len()..common];
        prop_assert!(lost.is_empty() || !follower.epochs.iter().any(|e| e.epoch == lost[0].epoch
            && e.start_offset == follower.end()));
    }
}
