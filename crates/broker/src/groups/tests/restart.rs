//! What a coordinator knows after a restart: everything that was answered.

use std::sync::Arc;

use bytes::Bytes;
use strom_log::{AppendInfo, DiskStorage, FaultStorage, LogDirConfig};
use strom_records::{BatchBuilder, NewRecord};
use strom_types::{ErrorCode, LeaderEpoch};
use tokio::sync::mpsc;

use super::client::{Client, OK, code};
use super::node::{Lead, Node, SILENT, data, until};
use crate::partition::{Ack, AckSink, Acknowledged};

const SESSION_MS: i32 = 30_000;

#[tokio::test]
async fn a_restart_brings_groups_and_offsets_back() {
    let folder = tempfile::tempdir().unwrap();
    let disk = || Arc::new(DiskStorage::open(folder.path()).unwrap());
    let node = Node::start(disk(), folder.path(), Lead::alone(1));
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    let joined = client.settle(SESSION_MS).await;
    assert_eq!(client.commit_all(Some(&joined), &[("t", 0, 8, "m")]).await, [OK]);
    assert_eq!(Client::new(&node.groups, "simple").commit("t", 9).await, OK);
    assert_eq!(client.delete_offset("none").await.error, OK);
    node.stop();

    let node = Node::start(disk(), folder.path(), Lead::alone(2));
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    assert_eq!(client.committed("t").await, Ok(8));
    assert_eq!(Client::new(&node.groups, "simple").committed("t").await, Ok(9));
    let described = client.describe().await;
    assert_eq!(
        (&*described.state, &*described.protocol_name),
        ("Stable", "range")
    );
    assert_eq!(described.members[0].member_id, joined.member_id);
    assert_eq!(described.members[0].assignment, joined.member_id.as_bytes());
    // The member does not notice the restart.
    assert_eq!(client.heartbeat(&joined).await, OK);
    assert_eq!(client.commit_all(Some(&joined), &[("t", 0, 10, "")]).await, [OK]);
    assert_eq!(client.committed("t").await, Ok(10));
    node.stop();
}

#[tokio::test]
async fn a_power_loss_takes_nothing_that_was_answered() {
    for seed in 0..8 {
        let (node, disk) = Node::in_memory();
        node.loaded().await;
        let client = Client::new(&node.groups, "g");
        let joined = client.settle(SESSION_MS).await;
        for offset in 0..20 {
            assert_eq!(
                client.commit_all(Some(&joined), &[("t", 0, offset, "")]).await,
                [OK]
            );
        }
        // Without a stop, and with a commit on its way.
        let open = client.clone();
        let on_its_way = tokio::spawn(async move { open.commit("late", 1).await });
        tokio::task::yield_now().await;
        let disk = disk.after_power_loss(seed);
        let node = Node::start(Arc::new(disk), data(), Lead::alone(2));
        node.loaded().await;
        let client = Client::new(&node.groups, "g");
        assert_eq!(client.committed("t").await, Ok(19), "seed {seed}");
        assert_eq!(client.heartbeat(&joined).await, OK, "seed {seed}");
        on_its_way.abort();
    }
}

#[tokio::test]
async fn nothing_is_answered_before_everything_is_committed_and_loaded() {
    let disk = FaultStorage::default();
    let node = Node::start(Arc::new(disk.clone()), data(), Lead::alone(1));
    node.loaded().await;
    assert_eq!(Client::new(&node.groups, "g").commit("t", 8).await, OK);
    // Killed before a checkpoint of the high watermark; the other replica is in sync and has not been heard.
    let both = Lead {
        isr: &[1, SILENT],
        ..Lead::alone(2)
    };
    let node = Node::start(Arc::new(disk.after_kill()), data(), both);
    let client = Client::new(&node.groups, "g");
    let loading = code(ErrorCode::CoordinatorLoadInProgress);
    until("the coordinator loads", || async {
        client.committed("t").await == Err(loading)
    })
    .await;
    assert_eq!(client.commit("t", 9).await, loading);
    assert_eq!(client.join("", SESSION_MS).await.error, loading);
    assert_eq!(super::client::list(&node.groups, &[]).await, Err(loading));
    assert_eq!(node.partition().high_watermark(), 0);
    // The controller takes the silent replica out of the ISR: what is here is committed.
    node.lead(Lead {
        partition_epoch: 21,
        ..Lead::alone(2)
    });
    node.loaded().await;
    assert_eq!(client.committed("t").await, Ok(8));
}

