//! F1-F5: how a follower takes replies.

use super::*;

fn following(runs: &[(i32, usize)]) -> Bench {
    let mut bench = Bench::new(ToyLog::of(runs));
    bench.follow(B2, 5);
    bench
}

fn reply(fetch_offset: Offset, body: ReplyBody) -> FetchReply {
    FetchReply {
        leader_epoch: LeaderEpoch(5),
        fetch_offset,
        high_watermark: 0,
        log_start: 0,
        body,
    }
}

fn records(base_offset: Offset, first: i32, last: i32) -> ReplyBody {
    ReplyBody::Records(FetchedRecords {
        base_offset,
        first_epoch: LeaderEpoch(first),
        last_epoch: LeaderEpoch(last),
    })
}

fn diverging(asked: i32, epoch: i32, end_offset: Offset) -> ReplyBody {
    ReplyBody::Diverging {
        last_fetched_epoch: LeaderEpoch(asked),
        end: EpochEnd {
            epoch: LeaderEpoch(epoch),
            end_offset,
        },
    }
}

fn retries(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::RetryFetch { .. }))
}

#[test]
fn f1_replies_to_another_state_are_dropped() {
    let mut bench = following(&[(1, 4)]);
    let mut other_epoch = reply(4, records(4, 1, 1));
    other_epoch.leader_epoch = LeaderEpoch(4);
    for stale in [
        other_epoch,
        reply(3, records(3, 1, 1)),
        reply(3, ReplyBody::Empty),
        reply(4, diverging(2, 0, 0)),
        reply(5, diverging(1, 0, 0)),
        reply(3, ReplyBody::Error(ErrorCode::OffsetOutOfRange)),
    ] {
        assert_eq!(bench.step(Event::FetchReply(stale)), [], "{stale:?}");
    }
    // While an append is under way there is no state to match.
    assert_eq!(
        bench.step(Event::FetchReply(reply(4, records(4, 1, 5)))),
        [Effect::AppendRecords { base_offset: 4 }]
    );
    assert_eq!(bench.step(Event::FetchReply(reply(4, diverging(1, 0, 0)))), []);
    assert_eq!(bench.replica.fetch_position(), None);
}

#[test]
fn an_append_is_acknowledged_then_its_fsync() {
    let mut bench = following(&[(1, 4)]);
    let mut pushed = reply(4, records(4, 5, 5));
    pushed.high_watermark = 9;
    bench.step(Event::FetchReply(pushed));
    bench.log.append(LeaderEpoch(5), 0);
    bench.log.append(LeaderEpoch(5), 0);
    let effects = bench.step(Event::LogMutated);
    let mut position = FetchPosition {
        leader_epoch: LeaderEpoch(5),
        fetch_offset: 6,
        last_fetched_epoch: LeaderEpoch(5),
        durable_offset: 4,
        log_start: 0,
    };
    let send = |position| Effect::SendPosition {
        leader: B2,
        position,
        restart: false,
    };
    // F4: the leader's high watermark, at most the own log end.
    assert_eq!(
        effects,
        [
            Effect::HighWatermarkAdvanced { high_watermark: 6 },
            send(position)
        ]
    );
    position.durable_offset = 6;
    assert_eq!(bench.flush(), [send(position)]);
    assert_eq!(bench.flush(), [], "nothing new to tell");
}

#[test]
fn f2_truncates_by_epoch_on_both_sides_and_asks_again() {
    let mut bench = following(&[(0, 8), (1, 4), (3, 5)]);
    let effects = bench.step(Event::FetchReply(reply(17, diverging(3, 2, 20))));
    assert_eq!(effects, [Effect::TruncateTo { to: 12 }]);
    bench.log.truncate(12);
    let effects = bench.step(Event::LogMutated);
    assert!(
        matches!(
            effects[..],
            [Effect::SendPosition { restart: true, position, .. }]
                if position.last_fetched_epoch == LeaderEpoch(1) && position.fetch_offset == 12
        ),
        "{effects:?}"
    );
    let effects = bench.step(Event::FetchReply(reply(12, diverging(1, 0, 10))));
    assert_eq!(effects, [Effect::TruncateTo { to: 8 }]);
}

#[test]
fn f2_an_epoch_without_records_is_dropped_too_kafka_10706() {
    let mut bench = following(&[(1, 4), (2, 0)]);
    let effects = bench.step(Event::FetchReply(reply(4, diverging(2, 1, 4))));
    assert_eq!(effects, [Effect::TruncateTo { to: 4 }]);
    bench.log.truncate(4);
    assert_eq!(bench.log.epochs.len(), 1);
}

