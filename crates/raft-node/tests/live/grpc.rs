//! Three nodes over real sockets: elections, a snapshot of several megabytes, a peer of another cluster.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strom_proto::v1::raft_client::RaftClient;
use strom_proto::v1::{RaftEnvelope, RaftSnapshotChunk};
use strom_raft_node::transport::grpc::{GrpcTransport, service};
use strom_raft_node::{RaftConfig, RaftHandle, RaftNode, Tuning};
use strom_types::NodeId;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;

use crate::{Running, Tally, until};

const CLUSTER: &str = "grpc";

struct Served {
    running: Running,
    server: JoinHandle<()>,
}

async fn listeners() -> (Vec<TcpListener>, Vec<(NodeId, String)>) {
    let mut listeners = Vec::new();
    let mut voters = Vec::new();
    for node in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        voters.push((NodeId(node), listener.local_addr().unwrap().to_string()));
        listeners.push(listener);
    }
    (listeners, voters)
}

fn config(node: i32, dir: &TempDir, voters: &[(NodeId, String)]) -> RaftConfig {
    let mut config = RaftConfig::new(NodeId(node), CLUSTER, dir.path(), voters.to_vec());
    config.tick = Duration::from_millis(20);
    config.tuning = Tuning {
        snapshot_every_entries: 50,
        keep_entries: 10,
        ..Tuning::default()
    };
    config
}

fn serve(config: &RaftConfig, listener: TcpListener) -> Served {
    let transport =
        GrpcTransport::from_voters(config.node_id, &config.initial_voters, None, Handle::current()).unwrap();
    let machine = Tally {
        padding: 12,
        ..Tally::default()
    };
    let (node, handle) = RaftNode::open(config, machine, transport).unwrap();
    let router = tonic::transport::Server::builder().add_service(service(handle.clone()));
    let server = tokio::spawn(async move {
        router
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    Served {
        running: Running::start(node, handle),
        server,
    }
}

async fn leader(nodes: &[Served]) -> RaftHandle {
    let mut waiting = tokio::task::JoinSet::new();
    for node in nodes {
        let handle = node.running.handle.clone();
        waiting.spawn(async move {
            until(&handle, "leading", |status| status.ready_to_lead).await;
            handle
        });
    }
    waiting.join_next().await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_over_sockets() {
    let (listeners, voters) = listeners().await;
    let dirs: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut nodes: Vec<Served> = Vec::new();
    for (node, listener) in (0..3).zip(listeners) {
        nodes.push(serve(
            &config(node, &dirs[usize::try_from(node).unwrap()], &voters),
            listener,
        ));
    }
    let first = leader(&nodes).await;
    for number in 0..20 {
        first.propose(Bytes::from(format!("{number}"))).await.unwrap();
    }
    // Stop a follower, go on past the cut, and let it come back: it needs a snapshot of 3 MiB.
    let led_by = first.status().borrow().leader;
    let behind = (0..3).find(|node| Some(NodeId(*node)) != led_by).unwrap();
    let at = usize::try_from(behind).unwrap();
    let stopped = nodes.remove(at);
    stopped.server.abort();
    stopped.running.stop().await;
    let mut last = 0;
    for number in 0..200 {
        last = first.propose(Bytes::from(format!("{number}"))).await.unwrap();
    }
    let listener = TcpListener::bind(&voters[at].1).await.unwrap();
    nodes.push(serve(&config(behind, &dirs[at], &voters), listener));
    let back = nodes.last().unwrap().running.handle.clone();
    until(&back, "caught up", |status| status.applied >= last).await;
    assert!(back.describe().await.unwrap().snapshot > 100);
    assert!(back.read_index().await.unwrap() >= last);
    for node in nodes {
        node.running.stop().await;
        node.server.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_broken_snapshots_are_refused() {
    let (mut listeners, voters) = listeners().await;
    let dir = tempfile::tempdir().unwrap();
    let address = voters[0].1.clone();
    let node = serve(&config(0, &dir, &voters), listeners.remove(0));
    let mut client = RaftClient::connect(format!("http://{address}")).await.unwrap();
    let send = |cluster: &str, to: u64| {
        tokio_stream::iter(vec![RaftEnvelope {
            cluster_id: cluster.into(),
            from: 2,
            to,
            ..Default::default()
        }])
    };
    let other_cluster = client.send(send("other", 1)).await.unwrap_err();
    assert_eq!(other_cluster.code(), Code::FailedPrecondition);
    assert!(
        other_cluster.message().contains("another cluster"),
        "{other_cluster}"
    );
    assert_eq!(
        client.send(send(CLUSTER, 2)).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    client.send(send(CLUSTER, 1)).await.unwrap();

    let chunk = |offset: u64, total: u64, crc_off: u32| {
        let data = Bytes::from_static(b"abc");
        RaftSnapshotChunk {
            cluster_id: CLUSTER.into(),
            from: 2,
            to: 1,
            offset,
            total,
            data_crc32c: crc32c::crc32c(&data) ^ crc_off,
            data,
            ..Default::default()
        }
    };
    let broken = [
        (vec![], Code::InvalidArgument),
        (vec![chunk(0, 3, 1)], Code::DataLoss),
        (vec![chunk(1, 4, 0)], Code::DataLoss),
        (vec![chunk(0, 6, 0)], Code::DataLoss),
        (vec![chunk(0, 3, 0), chunk(3, 3, 0)], Code::DataLoss),
        (vec![chunk(0, u64::MAX, 0)], Code::DataLoss),
    ];
    for (chunks, code) in broken {
        let status = client
            .install_snapshot(tokio_stream::iter(chunks))
            .await
            .unwrap_err();
        assert_eq!(status.code(), code, "{status}");
    }
    let dropped = Arc::new(node.running.handle.describe().await.unwrap().dropped);
    assert!(
        dropped.iter().any(|(reason, _)| *reason == "no_storage"),
        "{dropped:?}"
    );
    node.running.stop().await;
    node.server.abort();
}
