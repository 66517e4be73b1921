//! Incremental fetch sessions (KIP-227).

use strom_cluster::codes::*;
use strom_cluster::raw::Raw;
use strom_cluster::requests::*;
use strom_kafka_codec::messages::fetch_request::{FetchPartition, ForgottenTopic};
use strom_kafka_codec::messages::{FetchRequest, FetchResponse};
use strom_testkit::{Cluster, Member};

fn partition(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    }
}

fn partitions_of(reply: &FetchResponse) -> Vec<(i32, i16, usize)> {
    let partitions = reply.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|data| (data.partition_index, data.error_code, records_of(data).len()))
        .collect()
}

/// An incremental request of the session that changes nothing.
fn next(session_id: i32, session_epoch: i32) -> FetchRequest {
    let mut request = fetch_request("sessions", 0, 0);
    request.topics.clear();
    FetchRequest {
        session_id,
        session_epoch,
        ..request
    }
}

#[tokio::test]
async fn a_session_answers_with_what_is_new() {
    let cluster = Cluster::builder().start().await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "sessions", 3, &[]).await;
    produce_values(&mut raw, "sessions", 0, &["a"]).await;
    let mut first = fetch_request("sessions", 0, 0);
    first.session_epoch = 0;
    first.topics.first_mut().unwrap().partitions = vec![partition(0, 0), partition(1, 0), partition(2, 0)];
    let reply = raw.call(FETCH, &first).await;
    let id = reply.session_id;
    assert_ne!(id, 0, "a session was asked for");
    assert_eq!(
        partitions_of(&reply),
        [(0, NONE, 1), (1, NONE, 0), (2, NONE, 0)],
        "at first everything"
    );

    // The client has read partition 0 and says so.
    let mut request = next(id, 1);
    let mut topic = first.topics.first().unwrap().clone();
    topic.partitions = vec![partition(0, 1)];
    request.topics = vec![topic.clone()];
    let reply = raw.call(FETCH, &request).await;
    assert_eq!(
        (reply.session_id, partitions_of(&reply)),
        (id, vec![]),
        "nothing is new"
    );
    produce_values(&mut raw, "sessions", 2, &["b", "c"]).await;
    let reply = raw.call(FETCH, &next(id, 2)).await;
    assert_eq!(partitions_of(&reply), [(2, NONE, 2)], "only what has news");
    // Not confirmed by a new offset, so it comes again.
    let reply = raw.call(FETCH, &next(id, 3)).await;
    assert_eq!(partitions_of(&reply), [(2, NONE, 2)]);

    let mut forget = next(id, 4);
    forget.forgotten_topics_data = vec![ForgottenTopic {
        topic: "sessions".into(),
        partitions: vec![2],
        ..Default::default()
    }];
    let reply = raw.call(FETCH, &forget).await;
    assert_eq!(partitions_of(&reply), [], "the forgotten one is out");

    let reply = raw.call(FETCH, &next(id, 9)).await;
    assert_eq!(reply.error_code, INVALID_FETCH_SESSION_EPOCH);
    let reply = raw.call(FETCH, &next(id.wrapping_add(1), 5)).await;
    assert_eq!(reply.error_code, FETCH_SESSION_ID_NOT_FOUND);
    // Another client's id is as good as any: sessions are known by number, as in Kafka.
    let mut other = Raw::connect(&cluster.bootstrap()).await;
    let reply = other.call(FETCH, &next(id, 5)).await;
    assert_eq!((reply.error_code, reply.session_id), (NONE, id));
    let held = |cluster: &Cluster| {
        cluster.metric(
            Member::Gateway(0),
            "kafka_server_fetchsessioncache_numincrementalfetchsessions",
            &[],
        )
    };
    assert_eq!(held(&cluster), 1.0);
    // A full fetch that names the session ends it.
    let mut last = next(id, -1);
    last.topics = vec![topic];
    let reply = raw.call(FETCH, &last).await;
    assert_eq!((reply.error_code, reply.session_id), (NONE, 0));
    assert_eq!(held(&cluster), 0.0);
    let reply = raw.call(FETCH, &next(id, 6)).await;
    assert_eq!(reply.error_code, FETCH_SESSION_ID_NOT_FOUND);
}

#[tokio::test]
async fn sessions_beyond_the_limit_are_not_made() {
    let cluster = Cluster::builder()
        .setting("max.incremental.fetch.session.cache.slots", "2")
        .start()
        .await;
    let mut raw = Raw::connect(&cluster.bootstrap()).await;
    create_topic(&mut raw, "sessions", 1, &[]).await;
    let mut request = fetch_request("sessions", 0, 0);
    request.session_epoch = 0;
    let mut made = Vec::new();
    for _ in 0..3 {
        let reply = raw.call(FETCH, &request).await;
        assert_eq!(
            (reply.error_code, partitions_of(&reply)),
            (NONE, vec![(0, NONE, 0)])
        );
        made.push(reply.session_id != 0);
    }
    assert_eq!(
        made,
        [true, true, false],
        "0 = no session: the client goes on with full fetches"
    );
}
