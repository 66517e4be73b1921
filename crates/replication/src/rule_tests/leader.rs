//! The leader's checks of a fetch (2.4) and the high watermark (2.6).

use super::*;

fn leading(log: ToyLog) -> Bench {
    let mut bench = Bench::new(log);
    bench.lead(5, &[ME, B2]);
    bench
}

#[test]
fn checks_1_to_5_refuse_in_their_order() {
    let mut log = ToyLog::of(&[(3, 10)]);
    log.records.drain(..4);
    log.start = 4;
    log.epochs[0].start_offset = 4;
    let mut bench = leading(log);
    let good = fetch(B2, 5, 5, 10, 10);
    type Spoil = fn(&mut FollowerFetch);
    // Each case spoils one thing more and keeps the later ones spoilt.
    let spoils: [(Spoil, ErrorCode); 6] = [
        (|f| f.position.fetch_offset = 3, ErrorCode::OffsetOutOfRange),
        (|f| f.broker_epoch = BrokerEpoch(1), ErrorCode::StaleBrokerEpoch),
        (|f| f.follower = BrokerId(9), ErrorCode::UnknownLeaderEpoch),
        (
            |f| f.position.leader_epoch = LeaderEpoch(6),
            ErrorCode::UnknownLeaderEpoch,
        ),
        (
            |f| f.position.leader_epoch = LeaderEpoch(4),
            ErrorCode::FencedLeaderEpoch,
        ),
        (|f| f.topic_id = TopicId::ZERO, ErrorCode::InconsistentTopicId),
    ];
    let mut spoilt = good;
    for (spoil, error) in spoils {
        spoil(&mut spoilt);
        assert_eq!(refusal(&bench.step(Event::FollowerFetch(spoilt))), Some(error));
        assert_eq!(bench.hw(), 4);
    }
    let effects = bench.step(Event::FollowerFetch(good));
    assert_eq!(refusal(&effects), None);
    assert_eq!(bench.hw(), 10);
}

#[test]
fn check_6_a_diverging_follower_gets_the_divergence_alone_kafka_13141() {
    let mut bench = leading(ToyLog::of(&[(1, 4), (3, 2)]));
    let effects = bench.fetch(B2, 5, 2, 6, 6);
    let end = EpochEnd {
        epoch: LeaderEpoch(1),
        end_offset: 4,
    };
    assert_eq!(
        effects,
        [Effect::AnswerFetch {
            follower: B2,
            answer: FetchAnswer::Diverging {
                fetch_offset: 6,
                last_fetched_epoch: LeaderEpoch(2),
                end
            }
        }]
    );
    assert_eq!(bench.hw(), 0, "it counts for nothing");
    assert_eq!(
        refusal(&bench.fetch(B2, 5, 7, 6, 6)),
        Some(ErrorCode::OffsetOutOfRange)
    );
}

/// Found by a cluster test: a leader that a read had found damaged answered as one that knows no epoch, and its sound
/// followers took themselves out of service.
#[test]
fn a_leader_whose_log_is_damaged_tells_followers_nothing_of_it_and_stops() {
    let mut bench = leading(ToyLog::of(&[(3, 10)]));
    bench.log.unreadable = true;
    let error = ErrorCode::KafkaStorageError;
    let effects = bench.fetch(B2, 5, 3, 10, 10);
    assert_eq!(refusal(&effects), Some(error));
    let stopped = Effect::Quarantine {
        alarm: Alarm::LogFailed,
    };
    assert_eq!(effects[1..], [Effect::FailWaiters { error }, stopped]);
}

/// Found by the model: records 26-28 of a lost leadership survived in a follower because the leader, whose own 26-28
/// were deleted, had no epoch left to compare them with.
#[test]
fn a_follower_the_log_start_leaves_nothing_to_compare_with_begins_anew() {
    let mut log = ToyLog::of(&[(1, 26), (3, 3), (4, 5)]);
    log.advance_start(29);
    let mut bench = leading(log);
    let effects = bench.fetch(B2, 5, 2, 40, 40);
    let cut = EpochEnd {
        epoch: LeaderEpoch(2),
        end_offset: 29,
    };
    assert!(
        matches!(effects[..], [Effect::AnswerFetch { answer: FetchAnswer::Diverging { end, .. }, .. }] if end == cut),
        "{effects:?}"
    );
    assert_eq!(
        refusal(&bench.fetch(B2, 5, 2, 29, 29)),
        Some(ErrorCode::OffsetOutOfRange)
    );
    let mut empty = fetch(B2, 5, -1, 29, 29);
    empty.position.log_start = 29;
    assert_eq!(refusal(&bench.step(Event::FollowerFetch(empty))), None);
}

#[test]
fn hw_is_the_least_fsynced_offset_of_the_isr() {
    let mut bench = leading(ToyLog::default());
    bench.append(5, 10);
    bench.fetch(B2, 5, 5, 10, 6);
    assert_eq!(bench.hw(), 0, "the leader's own log counts as fsynced only");
    bench.flush();
    assert_eq!(bench.hw(), 6);
    bench.fetch(B2, 5, 5, 8, 9);
    assert_eq!(bench.hw(), 8, "nothing beyond the validated prefix");
    bench.fetch(B2, 5, 5, 7, 7);
    assert_eq!(bench.hw(), 8, "never lower");
    // A replica outside the ISR neither helps nor hinders.
    bench.fetch(B3, 5, -1, 0, 0);
    bench.fetch(B2, 5, 5, 10, 10);
    assert_eq!(bench.hw(), 10);
}

#[test]
fn hw_rests_below_min_isr_kip_966() {
    let mut bench = Bench::new(ToyLog::default());
    bench.lead(1, &[ME]);
    bench.append(1, 2);
    bench.flush();
    assert_eq!(bench.hw(), 0);
    // The record lowers the minimum: the same record the leader sees.
    bench.apply(|p| p.min_isr = 1);
    assert_eq!(bench.hw(), 2);
}

#[test]
fn another_life_of_a_follower_does_not_count_kip_903() {
    let mut bench = leading(ToyLog::of(&[(1, 4)]));
    let mut newer = fetch(B2, 5, 5, 4, 4);
    newer.broker_epoch = BrokerEpoch(life(B2).get() + 1);
    let effects = bench.step(Event::FollowerFetch(newer));
    assert_eq!(refusal(&effects), None, "served");
    assert_eq!(bench.hw(), 0, "not counted");
    let mut registered = registration(B2);
    registered.epoch = newer.broker_epoch;
    bench.step(Event::BrokerChanged(registered));
    assert_eq!(bench.hw(), 4);
    assert_eq!(
        refusal(&bench.fetch(B2, 5, 5, 4, 4)),
        Some(ErrorCode::StaleBrokerEpoch)
    );
}

#[test]
fn delete_records_waits_for_the_lowest_log_start() {
    let mut bench = leading(ToyLog::of(&[(1, 4)]));
    bench.fetch(B2, 5, 5, 4, 4);
    assert_eq!(bench.replica.deletable_end(), 4);
    bench.log.records.drain(..3);
    bench.log.start = 3;
    bench.step(Event::LogAdvanced);
    assert_eq!(bench.replica.low_watermark(), 0);
    let mut told = fetch(B2, 5, 5, 4, 4);
    told.position.log_start = 3;
    bench.step(Event::FollowerFetch(told));
    assert_eq!(bench.replica.low_watermark(), 3);
}
