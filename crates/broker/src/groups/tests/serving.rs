//! What clients see of coordinators that nothing happens to.

use std::time::Duration;

use futures::future::join_all;
use strom_log::{DiskStorage, FaultStorage};
use strom_records::BatchIter;
use strom_types::{ErrorCode, TopicId};
use tokio::time::timeout;
use uuid::Uuid;

use super::client::{Client, OK, code, delete, list};
use super::node::{Lead, Node, data, remove_topic, topic, until};

const SESSION_MS: i32 = 30_000;

#[tokio::test]
async fn a_group_joins_syncs_beats_commits_and_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let disk = DiskStorage::open(folder.path()).unwrap();
    let node = Node::start(std::sync::Arc::new(disk), folder.path(), Lead::alone(1));
    node.loaded().await;
    let client = Client::new(&node.groups, "g");

    let first = client.settle(SESSION_MS).await;
    assert_eq!((first.generation, &first.leader), (1, &first.member_id));
    assert!(first.member_id.starts_with("c-"), "{}", first.member_id);
    assert_eq!(client.heartbeat(&first).await, OK);
    assert_eq!(
        client
            .commit_all(Some(&first), &[("t", 0, 5, "m"), ("t", -1, 5, "")])
            .await,
        [OK, code(ErrorCode::InvalidRequest)]
    );
    let fetched = client.fetch_all().await.unwrap();
    assert_eq!(fetched.len(), 1);
    assert_eq!(
        (fetched[0].offset, fetched[0].leader_epoch, &*fetched[0].metadata),
        (5, 4, "m")
    );
    assert_eq!(client.committed("other").await, Ok(-1));

    // A second member makes the first one join again; both wait for each other.
    let (second, first) = tokio::join!(client.join("", SESSION_MS), async {
        until("a rebalance", || async {
            client.heartbeat(&first).await == code(ErrorCode::RebalanceInProgress)
        })
        .await;
        client.join(&first.member_id, SESSION_MS).await
    });
    assert_eq!(
        (first.error, second.error, first.generation, second.generation),
        (OK, OK, 2, 2)
    );
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
    let (synced_second, synced_first) = tokio::join!(client.sync(&second), client.sync(&first));
    assert_eq!((synced_first.error, synced_second.error), (OK, OK));
    assert_eq!(synced_second.assignment, second.member_id.as_bytes());
    assert_eq!(synced_second.protocol_name.as_deref(), Some("range"));

    let described = client.describe().await;
    assert_eq!((&*described.state, described.members.len()), ("Stable", 2));
    assert_eq!(
        delete(&node.groups, &["g"]).await,
        [code(ErrorCode::NonEmptyGroup)]
    );
    assert_eq!(client.leave(&first.member_id).await, OK);
    assert_eq!(client.leave(&second.member_id).await, OK);
    assert_eq!(client.describe().await.state, "Empty");
    assert_eq!(client.heartbeat(&second).await, code(ErrorCode::UnknownMemberId));
    node.stop();
}

#[tokio::test]
async fn groups_live_on_their_partitions_and_are_listed_and_deleted_over_all() {
    let disk = FaultStorage::default();
    let elsewhere = Lead {
        leader: 2,
        isr: &[1, 2],
        ..Lead::alone(1)
    };
    let leads = [Lead::alone(1), elsewhere, Lead::alone(1)];
    let node = Node::start_with(std::sync::Arc::new(disk), data(), &leads, &[]);
    node.loaded().await;
    // Java hashes: "a" = 97, "b" = 98, "c" = 99, "f" = 102; partition 1 is led elsewhere.
    for (group, expected) in [("a", code(ErrorCode::NotCoordinator)), ("b", OK), ("c", OK)] {
        assert_eq!(
            Client::new(&node.groups, group).commit("t", 1).await,
            expected,
            "{group}"
        );
    }
    let empty = |group: &str| (group.to_owned(), "Empty".to_owned());
    assert_eq!(list(&node.groups, &[]).await, Ok(vec![empty("b"), empty("c")]));
    assert_eq!(list(&node.groups, &["stable"]).await, Ok(Vec::new()));
    let gone = Client::new(&node.groups, "a").describe().await;
    assert_eq!(
        (gone.error, &*gone.group_id),
        (code(ErrorCode::NotCoordinator), "a")
    );
    assert_eq!(
        delete(&node.groups, &["c", "a", "b", "f"]).await,
        [
            OK,
            code(ErrorCode::NotCoordinator),
            OK,
            code(ErrorCode::GroupIdNotFound)
        ]
    );
    assert_eq!(list(&node.groups, &[]).await, Ok(Vec::new()));
    let gone = Client::new(&node.groups, "b").describe().await;
    assert_eq!(
        (gone.error, &*gone.state),
        (code(ErrorCode::GroupIdNotFound), "Dead")
    );
}

