//! Registration, fencing, controlled shutdown, lost disks, gateways, producer ids.

use super::super::{BrokerChange, Command, Reply};
use super::refusal;
use crate::testing::{TestBroker, World, ids, uuid_bytes};
use crate::v1;
use strom_types::{BrokerId, ErrorCode, LeaderEpoch, Mono, TopicIdPartition};
use uuid::Uuid;

/// Broker `id` in a new life, on the directory it had (see `TestBroker`).
fn registration(id: i32, incarnation: u128) -> v1::RegisterBrokerRequest {
    v1::RegisterBrokerRequest {
        cluster_id: "cluster".into(),
        broker_id: id,
        incarnation: uuid_bytes(incarnation),
        rack: String::new(),
        endpoint: "h:1".into(),
        directories: vec![v1::LogDirectory {
            directory_id: uuid_bytes(u128::try_from(id).expect("positive")),
            online: true,
        }],
        previous_clean_epoch: -1,
    }
}

fn register(world: &mut World, request: v1::RegisterBrokerRequest) -> Result<i64, ErrorCode> {
    match world.run(Command::RegisterBroker(request)) {
        Ok(Reply::RegisterBroker(reply)) => Ok(reply.broker_epoch),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(ErrorCode::try_from(error.code).expect("known")),
    }
}

fn change(world: &mut World, id: i32, fenced: bool, shutdown: bool, offline: &[u128]) {
    let change = BrokerChange {
        broker: BrokerId(id),
        epoch: world.epoch(id),
        fenced,
        in_controlled_shutdown: shutdown,
        disk_full: None,
        offline_directories: offline.iter().map(|id| Uuid::from_u128(*id)).collect(),
    };
    world.run(Command::ChangeBroker(change)).expect("changes");
}

#[test]
fn a_first_registration_starts_fenced_and_its_epoch_is_its_index() {
    let mut world = World::with_active(&[1]);
    let epoch = register(&mut world, registration(7, 500)).expect("registers");
    assert_eq!(u64::try_from(epoch).ok(), Some(world.image.index.get()));
    let broker = world.image.broker(BrokerId(7)).expect("registered");
    assert!(broker.fenced && broker.epoch.get() == epoch);
    let index = world.image.index;
    assert_eq!(
        register(&mut world, registration(7, 500)),
        Ok(epoch),
        "a retry of the same life"
    );
    assert_eq!(world.image.index, index);
}

#[test]
fn registrations_that_are_refused() {
    let with = |change: &dyn Fn(&mut v1::RegisterBrokerRequest)| {
        let mut request = registration(1, 500);
        change(&mut request);
        request
    };
    let directory = |id: u128| v1::LogDirectory {
        directory_id: uuid_bytes(id),
        online: true,
    };
    use ErrorCode::{DuplicateBrokerRegistration, InconsistentClusterId, InvalidRegistration};
    let cases = [
        (with(&|r| r.cluster_id = "other".into()), InconsistentClusterId),
        (with(&|r| r.broker_id = -1), InvalidRegistration),
        (
            with(&|r| r.incarnation = bytes::Bytes::from_static(b"x")),
            InvalidRegistration,
        ),
        (with(&|r| r.incarnation = uuid_bytes(0)), InvalidRegistration),
        (with(&|r| r.endpoint = String::new()), InvalidRegistration),
        (with(&|r| r.directories = vec![]), InvalidRegistration),
        (
            with(&|r| r.directories = vec![directory(1), directory(1)]),
            InvalidRegistration,
        ),
        (with(&|r| r.directories = vec![directory(2)]), InvalidRegistration),
        (
            with(&|r| r.directories = vec![directory(50)]),
            DuplicateBrokerRegistration,
        ),
    ];
    let mut world = World::with_active(&[1, 2]);
    let before = world.image.clone();
    for (request, want) in cases {
        assert_eq!(register(&mut world, request.clone()), Err(want), "{request:?}");
        assert_eq!(world.image, before);
    }
    world.now = Mono(7_000_000_000);
    let other_disk = with(&|r| r.directories = vec![directory(50)]);
    assert!(register(&mut world, other_disk).is_ok(), "the session is over");
}

