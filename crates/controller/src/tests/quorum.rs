//! Three voters over unix sockets: followers point to the leader, and a new leader goes on where the old one was.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use strom_client::{ControllerClient, Effect, MetadataWatcher, Peers};
use strom_proto::status::from_status;
use strom_proto::v1;
use strom_proto::v1::controller_client::ControllerClient as Stub;
use strom_runtime::Shutdown;
use strom_types::{ErrorCode, MetadataOffset, NodeId};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;

use super::{Heart, LIMIT, config, create, environment, register, socket};
use crate::App;

struct Member {
    shutdown: Shutdown,
    running: JoinHandle<()>,
}

fn start(dir: &Path, node: i32) -> Member {
    let voters: Vec<(NodeId, String)> = (1..=3)
        .map(|node| socket(dir, node))
        .map(|(node, endpoint, _)| (node, endpoint))
        .collect();
    let mut config = config(node, &dir.join(node.to_string()), voters);
    config.cluster_id = Some("three".into());
    let app = App::build(config, environment()).expect("builds");
    let (_, _, path) = socket(dir, node);
    // A socket file that an earlier life left behind.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("binds");
    let routes = app.routes();
    let shutdown = Shutdown::new();
    let (stop, serving) = (shutdown.clone(), Shutdown::new());
    let stop_serving = serving.clone();
    let running = tokio::spawn(async move {
        let server = tonic::transport::Server::builder()
            .add_routes(routes)
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
                stop_serving.cancelled().await;
            });
        let run = async {
            app.run(stop).await.expect("ends in order");
            serving.trigger("test");
        };
        tokio::select! {
            outcome = server => outcome.expect("serves"),
            () = run => {}
        }
    });
    Member { shutdown, running }
}

async fn stop(member: Member) {
    member.shutdown.trigger("test");
    member.running.await.expect("no panic");
}

async fn leader(client: &ControllerClient) -> i32 {
    let call = client.call(
        LIMIT,
        Effect::Idempotent,
        v1::DescribeQuorumRequest {},
        |mut stub, request| async move { stub.describe_quorum(request).await },
    );
    let quorum = call.await.expect("a leader");
    assert_eq!(quorum.voters.len(), 3);
    quorum.leader_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leadership_moves_and_nothing_is_forgotten() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members: BTreeMap<i32, Member> = (1..=3).map(|node| (node, start(dir.path(), node))).collect();
    let endpoints: Vec<String> = (1..=3).map(|node| socket(dir.path(), node).1).collect();
    let peers = Peers::new();
    let client = ControllerClient::new(peers.clone(), endpoints);
    let epoch = register(&client, 7, "local:broker").await.expect("registers");
    let first = leader(&client).await;

    // Any controller serves the watch; only the leader takes changes, and the others say who that is.
    let follower = (1..=3).find(|node| *node != first).expect("three");
    let follower_endpoint = socket(dir.path(), follower).1;
    let near = ControllerClient::new(peers.clone(), vec![follower_endpoint.clone()]);
    let (watcher, metadata) = MetadataWatcher::new(near, "test".into());
    let stop_watch = Shutdown::new();
    let watching = tokio::spawn(watcher.run(stop_watch.clone()));
    let mut stub = Stub::new(peers.control(&follower_endpoint).expect("an endpoint"));
    let refused = stub
        .create_topics(v1::CreateTopicsRequest::default())
        .await
        .expect_err("not the leader");
    let error = from_status(&refused);
    assert_eq!(error.code, ErrorCode::NotController as i32);
    assert_eq!(error.leader_endpoint, socket(dir.path(), first).1);

    let mut heart = Heart::open(&client, 7, epoch).await;
    heart.come_into_service().await;
    let made = create(&client, "before", 2).await.expect("creates");
    assert!(
        metadata
            .wait_for(MetadataOffset(made.metadata_offset), LIMIT)
            .await
    );

    stop(members.remove(&first).expect("runs")).await;
    let second = leader(&client).await;
    assert_ne!(second, first);
    let mut heart = Heart::open(&client, 7, epoch).await;
    assert_eq!(heart.beat().await.error, 0, "the new leader knows the broker");
    heart.come_into_service().await;
    let made = create(&client, "after", 1).await.expect("creates");
    assert_eq!(made.results[0].error, None);

    members.insert(first, start(dir.path(), first));
    let back = ControllerClient::new(peers, vec![socket(dir.path(), first).1]);
    let (watcher, there) = MetadataWatcher::new(back, "test".into());
    let there_too = tokio::spawn(watcher.run(stop_watch.clone()));
    for cache in [&metadata, &there] {
        assert!(cache.wait_for(MetadataOffset(made.metadata_offset), LIMIT).await);
        let names: Vec<_> = cache
            .image()
            .topics()
            .map(|topic| topic.name.to_string())
            .collect();
        assert_eq!(names, ["after", "before"]);
    }
    stop_watch.trigger("test");
    watching.await.expect("no panic");
    there_too.await.expect("no panic");
    for member in members.into_values() {
        stop(member).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_changes_fail_and_all_heals_when_it_is_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members: BTreeMap<i32, Member> = (1..=3).map(|node| (node, start(dir.path(), node))).collect();
    let endpoints: Vec<String> = (1..=3).map(|node| socket(dir.path(), node).1).collect();
    let client = ControllerClient::new(Peers::new(), endpoints);
    create(&client, "a", 1).await.expect("an answer");
    for node in [1, 2] {
        stop(members.remove(&node).expect("runs")).await;
    }
    let request = v1::UnregisterBrokerRequest { broker_id: 7 };
    let call = client.call(
        Duration::from_secs(2),
        Effect::Once,
        request,
        |mut stub, request| async move { stub.unregister_broker(request).await },
    );
    let error = call.await.expect_err("no majority");
    let code = error.code();
    assert!(
        matches!(
            code,
            ErrorCode::NotController | ErrorCode::ControllerUnavailable | ErrorCode::Indeterminate
        ),
        "{error}"
    );
    members.insert(1, start(dir.path(), 1));
    let epoch = register(&client, 7, "local:broker")
        .await
        .expect("registers again");
    assert!(epoch > 0);
    for member in members.into_values() {
        stop(member).await;
    }
}