#[tokio::test]
async fn a_silent_member_is_dropped_when_its_session_ends() {
    let (node, _) = Node::in_memory();
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    let joined = client.settle(100).await;
    until("the session has ended", || async {
        client.describe().await.state == "Empty"
    })
    .await;
    assert_eq!(client.heartbeat(&joined).await, code(ErrorCode::UnknownMemberId));
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_its_group_in_order() {
    let (node, _) = Node::in_memory();
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    let first = client.settle(SESSION_MS).await;
    // Parked until the first member joins again, and given up before.
    let parked = timeout(Duration::from_millis(50), client.join("", SESSION_MS)).await;
    assert!(parked.is_err(), "{parked:?}");
    let again = client.join(&first.member_id, SESSION_MS).await;
    assert_eq!((again.error, again.generation, again.members.len()), (OK, 2, 2));
}

#[tokio::test]
async fn offsets_go_with_their_topic_and_by_request() {
    let (node, _) = Node::in_memory();
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    let id = TopicId(Uuid::from_u128(5));
    node.apply(vec![topic(id, "doomed")]);
    for name in ["doomed", "kept", "unwanted"] {
        assert_eq!(client.commit(name, 3).await, OK);
    }
    assert_eq!(client.delete_offset("unwanted").await.partition_errors, [OK]);
    assert_eq!(client.committed("unwanted").await, Ok(-1));
    node.apply(vec![remove_topic(id)]);
    until("the topic's offsets are gone", || async {
        client.committed("doomed").await == Ok(-1)
    })
    .await;
    assert_eq!(client.committed("kept").await, Ok(3));
}

#[tokio::test]
async fn requests_that_come_together_share_batches() {
    let (node, _) = Node::in_memory();
    node.loaded().await;
    let names: Vec<String> = (0..50).map(|n| format!("g{n}")).collect();
    let clients: Vec<Client> = names.iter().map(|name| Client::new(&node.groups, name)).collect();
    let replies = join_all(clients.iter().map(|client| client.commit("t", 7))).await;
    assert_eq!(replies, [OK; 50]);
    let log = node.partition().log().clone();
    assert_eq!(log.log_end_offset(), 50);
    let chunk = log.read(0, 1 << 20, 50, true).unwrap();
    let batches = BatchIter::new(chunk.records).count();
    assert!(batches < 10, "{batches} batches for 50 commits at once");
}

#[tokio::test]
async fn a_client_cannot_forge_the_coordinators_records() {
    let (node, _disk) = Node::in_memory();
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    client.settle(SESSION_MS).await;
    let partition = node.partition();
    // What a coordinator writes is a good batch; only who sends it is wrong.
    let records = partition.log().read(0, 1 << 20, 1, true).unwrap().records;
    let forged = BatchIter::new(records).next().unwrap().unwrap().bytes;
    let terms = crate::partition::ProduceTerms {
        acks: strom_replication::Acks::Leader,
        zstd_allowed: true,
    };
    for checked in [
        partition.check_produced(&forged, terms),
        partition.check_if_short(&forged, terms).unwrap(),
    ] {
        let refused = checked.err().unwrap();
        assert_eq!(refused.code(), ErrorCode::InvalidTopicException);
    }
}