#[test]
fn a_new_life_on_the_same_disk_takes_over_at_once_and_leaves_every_isr() {
    let mut world = World::with_active(&[1, 2, 3]);
    let t = world.create("t", &[&[1, 2, 3], &[2, 1, 3]], &[("min.insync.replicas", "2")]);
    assert!(register(&mut world, registration(1, 500)).is_ok());
    assert_eq!(world.state(t, 0), (2, vec![2, 3], vec![]));
    assert_eq!(world.state(t, 1), (2, vec![2, 3], vec![]));
    assert_eq!(world.partition(t, 0).leader_epoch.get(), 1);
    assert_eq!(world.partition(t, 1).leader_epoch.get(), 0);
    assert_eq!(world.partition(t, 1).partition_epoch.get(), 1);
}

/// min ISR 2, brokers 2 and 3 fenced in turn, then broker 1's process is replaced: (durability, clean, same disk) →
/// is it still eligible?
#[test]
fn eligibility_after_a_restart_follows_durability_and_disk() {
    for (durability, clean, same_disk, eligible) in [
        ("durable", true, true, true),
        ("durable", false, true, true),
        ("durable", true, false, false),
        ("page_cache", true, true, true),
        ("page_cache", false, true, false),
        ("page_cache", false, false, false),
    ] {
        let what = format!("{durability} clean={clean} same_disk={same_disk}");
        let mut world = World::with_active(&[1, 2, 3]);
        let t = world.create(
            "t",
            &[&[1, 2, 3]],
            &[("min.insync.replicas", "2"), ("strom.durability", durability)],
        );
        change(&mut world, 3, true, false, &[]);
        change(&mut world, 2, true, false, &[]);
        change(&mut world, 1, true, false, &[]);
        assert_eq!(world.state(t, 0), (-1, vec![], vec![1, 2]), "{what}");
        let mut request = registration(1, 500);
        if clean {
            request.previous_clean_epoch = world.epoch(1).get();
        }
        if !same_disk {
            request.directories[0].directory_id = uuid_bytes(99);
            world.now = Mono(7_000_000_000);
        }
        register(&mut world, request).expect("registers");
        let (_, _, elr) = world.state(t, 0);
        assert_eq!(elr.contains(&1), eligible, "{what}");
        assert_eq!(
            world.partition(t, 0).last_known_elr.contains(&BrokerId(1)),
            !eligible,
            "{what}"
        );
        change(&mut world, 1, false, false, &[]);
        let want = if eligible {
            (1, vec![1], vec![2])
        } else {
            (-1, vec![], vec![2])
        };
        assert_eq!(world.state(t, 0), want, "{what}");
    }
}

#[test]
fn a_sole_replica_comes_back_after_a_crash_but_not_without_its_disk() {
    for (durability, same_disk, leads) in [
        ("durable", true, true),
        ("page_cache", true, true),
        ("durable", false, false),
    ] {
        let mut world = World::with_active(&[1]);
        let t = world.create("t", &[&[1]], &[("strom.durability", durability)]);
        let mut request = registration(1, 500);
        if !same_disk {
            request.directories[0].directory_id = uuid_bytes(99);
            world.now = Mono(7_000_000_000);
        }
        register(&mut world, request).expect("registers");
        assert_eq!(world.state(t, 0).0, -1);
        change(&mut world, 1, false, false, &[]);
        assert_eq!(world.state(t, 0).0 == 1, leads, "{durability} {same_disk}");
        if leads {
            assert_eq!(
                world.partition(t, 0).leader_epoch.get(),
                2,
                "none, then some again"
            );
        }
    }
}

#[test]
fn fencing_and_shutting_down_move_leaderships_and_unfencing_brings_leaders_back() {
    let mut world = World::with_active(&[1, 2]);
    let t = world.create("t", &[&[1, 2], &[2, 1]], &[]);
    change(&mut world, 1, false, true, &[]);
    assert_eq!(world.state(t, 0), (2, vec![2], vec![]));
    change(&mut world, 2, true, false, &[]);
    assert_eq!(world.state(t, 0), (-1, vec![], vec![2]));
    let broker = world.image.broker(BrokerId(1)).expect("registered").clone();
    assert!(broker.in_controlled_shutdown && !broker.fenced);
    change(&mut world, 1, true, false, &[]);
    assert!(
        world
            .image
            .broker(BrokerId(1))
            .expect("registered")
            .in_controlled_shutdown,
        "no way back"
    );
    change(&mut world, 2, false, false, &[]);
    assert_eq!(world.state(t, 1), (2, vec![2], vec![]));
    let stale = BrokerChange {
        epoch: strom_types::BrokerEpoch(5),
        ..BrokerChange::fence(BrokerId(2), world.epoch(2))
    };
    assert_eq!(
        refusal(world.run(Command::ChangeBroker(stale))),
        ErrorCode::StaleBrokerEpoch
    );
}

