//! Tests of whole controllers in this process: one voter, and three over unix sockets.

mod quorum;
mod single;
mod streams;

use std::path::{Path, PathBuf};
use std::time::Duration;

use strom_client::{CallError, ControllerClient, Effect, MetadataCache, MetadataWatcher, Peers};
use strom_metadata::CoreConfig;
use strom_proto::v1;
use strom_runtime::admin::BuildInfo;
use strom_runtime::{Clock, Health, Metrics, Settings, Shutdown};
use strom_types::{BrokerId, NodeId};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{App, ControllerConfig, Environment, RunError};

const LIMIT: Duration = Duration::from_secs(10);
const LOCAL: &str = "local:controller";

/// Polls until `done` gives something, for at most ten seconds.
#[track_caller]
fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> impl Future<Output = T> {
    let what = what.to_owned();
    let deadline = Instant::now() + LIMIT;
    async move {
        loop {
            if let Some(value) = done() {
                return value;
            }
            assert!(Instant::now() < deadline, "not in time: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn environment() -> Environment {
    let clock = Clock::system();
    let build = BuildInfo {
        version: "test",
        roles: "controller".into(),
    };
    Environment {
        health: Health::new(clock.clone()),
        metrics: Metrics::new(&clock, build),
        clock,
        tls: None,
    }
}

fn config(node: i32, data_dir: &Path, voters: Vec<(NodeId, String)>) -> ControllerConfig {
    let settings = Settings::default();
    let mut config =
        ControllerConfig::from_settings(&settings, NodeId(node), LOCAL.into(), data_dir.to_owned(), voters);
    config.core.session_timeout = Duration::from_millis(900);
    config.core.gateway_grace = Duration::from_millis(200);
    config
}

/// A single controller that runs, and a client of it.
struct Node {
    client: ControllerClient,
    metadata: MetadataCache,
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
    running: JoinHandle<Result<(), RunError>>,
    watching: JoinHandle<()>,
}

impl Node {
    fn start(data_dir: &Path) -> Node {
        Node::start_with(config(1, data_dir, vec![]))
    }

    fn start_with(config: ControllerConfig) -> Node {
        let environment = environment();
        let (health, metrics) = (environment.health.clone(), environment.metrics.clone());
        health.set_started();
        let app = App::build(config, environment).expect("builds");
        let peers = Peers::new();
        peers.serve_local(LOCAL, app.routes());
        let client = ControllerClient::new(peers, vec![LOCAL.into()]);
        let shutdown = Shutdown::new();
        let (watcher, metadata) = MetadataWatcher::new(client.clone(), "test".into());
        Node {
            client,
            metadata,
            health,
            metrics,
            running: tokio::spawn(app.run(shutdown.clone())),
            watching: tokio::spawn(watcher.run(shutdown.clone())),
            shutdown,
        }
    }

    async fn stop(self) {
        self.shutdown.trigger("test");
        self.running.await.expect("no panic").expect("ends in order");
        self.watching.await.expect("no panic");
    }

    async fn register(&self, id: i32, endpoint: &str) -> i64 {
        register(&self.client, id, endpoint).await.expect("registers")
    }

    async fn create(&self, name: &str, partitions: i32) -> v1::CreateTopicsReply {
        create(&self.client, name, partitions).await.expect("creates")
    }

    fn is_fenced(&self, id: i32) -> Option<bool> {
        self.metadata
            .image()
            .broker(BrokerId(id))
            .map(|broker| broker.fenced)
    }
}

async fn register(client: &ControllerClient, id: i32, endpoint: &str) -> Result<i64, CallError> {
    let bytes = |id: Uuid| bytes::Bytes::copy_from_slice(id.as_bytes());
    let request = v1::RegisterBrokerRequest {
        broker_id: id,
        incarnation: bytes(Uuid::new_v4()),
        endpoint: endpoint.into(),
        directories: vec![v1::LogDirectory {
            directory_id: bytes(Uuid::from_u128(1 + u128::try_from(id).expect("small"))),
            online: true,
        }],
        previous_clean_epoch: -1,
        ..Default::default()
    };
    let call = client.call(
        LIMIT,
        Effect::Idempotent,
        request,
        |mut stub, request| async move { stub.register_broker(request).await },
    );
    call.await.map(|reply| reply.broker_epoch)
}

async fn create(
    client: &ControllerClient,
    name: &str,
    partitions: i32,
) -> Result<v1::CreateTopicsReply, CallError> {
    let request = v1::CreateTopicsRequest {
        topics: vec![v1::NewTopic {
            name: name.into(),
            partitions,
            replication_factor: -1,
            ..Default::default()
        }],
        validate_only: false,
    };
    let call = client.call(LIMIT, Effect::Once, request, |mut stub, request| async move {
        stub.create_topics(request).await
    });
    call.await
}

/// A broker's heartbeats, by hand.
struct Heart {
    requests: tokio::sync::mpsc::Sender<v1::BrokerHeartbeatRequest>,
    replies: tonic::Streaming<v1::BrokerHeartbeatReply>,
    next: v1::BrokerHeartbeatRequest,
}

impl Heart {
    async fn open(client: &ControllerClient, id: i32, epoch: i64) -> Heart {
        let (requests, stream) = tokio::sync::mpsc::channel(4);
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let mut stub = client.stub().expect("a stub");
        let replies = stub.broker_heartbeat(stream).await.expect("opens").into_inner();
        let next = v1::BrokerHeartbeatRequest {
            broker_id: id,
            broker_epoch: epoch,
            metadata_offset: u64::try_from(epoch).expect("registered"),
            ..Default::default()
        };
        Heart {
            requests,
            replies,
            next,
        }
    }

    async fn beat(&mut self) -> v1::BrokerHeartbeatReply {
        self.next.sent_at += 1;
        self.requests.send(self.next.clone()).await.expect("open");
        let reply = self.replies.message().await.expect("open").expect("a reply");
        assert_eq!(reply.sent_at, self.next.sent_at);
        reply
    }

    /// Beats until the controllers have taken the broker into service.
    async fn come_into_service(&mut self) {
        let deadline = Instant::now() + LIMIT;
        while self.beat().await.fenced {
            assert!(Instant::now() < deadline, "still fenced");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn socket(dir: &Path, node: i32) -> (NodeId, String, PathBuf) {
    let path = dir.join(format!("c{node}.sock"));
    (NodeId(node), format!("unix://{}", path.display()), path)
}

#[test]
fn the_configuration_is_read() {
    let settings = Settings::default();
    let config = ControllerConfig::from_settings(&settings, NodeId(3), "h:1".into(), "d".into(), vec![]);
    assert_eq!(config.voters, [(NodeId(3), "h:1".to_owned())]);
    assert_eq!(config.cluster_id, None);
    let defaults = CoreConfig::default();
    assert_eq!(
        config.core.session_timeout,
        Duration::from_secs(5),
        "the key's default"
    );
    assert_eq!(config.core.rebalance_interval, defaults.rebalance_interval);
}
