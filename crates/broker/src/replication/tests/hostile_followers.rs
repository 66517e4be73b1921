//! What a leader does with followers that are not who they say, take nothing, or break the protocol.

use std::time::Duration;

use strom_proto::convert::error_code;
use strom_proto::splice::Spliced;
use strom_proto::v1::{
    FollowerHello, FollowerPosition, FollowerPositions, LeaderHead, follower_head::Message,
};
use strom_replication::Acks;
use strom_types::{BrokerId, ErrorCode};

use super::super::{MESSAGE_BYTES, WINDOW_BYTES};
use super::cluster::{Cluster, Settings, eventually, key};
use super::raw::{RawFollower, hello, position};
use super::writing::Writer;
use crate::replication::pusher::message_bytes;

/// A cluster whose broker 3 is played by the test.
async fn without_broker_3(settings: Settings) -> Cluster {
    let cluster = Cluster::start(settings);
    // A stream that it is just opening would take over from the test's.
    let streams = &cluster.node(1).replication.streams;
    eventually(|| "3 follows 1".into(), || streams.is_open(BrokerId(3))).await;
    cluster.kill(3, None);
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_that_mean_this_broker_are_served() {
    let cluster = without_broker_3(Settings::default()).await;
    let wrong = [
        (
            FollowerHello {
                cluster_id: "another".into(),
                ..hello()
            },
            ErrorCode::InconsistentClusterId,
            "of cluster \"another\", this one of \"the-cluster\"",
        ),
        (
            FollowerHello {
                leader_id: 2,
                ..hello()
            },
            ErrorCode::InvalidRequest,
            "looks for broker 2, this is 1",
        ),
        (
            FollowerHello {
                broker_id: 1,
                ..hello()
            },
            ErrorCode::InvalidRequest,
            "cannot follow itself",
        ),
        (
            FollowerHello {
                broker_id: 8,
                ..hello()
            },
            ErrorCode::BrokerIdNotRegistered,
            "broker 8 is not registered",
        ),
        (
            FollowerHello {
                broker_epoch: 2,
                ..hello()
            },
            ErrorCode::BrokerNotAvailable,
            "has not heard of epoch 2 of broker 3 yet",
        ),
        (
            FollowerHello {
                broker_epoch: 0,
                ..hello()
            },
            ErrorCode::StaleBrokerEpoch,
            "says epoch 0, it is registered with 1",
        ),
    ];
    for (hello, code, text) in wrong {
        let mut follower = RawFollower::open(&cluster).await;
        follower.say(Message::Hello(hello)).await;
        let (refused, message) = follower.refusal().await;
        assert_eq!(refused, code, "{message}");
        assert!(message.contains(text), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_comes_before_the_leader_has_metadata_is_not_taken_for_another_clusters() {
    let cluster = without_broker_3(Settings::default()).await;
    let mut follower = RawFollower::open(&cluster).await;
    cluster.node(1).forget_metadata();
    follower.say(Message::Hello(hello())).await;
    let (refused, message) = follower.refusal().await;
    assert_eq!(refused, ErrorCode::BrokerNotAvailable, "{message}");
    assert!(message.contains("no metadata yet"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages_end_the_stream_and_nothing_else() {
    let cluster = without_broker_3(Settings::default()).await;
    let good = position(key(0), 0);
    let broken = [
        FollowerPosition {
            topic_id: vec![1; 15].into(),
            ..good.clone()
        },
        FollowerPosition {
            partition: -1,
            ..good.clone()
        },
        FollowerPosition {
            fetch_offset: -1,
            ..good.clone()
        },
        FollowerPosition {
            fetch_offset: i64::MAX,
            ..good.clone()
        },
        FollowerPosition {
            durable_offset: 1,
            ..good.clone()
        },
        FollowerPosition {
            log_start_offset: 1,
            ..good.clone()
        },
        FollowerPosition {
            leader_epoch: i32::MIN,
            ..good.clone()
        },
    ];
    for position in broken {
        let mut follower = RawFollower::open(&cluster).await;
        follower.say(Message::Hello(hello())).await;
        let what = format!("{position:?}");
        follower.tell(vec![position], 0).await;
        assert_eq!(follower.refusal().await.0, ErrorCode::InvalidRequest, "{what}");
    }
    let mut twice = RawFollower::open(&cluster).await;
    twice.say(Message::Hello(hello())).await;
    twice.say(Message::Hello(hello())).await;
    assert_eq!(twice.refusal().await.0, ErrorCode::InvalidRequest);
    let mut mute = RawFollower::open(&cluster).await;
    mute.say(Message::Positions(FollowerPositions::default())).await;
    assert_eq!(mute.refusal().await.0, ErrorCode::InvalidRequest);
    let mut writer = Writer::new();
    writer
        .write(&cluster.partition(1, 0), Acks::Leader, b"x")
        .unwrap();
    writer.outcome().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_cannot_be_served_are_answered_with_why() {
    let cluster = without_broker_3(Settings::default()).await;
    let mut follower = RawFollower::open(&cluster).await;
    follower.say(Message::Hello(hello())).await;
    let of = |change: &dyn Fn(&mut FollowerPosition)| {
        let mut position = position(key(0), 0);
        change(&mut position);
        position
    };
    let cases = [
        (of(&|p| p.leader_epoch = 0), ErrorCode::FencedLeaderEpoch),
        (of(&|p| p.leader_epoch = 2), ErrorCode::UnknownLeaderEpoch),
        (of(&|p| p.partition = 77), ErrorCode::UnknownTopicOrPartition),
        (of(&|p| p.last_fetched_epoch = 9), ErrorCode::OffsetOutOfRange),
    ];
    for (position, code) in cases {
        follower.tell(vec![position.clone()], 0).await;
        let message = follower.next().await.unwrap();
        let [part] = &message.head.partitions[..] else {
            panic!("{message:?}");
        };
        assert_eq!(error_code(part.error), code);
        assert_eq!(
            (part.leader_epoch, part.base_offset),
            (position.leader_epoch, position.fetch_offset)
        );
    }
    // A log end that nobody has: the logs part.
    follower
        .tell(vec![of(&|p| (p.fetch_offset, p.last_fetched_epoch) = (5, 1))], 0)
        .await;
    let message = follower.next().await.unwrap();
    let end = message.head.partitions[0].diverging_epoch.unwrap();
    assert_eq!((end.epoch, end.end_offset), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_takes_nothing_is_sent_no_more_than_its_window() {
    let cluster = without_broker_3(Settings {
        partitions: 2,
        ..Settings::default()
    })
    .await;
    let mut follower = RawFollower::open(&cluster).await;
    follower.say(Message::Hello(hello())).await;
    let start = vec![position(key(0), 0), position(key(1), 0)];
    follower.tell(start, 0).await;
    let mut writer = Writer::new();
    for i in 0..40 {
        for partition in 0..2 {
            let leader = cluster.partition(1, partition);
            writer.write(&leader, Acks::Leader, &vec![i; 500_000]).unwrap();
            writer.outcome().await.unwrap();
        }
    }
    let size = |partition| cluster.partition(1, partition).log().size_bytes();
    let sizes = [size(0), size(1)];
    let limit = WINDOW_BYTES + 2 * u64::try_from(MESSAGE_BYTES).unwrap();
    let mut seen = [0u64, 0];
    let mut unacknowledged = 0;
    while seen != sizes {
        while unacknowledged < WINDOW_BYTES && seen != sizes {
            let message = follower.next().await.expect("the stream goes on");
            unacknowledged += message_bytes(&message);
            count(&message, &mut seen);
        }
        // Whatever more there is would come now.
        for message in follower.drain(Duration::from_millis(20)).await {
            unacknowledged += message_bytes(&message);
            count(&message, &mut seen);
        }
        assert!(unacknowledged <= limit, "{unacknowledged} bytes are on their way");
        // They take turns, also when the records of one have to come from the disk.
        let slower = seen[0].min(seen[1]);
        assert!(
            slower > 1 << 20 || seen[0].max(seen[1]) < 2 * WINDOW_BYTES,
            "{seen:?}"
        );
        follower.tell(Vec::new(), unacknowledged / 2).await;
        unacknowledged -= unacknowledged / 2;
    }
}

fn count(message: &Spliced<LeaderHead>, seen: &mut [u64; 2]) {
    for part in &message.head.partitions {
        seen[usize::try_from(part.partition).unwrap()] += u64::from(part.length);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_may_begin_again_at_an_earlier_offset() {
    let cluster = without_broker_3(Settings::default()).await;
    let mut writer = Writer::new();
    writer
        .write(&cluster.partition(1, 0), Acks::Leader, b"x")
        .unwrap();
    writer.outcome().await.unwrap();
    let mut follower = RawFollower::open(&cluster).await;
    follower.say(Message::Hello(hello())).await;
    let mut payloads = Vec::new();
    for _ in 0..3 {
        follower.tell(vec![position(key(0), 0)], 0).await;
        loop {
            let message = follower.next().await.unwrap();
            if !message.payload.is_empty() {
                let [part] = &message.head.partitions[..] else {
                    panic!("nothing is told twice: {message:?}");
                };
                assert_eq!(part.base_offset, 0);
                payloads.push(message.payload);
                break;
            }
        }
    }
    let more = follower.drain(Duration::from_millis(20)).await;
    assert!(more.is_empty(), "there is no news: {more:?}");
    assert!(payloads.iter().all(|payload| *payload == payloads[0]));
}
