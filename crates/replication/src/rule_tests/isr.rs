//! AlterPartition: joins, shrinks, the maximal ISR, roll-back (2.7).

use super::*;

fn leading(isr: &[BrokerId]) -> Bench {
    let mut bench = Bench::new(ToyLog::of(&[(1, 4)]));
    bench.lead(2, isr);
    bench
}

fn result(bench: &Bench, attempt: u32, error: ErrorCode) -> Event {
    Event::AlterPartitionResult(AlterPartitionResult {
        leader_epoch: LeaderEpoch(2),
        partition_epoch: bench.partition.partition_epoch,
        attempt,
        error,
    })
}

#[test]
fn a_follower_joins_at_the_high_watermark_and_the_epoch_start() {
    let mut bench = leading(&[ME, B2]);
    assert_eq!(
        proposal(&bench.fetch(B3, 2, 1, 3, 3)),
        None,
        "at HW, below the epoch's start"
    );
    assert_eq!(proposal(&bench.fetch(B3, 2, 2, 4, 3)), None, "not fsynced");
    let effects = bench.fetch(B3, 2, 2, 4, 4);
    let (members, attempt) = proposal(&effects).unwrap();
    let named: Vec<_> = members.iter().map(|m| (m.broker, m.epoch)).collect();
    assert_eq!(named, [(ME, life(ME)), (B2, life(B2)), (B3, life(B3))]);
    assert_eq!(bench.replica.isr(), [ME, B2], "committed only by the record");
    // One in flight; accepted; then the record.
    assert_eq!(proposal(&bench.fetch(B3, 2, 2, 4, 4)), None);
    let accepted = result(&bench, attempt, ErrorCode::None);
    assert_eq!(bench.step(accepted), []);
    assert_eq!(bench.replica.isr(), [ME, B2]);
    bench.apply(|p| p.isr = vec![ME, B2, B3]);
    assert_eq!(bench.replica.isr(), [ME, B2, B3]);
}

#[test]
fn the_maximal_isr_grows_at_once_and_shrinks_with_the_record_kip_497() {
    let mut bench = leading(&[ME, B2]);
    bench.fetch(B2, 2, 2, 4, 4);
    bench.fetch(B3, 2, 2, 4, 4);
    assert_eq!(bench.hw(), 4);
    bench.append(2, 2);
    bench.flush();
    bench.fetch(B2, 2, 2, 6, 6);
    assert_eq!(bench.hw(), 4, "the proposed member is waited for");
    bench.apply(|p| p.isr = vec![ME, B2, B3]);
    bench.fetch(B3, 2, 2, 5, 5);
    assert_eq!(bench.hw(), 5);
    bench.pass(Duration::from_secs(10));
    let effects = bench.fetch(B2, 2, 2, 6, 6);
    assert_eq!(proposed_ids(&effects), Some(vec![ME, B2]));
    assert_eq!(bench.hw(), 5, "not before the record");
    bench.apply(|p| p.isr = vec![ME, B2]);
    assert_eq!(bench.hw(), 6);
}

#[test]
fn kafka_15021_fenced_and_stopping_followers_are_neither_proposed_nor_waited_for() {
    for (fenced, shutting_down) in [(true, false), (false, true)] {
        let mut bench = leading(&[ME, B2]);
        let state = BrokerState {
            fenced,
            shutting_down,
            ..registration(B3)
        };
        bench.step(Event::BrokerChanged(state));
        assert_eq!(proposal(&bench.fetch(B3, 2, 2, 4, 4)), None);
        bench.append(2, 1);
        bench.flush();
        bench.fetch(B2, 2, 2, 5, 5);
        assert_eq!(bench.hw(), 5);
        bench.fetch(B3, 2, 2, 5, 5);
        let effects = bench.step(Event::BrokerChanged(registration(B3)));
        assert_eq!(proposed_ids(&effects), Some(vec![ME, B2, B3]));
    }
}

#[test]
fn only_a_definite_refusal_rolls_back() {
    // Error, still pending afterwards.
    for (error, pending) in [
        (ErrorCode::IneligibleReplica, false),
        (ErrorCode::OperationNotAttempted, false),
        (ErrorCode::InvalidUpdateVersion, true),
        (ErrorCode::FencedLeaderEpoch, true),
        (ErrorCode::NotController, true),
        (ErrorCode::RequestTimedOut, true),
        (ErrorCode::Indeterminate, true),
    ] {
        let mut bench = leading(&[ME, B2]);
        let (_, attempt) = proposal(&bench.fetch(B3, 2, 2, 4, 4)).unwrap();
        let answer = result(&bench, attempt, error);
        bench.step(answer);
        bench.append(2, 1);
        bench.flush();
        bench.fetch(B2, 2, 2, 5, 5);
        assert_eq!(bench.hw(), if pending { 4 } else { 5 }, "{error}");
        // Either way it is tried again after the back-off; a rolled back one only once it is in sync again.
        let due = bench.replica.next_tick();
        assert_eq!(due, Some(Mono(0) + Duration::from_millis(50)), "{error}");
        bench.fetch(B3, 2, 2, 5, 5);
        bench.pass(Duration::from_millis(50));
        let again = bench.step(Event::Tick);
        assert_eq!(proposal(&again).map(|(_, attempt)| attempt), Some(2), "{error}");
    }
}

