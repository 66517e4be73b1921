//! AlterConfigs, incremental and whole, and what follows from it.

use super::super::{BrokerChange, Command, Reply};
use super::code;
use crate::image::ConfigResource;
use crate::testing::World;
use crate::v1;
use crate::v1::ConfigResourceType as Type;
use crate::v1::config_op::Kind;
use strom_types::{BrokerId, ErrorCode};

type Op<'a> = (&'a str, Kind, Option<&'a str>);

fn resource(kind: Type, name: &str, ops: &[Op<'_>], replace_all: bool) -> v1::AlterConfigsResource {
    v1::AlterConfigsResource {
        resource_type: kind.into(),
        resource_name: name.into(),
        ops: ops
            .iter()
            .map(|(key, kind, value)| v1::ConfigOp {
                key: (*key).into(),
                kind: (*kind).into(),
                value: value.map(Into::into),
            })
            .collect(),
        replace_all,
    }
}

fn run(world: &mut World, resources: Vec<v1::AlterConfigsResource>, validate_only: bool) -> Vec<ErrorCode> {
    let request = v1::AlterConfigsRequest {
        resources,
        validate_only,
    };
    match world.run(Command::AlterConfigs(request)) {
        Ok(Reply::AlterConfigs(reply)) => reply.results.iter().map(|r| code(r.error.as_ref())).collect(),
        other => panic!("{other:?}"),
    }
}

fn alter(world: &mut World, kind: Type, name: &str, ops: &[Op<'_>]) -> ErrorCode {
    run(world, vec![resource(kind, name, ops, false)], false)[0]
}

#[test]
fn refusals() {
    use ErrorCode::*;
    use Kind::{Append, Delete, Set};
    type Case<'a> = (Type, &'a str, &'a [Op<'a>], ErrorCode);
    let cases: [Case<'_>; 20] = [
        (Type::Topic, "no", &[], UnknownTopicOrPartition),
        (Type::Broker, "x", &[], InvalidRequest),
        (Type::Broker, "-3", &[], InvalidRequest),
        (Type::Broker, "9", &[], BrokerIdNotRegistered),
        (Type::Group, "", &[], InvalidRequest),
        (Type::Unspecified, "t", &[], InvalidRequest),
        (Type::Topic, "t", &[("no.such", Set, Some("1"))], InvalidConfig),
        (
            Type::Topic,
            "t",
            &[("retention.ms", Set, Some("x"))],
            InvalidConfig,
        ),
        (
            Type::Topic,
            "t",
            &[("retention.ms", Set, Option::None)],
            InvalidConfig,
        ),
        (
            Type::Topic,
            "t",
            &[("retention.ms", Append, Some("1"))],
            InvalidConfig,
        ),
        (Type::Topic, "t", &[("no.such", Append, Some("1"))], InvalidConfig),
        (
            Type::Topic,
            "t",
            &[
                ("retention.ms", Set, Some("1")),
                ("retention.ms", Delete, Option::None),
            ],
            InvalidRequest,
        ),
        (
            Type::Topic,
            "t",
            &[("strom.durability", Set, Some("page_cache"))],
            InvalidConfig,
        ),
        (
            Type::Topic,
            "p",
            &[("strom.durability", Delete, Option::None)],
            InvalidConfig,
        ),
        (
            Type::Broker,
            "1",
            &[("num.partitions", Set, Some("3"))],
            InvalidConfig,
        ),
        (
            Type::Broker,
            "",
            &[("num.partitions", Set, Some("3"))],
            InvalidConfig,
        ),
        (
            Type::Broker,
            "1",
            &[("min.insync.replicas", Set, Some("1"))],
            InvalidConfig,
        ),
        (
            Type::Broker,
            "1",
            &[("strom.durability", Set, Some("durable"))],
            InvalidConfig,
        ),
        (Type::Group, "g", &[("no.such", Set, Some("1"))], InvalidConfig),
        (
            Type::ClientMetrics,
            "m",
            &[("interval.ms", Set, Some("1"))],
            InvalidRequest,
        ),
    ];
    let mut world = World::with_active(&[1]);
    world.create("t", &[&[1]], &[]);
    world.create("p", &[&[1]], &[("strom.durability", "page_cache")]);
    let before = world.image.clone();
    for (kind, name, ops, want) in cases {
        assert_eq!(
            alter(&mut world, kind, name, ops),
            want,
            "{kind:?} {name} {ops:?}"
        );
        assert_eq!(world.image, before);
    }
}

