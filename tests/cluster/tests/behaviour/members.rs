//! Group members that misbehave, are replaced, or fall silent.

use std::time::{Duration, Instant};

use strom_cluster::codes::*;
use strom_cluster::group::{Member, wait_coordinator};
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_cluster::until;
use strom_testkit::Cluster;

async fn start() -> (Cluster, Raw, Raw) {
    let cluster = Cluster::builder()
        .setting("group.min.session.timeout.ms", "100")
        .start()
        .await;
    let mut one = Raw::connect(&cluster.bootstrap()).await;
    let two = Raw::connect(&cluster.bootstrap()).await;
    wait_coordinator(&mut one, "group").await;
    (cluster, one, two)
}

#[tokio::test]
async fn a_member_that_stops_heartbeating_is_evicted_in_time() {
    let (_cluster, mut raw, mut other) = start().await;
    let mut silent = Member::new("group");
    silent.session_timeout_ms = 1_000;
    assert_eq!(silent.join(&mut raw).await.error_code, NONE);
    silent.sync(&mut raw, &[(&silent.id, b"all")]).await;
    assert_eq!(silent.heartbeat(&mut raw).await, NONE);
    let silent_since = Instant::now();
    let mut next = Member::new("group");
    let joined = next.join(&mut other).await;
    let waited = silent_since.elapsed();
    assert_eq!(
        (joined.error_code, joined.members.len()),
        (NONE, 1),
        "alone in the new generation"
    );
    assert!(
        waited >= Duration::from_millis(900),
        "evicted after {waited:?} of 1 s"
    );
    assert!(waited < Duration::from_secs(4), "evicted only after {waited:?}");
    assert_eq!(silent.heartbeat(&mut raw).await, UNKNOWN_MEMBER_ID);
}

