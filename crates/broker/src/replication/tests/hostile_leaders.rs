//! What a follower does with a leader that sends nonsense: it appends none of it, and asks again.

use bytes::{Bytes, BytesMut};
use strom_proto::splice::SplicedServer;
use strom_proto::v1::{EpochEnd, LeaderHead, LeaderPartition, ServiceError};
use strom_records::patch_in_place;
use strom_replication::{FetchReply, FetchedRecords, ReplyBody, RoleKind};
use strom_types::{BrokerId, ErrorCode, LeaderEpoch};
use tonic::service::Routes;

use super::cluster::{Cluster, Settings, eventually, key};
use super::raw::{RawLeader, RawStream, RawStreams};
use super::writing::batch;

/// Broker 1 is played by the test; broker 2 follows it.
async fn with_raw_leader() -> (Cluster, RawStreams) {
    let cluster = Cluster::start(Settings::default());
    let (leader, streams) = RawLeader::new();
    cluster.cut(2, 1).await;
    cluster.kill(1, None);
    let mut routes = Routes::builder();
    routes.add_service(SplicedServer(leader));
    cluster
        .node(2)
        .peers
        .serve_local("local:broker-1", routes.routes());
    (cluster, streams)
}

fn records(offset: i64, epoch: i32) -> Bytes {
    let own = BytesMut::from(&batch(&[b"a", b"b"])[..]);
    patch_in_place(own, offset, LeaderEpoch(epoch)).unwrap()
}

fn part(records: &[u8]) -> LeaderPartition {
    LeaderPartition {
        topic_id: Bytes::copy_from_slice(key(0).topic_id.as_bytes()),
        leader_epoch: 1,
        length: u32::try_from(records.len()).unwrap(),
        ..Default::default()
    }
}

