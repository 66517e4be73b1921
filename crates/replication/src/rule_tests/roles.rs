//! E1-E4: how metadata makes leaders and followers of a replica.

use super::*;

#[test]
fn e3_a_leader_persists_its_epoch_start_before_it_serves() {
    let mut bench = Bench::new(ToyLog::of(&[(1, 4)]));
    let effects = bench.apply(|p| {
        p.leader = Some(ME);
        p.leader_epoch = LeaderEpoch(3);
    });
    let epoch = LeaderEpoch(3);
    assert_eq!(effects, [Effect::AssignEpochStart { epoch, offset: 4 }]);
    assert_eq!(bench.replica.role(), RoleKind::LeaderPreparing);
    let refused = bench.replica.admit_produce(bench.at, Acks::Leader, None);
    assert_eq!(refused, Err(ErrorCode::NotLeaderOrFollower));
    bench.log.assign_epoch(epoch, 4);
    assert_eq!(
        bench.step(Event::EpochStartPersisted {
            epoch: LeaderEpoch(2)
        }),
        []
    );
    assert_eq!(
        bench.step(Event::EpochStartPersisted { epoch }),
        [Effect::LeaderReady { epoch }]
    );
    assert_eq!(
        bench.replica.admit_produce(bench.at, Acks::Leader, None),
        Ok(epoch)
    );
}

#[test]
fn e3_a_new_leader_waits_for_the_append_in_flight() {
    let mut bench = Bench::new(ToyLog::of(&[(1, 4)]));
    bench.follow(B2, 2);
    let appended = bench.step(Event::FetchReply(FetchReply {
        leader_epoch: LeaderEpoch(2),
        fetch_offset: 4,
        high_watermark: 4,
        log_start: 0,
        body: ReplyBody::Records(FetchedRecords {
            base_offset: 4,
            first_epoch: LeaderEpoch(2),
            last_epoch: LeaderEpoch(2),
        }),
    }));
    assert_eq!(appended, [Effect::AppendRecords { base_offset: 4 }]);
    let effects = bench.apply(|p| {
        p.leader = Some(ME);
        p.leader_epoch = LeaderEpoch(3);
    });
    assert!(
        !effects
            .iter()
            .any(|e| matches!(e, Effect::AssignEpochStart { .. })),
        "{effects:?}"
    );
    assert!(effects.contains(&Effect::StopFetching));
    bench.log.append(LeaderEpoch(2), 0);
    assert_eq!(
        bench.step(Event::LogMutated),
        [Effect::AssignEpochStart {
            epoch: LeaderEpoch(3),
            offset: 5
        }]
    );
}

/// Found by the model: the entry would have named an epoch the log never got from its new leader.
#[test]
fn e3_a_role_after_a_leadership_waits_for_its_epoch_start() {
    let mut bench = Bench::new(ToyLog::of(&[(1, 4)]));
    bench.apply(|p| {
        p.leader = Some(ME);
        p.leader_epoch = LeaderEpoch(3);
    });
    let effects = bench.follow(B2, 4);
    assert!(matches!(effects[..], [Effect::FailWaiters { .. }]), "{effects:?}");
    bench.log.assign_epoch(LeaderEpoch(3), 4);
    let effects = bench.step(Event::EpochStartPersisted {
        epoch: LeaderEpoch(3),
    });
    assert!(
        matches!(effects[..], [Effect::SendPosition { position, .. }] if position.last_fetched_epoch == LeaderEpoch(3)),
        "{effects:?}"
    );
}

#[test]
fn e4_each_new_epoch_asks_the_same_leader_anew_kafka_7164() {
    let mut bench = Bench::new(ToyLog::of(&[(1, 4)]));
    bench.follow(B2, 2);
    // Epochs 3 and 4 were skipped in one delta.
    let effects = bench.follow(B2, 5);
    assert!(effects.contains(&Effect::StopFetching));
    let position = FetchPosition {
        leader_epoch: LeaderEpoch(5),
        fetch_offset: 4,
        last_fetched_epoch: LeaderEpoch(1),
        durable_offset: 4,
        log_start: 0,
    };
    assert!(effects.contains(&Effect::SendPosition {
        leader: B2,
        position,
        restart: true
    }));
}