#[test]
fn keys_are_set_appended_and_removed() {
    use Kind::{Append, Delete, Set, Subtract};
    let mut world = World::with_active(&[1]);
    let t = world.create("t", &[&[1]], &[("retention.ms", "5")]);
    let ops: [Op<'_>; 3] = [
        ("retention.ms", Delete, None),
        ("cleanup.policy", Append, Some("compact")),
        ("segment.bytes", Set, Some("1048576")),
    ];
    assert_eq!(alter(&mut world, Type::Topic, "t", &ops), ErrorCode::None);
    let own = |world: &World| -> Vec<(String, String)> {
        let keys = world.image.config(&ConfigResource::Topic(t));
        keys.into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        own(&world),
        [
            pair("cleanup.policy", "delete,compact"),
            pair("segment.bytes", "1048576")
        ]
    );
    let index = world.image.index;
    alter(
        &mut world,
        Type::Topic,
        "t",
        &[("segment.bytes", Set, Some("1048576"))],
    );
    assert_eq!(world.image.index, index, "no change, no record");
    alter(
        &mut world,
        Type::Topic,
        "t",
        &[("cleanup.policy", Subtract, Some("delete"))],
    );
    assert_eq!(own(&world)[0], pair("cleanup.policy", "compact"));
    let whole = resource(Type::Topic, "t", &[("retention.ms", Set, Some("9"))], true);
    let twice = vec![whole.clone(), whole.clone()];
    assert_eq!(run(&mut world, twice, false), [ErrorCode::InvalidRequest; 2]);
    assert_eq!(run(&mut world, vec![whole], false), [ErrorCode::None]);
    assert_eq!(own(&world), [pair("retention.ms", "9")]);
    let check = resource(Type::Topic, "t", &[("retention.ms", Set, Some("10"))], false);
    assert_eq!(run(&mut world, vec![check], true), [ErrorCode::None]);
    assert_eq!(own(&world), [pair("retention.ms", "9")]);
}

#[test]
fn replacing_all_keys_keeps_the_durability() {
    let mut world = World::with_active(&[1]);
    let p = world.create(
        "p",
        &[&[1]],
        &[("strom.durability", "page_cache"), ("retention.ms", "5")],
    );
    let whole = resource(Type::Topic, "p", &[], true);
    assert_eq!(run(&mut world, vec![whole], false), [ErrorCode::None]);
    assert!(world.image.is_page_cache_topic(p));
    assert_eq!(
        world.image.config(&ConfigResource::Topic(p)).map(|own| own.len()),
        Some(1)
    );
}

#[test]
fn min_isr_travels_with_the_partitions_in_the_same_entry() {
    let mut world = World::with_active(&[1, 2, 3]);
    let t = world.create("t", &[&[1, 2, 3]], &[("min.insync.replicas", "3")]);
    let plain = world.create("plain", &[&[1, 2]], &[]);
    let fence = BrokerChange::fence(BrokerId(3), world.epoch(3));
    world.run(Command::ChangeBroker(fence)).expect("fences");
    assert_eq!(world.state(t, 0), (1, vec![1, 2], vec![3]));
    let default = [("min.insync.replicas", Kind::Set, Some("5"))];
    assert_eq!(alter(&mut world, Type::Broker, "", &default), ErrorCode::None);
    assert_eq!(world.partition(plain, 0).min_isr, 2, "at most the replicas");
    assert_eq!(world.partition(t, 0).min_isr, 3, "its own value wins");
    let own = [("min.insync.replicas", Kind::Set, Some("1"))];
    assert_eq!(alter(&mut world, Type::Topic, "t", &own), ErrorCode::None);
    let state = world.partition(t, 0);
    assert_eq!(
        (state.min_isr, state.elr.len(), state.leader_epoch.get()),
        (1, 0, 0)
    );
    let removed = [("min.insync.replicas", Kind::Delete, None)];
    assert_eq!(alter(&mut world, Type::Topic, "t", &removed), ErrorCode::None);
    assert_eq!(world.partition(t, 0).min_isr, 3, "back to the cluster's default");
}

#[test]
fn allowing_unclean_elections_elects_at_once() {
    let mut world = World::with_active(&[1, 2]);
    let t = world.create("t", &[&[1, 2]], &[]);
    for id in [2, 1] {
        let fence = BrokerChange::fence(BrokerId(id), world.epoch(id));
        world.run(Command::ChangeBroker(fence)).expect("fences");
    }
    let up = BrokerChange {
        fenced: false,
        ..BrokerChange::fence(BrokerId(2), world.epoch(2))
    };
    world.run(Command::ChangeBroker(up)).expect("unfences");
    assert_eq!(world.state(t, 0).0, -1);
    let allow = [("unclean.leader.election.enable", Kind::Set, Some("true"))];
    assert_eq!(alter(&mut world, Type::Topic, "t", &allow), ErrorCode::None);
    assert_eq!(world.state(t, 0).0, 2);
}

#[test]
fn every_kind_of_resource_is_kept() {
    let mut world = World::with_active(&[1]);
    let set = |key, value| [(key, Kind::Set, Some(value))];
    for (kind, name, ops) in [
        (Type::Broker, "1", set("log.cleaner.threads", "2")),
        (Type::Broker, "", set("log.cleaner.threads", "2")),
        (Type::Group, "g", set("consumer.session.timeout.ms", "50000")),
        (Type::ClientMetrics, "m", set("interval.ms", "1000")),
    ] {
        assert_eq!(alter(&mut world, kind, name, &ops), ErrorCode::None, "{kind:?}");
    }
    for resource in [
        ConfigResource::Broker(BrokerId(1)),
        ConfigResource::BrokerDefault,
        ConfigResource::Group("g".into()),
        ConfigResource::ClientMetrics("m".into()),
    ] {
        assert_eq!(
            world.image.config(&resource).map(|keys| keys.len()),
            Some(1),
            "{resource}"
        );
    }
}