async fn send(stream: &RawStream, part: LeaderPartition, records: Bytes) {
    let head = LeaderHead {
        partitions: vec![part],
        refused: None,
    };
    stream.send(head, records).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_are_asked_for_again() {
    let (cluster, streams) = with_raw_leader().await;
    let (mut stream, _) = streams.next().await;
    let good = records(0, 1);
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let bad = [
        Bytes::from(flipped),
        good.slice(..good.len() - 1),
        Bytes::from_static(b"no batch at all"),
        records(7, 1),
        // Of an epoch that this leader cannot know.
        records(0, 2),
        [good.clone(), records(3, 1)].concat().into(),
        [records(0, 1), records(2, 0)].concat().into(),
    ];
    for bad in bad {
        send(&stream, part(&bad), bad.clone()).await;
        let again = stream.positions().await;
        assert_eq!((again[0].fetch_offset, again[0].restart), (0, true), "{bad:?}");
    }
    assert_eq!(cluster.partition(2, 0).log().log_end_offset(), 0);
    send(&stream, part(&good), good.clone()).await;
    let log = cluster.partition(2, 0).log().clone();
    eventually(|| "appended".into(), || log.log_end_offset() == 2).await;
    assert_eq!(cluster.partition(2, 0).role(), RoleKind::Follower);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_another_state_are_dropped() {
    let (cluster, streams) = with_raw_leader().await;
    let (mut stream, _) = streams.next().await;
    let good = records(0, 1);
    let log = cluster.partition(2, 0).log().clone();
    for stale in [
        LeaderPartition {
            leader_epoch: 0,
            ..part(&good)
        },
        LeaderPartition {
            base_offset: 5,
            diverging_epoch: Some(EpochEnd {
                epoch: 0,
                end_offset: 0,
            }),
            length: 0,
            ..part(&good)
        },
    ] {
        let payload = if stale.length > 0 {
            good.clone()
        } else {
            Bytes::new()
        };
        send(&stream, stale, payload).await;
    }
    // High watermarks beyond the log are cut to it.
    let ahead = LeaderPartition {
        high_watermark: 1000,
        ..part(&good)
    };
    send(&stream, ahead, good.clone()).await;
    let told = stream.positions().await;
    assert_eq!((told[0].fetch_offset, told[0].restart), (2, false));
    assert_eq!(log.log_end_offset(), 2);
    assert_eq!(cluster.partition(2, 0).high_watermark(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_pushes_are_cut_and_gaps_are_asked_for() {
    let (cluster, streams) = with_raw_leader().await;
    let (mut stream, _) = streams.next().await;
    let log = cluster.partition(2, 0).log().clone();
    let at = |base_offset, records: &Bytes| LeaderPartition {
        base_offset,
        ..part(records)
    };
    let one = records(0, 1);
    send(&stream, at(0, &one), one.clone()).await;
    // The leader was asked for offset 0 twice, and has got more meanwhile.
    let two = Bytes::from([one.clone(), records(2, 1)].concat());
    send(&stream, at(0, &two), two.clone()).await;
    send(&stream, at(0, &two), two.clone()).await;
    eventually(
        || format!("end {}", log.log_end_offset()),
        || log.log_end_offset() == 4,
    )
    .await;
    // What was pushed between was lost on the way into the log.
    let late = records(6, 1);
    send(&stream, at(6, &late), late.clone()).await;
    send(&stream, at(8, &Bytes::new()), Bytes::new()).await;
    loop {
        let told = stream.positions().await;
        assert!(told[0].fetch_offset <= 4);
        if told[0].restart {
            assert_eq!(told[0].fetch_offset, 4);
            break;
        }
    }
    assert_eq!(log.read(0, 1 << 20, 4, true).unwrap().records, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_break_the_stream_and_a_new_one_begins_anew() {
    let (cluster, streams) = with_raw_leader().await;
    let good = records(0, 1);
    let malformed = [
        LeaderPartition {
            topic_id: Bytes::from_static(b"short"),
            ..part(&good)
        },
        LeaderPartition {
            length: u32::MAX,
            ..part(&good)
        },
        LeaderPartition {
            length: 1,
            ..part(&good)
        },
        LeaderPartition {
            base_offset: -1,
            ..part(&good)
        },
        LeaderPartition {
            log_start_offset: i64::MIN,
            error: ErrorCode::OffsetOutOfRange as i32,
            ..part(&good)
        },
        LeaderPartition {
            high_watermark: -5,
            ..part(&good)
        },
    ];
    for malformed in malformed {
        let (stream, positions) = streams.next().await;
        assert!(positions[0].restart);
        send(&stream, malformed, good.clone()).await;
    }
    let (stream, _) = streams.next().await;
    let refusal = LeaderHead {
        refused: Some(ServiceError {
            code: ErrorCode::StaleBrokerEpoch as i32,
            message: "go away".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    stream.send(refusal, Bytes::new()).await;
    let (stream, _) = streams.next().await;
    send(&stream, part(&good), good.clone()).await;
    let log = cluster.partition(2, 0).log().clone();
    eventually(|| "appended".into(), || log.log_end_offset() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_never_assigned_is_ignored() {
    let (cluster, streams) = with_raw_leader().await;
    let (mut stream, _) = streams.next().await;
    let good = records(0, 1);
    let elsewhere = LeaderPartition {
        partition: 55,
        ..part(&good)
    };
    send(&stream, elsewhere, good.clone()).await;
    // Broker 3 does not lead, whatever it says.
    let reply = FetchReply {
        leader_epoch: LeaderEpoch(1),
        fetch_offset: 0,
        high_watermark: 0,
        log_start: 0,
        body: ReplyBody::Records(FetchedRecords {
            base_offset: 0,
            first_epoch: LeaderEpoch(1),
            last_epoch: LeaderEpoch(1),
        }),
    };
    let follower = cluster.partition(2, 0);
    follower.follower_reply(BrokerId(3), reply, good.clone());
    assert_eq!(follower.log().log_end_offset(), 0);
    send(&stream, part(&good), good).await;
    assert_eq!(stream.positions().await[0].fetch_offset, 2);
    assert!(cluster.node(2).partitions.get(key(55)).is_none());
}