#[test]
fn unclean_elections_only_where_the_topic_allows_them() {
    let mut world = World::with_active(&[1, 2]);
    let safe = world.create("safe", &[&[1, 2]], &[]);
    let loose = world.create("loose", &[&[1, 2]], &[("unclean.leader.election.enable", "true")]);
    change(&mut world, 2, true, false, &[]);
    change(&mut world, 1, true, false, &[]);
    let unfence = BrokerChange {
        fenced: false,
        ..BrokerChange::fence(BrokerId(2), world.epoch(2))
    };
    let outcome = world.evaluate(Command::ChangeBroker(unfence.clone()));
    assert_eq!(outcome.unclean, vec![TopicIdPartition::new(loose, 0)]);
    world.run(Command::ChangeBroker(unfence)).expect("unfences");
    assert_eq!(world.state(safe, 0), (-1, vec![], vec![1]));
    assert_eq!(world.state(loose, 0), (2, vec![2], vec![]));
    assert!(world.partition(loose, 0).recovering);
}

#[test]
fn an_offline_directory_takes_the_replicas_with_it() {
    let mut world = World::with_active(&[1, 2]);
    let t = world.create("t", &[&[1, 2]], &[]);
    change(&mut world, 1, false, false, &[1]);
    assert_eq!(world.state(t, 0), (2, vec![2], vec![]));
    change(&mut world, 1, false, false, &[]);
    let broker = world.image.broker(BrokerId(1)).expect("registered");
    assert!(!broker.directories[0].online, "it stays offline in this life");
}

#[test]
fn a_damaged_replica_is_not_led_from() {
    let mut world = World::with_active(&[1, 2]);
    let t = world.create("t", &[&[1, 2]], &[("min.insync.replicas", "2")]);
    let acted = LeaderEpoch(0);
    let drop = Command::DropDamaged {
        broker: BrokerId(1),
        epoch: world.epoch(1),
        replicas: vec![
            (TopicIdPartition::new(t, 0), acted),
            (TopicIdPartition::new(t, 9), acted),
        ],
    };
    world.run(drop).expect("drops");
    assert_eq!(world.state(t, 0), (2, vec![2], vec![]));
    assert_eq!(world.partition(t, 0).last_known_elr, ids(&[1]));
}

/// Found by the simulator: the leader's request to take it into the ISR was on its way, and the broker, whom nobody
/// counted on, began it anew meanwhile.
#[test]
fn what_a_damaged_replica_told_before_is_void_also_when_it_was_not_in_sync() {
    let mut world = World::with_active(&[1, 2, 3]);
    let t = world.create("t", &[&[1, 2, 3]], &[]);
    let key = TopicIdPartition::new(t, 0);
    let drop = |world: &World| Command::DropDamaged {
        broker: BrokerId(3),
        epoch: world.epoch(3),
        replicas: vec![(key, LeaderEpoch(1))],
    };
    for epoch in [1, 2] {
        world.run(drop(&world)).expect("drops");
        assert_eq!(world.state(t, 0), (1, vec![1, 2], vec![]));
        assert_eq!(world.partition(t, 0).leader_epoch, LeaderEpoch(epoch));
    }
    world.run(drop(&world)).expect("nothing is left to do");
    assert_eq!(world.partition(t, 0).leader_epoch, LeaderEpoch(2));
}

#[test]
fn a_full_disk_gives_leaderships_away_while_another_has_room() {
    let mut world = World::with_active(&[1, 2, 3]);
    let t = world.create("t", &[&[1, 2, 3], &[2, 1, 3]], &[]);
    let sole = world.create("sole", &[&[1]], &[]);
    let fill = |world: &mut World, id: i32, full: bool| {
        let change = BrokerChange {
            disk_full: Some(full),
            fenced: false,
            ..BrokerChange::fence(BrokerId(id), world.epoch(id))
        };
        world.run(Command::ChangeBroker(change)).expect("changes");
    };
    let leaders = |world: &World| {
        [(t, 0), (t, 1), (sole, 0)].map(|(t, n)| world.partition(t, n).leader.map_or(-1, BrokerId::get))
    };
    fill(&mut world, 1, true);
    assert_eq!(leaders(&world), [2, 2, 1], "a sole replica still serves reads");
    assert_eq!(world.partition(t, 0).isr, ids(&[1, 2, 3]), "nobody leaves for it");
    world.run(Command::RebalanceLeaders).expect("rebalances");
    assert_eq!(leaders(&world), [2, 2, 1], "not back while the disk is full");
    fill(&mut world, 2, true);
    assert_eq!(leaders(&world), [3, 3, 1]);
    fill(&mut world, 3, true);
    assert_eq!(leaders(&world), [3, 3, 1], "nobody has room: all stays as it is");
    fill(&mut world, 1, false);
    world.run(Command::RebalanceLeaders).expect("rebalances");
    assert_eq!(leaders(&world), [1, 1, 1], "away from full ones, to who has room");
}

