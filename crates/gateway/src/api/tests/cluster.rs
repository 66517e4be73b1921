//! One gateway with its controller and brokers in this process, spoken to in frames.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use strom_client::{ControllerClient, LaneLimits, MetadataWatcher, Peers};
use strom_kafka_codec::{Request, decode_response_frame, encode_request_frame};
use strom_proto::v1;
use strom_proto::v1::broker_control_server::BrokerControlServer;
use strom_proto::v1::controller_server::ControllerServer;
use strom_proto::v1::group_coordinator_server::GroupCoordinatorServer;
use strom_proto::v1::metadata_record::Record;
use strom_runtime::admin::BuildInfo;
use strom_runtime::config::{Sources, load};
use strom_runtime::{Clock, Shutdown};
use strom_types::{BrokerId, MetadataOffset, TopicId};
use tonic::service::Routes;
use uuid::Uuid;

use super::broker::FakeBroker;
use super::controller::FakeController;
use crate::api::{self, Failure, Reply, Start};
use crate::brokers::Brokers;
use crate::config::GatewayConfig;
use crate::gateway::{Gateway, Parts};
use crate::metrics::Metrics;
use crate::net::{Address, ConnectionInfo};
use crate::produce_order::ProduceOrder;

pub(super) const BASE_PORT: u16 = 19_000;

pub(super) struct Cluster {
    pub(super) controller: FakeController,
    pub(super) brokers: Vec<FakeBroker>,
    pub(super) gateway: Arc<Gateway>,
    shutdown: Shutdown,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.trigger("the test is over");
    }
}

fn record(record: Record) -> v1::MetadataRecord {
    v1::MetadataRecord { record: Some(record) }
}

pub(super) fn broker_record(id: i32, fenced: bool) -> v1::MetadataRecord {
    record(Record::Broker(v1::BrokerRecord {
        broker_id: id,
        incarnation: vec![9; 16].into(),
        rack: format!("rack-{id}"),
        endpoint: format!("local:broker-{id}"),
        directories: vec![v1::LogDirectory {
            directory_id: vec![u8::try_from(id).unwrap(); 16].into(),
            online: true,
        }],
        fenced,
        previous_clean_epoch: -1,
        ..Default::default()
    }))
}

pub(super) fn topic_id(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n))
}

/// A topic whose partition p has all of `replicas`, led by the one at p modulo their number.
pub(super) fn topic_records(
    id: TopicId,
    name: &str,
    partitions: i32,
    replicas: &[i32],
) -> Vec<v1::MetadataRecord> {
    let topic_id = strom_proto::convert::topic_id_bytes(id);
    let mut records = vec![record(Record::Topic(v1::TopicRecord {
        topic_id: topic_id.clone(),
        name: name.into(),
        internal: strom_types::is_internal_topic(name),
    }))];
    for partition in 0..partitions {
        let mut replicas = replicas.to_vec();
        let turn = usize::try_from(partition).unwrap() % replicas.len();
        replicas.rotate_left(turn);
        records.push(partition_record(
            &topic_id,
            partition,
            replicas.first().copied(),
            &replicas,
        ));
    }
    records
}

pub(super) fn partition_record(
    topic_id: &bytes::Bytes,
    partition: i32,
    leader: Option<i32>,
    replicas: &[i32],
) -> v1::MetadataRecord {
    record(Record::Partition(v1::PartitionRecord {
        topic_id: topic_id.clone(),
        partition,
        replicas: replicas.to_vec(),
        leader: leader.unwrap_or(-1),
        leader_epoch: 5,
        partition_epoch: 6,
        isr: if leader.is_some() {
            replicas.to_vec()
        } else {
            Vec::new()
        },
        min_isr: 1,
        ..Default::default()
    }))
}

impl Cluster {
    /// Brokers 1 and 2 live, 3 fenced; topic `orders` of three partitions, `__consumer_offsets` of two.
    pub(super) async fn with_topics() -> Self {
        let cluster = Self::empty(&[]).await;
        let mut records = topic_records(topic_id(1), "orders", 3, &[1, 2]);
        records.extend(topic_records(topic_id(2), "__consumer_offsets", 2, &[1, 2]));
        let at = cluster.controller.commit(records);
        cluster.sees(at).await;
        cluster
    }