#[test]
fn e4_waiters_fail_also_when_the_same_broker_leads_again() {
    let mut bench = Bench::new(ToyLog::default());
    bench.lead(1, &[ME, B2]);
    bench.append(1, 1);
    let wait = AckWait {
        acks: Acks::All,
        leader_epoch: LeaderEpoch(1),
        last_offset: 0,
    };
    assert_eq!(bench.replica.acks_state(bench.at, &wait), AcksState::Pending);
    let effects = bench.apply(|p| p.leader_epoch = LeaderEpoch(3));
    assert_eq!(
        effects.first(),
        Some(&Effect::FailWaiters {
            error: ErrorCode::NotLeaderOrFollower
        })
    );
    assert_eq!(
        bench.replica.acks_state(bench.at, &wait),
        AcksState::Failed(ErrorCode::NotLeaderOrFollower)
    );
}

#[test]
fn e1_repeated_and_older_records_change_nothing() {
    let mut bench = Bench::new(ToyLog::default());
    bench.lead(4, &[ME, B2]);
    let mut older = bench.partition.clone();
    older.partition_epoch = PartitionEpoch(0);
    older.leader = Some(B2);
    for partition in [older, bench.partition.clone()] {
        let brokers = [ME, B2, B3].map(registration).to_vec();
        assert_eq!(bench.step(Event::MetadataApplied { partition, brokers }), []);
    }
    assert_eq!(bench.replica.role(), RoleKind::Leader);
}

#[test]
fn e2_metadata_of_a_former_life_makes_no_follower() {
    let mut bench = Bench::new(ToyLog::of(&[(1, 4), (4, 2)]));
    // Found by the model: the log has outlived the leader of epoch 3, who cannot place it.
    bench.partition.leader = Some(B2);
    bench.partition.leader_epoch = LeaderEpoch(3);
    let partition = bench.partition.clone();
    let mut former = registration(ME);
    former.epoch = BrokerEpoch(life(ME).get() - 1);
    let effects = bench.step(Event::MetadataApplied {
        partition,
        brokers: vec![former, registration(B2)],
    });
    assert_eq!(effects, []);
    let effects = bench.step(Event::BrokerChanged(registration(ME)));
    assert!(matches!(effects[..], [Effect::SendPosition { .. }]));
}

#[test]
fn e2_a_record_of_a_former_life_makes_no_leader_kafka_10527() {
    let mut bench = Bench::new(ToyLog::of(&[(1, 4)]));
    let mut former = registration(ME);
    former.epoch = BrokerEpoch(life(ME).get() - 1);
    bench.partition.leader = Some(ME);
    bench.partition.partition_epoch = PartitionEpoch(1);
    let partition = bench.partition.clone();
    let effects = bench.step(Event::MetadataApplied {
        partition,
        brokers: vec![former],
    });
    assert_eq!(effects, []);
    assert_eq!(bench.replica.role(), RoleKind::Idle);
    // Its own registration, in which the controller always starts a new epoch, comes later.
    let effects = bench.apply(|p| p.leader_epoch = LeaderEpoch(1));
    assert!(matches!(effects[..], [Effect::AssignEpochStart { .. }]));
}