/// As one whose application does not poll: it heartbeats, but does not rejoin when asked to.
#[tokio::test]
async fn a_member_that_does_not_rejoin_is_evicted_after_the_rebalance_timeout() {
    let (cluster, mut raw, mut other) = start().await;
    let mut stuck = Member::new("group");
    stuck.rebalance_timeout_ms = 1_000;
    assert_eq!(stuck.join(&mut raw).await.error_code, NONE);
    stuck.sync(&mut raw, &[(&stuck.id, b"all")]).await;
    let mut next = Member::new("group");
    next.rebalance_timeout_ms = 1_000;
    next.send_join(&mut other).await;
    let reply = next.joined(&mut other).await;
    assert_eq!(reply.error_code, MEMBER_ID_REQUIRED);
    next.id = reply.member_id.to_string();
    let asked = Instant::now();
    next.send_join(&mut other).await;
    until("the rebalance is told", || async {
        let mut raw = Raw::connect(&cluster.bootstrap()).await;
        (stuck.heartbeat(&mut raw).await == REBALANCE_IN_PROGRESS).then_some(())
    })
    .await;
    let joined = next.joined(&mut other).await;
    assert_eq!((joined.error_code, joined.members.len()), (NONE, 1));
    assert!(
        asked.elapsed() >= Duration::from_millis(900),
        "after {:?} of 1 s",
        asked.elapsed()
    );
    assert_eq!(stuck.heartbeat(&mut raw).await, UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn generations_and_members_are_checked_on_heartbeats_and_commits() {
    let (_cluster, mut raw, _) = start().await;
    create_topic(&mut raw, "topic", 1, &[]).await;
    let mut member = Member::new("group");
    assert_eq!(member.join(&mut raw).await.error_code, NONE);
    let synced = member.sync(&mut raw, &[(&member.id, b"mine")]).await;
    assert_eq!(
        (synced.error_code, synced.assignment.as_ref()),
        (NONE, b"mine".as_slice())
    );
    assert_eq!(member.heartbeat(&mut raw).await, NONE);
    assert_eq!(member.commit(&mut raw, "topic", 3, "m").await, NONE);

    let stale = Member {
        generation: member.generation - 1,
        ..member.clone()
    };
    assert_eq!(stale.heartbeat(&mut raw).await, ILLEGAL_GENERATION);
    assert_eq!(stale.commit(&mut raw, "topic", 4, "m").await, ILLEGAL_GENERATION);
    assert_eq!(stale.sync(&mut raw, &[]).await.error_code, ILLEGAL_GENERATION);
    let stranger = Member {
        id: "stranger".to_owned(),
        ..member.clone()
    };
    assert_eq!(stranger.heartbeat(&mut raw).await, UNKNOWN_MEMBER_ID);
    assert_eq!(
        stranger.commit(&mut raw, "topic", 4, "m").await,
        UNKNOWN_MEMBER_ID
    );
    let outsider = Member {
        id: String::new(),
        generation: -1,
        ..member.clone()
    };
    assert_eq!(
        outsider.commit(&mut raw, "topic", 4, "m").await,
        UNKNOWN_MEMBER_ID,
        "the group has members"
    );
    let elsewhere = Member {
        group: "nobody's".to_owned(),
        ..outsider
    };
    assert_eq!(
        elsewhere.commit(&mut raw, "topic", 4, "m").await,
        NONE,
        "a simple consumer"
    );
    for reset in [-1, -2] {
        assert_eq!(elsewhere.commit(&mut raw, "topic", reset, "m").await, NONE);
    }
    let forgotten = Member {
        group: "forgotten".to_owned(),
        ..member.clone()
    };
    assert_eq!(
        forgotten.commit(&mut raw, "topic", 4, "m").await,
        ILLEGAL_GENERATION,
        "before version 9 clients know no other code"
    );
    let long = "x".repeat(4097);
    assert_eq!(
        member.commit(&mut raw, "topic", 4, &long).await,
        OFFSET_METADATA_TOO_LARGE
    );
    assert_eq!(member.commit(&mut raw, "topic", 4, &"x".repeat(4096)).await, NONE);
    let joined = Member {
        session_timeout_ms: 1,
        ..Member::new("group")
    }
    .join(&mut raw)
    .await;
    assert_eq!(joined.error_code, INVALID_SESSION_TIMEOUT);
    assert_eq!(Member::new("").join(&mut raw).await.error_code, INVALID_GROUP_ID);
}

#[tokio::test]
async fn a_static_member_is_replaced_by_its_next_self_without_a_rebalance() {
    let (_cluster, mut raw, mut other) = start().await;
    let mut first = Member {
        instance: Some("i".to_owned()),
        ..Member::new("group")
    };
    assert_eq!(first.join(&mut raw).await.error_code, NONE);
    first.sync(&mut raw, &[(&first.id, b"mine")]).await;
    let mut second = Member {
        instance: Some("i".to_owned()),
        ..Member::new("group")
    };
    let joined = second.join(&mut other).await;
    assert_eq!(
        (joined.error_code, joined.generation_id),
        (NONE, first.generation)
    );
    assert_ne!(second.id, first.id);
    let synced = second.sync(&mut other, &[]).await;
    assert_eq!(synced.assignment.as_ref(), b"mine");
    assert_eq!(first.heartbeat(&mut raw).await, FENCED_INSTANCE_ID);
    assert_eq!(second.heartbeat(&mut other).await, NONE);
}

#[tokio::test]
async fn a_group_over_its_size_takes_no_more_members() {
    let cluster = Cluster::builder().setting("group.max.size", "1").start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    wait_coordinator(&mut raw, "group").await;
    let mut first = Member::new("group");
    assert_eq!(first.join(&mut raw).await.error_code, NONE);
    first.sync(&mut raw, &[(&first.id, b"mine")]).await;
    assert_eq!(
        Member::new("group").join(&mut raw).await.error_code,
        GROUP_MAX_SIZE_REACHED
    );
    assert_eq!(
        first.heartbeat(&mut raw).await,
        NONE,
        "the one that is there stays"
    );
}
