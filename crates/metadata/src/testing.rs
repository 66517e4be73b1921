//! Small clusters for this crate's tests.

use std::time::Duration;

use bytes::Bytes;
use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::{BrokerEpoch, BrokerId, MetadataOffset, Mono, TopicId, TopicIdPartition};
use uuid::Uuid;

use crate::commands::{Command, Context, ControllerSettings, Outcome, Reply, evaluate};
use crate::image::{Image, PartitionState};
use crate::sessions::BrokerSessions;

pub(crate) fn uuid_bytes(n: u128) -> Bytes {
    Bytes::copy_from_slice(Uuid::from_u128(n).as_bytes())
}

pub(crate) fn topic_id(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n))
}

pub(crate) fn ids(list: &[i32]) -> Vec<BrokerId> {
    list.iter().copied().map(BrokerId).collect()
}

/// A broker to begin a test with. Its only directory has the broker's id as its id.
#[derive(Clone)]
pub(crate) struct TestBroker(v1::BrokerRecord);

impl TestBroker {
    pub(crate) fn active(id: i32) -> Self {
        TestBroker(v1::BrokerRecord {
            broker_id: id,
            incarnation: uuid_bytes(1000 + u128::try_from(id).expect("positive")),
            endpoint: format!("broker-{id}:9190"),
            directories: vec![v1::LogDirectory {
                directory_id: uuid_bytes(u128::try_from(id).expect("positive")),
                online: true,
            }],
            previous_clean_epoch: -1,
            broker_epoch: Some(i64::from(100 + id)),
            ..Default::default()
        })
    }

    pub(crate) fn fenced(id: i32) -> Self {
        let mut broker = TestBroker::active(id);
        broker.0.fenced = true;
        broker
    }

    pub(crate) fn rack(mut self, rack: &str) -> Self {
        self.0.rack = rack.into();
        self
    }

    pub(crate) fn cordoned(mut self) -> Self {
        self.0.cordoned = true;
        self
    }
}

/// An image at index 200 of the cluster "cluster".
pub(crate) fn image_with_brokers(brokers: &[TestBroker]) -> Image {
    let cluster = Record::Cluster(v1::ClusterRecord {
        cluster_id: "cluster".into(),
    });
    let brokers = brokers.iter().map(|broker| Record::Broker(broker.0.clone()));
    let records = std::iter::once(cluster)
        .chain(brokers)
        .map(|record| v1::MetadataRecord { record: Some(record) });
    Image::from_records(MetadataOffset(200), records).expect("good records")
}

/// One controller without raft: commands are committed as they come.
pub(crate) struct World {
    pub(crate) image: Image,
    pub(crate) settings: ControllerSettings,
    pub(crate) sessions: BrokerSessions,
    pub(crate) now: Mono,
}

impl World {
    pub(crate) fn new(brokers: &[TestBroker]) -> World {
        let image = image_with_brokers(brokers);
        let now = Mono(1);
        let mut sessions = BrokerSessions::new(Duration::from_secs(6));
        sessions.restart(&image, now);
        World {
            image,
            settings: ControllerSettings::default(),
            sessions,
            now,
        }
    }

    pub(crate) fn with_active(brokers: &[i32]) -> World {
        let brokers: Vec<_> = brokers.iter().copied().map(TestBroker::active).collect();
        World::new(&brokers)
    }

    pub(crate) fn evaluate(&self, command: Command) -> Outcome {
        let context = Context {
            settings: &self.settings,
            sessions: &self.sessions,
            now: self.now,
        };
        evaluate(command, &self.image, &context)
    }

    /// Evaluates and commits; every outcome's own image must equal what the log would make of its records.
    pub(crate) fn run(&mut self, command: Command) -> Result<Reply, v1::ServiceError> {
        let outcome = self.evaluate(command);
        let index = MetadataOffset(self.image.index.get() + 1);
        if !outcome.records.is_empty() {
            let batch = v1::MetadataBatch {
                records: outcome.records,
                timestamp_ms: 0,
            };
            self.image.apply(index, &batch).expect("the log accepts it");
            assert_eq!(self.image, outcome.image);
            self.sessions.follow(&self.image, self.now);
        }
        outcome.reply.map(|mut reply| {
            reply.committed_at(self.image.index);
            reply
        })
    }

    pub(crate) fn epoch(&self, broker: i32) -> BrokerEpoch {
        self.image.broker(BrokerId(broker)).expect("registered").epoch
    }

    /// Creates a topic with explicit replicas of each partition and configs.
    pub(crate) fn create(&mut self, name: &str, replicas: &[&[i32]], configs: &[(&str, &str)]) -> TopicId {
        let id = topic_id(5000 + self.image.topic_count() as u128);
        let assignments = (0..)
            .zip(replicas)
            .map(|(partition, brokers)| v1::ReplicaAssignment {
                partition,
                brokers: brokers.to_vec(),
            });
        let topic = v1::NewTopic {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            assignments: assignments.collect(),
            configs: configs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            topic_id: Bytes::copy_from_slice(id.as_bytes()),
        };
        let request = v1::CreateTopicsRequest {
            topics: vec![topic],
            validate_only: false,
        };
        match self.run(Command::CreateTopics(request)) {
            Ok(Reply::CreateTopics(reply)) => assert_eq!(reply.results[0].error, None),
            other => panic!("{other:?}"),
        }
        id
    }

    pub(crate) fn partition(&self, topic: TopicId, partition: i32) -> &PartitionState {
        self.image
            .partition(TopicIdPartition::new(topic, partition))
            .expect("exists")
    }

    /// (leader or -1, ISR, ELR) of a partition.
    pub(crate) fn state(&self, topic: TopicId, partition: i32) -> (i32, Vec<i32>, Vec<i32>) {
        let state = self.partition(topic, partition);
        let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.get()).collect();
        (
            state.leader.map_or(-1, BrokerId::get),
            numbers(&state.isr),
            numbers(&state.elr),
        )
    }
}