#[test]
fn follower_state_is_cleared_at_each_new_epoch() {
    let mut bench = Bench::new(ToyLog::of(&[(1, 4)]));
    bench.lead(2, &[ME, B2]);
    bench.fetch(B2, 2, 2, 4, 4);
    assert_eq!(bench.hw(), 4);
    bench.lead(3, &[ME, B2]);
    bench.append(3, 2);
    bench.flush();
    assert_eq!(bench.hw(), 4, "nothing is known of the follower in epoch 3");
    assert_eq!(
        refusal(&bench.fetch(B2, 2, 2, 4, 4)),
        Some(ErrorCode::FencedLeaderEpoch)
    );
    bench.fetch(B2, 3, 3, 6, 6);
    assert_eq!(bench.hw(), 6);
}

#[test]
fn without_a_leader_nothing_is_served() {
    let mut bench = Bench::new(ToyLog::default());
    bench.lead(1, &[ME]);
    bench.apply(|p| {
        p.leader = None;
        p.leader_epoch = LeaderEpoch(2);
    });
    assert_eq!(bench.replica.role(), RoleKind::Idle);
    let at = bench.at;
    assert_eq!(
        bench.replica.admit_fetch(at, None),
        Err(ErrorCode::NotLeaderOrFollower)
    );
    assert_eq!(
        refusal(&bench.fetch(B2, 2, -1, 0, 0)),
        Some(ErrorCode::NotLeaderOrFollower)
    );
    assert_eq!(
        refusal(&bench.fetch(B2, 3, -1, 0, 0)),
        Some(ErrorCode::UnknownLeaderEpoch)
    );
}

#[test]
fn deleted_unassigned_closed_and_failed_replicas_stay_stopped() {
    type Case = (Event, Effect, ErrorCode);
    let cases: [Case; 3] = [
        (
            Event::Removed(Removal::Deleted),
            Effect::DeleteLog {
                removal: Removal::Deleted,
            },
            ErrorCode::UnknownTopicOrPartition,
        ),
        (Event::Shutdown, Effect::CloseLog, ErrorCode::NotLeaderOrFollower),
        (
            Event::LogFailed,
            Effect::Quarantine {
                alarm: Alarm::LogFailed,
            },
            ErrorCode::KafkaStorageError,
        ),
    ];
    for (event, effect, error) in cases {
        let mut bench = Bench::new(ToyLog::default());
        bench.lead(1, &[ME]);
        assert_eq!(bench.step(event), [Effect::FailWaiters { error }, effect]);
        bench.apply(|p| p.leader_epoch = LeaderEpoch(2));
        assert_eq!(
            bench.replica.admit_produce(bench.at, Acks::None, None),
            Err(error)
        );
    }
    let mut bench = Bench::new(ToyLog::default());
    bench.follow(B2, 1);
    let effects = bench.apply(|p| {
        p.replicas = vec![B2, B3];
        p.isr = vec![B2];
    });
    assert!(effects.contains(&Effect::DeleteLog {
        removal: Removal::Unassigned
    }));
}

#[test]
fn a_recovering_leader_settles_then_proposes_recovered() {
    let mut bench = Bench::new(ToyLog::of(&[(1, 4)]));
    bench.partition.recovery_state = RecoveryState::Recovering;
    let effects = bench.lead(2, &[ME]);
    let epoch = LeaderEpoch(2);
    assert_eq!(effects, [Effect::Recover { epoch }]);
    assert_eq!(bench.replica.role(), RoleKind::LeaderPreparing);
    let effects = bench.step(Event::RecoveryDone { epoch });
    assert_eq!(effects.first(), Some(&Effect::LeaderReady { epoch }));
    assert!(matches!(
        &effects[1],
        Effect::AlterPartition { new_isr, recovery_state: RecoveryState::Recovered, .. } if new_isr.len() == 1
    ));
    // No follower joins before the record says RECOVERED.
    assert_eq!(proposal(&bench.fetch(B2, 2, 2, 4, 4)), None);
    bench.apply(|p| p.recovery_state = RecoveryState::Recovered);
    assert_eq!(
        proposed_ids(&bench.fetch(B2, 2, 2, 4, 4)),
        None,
        "proposed as the record was applied"
    );
}
