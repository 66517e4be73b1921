//! The checker's own test: for each anomaly a history that has it, and a near twin that has not.

use super::*;
use strom_types::TopicId;

const KEY: TopicIdPartition = TopicIdPartition::new(TopicId::from_bytes([1; 16]), 0);

fn send(id: u64) -> Op {
    Op::Send {
        key: KEY,
        id,
        ordered: true,
        all: true,
    }
}

fn plain(id: u64) -> Op {
    Op::Send {
        key: KEY,
        id,
        ordered: false,
        all: true,
    }
}

fn leader_only(id: u64) -> Op {
    Op::Send {
        key: KEY,
        id,
        ordered: false,
        all: false,
    }
}

fn acked(id: u64, offset: Offset) -> Op {
    Op::Acked { key: KEY, id, offset }
}

fn poll(offset: Offset, id: u64) -> Op {
    Op::Poll { key: KEY, offset, id }
}

fn latest(epoch: i32, offset: Offset) -> Op {
    Op::Latest {
        key: KEY,
        epoch: LeaderEpoch(epoch),
        offset,
    }
}

fn committed(offset: Offset) -> Op {
    Op::Committed {
        group: "g".into(),
        partition: 0,
        offset,
    }
}

fn found(asked: u64, offset: Offset) -> Op {
    Op::FoundCommitted {
        asked,
        group: "g".into(),
        partition: 0,
        offset,
    }
}

/// What client 1 saw, and the final log.
fn kinds(ops: &[Op], start: Offset, log: &[u64]) -> Vec<Kind> {
    let mut history = History::default();
    for op in ops {
        history.push(0, 1, op.clone());
    }
    let last = Final {
        logs: BTreeMap::from([(KEY, (start, log.to_vec()))]),
    };
    let mut kinds: Vec<Kind> = check(&history, &last)
        .into_iter()
        .map(|anomaly| anomaly.kind)
        .collect();
    kinds.dedup();
    kinds
}

#[track_caller]
fn differ(kind: Kind, bad: (&[Op], &[u64]), good: (&[Op], &[u64])) {
    assert_eq!(kinds(good.0, 0, good.1), [], "the good twin of {kind:?}");
    let found = kinds(bad.0, 0, bad.1);
    assert!(found.contains(&kind), "{kind:?} is not found, but {found:?}");
}

#[test]
fn two_values_at_one_offset() {
    let ops = [send(1), send(2), poll(0, 1)];
    differ(Kind::InconsistentOffset, (&ops, &[2]), (&ops, &[1, 2]));
}

#[test]
fn an_idempotent_value_twice() {
    let ordered = [send(1), send(2)];
    let retried = [plain(1), plain(2)];
    differ(Kind::Duplicate, (&ordered, &[1, 2, 1]), (&retried, &[1, 2, 1]));
}

#[test]
fn an_acknowledged_value_that_is_gone() {
    let ops = [send(1), acked(1, 0)];
    differ(Kind::LostWrite, (&ops, &[]), (&ops, &[1]));
    let weak = [leader_only(1), acked(1, 0)];
    assert_eq!(kinds(&weak, 0, &[]), [], "acks=1 promises less");
    assert_eq!(kinds(&ops, 1, &[]), [], "deleted records are not lost");
    let unknown = [send(1), Op::Unknown { key: KEY, id: 1 }];
    assert_eq!(kinds(&unknown, 0, &[]), []);
    assert_eq!(kinds(&unknown, 0, &[1]), []);
}

#[test]
fn a_definite_refusal_of_what_is_there() {
    let ops = [plain(1), Op::Refused { key: KEY, id: 1 }];
    differ(Kind::FalseRefusal, (&ops, &[1]), (&ops, &[]));
}

#[test]
fn values_in_another_order_than_sent() {
    let ops = [send(1), send(2)];
    differ(Kind::Reordered, (&ops, &[2, 1]), (&ops, &[1, 2]));
}

#[test]
fn offsets_told_in_another_order() {
    let bad = [send(1), send(2), acked(1, 1), acked(2, 0)];
    let good = [send(1), send(2), acked(2, 1), acked(1, 0)];
    differ(Kind::NonmonotonicSend, (&bad, &[2, 1]), (&good, &[1, 2]));
}

#[test]
fn a_reader_that_skips() {
    let log = [1, 2, 3];
    let sent = [send(1), send(2), send(3)];
    let bad = [&sent[..], &[poll(0, 1), poll(2, 3)]].concat();
    let seek = Op::Seek { key: KEY, offset: 2 };
    let good = [&sent[..], &[poll(0, 1), seek, poll(2, 3)]].concat();
    differ(Kind::PollSkip, (&bad, &log), (&good, &log));
}

#[test]
fn a_reader_whose_position_is_gone() {
    let bad = [send(1), poll(0, 1), Op::LostPosition { key: KEY, offset: 1 }];
    differ(Kind::LostPosition, (&bad, &[1]), (&bad[..2], &[1]));
}

#[test]
fn a_producer_that_is_told_to_end() {
    let why = String::new();
    let bad = [send(1), Op::Broken { key: KEY, id: 1, why }];
    differ(Kind::BrokenProducer, (&bad, &[1]), (&bad[..1], &[1]));
}

#[test]
fn latest_that_goes_back() {
    let bad = [latest(3, 9), latest(4, 8)];
    let good = [latest(3, 9), latest(2, 8), latest(4, 9)];
    differ(Kind::NonmonotonicLatest, (&bad, &[]), (&good, &[]));
}

#[test]
fn commits_that_go_back() {
    differ(
        Kind::NonmonotonicCommit,
        (&[committed(5), committed(4)], &[]),
        (&[committed(4), committed(5)], &[]),
    );
}

#[test]
fn a_commit_that_is_forgotten() {
    let ask = Op::AskCommitted { asked: 1 };
    let bad = [committed(5), ask.clone(), found(1, 4)];
    let good = [ask, committed(5), found(1, 4)];
    differ(Kind::StaleCommit, (&bad, &[]), (&good, &[]));
}

#[test]
fn a_value_from_nowhere() {
    differ(Kind::UnknownValue, (&[], &[7]), (&[send(7)], &[7]));
}
