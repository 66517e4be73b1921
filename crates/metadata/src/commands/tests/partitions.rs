//! AlterPartition's checks, elections on request, rebalance.

use super::super::{BrokerChange, Command, Reply};
use super::{code, refusal};
use crate::testing::{World, uuid_bytes};
use crate::v1;
use bytes::Bytes;
use strom_types::{BrokerId, ErrorCode, TopicId};

/// Leader 1 proposes the ISR {1, 2, 3} of a partition that has {1, 2}.
fn world() -> (World, TopicId) {
    let mut world = World::with_active(&[1, 2, 3]);
    let t = world.create("t", &[&[1, 2, 3]], &[("min.insync.replicas", "2")]);
    let isr = members(&world, &[1, 2]);
    let shrink = request(&world, t, isr);
    assert_eq!(alter(&mut world, shrink), Ok(ErrorCode::None));
    (world, t)
}

fn members(world: &World, isr: &[i32]) -> Vec<v1::IsrMember> {
    isr.iter()
        .map(|id| v1::IsrMember {
            broker_id: *id,
            broker_epoch: world.epoch(*id).get(),
        })
        .collect()
}

fn request(world: &World, topic: TopicId, new_isr: Vec<v1::IsrMember>) -> v1::AlterPartitionRequest {
    let state = world.partition(topic, 0);
    v1::AlterPartitionRequest {
        broker_id: 1,
        broker_epoch: world.epoch(1).get(),
        partitions: vec![v1::AlterPartition {
            topic_id: Bytes::copy_from_slice(topic.as_bytes()),
            partition: 0,
            leader_epoch: state.leader_epoch.get(),
            partition_epoch: state.partition_epoch.get(),
            new_isr,
            recovery_state: 0,
        }],
    }
}