#[test]
fn a_refusal_after_a_timeout_waits_until_the_first_attempt_is_surely_gone() {
    let mut bench = leading(&[ME, B2]);
    let (_, first) = proposal(&bench.fetch(B3, 2, 2, 4, 4)).unwrap();
    let timeout = result(&bench, first, ErrorCode::RequestTimedOut);
    bench.step(timeout);
    bench.append(2, 1);
    bench.flush();
    for round in 0..2 {
        bench.pass(Duration::from_millis(50 + 30_000 * round));
        bench.fetch(B2, 2, 2, 5, 5);
        let effects = bench.step(Event::Tick);
        let (_, attempt) = proposal(&effects).unwrap();
        let refused = result(&bench, attempt, ErrorCode::IneligibleReplica);
        bench.step(refused);
        assert_eq!(bench.hw(), if round == 0 { 4 } else { 5 });
    }
}

#[test]
fn answers_of_other_epochs_and_attempts_are_ignored() {
    let mut bench = leading(&[ME, B2]);
    let (_, attempt) = proposal(&bench.fetch(B3, 2, 2, 4, 4)).unwrap();
    let base = AlterPartitionResult {
        leader_epoch: LeaderEpoch(2),
        partition_epoch: bench.partition.partition_epoch,
        attempt,
        error: ErrorCode::IneligibleReplica,
    };
    for stray in [
        AlterPartitionResult {
            leader_epoch: LeaderEpoch(1),
            ..base
        },
        AlterPartitionResult {
            partition_epoch: PartitionEpoch(0),
            ..base
        },
        AlterPartitionResult {
            attempt: attempt + 1,
            ..base
        },
    ] {
        bench.step(Event::AlterPartitionResult(stray));
        bench.append(2, 1);
        bench.flush();
        let end = bench.log.end();
        bench.fetch(B2, 2, 2, end, end);
        assert_eq!(bench.hw(), 4);
    }
}

#[test]
fn silence_counts_as_a_timeout() {
    let mut bench = leading(&[ME, B2]);
    bench.fetch(B3, 2, 2, 4, 4);
    assert_eq!(bench.replica.next_tick(), Some(Mono(0) + Duration::from_secs(3)));
    bench.pass(Duration::from_secs(3));
    assert_eq!(
        proposal(&bench.step(Event::Tick)).map(|(_, attempt)| attempt),
        Some(2)
    );
}

#[test]
fn a_lagging_member_leaves_an_idle_one_stays() {
    let mut bench = leading(&[ME, B2, B3]);
    bench.fetch(B2, 2, 2, 4, 4);
    bench.fetch(B3, 2, 2, 4, 4);
    assert_eq!(bench.replica.next_tick(), None, "everybody has everything");
    bench.pass(Duration::from_secs(300));
    assert_eq!(bench.step(Event::Tick), []);
    bench.append(2, 1);
    bench.flush();
    assert_eq!(
        proposal(&bench.step(Event::Tick)),
        None,
        "a lag counts from the append"
    );
    assert_eq!(
        bench.replica.next_tick(),
        Some(bench.at.now + Duration::from_secs(10))
    );
    bench.fetch(B2, 2, 2, 5, 5);
    bench.pass(Duration::from_secs(10));
    assert_eq!(proposed_ids(&bench.step(Event::Tick)), Some(vec![ME, B2]));
}

#[test]
fn under_a_steady_load_a_follower_that_is_always_a_little_behind_stays() {
    let mut bench = leading(&[ME, B2]);
    for round in 0..400 {
        bench.append(2, 1);
        bench.flush();
        // It acknowledges what was appended three rounds ago.
        let reached = bench.log.end() - 3;
        let effects = bench.fetch(B2, 2, 2, reached, reached);
        assert_eq!(proposal(&effects), None, "round {round}");
        bench.pass(Duration::from_millis(100));
    }
}

#[test]
fn a_member_that_fetches_but_never_syncs_leaves() {
    let mut bench = leading(&[ME, B2]);
    let mut proposed = None;
    for _ in 0..120 {
        bench.append(2, 1);
        bench.flush();
        let end = bench.log.end();
        proposed = proposed.or(proposed_ids(&bench.fetch(B2, 2, 2, end, 4)));
        bench.pass(Duration::from_millis(100));
    }
    assert_eq!(proposed, Some(vec![ME]));
}