#[test]
fn f3_damaged_records_are_refetched_and_the_third_time_raise_an_alarm() {
    let mut bench = following(&[(1, 4)]);
    for times in 1..=3 {
        let effects = bench.step(Event::FetchReply(reply(4, ReplyBody::Corrupt)));
        assert!(retries(&effects));
        let alarm = Alarm::LeaderSuspect { leader: B2, times };
        assert_eq!(effects.contains(&Effect::Raise { alarm }), times == 3);
    }
    let effects = bench.step(Event::FetchReply(reply(4, records(5, 5, 5))));
    assert!(retries(&effects), "a base offset that is not the log end");
}

#[test]
fn e5_batches_of_impossible_epochs_are_not_appended() {
    let mut bench = following(&[(3, 4)]);
    for (first, last) in [(2, 5), (5, 6), (6, 6), (5, 4)] {
        let effects = bench.step(Event::FetchReply(reply(4, records(4, first, last))));
        assert!(retries(&effects), "{first}..{last}");
        assert!(
            effects.iter().any(|e| matches!(
                e,
                Effect::Raise {
                    alarm: Alarm::EpochOutOfOrder { .. }
                }
            )),
            "{first}..{last}"
        );
    }
    assert!(!retries(
        &bench.step(Event::FetchReply(reply(4, records(4, 3, 5))))
    ));
}

#[test]
fn f4_truncation_below_the_high_watermark_stops_the_replica_unless_recovering() {
    for recovery in [RecoveryState::Recovered, RecoveryState::Recovering] {
        let mut bench = following(&[(1, 4), (2, 2)]);
        bench.apply(|p| {
            p.recovery_state = recovery;
            p.isr = vec![B2];
        });
        let mut told = reply(6, ReplyBody::Empty);
        told.high_watermark = 5;
        bench.step(Event::FetchReply(told));
        assert_eq!(bench.hw(), 5);
        let effects = bench.step(Event::FetchReply(reply(6, diverging(2, 1, 4))));
        if recovery == RecoveryState::Recovering {
            assert_eq!(effects, [Effect::TruncateTo { to: 4 }]);
            bench.log.truncate(4);
            bench.step(Event::LogMutated);
            assert_eq!(bench.hw(), 4);
        } else {
            assert!(quarantined(&effects));
            assert!(effects.contains(&Effect::StopFetching));
            assert_eq!(bench.replica.role(), RoleKind::Quarantined);
        }
    }
}

#[test]
fn f5_a_log_up_to_the_leaders_start_begins_anew_there() {
    for start in [4, 100] {
        let mut bench = following(&[(1, 4)]);
        let mut refused = reply(4, ReplyBody::Error(ErrorCode::OffsetOutOfRange));
        refused.log_start = start;
        assert_eq!(
            bench.step(Event::FetchReply(refused)),
            [Effect::RestartAt { start }]
        );
        bench.log.restart(start);
        let effects = bench.step(Event::LogMutated);
        assert_eq!(bench.hw(), start);
        assert!(matches!(
            effects[..],
            [_, Effect::SendPosition { restart: true, .. }]
        ));
    }
}

#[test]
fn f5_a_longer_log_without_divergence_is_kept_and_stops_the_replica() {
    let mut bench = following(&[(1, 4)]);
    let effects = bench.step(Event::FetchReply(reply(
        4,
        ReplyBody::Error(ErrorCode::OffsetOutOfRange),
    )));
    assert!(quarantined(&effects));
}

#[test]
fn other_refusals_are_tried_again() {
    let mut bench = following(&[(1, 4)]);
    let error = ErrorCode::UnknownLeaderEpoch;
    let effects = bench.step(Event::FetchReply(reply(4, ReplyBody::Error(error))));
    assert_eq!(effects, [Effect::RetryFetch { error }]);
    assert!(
        bench
            .replica
            .fetch_position()
            .is_some_and(|(leader, _)| leader == B2)
    );
}

#[test]
fn the_leaders_log_start_is_followed_up_to_the_high_watermark() {
    let mut bench = following(&[(1, 4)]);
    let mut told = reply(4, ReplyBody::Empty);
    told.high_watermark = 2;
    told.log_start = 3;
    let effects = bench.step(Event::FetchReply(told));
    assert!(effects.contains(&Effect::AdvanceLogStart { to: 2 }));
}