#[test]
fn an_unregistered_broker_leaves_and_is_not_believed_when_it_returns() {
    let mut world = World::with_active(&[1, 2]);
    let t = world.create("t", &[&[1, 2]], &[("min.insync.replicas", "2")]);
    let unregister = || Command::UnregisterBroker(v1::UnregisterBrokerRequest { broker_id: 1 });
    world
        .run(Command::ChangeBroker(BrokerChange::fence(
            BrokerId(1),
            world.epoch(1),
        )))
        .expect("fences");
    world.sessions.mark_dead(BrokerId(1), world.epoch(1));
    world.run(unregister()).expect("unregisters");
    assert_eq!(world.state(t, 0), (2, vec![2], vec![1]));
    assert_eq!(refusal(world.run(unregister())), ErrorCode::BrokerIdNotRegistered);
    register(&mut world, registration(1, 500)).expect("registers");
    assert_eq!(world.state(t, 0), (2, vec![2], vec![]));
}

#[test]
fn a_living_broker_is_not_unregistered() {
    let mut world = World::with_active(&[1, 2]);
    let t = world.create("t", &[&[1, 2]], &[]);
    let unregister = || Command::UnregisterBroker(v1::UnregisterBrokerRequest { broker_id: 1 });
    assert_eq!(refusal(world.run(unregister())), ErrorCode::InvalidRequest);
    assert_eq!(world.state(t, 0), (1, vec![1, 2], vec![]), "it serves on");
    let fence = BrokerChange::fence(BrokerId(1), world.epoch(1));
    world.run(Command::ChangeBroker(fence)).expect("fences");
    assert_eq!(
        refusal(world.run(unregister())),
        ErrorCode::InvalidRequest,
        "fenced, but its heartbeats come"
    );
    world.now = world.now + world.sessions.timeout();
    world.run(unregister()).expect("its session has ended");
    assert!(world.image.broker(BrokerId(1)).is_none());
}

#[test]
fn gateways_come_and_go() {
    let mut world = World::new(&[TestBroker::active(1)]);
    let request = |host: &str| v1::RegisterGatewayRequest {
        gateway_id: uuid_bytes(9),
        listeners: vec![v1::GatewayListener {
            name: "PLAINTEXT".into(),
            host: host.into(),
            bootstrap_port: 9092,
            per_broker_port_base: 0,
        }],
        rack: String::new(),
    };
    world
        .run(Command::RegisterGateway(request("g")))
        .expect("registers");
    assert_eq!(world.image.gateways().count(), 1);
    let index = world.image.index;
    world.run(Command::RegisterGateway(request("g"))).expect("again");
    assert_eq!(world.image.index, index);
    assert_eq!(
        refusal(world.run(Command::RegisterGateway(request("")))),
        ErrorCode::InvalidRequest
    );
    let mut bad = request("g");
    bad.listeners[0].bootstrap_port = 70_000;
    assert_eq!(
        refusal(world.run(Command::RegisterGateway(bad))),
        ErrorCode::InvalidRequest
    );
    world
        .run(Command::RemoveGateway(Uuid::from_u128(9)))
        .expect("removes");
    world
        .run(Command::RemoveGateway(Uuid::from_u128(9)))
        .expect("nothing to remove");
    assert_eq!(world.image.gateways().count(), 0);
}

#[test]
fn producer_id_blocks_never_overlap() {
    let mut world = World::with_active(&[1, 2]);
    let mut allocate = |broker_id: i32| {
        let broker_epoch = world.epoch(broker_id).get();
        let request = v1::AllocateProducerIdsRequest {
            broker_id,
            broker_epoch,
        };
        match world.run(Command::AllocateProducerIds(request)) {
            Ok(Reply::AllocateProducerIds(reply)) => (reply.first, reply.count),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        [allocate(1), allocate(2), allocate(1)],
        [(0, 1000), (1000, 1000), (2000, 1000)]
    );
    let stale = v1::AllocateProducerIdsRequest {
        broker_id: 1,
        broker_epoch: 1,
    };
    assert_eq!(
        refusal(world.run(Command::AllocateProducerIds(stale))),
        ErrorCode::StaleBrokerEpoch
    );
}