fn alter(world: &mut World, request: v1::AlterPartitionRequest) -> Result<ErrorCode, ErrorCode> {
    match world.run(Command::AlterPartition(request)) {
        Ok(Reply::AlterPartition(reply)) => {
            let result = &reply.results[0];
            assert_eq!(result.error == 0, result.state.is_some());
            Ok(ErrorCode::try_from(result.error).expect("known"))
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(ErrorCode::try_from(error.code).expect("known")),
    }
}

#[test]
fn every_check_in_order() {
    use ErrorCode::*;
    type Spoil = fn(&mut v1::AlterPartitionRequest);
    // Each case spoils what the one before it spoils no more: the earlier check answers.
    let cases: [(&str, Spoil, Result<ErrorCode, ErrorCode>); 16] = [
        ("stale sender", |r| r.broker_epoch -= 1, Err(StaleBrokerEpoch)),
        ("unknown sender", |r| r.broker_id = 9, Err(StaleBrokerEpoch)),
        (
            "unknown topic",
            |r| r.partitions[0].topic_id = uuid_bytes(1),
            Ok(UnknownTopicId),
        ),
        (
            "bad topic id",
            |r| r.partitions[0].topic_id = Bytes::new(),
            Ok(UnknownTopicId),
        ),
        (
            "unknown partition",
            |r| r.partitions[0].partition = 9,
            Ok(UnknownTopicOrPartition),
        ),
        (
            "later epoch",
            |r| r.partitions[0].leader_epoch += 1,
            Ok(NotController),
        ),
        (
            "earlier epoch",
            |r| r.partitions[0].leader_epoch -= 1,
            Ok(FencedLeaderEpoch),
        ),
        (
            "other partition epoch",
            |r| r.partitions[0].partition_epoch -= 1,
            Ok(InvalidUpdateVersion),
        ),
        (
            "empty ISR",
            |r| r.partitions[0].new_isr.clear(),
            Ok(InvalidRequest),
        ),
        (
            "without the leader",
            |r| r.partitions[0].new_isr = r.partitions[0].new_isr.split_off(1),
            Ok(InvalidRequest),
        ),
        (
            "no replica",
            |r| r.partitions[0].new_isr[2].broker_id = 8,
            Ok(InvalidRequest),
        ),
        (
            "twice",
            |r| r.partitions[0].new_isr[2].broker_id = 2,
            Ok(InvalidRequest),
        ),
        (
            "recovering",
            |r| r.partitions[0].recovery_state = 1,
            Ok(InvalidRequest),
        ),
        (
            "recovering alone",
            |r| {
                r.partitions[0].recovery_state = 1;
                r.partitions[0].new_isr.truncate(1);
            },
            Ok(InvalidRequest),
        ),
        (
            "another life of a member",
            |r| r.partitions[0].new_isr[2].broker_epoch -= 1,
            Ok(IneligibleReplica),
        ),
        ("good", |_| {}, Ok(None)),
    ];
    for (what, spoil, want) in cases {
        let (mut world, t) = world();
        let before = world.image.clone();
        let isr = members(&world, &[1, 2, 3]);
        let mut request = request(&world, t, isr);
        spoil(&mut request);
        assert_eq!(alter(&mut world, request), want, "{what}");
        if want == Ok(None) {
            assert_eq!(world.state(t, 0).1, vec![1, 2, 3]);
        } else {
            assert_eq!(world.image, before, "{what}");
        }
    }
}

#[test]
fn members_must_be_in_service_and_only_the_leader_may_ask() {
    for (fenced, shutdown) in [(true, false), (false, true)] {
        let (mut world, t) = world();
        let change = BrokerChange {
            fenced,
            in_controlled_shutdown: shutdown,
            ..BrokerChange::fence(BrokerId(3), world.epoch(3))
        };
        world.run(Command::ChangeBroker(change)).expect("changes");
        let isr = members(&world, &[1, 2, 3]);
        let request = request(&world, t, isr);
        assert_eq!(alter(&mut world, request), Ok(ErrorCode::IneligibleReplica));
    }
    let (mut world, t) = world();
    let isr = members(&world, &[1, 2, 3]);
    let mut request = request(&world, t, isr);
    request.broker_id = 2;
    request.broker_epoch = world.epoch(2).get();
    assert_eq!(alter(&mut world, request), Ok(ErrorCode::InvalidRequest));
}

#[test]
fn a_shrink_below_min_isr_keeps_the_leaver_eligible_and_no_change_is_no_record() {
    let (mut world, t) = world();
    let isr = members(&world, &[1]);
    let shrink = request(&world, t, isr);
    assert_eq!(alter(&mut world, shrink), Ok(ErrorCode::None));
    assert_eq!(world.state(t, 0), (1, vec![1], vec![2]));
    let index = world.image.index;
    let isr = members(&world, &[1]);
    let same = request(&world, t, isr);
    assert_eq!(alter(&mut world, same), Ok(ErrorCode::None));
    assert_eq!(world.image.index, index);
}

#[test]
fn a_recovering_leader_stays_alone_until_it_has_recovered() {
    let mut world = World::with_active(&[1, 2]);
    let t = world.create("t", &[&[2, 1]], &[]);
    for id in [1, 2] {
        let fence = BrokerChange::fence(BrokerId(id), world.epoch(id));
        world.run(Command::ChangeBroker(fence)).expect("fences");
    }
    let up = BrokerChange {
        fenced: false,
        ..BrokerChange::fence(BrokerId(1), world.epoch(1))
    };
    world.run(Command::ChangeBroker(up)).expect("unfences");
    assert_eq!(elect(&mut world, true, &[("t", 0)]), [ErrorCode::None]);
    assert!(world.partition(t, 0).recovering);
    let up = BrokerChange {
        fenced: false,
        ..BrokerChange::fence(BrokerId(2), world.epoch(2))
    };
    world.run(Command::ChangeBroker(up)).expect("unfences");
    let isr = members(&world, &[1, 2]);
    let mut two = request(&world, t, isr);
    two.partitions[0].recovery_state = 1;
    assert_eq!(alter(&mut world, two), Ok(ErrorCode::InvalidRequest));
    let isr = members(&world, &[1]);
    let done = request(&world, t, isr);
    assert_eq!(alter(&mut world, done), Ok(ErrorCode::None));
    assert!(!world.partition(t, 0).recovering);
}

fn elect(world: &mut World, unclean: bool, partitions: &[(&str, i32)]) -> Vec<ErrorCode> {
    let request = v1::ElectLeadersRequest {
        unclean,
        partitions: partitions
            .iter()
            .map(|(topic, partition)| v1::TopicPartition {
                topic: (*topic).into(),
                partition: *partition,
            })
            .collect(),
        all: partitions.is_empty(),
    };
    match world.run(Command::ElectLeaders(request)) {
        Ok(Reply::ElectLeaders(reply)) => reply.results.iter().map(|r| code(r.error.as_ref())).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn elections_on_request() {
    use ErrorCode::{
        ElectionNotNeeded, EligibleLeadersNotAvailable, None, PreferredLeaderNotAvailable,
        UnknownTopicOrPartition,
    };
    let (mut world, t) = world();
    let s = world.create("s", &[&[3]], &[]);
    let asked = [("t", 0), ("t", 5), ("no", 0)];
    assert_eq!(
        elect(&mut world, false, &asked),
        [
            ElectionNotNeeded,
            UnknownTopicOrPartition,
            UnknownTopicOrPartition
        ]
    );
    assert_eq!(elect(&mut world, false, &[]), [], "what needs none is left out");
    let fence = BrokerChange::fence(BrokerId(1), world.epoch(1));
    world.run(Command::ChangeBroker(fence)).expect("fences");
    assert_eq!(world.state(t, 0).0, 2);
    assert_eq!(
        elect(&mut world, false, &[("t", 0)]),
        [PreferredLeaderNotAvailable]
    );
    assert_eq!(elect(&mut world, true, &[("t", 0)]), [ElectionNotNeeded]);
    let fence = BrokerChange::fence(BrokerId(3), world.epoch(3));
    world.run(Command::ChangeBroker(fence)).expect("fences");
    assert_eq!(
        elect(&mut world, true, &[("s", 0)]),
        [EligibleLeadersNotAvailable]
    );
    assert_eq!(world.state(s, 0), (-1, vec![], vec![3]));
    assert_eq!(
        elect(&mut world, false, &[]),
        [PreferredLeaderNotAvailable, PreferredLeaderNotAvailable]
    );

    // Broker 1 is back in the ISR: now the preferred leader can return, by request or by itself.
    let up = BrokerChange {
        fenced: false,
        ..BrokerChange::fence(BrokerId(1), world.epoch(1))
    };
    world.run(Command::ChangeBroker(up)).expect("unfences");
    let isr = members(&world, &[2, 1]);
    let mut grow = request(&world, t, isr);
    grow.broker_id = 2;
    grow.broker_epoch = world.epoch(2).get();
    assert_eq!(alter(&mut world, grow), Ok(None));
    let mut by_itself = World {
        image: world.image.clone(),
        ..World::with_active(&[1, 2, 3])
    };
    by_itself.run(Command::RebalanceLeaders).expect("rebalances");
    assert_eq!(by_itself.state(t, 0).0, 1);
    let index = by_itself.image.index;
    by_itself.run(Command::RebalanceLeaders).expect("nothing to do");
    assert_eq!(by_itself.image.index, index);
    assert_eq!(elect(&mut world, false, &[("t", 0)]), [None]);
    assert_eq!(world.state(t, 0).0, 1);
}

#[test]
fn a_name_for_the_cluster_is_given_once() {
    let mut world = World::with_active(&[]);
    world
        .run(Command::NameCluster("other".into()))
        .expect("no change");
    assert_eq!(world.image.cluster_id(), "cluster");
    let unknown = v1::AllocateProducerIdsRequest {
        broker_id: 9,
        broker_epoch: 0,
    };
    assert_eq!(
        refusal(world.run(Command::AllocateProducerIds(unknown))),
        ErrorCode::StaleBrokerEpoch
    );
}
