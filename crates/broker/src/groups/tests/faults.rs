//! Refused appends, unknown outcomes, lost leases and leaderships: what clients are told, and what remains.

use std::sync::Arc;
use std::time::Duration;

use strom_log::FaultStorage;
use strom_types::ErrorCode;
use tokio::time::timeout;

use super::client::{Client, OK, code};
use super::node::{Lead, Node, SILENT, data, until};

const SESSION_MS: i32 = 30_000;

fn with_silent(epoch: i32, partition_epoch: i32, min_isr: i32) -> Lead {
    Lead {
        partition_epoch,
        isr: &[1, SILENT],
        min_isr,
        ..Lead::alone(epoch)
    }
}

#[tokio::test]
async fn a_refused_append_is_an_error_and_changes_nothing() {
    let (node, _) = Node::in_memory();
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    assert_eq!(client.commit("t", 1).await, OK);
    let end = node.partition().log().log_end_offset();
    let too_few = |partition_epoch, min_isr| Lead {
        partition_epoch,
        min_isr,
        ..Lead::alone(1)
    };
    node.lead(too_few(11, 2));
    let not_available = code(ErrorCode::CoordinatorNotAvailable);
    assert_eq!(client.commit("t", 2).await, not_available);
    assert_eq!(super::client::delete(&node.groups, &["g"]).await, [not_available]);
    // An assignment that is not stored is not given out.
    let member = Client::new(&node.groups, "h");
    let joined = member.join("", SESSION_MS).await;
    assert_eq!(joined.error, OK);
    assert_eq!(member.sync(&joined).await.error, not_available);
    assert_eq!(client.committed("t").await, Ok(1));
    assert_eq!(node.partition().log().log_end_offset(), end);

    node.lead(too_few(12, 1));
    assert_eq!(client.commit("t", 3).await, OK);
    assert_eq!(client.committed("t").await, Ok(3));
    let joined = member.join(&joined.member_id, SESSION_MS).await;
    assert_eq!(member.sync(&joined).await.error, OK);
}

#[tokio::test]
async fn parked_requests_are_sent_away_when_the_leadership_is_lost() {
    let (node, _) = Node::in_memory();
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    let first = client.settle(SESSION_MS).await;
    // From now on nothing is committed any more.
    node.lead(with_silent(1, 11, 1));
    let (committing, joining) = (client.clone(), client.clone());
    let membership = first.clone();
    let committing =
        tokio::spawn(async move { committing.commit_all(Some(&membership), &[("t", 0, 1, "")]).await });
    let joining = tokio::spawn(async move { joining.join("", SESSION_MS).await });
    until("both are parked", || async {
        node.partition().log().log_end_offset() > node.partition().high_watermark()
            && client.describe().await.state == "PreparingRebalance"
    })
    .await;
    assert!(!committing.is_finished() && !joining.is_finished());
    // An uncommitted offset is not shown.
    assert_eq!(client.committed("t").await, Ok(-1));

    node.lead(Lead {
        leader: SILENT,
        ..with_silent(2, 20, 1)
    });
    let not_coordinator = code(ErrorCode::NotCoordinator);
    assert_eq!(committing.await.unwrap(), [not_coordinator]);
    assert_eq!(joining.await.unwrap().error, not_coordinator);
    assert_eq!(client.heartbeat(&first).await, not_coordinator);
    assert_eq!(client.committed("t").await, Err(not_coordinator));
    assert_eq!(super::client::list(&node.groups, &[]).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_new_leadership_loads_anew() {
    let (node, _) = Node::in_memory();
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    assert_eq!(client.commit("t", 1).await, OK);
    node.lead(Lead::alone(2));
    node.loaded().await;
    assert_eq!(client.committed("t").await, Ok(1));
    assert_eq!(client.commit("t", 2).await, OK);
    assert_eq!(client.committed("t").await, Ok(2));
}

#[tokio::test]
async fn without_a_lease_nothing_is_read_or_written() {
    let (node, _) = Node::in_memory();
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    assert_eq!(client.commit("t", 1).await, OK);
    node.let_lease_end();
    let not_coordinator = code(ErrorCode::NotCoordinator);
    assert_eq!(client.committed("t").await, Err(not_coordinator));
    assert_eq!(client.commit("t", 2).await, not_coordinator);
    assert_eq!(node.look().await, Err(ErrorCode::NotCoordinator));
    node.renew_lease();
    assert_eq!(client.committed("t").await, Ok(1));
    assert_eq!(client.commit("t", 3).await, OK);
}

#[tokio::test]
async fn an_unknown_outcome_is_followed_until_it_is_known() {
    let disk = FaultStorage::default();
    let node = Node::start(Arc::new(disk), data(), with_silent(1, 10, 1));
    node.loaded().await;
    let client = Client::new(&node.groups, "g");
    let committing = client.clone();
    let mut committing = tokio::spawn(async move { committing.commit("t", 1).await });
    until("the commit is in the log", || async {
        node.partition().log().log_end_offset() == 1
    })
    .await;
    // The lease ends: the append is answered with an error although it may well stay.
    node.let_lease_end();
    node.partition().log_advanced();
    // It is back, with the leadership unchanged, and the other replica leaves the ISR.
    node.renew_lease();
    let early = timeout(Duration::from_millis(100), &mut committing).await;
    assert!(early.is_err(), "answered {early:?} although nobody knows");
    assert_eq!(client.committed("t").await, Ok(-1));
    node.lead(Lead {
        partition_epoch: 11,
        ..Lead::alone(1)
    });
    // What comes later does not overtake it.
    assert_eq!(client.commit("t", 2).await, OK);
    assert_eq!(committing.await.unwrap(), OK);
    assert_eq!(client.committed("t").await, Ok(2));
}
