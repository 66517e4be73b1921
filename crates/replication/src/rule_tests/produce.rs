//! Admission and acknowledgement of produces, bounds of reads, the lease.

use super::*;

fn wait(acks: Acks, last_offset: Offset) -> AckWait {
    AckWait {
        acks,
        leader_epoch: LeaderEpoch(1),
        last_offset,
    }
}

#[test]
fn one_replica_is_the_same_machine() {
    let mut bench = Bench::new(ToyLog::default());
    bench.partition.replicas = vec![ME];
    bench.partition.min_isr = 1;
    bench.lead(1, &[ME]);
    assert_eq!(
        bench
            .replica
            .admit_produce(bench.at, Acks::All, Some(LeaderEpoch(1))),
        Ok(LeaderEpoch(1))
    );
    assert_eq!(bench.append(1, 3), []);
    let state = |bench: &Bench, acks| bench.replica.acks_state(bench.at, &wait(acks, 2));
    assert_eq!(state(&bench, Acks::All), AcksState::Pending);
    assert_eq!(state(&bench, Acks::Leader), AcksState::Pending);
    assert_eq!(state(&bench, Acks::None), AcksState::Done);
    assert_eq!(
        bench.flush(),
        [Effect::HighWatermarkAdvanced { high_watermark: 3 }]
    );
    assert_eq!(state(&bench, Acks::All), AcksState::Done);
    assert_eq!(state(&bench, Acks::Leader), AcksState::Done);
    assert_eq!(bench.replica.next_tick(), None);
}

#[test]
fn in_page_cache_mode_the_append_counts() {
    let mut bench = Bench::with(ToyLog::default(), Rules::default(), |c| {
        c.durability = Durability::PageCache;
    });
    bench.lead(1, &[ME, B2]);
    bench.append(1, 2);
    let at = bench.at;
    assert_eq!(
        bench.replica.acks_state(at, &wait(Acks::Leader, 1)),
        AcksState::Done
    );
    assert_eq!(
        bench.replica.acks_state(at, &wait(Acks::All, 1)),
        AcksState::Pending
    );
    bench.fetch(B2, 1, 1, 2, 0);
    assert_eq!(bench.replica.acks_state(at, &wait(Acks::All, 1)), AcksState::Done);
}

#[test]
fn admission_checks_epoch_leadership_lease_and_min_isr() {
    let mut bench = Bench::new(ToyLog::default());
    bench.lead(3, &[ME]);
    let admit = |bench: &Bench, acks, epoch: Option<i32>| {
        bench
            .replica
            .admit_produce(bench.at, acks, epoch.map(LeaderEpoch))
            .err()
    };
    assert_eq!(
        admit(&bench, Acks::Leader, Some(2)),
        Some(ErrorCode::FencedLeaderEpoch)
    );
    assert_eq!(
        admit(&bench, Acks::Leader, Some(4)),
        Some(ErrorCode::UnknownLeaderEpoch)
    );
    assert_eq!(
        admit(&bench, Acks::All, Some(3)),
        Some(ErrorCode::NotEnoughReplicas)
    );
    assert_eq!(admit(&bench, Acks::Leader, Some(3)), None);
    bench.at.now = Mono(0) + SESSION + Duration::from_nanos(1);
    assert_eq!(
        admit(&bench, Acks::Leader, None),
        Some(ErrorCode::NotLeaderOrFollower)
    );
    bench.follow(B2, 4);
    assert_eq!(
        admit(&bench, Acks::Leader, None),
        Some(ErrorCode::NotLeaderOrFollower)
    );
}

#[test]
fn an_isr_that_shrank_meanwhile_makes_the_ack_indefinite() {
    let mut bench = Bench::new(ToyLog::default());
    bench.lead(1, &[ME, B2]);
    bench.append(1, 1);
    bench.flush();
    bench.fetch(B2, 1, 1, 1, 1);
    assert_eq!(bench.hw(), 1);
    bench.apply(|p| p.isr = vec![ME]);
    assert_eq!(
        bench.replica.acks_state(bench.at, &wait(Acks::All, 0)),
        AcksState::Failed(ErrorCode::NotEnoughReplicasAfterAppend)
    );
}

#[test]
fn the_lease_fences_acks_reads_and_the_high_watermark() {
    let mut bench = Bench::new(ToyLog::default());
    bench.lead(1, &[ME, B2]);
    bench.append(1, 1);
    bench.flush();
    // Paused beyond the session: the follower's position is handled after the resume.
    bench.at.now = bench.at.now + SESSION + Duration::from_nanos(1);
    bench.fetch(B2, 1, 1, 1, 1);
    assert_eq!(bench.hw(), 0);
    assert!(bench.replica.waits_for_lease());
    let at = bench.at;
    for acks in [Acks::Leader, Acks::All] {
        assert_eq!(
            bench.replica.acks_state(at, &wait(acks, 0)),
            AcksState::Failed(ErrorCode::NotLeaderOrFollower)
        );
    }
    assert_eq!(
        bench.replica.admit_fetch(at, None),
        Err(ErrorCode::NotLeaderOrFollower)
    );
    bench.pass(Duration::ZERO);
    assert_eq!(
        bench.step(Event::Tick),
        [Effect::HighWatermarkAdvanced { high_watermark: 1 }]
    );
    assert!(!bench.replica.waits_for_lease());
}

#[test]
fn latest_is_unavailable_until_the_epoch_start_is_committed_kip_207() {
    let mut bench = Bench::new(ToyLog::of(&[(1, 4)]));
    bench.lead(2, &[ME, B2]);
    let at = bench.at;
    assert_eq!(
        bench.replica.latest_offset(at, None),
        Err(ErrorCode::OffsetNotAvailable)
    );
    let bounds = bench.replica.admit_fetch(at, None).unwrap();
    assert_eq!((bounds.high_watermark, bounds.log_end), (0, 4));
    bench.fetch(B2, 2, 2, 4, 4);
    assert_eq!(bench.replica.latest_offset(at, None), Ok(4));
}

#[test]
fn f6_a_follower_serves_below_its_own_high_watermark_in_a_live_epoch() {
    let mut bench = Bench::new(ToyLog::of(&[(1, 4)]));
    bench.follow(B2, 2);
    bench.step(Event::FetchReply(FetchReply {
        leader_epoch: LeaderEpoch(2),
        fetch_offset: 4,
        high_watermark: 3,
        log_start: 0,
        body: ReplyBody::Empty,
    }));
    let at = bench.at;
    let read = |bench: &Bench, epoch| {
        bench
            .replica
            .admit_follower_read(bench.at, Some(LeaderEpoch(epoch)))
    };
    assert_eq!(read(&bench, 2).map(|bounds| bounds.high_watermark), Ok(3));
    assert_eq!(read(&bench, 1), Err(ErrorCode::FencedLeaderEpoch));
    assert_eq!(
        bench.replica.admit_fetch(at, None),
        Err(ErrorCode::NotLeaderOrFollower)
    );
    bench.at.lease.revoked();
    assert_eq!(read(&bench, 2), Err(ErrorCode::NotLeaderOrFollower));
}

#[test]
fn acks_are_minus_one_zero_or_one() {
    assert_eq!(Acks::try_from(-1), Ok(Acks::All));
    assert_eq!(Acks::try_from(0), Ok(Acks::None));
    assert_eq!(Acks::try_from(1), Ok(Acks::Leader));
    assert_eq!(Acks::try_from(2), Err(ErrorCode::InvalidRequiredAcks));
}