#[tokio::test]
async fn records_of_other_kinds_are_left_alone() {
    let disk = FaultStorage::default();
    let node = Node::start(Arc::new(disk.clone()), data(), Lead::alone(1));
    node.loaded().await;
    assert_eq!(Client::new(&node.groups, "g").commit("t", 8).await, OK);
    let group = b"\0\x03\0\x01k";
    let next_generation = b"\x7f\0\0\x01k";
    let cut_short = b"\0\x01\0\x05g";
    let newer_value = b"\0\x01\0\x01g\0\x01u\0\0\0\0";
    append(
        &node,
        1,
        &[
            (Some(group), Some(b"\0\0\0\0\0\x01")),
            (Some(group), None),
            (Some(next_generation), Some(b"?")),
            (Some(cut_short), Some(b"\0\x03")),
            (Some(newer_value), Some(b"\0\x63??")),
            (None, Some(b"no key")),
        ],
    )
    .await;
    assert_eq!(Client::new(&node.groups, "g").commit("t", 9).await, OK);

    let node = Node::start(Arc::new(disk.after_kill()), data(), Lead::alone(2));
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    assert_eq!(client.committed("t").await, Ok(9));
    assert_eq!(client.committed("u").await, Ok(-1));
    assert_eq!(client.fetch_all().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_append_of_many_records_is_split_and_comes_back_whole() {
    let disk = FaultStorage::default();
    let small = [("max.message.bytes", "1000")];
    let node = Node::start_with(Arc::new(disk.clone()), data(), &[Lead::alone(1)], &small);
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    let offsets: Vec<(&str, i32, i64, &str)> = (0..200).map(|n| ("topic", n, i64::from(n), "")).collect();
    assert_eq!(client.commit_all(None, &offsets).await, [OK; 200]);
    let too_long = "x".repeat(1200);
    let refused = client.commit_all(None, &[("topic", 0, 77, &too_long)]).await;
    assert_eq!(refused, [code(ErrorCode::UnknownServerError)]);

    let node = Node::start(Arc::new(disk.after_kill()), data(), Lead::alone(2));
    node.loaded().await;
    let fetched = Client::new(&node.groups, "g").fetch_all().await.unwrap();
    assert_eq!(fetched.len(), 200);
    assert!(
        fetched
            .iter()
            .all(|offset| offset.offset == i64::from(offset.partition))
    );
}

#[tokio::test]
async fn the_rest_of_a_split_append_waits_for_room_and_nothing_overtakes_it() {
    let disk = FaultStorage::default();
    let small = [("max.message.bytes", "1000")];
    // Room for a few batches, until the test writes them.
    let config = LogDirConfig {
        queue_bytes_max: 2500,
        threads: false,
        ..LogDirConfig::default()
    };
    let storage = Arc::new(disk.clone());
    let node = Node::start_on(storage, data(), config, &[Lead::alone(1)], &small);
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    let log = node.partition().log().clone();
    let many = client.clone();
    let many = tokio::spawn(async move {
        let offsets: Vec<(&str, i32, i64, &str)> = (0..200).map(|n| ("topic", n, 1, "")).collect();
        many.commit_all(None, &offsets).await
    });
    until("the queue is full", || async { log.log_end_offset() > 0 }).await;
    let stopped_at = log.log_end_offset();
    assert!(stopped_at < 200);
    let later = client.clone();
    let later = tokio::spawn(async move { later.commit("topic", 2).await });
    tokio::task::yield_now().await;
    assert_eq!(log.log_end_offset(), stopped_at);
    until("all is written", || async {
        node.write_to_disk();
        log.log_end_offset() == 201
    })
    .await;
    until("all is answered", || async {
        node.write_to_disk();
        many.is_finished() && later.is_finished()
    })
    .await;
    assert_eq!(many.await.unwrap(), [OK; 200]);
    assert_eq!(later.await.unwrap(), OK);
    assert_eq!(client.committed("topic").await, Ok(2));
    let node = Node::start(Arc::new(disk.after_kill()), data(), Lead::alone(2));
    node.loaded().await;
    assert_eq!(Client::new(&node.groups, "g").committed("topic").await, Ok(2));
}

struct Told(mpsc::UnboundedSender<Result<AppendInfo, ErrorCode>>);

impl AckSink for Told {
    fn acknowledge(&self, _: usize, outcome: Acknowledged) {
        self.0.send(outcome).unwrap();
    }
}

type KeyValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Appends records as they are, past the coordinator.
async fn append(node: &Node, epoch: i32, records: &[KeyValue<'_>]) {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        let record = NewRecord {
            timestamp: 1,
            key: *key,
            value: *value,
            headers: &[],
        };
        builder.push(&record).unwrap();
    }
    let batch: Bytes = builder.build().unwrap();
    let (sender, mut told) = mpsc::unbounded_channel();
    let sink = Arc::new(Told(sender));
    let ack = Ack { sink, place: 0 };
    node.partition()
        .append_own(batch, LeaderEpoch(epoch), ack)
        .unwrap();
    told.recv().await.unwrap().unwrap();
}