    /// Brokers 1 and 2 live, 3 fenced; no topics.
    pub(super) async fn empty(presets: &[(&str, &str)]) -> Self {
        let controller = FakeController::new();
        let peers = Peers::new();
        peers.serve_local(
            "local:controller",
            Routes::new(ControllerServer::new(controller.clone())),
        );
        let brokers: Vec<FakeBroker> = [1, 2, 3].map(FakeBroker::new).into();
        for broker in &brokers {
            let routes = Routes::new(BrokerControlServer::new(broker.clone()))
                .add_service(GroupCoordinatorServer::new(broker.clone()));
            peers.serve_local(&format!("local:broker-{}", broker.id), routes);
        }
        let at = controller.commit(vec![
            record(Record::Cluster(v1::ClusterRecord {
                cluster_id: "test-cluster".into(),
            })),
            broker_record(1, false),
            broker_record(2, false),
            broker_record(3, true),
        ]);
        let presets = presets
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        let settings = load(&Sources {
            presets: presets.collect(),
            ..Default::default()
        });
        let clock = Clock::system();
        let build = BuildInfo {
            version: "test",
            roles: "gateway".into(),
        };
        let client = ControllerClient::new(peers.clone(), vec!["local:controller".into()]);
        let (watcher, metadata) = MetadataWatcher::new(client.clone(), "test".into());
        let shutdown = Shutdown::new();
        tokio::spawn(watcher.run(shutdown.clone()));
        let gateway = Arc::new(Gateway::new(Parts {
            config: GatewayConfig::from_settings(&settings.unwrap()),
            metrics: Metrics::new(&strom_runtime::Metrics::new(&clock, build)),
            clock,
            metadata,
            controller: client,
            brokers: Brokers::new(peers, LaneLimits::default()),
        }));
        let cluster = Cluster {
            controller,
            brokers,
            gateway,
            shutdown,
        };
        cluster.sees(at).await;
        cluster
    }

    /// Waits until the gateway has applied an entry.
    pub(super) async fn sees(&self, at: MetadataOffset) {
        let seen = self
            .gateway
            .metadata()
            .wait_for(at, Duration::from_secs(10))
            .await;
        assert!(seen, "the gateway has applied {at}");
    }

    pub(super) fn script_brokers(&self, change: impl Fn(&mut super::broker::Script)) {
        self.brokers.iter().for_each(|broker| broker.script(&change));
    }

    /// One request by a client of the bootstrap address.
    pub(super) async fn ask<R: Request>(&self, version: i16, request: &R) -> R::Response {
        self.ask_at(None, version, request).await
    }

    /// One request by a client of a broker's address.
    pub(super) async fn ask_at<R: Request>(
        &self,
        broker: Option<i32>,
        version: i16,
        request: &R,
    ) -> R::Response {
        let reply = self.try_ask(broker, version, request).await;
        reply.unwrap_or_else(|failure| panic!("{} version {version}: {failure}", R::NAME))
    }

    pub(super) async fn try_ask<R: Request>(
        &self,
        broker: Option<i32>,
        version: i16,
        request: &R,
    ) -> Result<R::Response, Failure> {
        let connection = Arc::new(ConnectionInfo {
            peer: ([127, 0, 0, 1], 4711).into(),
            listener: Arc::new(Address {
                name: "PLAINTEXT".into(),
                host: "gateway.test".into(),
                port: BASE_PORT,
                broker_ports: Some(BASE_PORT),
            }),
            broker: broker.map(BrokerId),
            produce_order: ProduceOrder::default(),
        });
        let mut frame = encode_request_frame(77, version, Some("test-client"), request)?.into_contiguous();
        frame.advance(4);
        let started = api::start(&self.gateway, &connection, frame)?;
        let Start::Now(reply) = started.reply else {
            panic!("this API starts at once");
        };
        let Reply::Frame(chunks) = reply.await? else {
            panic!("this API answers");
        };
        let mut frame = chunks.into_contiguous();
        frame.advance(4);
        let (correlation, response) = decode_response_frame::<R::Response>(frame, version)?;
        assert_eq!(correlation, 77);
        Ok(response)
    }
}
