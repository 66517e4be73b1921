//! A controller for tests: the real commands over an image in memory, with failures on demand.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use strom_metadata::{BrokerSessions, Command, Context, ControllerSettings, Image, Reply, evaluate};
use strom_proto::status::to_status;
use strom_proto::v1;
use strom_proto::v1::controller_server::Controller;
use strom_proto::v1::metadata_update::Update;
use strom_types::{MetadataOffset, Mono};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

type Feed = mpsc::UnboundedSender<Result<v1::MetadataUpdate, Status>>;
type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What happens to a call instead of its usual course.
pub(super) enum Fault {
    /// Refused before it had any effect.
    Refuse(Status),
    /// Done, but the answer is lost.
    LoseAnswer,
}

struct State {
    image: Image,
    feeds: Vec<Feed>,
    /// Committed entries are kept from the watchers.
    feed_held: bool,
    faults: VecDeque<Fault>,
    calls: usize,
}

#[derive(Clone)]
pub(super) struct FakeController {
    state: Arc<Mutex<State>>,
}

impl FakeController {
    pub(super) fn new() -> Self {
        FakeController {
            state: Arc::new(Mutex::new(State {
                image: Image::empty(),
                feeds: Vec::new(),
                feed_held: false,
                faults: VecDeque::new(),
                calls: 0,
            })),
        }
    }

    /// Commits records as one entry.
    pub(super) fn commit(&self, records: Vec<v1::MetadataRecord>) -> MetadataOffset {
        let mut state = self.state.lock();
        let index = MetadataOffset(state.image.index.get() + 1);
        let batch = v1::MetadataBatch {
            records,
            timestamp_ms: 0,
        };
        state.image.apply(index, &batch).unwrap();
        if !state.feed_held {
            let delta = v1::MetadataUpdate {
                update: Some(Update::Delta(v1::MetadataDelta {
                    index: index.get(),
                    batch: Some(batch),
                })),
            };
            state.feeds.retain(|feed| feed.send(Ok(delta.clone())).is_ok());
        }
        index
    }

    pub(super) fn image(&self) -> Image {
        self.state.lock().image.clone()
    }

    pub(super) fn hold_feed(&self) {
        self.state.lock().feed_held = true;
    }

    pub(super) fn fail_next(&self, fault: Fault) {
        self.state.lock().faults.push_back(fault);
    }

    /// Calls that change something, so far.
    pub(super) fn calls(&self) -> usize {
        self.state.lock().calls
    }

    fn run(&self, command: Command) -> Result<Reply, Status> {
        let fault = {
            let mut state = self.state.lock();
            state.calls += 1;
            state.faults.pop_front()
        };
        if let Some(Fault::Refuse(status)) = fault {
            return Err(status);
        }
        let image = self.image();
        let mut sessions = BrokerSessions::new(Duration::from_secs(9));
        sessions.follow(&image, Mono(0));
        let settings = ControllerSettings::default();
        let context = Context {
            settings: &settings,
            sessions: &sessions,
            now: Mono(0),
        };
        let outcome = evaluate(command, &image, &context);
        let mut reply = outcome.reply.map_err(|error| to_status(&error))?;
        let index = if outcome.records.is_empty() {
            image.index
        } else {
            self.commit(outcome.records)
        };
        reply.committed_at(index);
        match fault {
            Some(Fault::LoseAnswer) => Err(Status::unavailable("connection lost")),
            _ => Ok(reply),
        }
    }
}

macro_rules! change {
    ($self:ident, $request:ident, $command:ident, $reply:ident) => {
        match $self.run(Command::$command($request.into_inner()))? {
            Reply::$reply(reply) => Ok(Response::new(reply)),
            other => panic!("{other:?}"),
        }
    };
}

#[tonic::async_trait]
impl Controller for FakeController {
    type WatchMetadataStream = BoxStream<v1::MetadataUpdate>;
    type BrokerHeartbeatStream = BoxStream<v1::BrokerHeartbeatReply>;
    type RegisterGatewayStream = BoxStream<v1::RegisterGatewayReply>;

    async fn watch_metadata(
        &self,
        _: Request<v1::WatchMetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        let (feed, updates) = mpsc::unbounded_channel();
        let mut state = self.state.lock();
        let snapshot = v1::MetadataSnapshot {
            index: state.image.index.get(),
            chunk: Some(v1::SnapshotChunk {
                records: state.image.to_records().collect(),
            }),
            last: true,
        };
        let update = v1::MetadataUpdate {
            update: Some(Update::Snapshot(snapshot)),
        };
        feed.send(Ok(update)).unwrap();
        state.feeds.push(feed);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(updates))))
    }

    async fn create_topics(
        &self,
        request: Request<v1::CreateTopicsRequest>,
    ) -> Result<Response<v1::CreateTopicsReply>, Status> {
        change!(self, request, CreateTopics, CreateTopics)
    }

    async fn delete_topics(
        &self,
        request: Request<v1::DeleteTopicsRequest>,
    ) -> Result<Response<v1::DeleteTopicsReply>, Status> {
        change!(self, request, DeleteTopics, DeleteTopics)
    }

    async fn create_partitions(
        &self,
        request: Request<v1::CreatePartitionsRequest>,
    ) -> Result<Response<v1::CreatePartitionsReply>, Status> {
        change!(self, request, CreatePartitions, CreatePartitions)
    }

    async fn alter_configs(
        &self,
        request: Request<v1::AlterConfigsRequest>,
    ) -> Result<Response<v1::AlterConfigsReply>, Status> {
        change!(self, request, AlterConfigs, AlterConfigs)
    }

    async fn elect_leaders(
        &self,
        request: Request<v1::ElectLeadersRequest>,
    ) -> Result<Response<v1::ElectLeadersReply>, Status> {
        change!(self, request, ElectLeaders, ElectLeaders)
    }

    async fn unregister_broker(
        &self,
        request: Request<v1::UnregisterBrokerRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        change!(self, request, UnregisterBroker, Change)
    }

    async fn describe_quorum(
        &self,
        _: Request<v1::DescribeQuorumRequest>,
    ) -> Result<Response<v1::DescribeQuorumReply>, Status> {
        if let Some(Fault::Refuse(status)) = self.state.lock().faults.pop_front() {
            return Err(status);
        }
        Ok(Response::new(v1::DescribeQuorumReply {
            leader_id: 1,
            term: 5,
            commit_index: 42,
            voters: vec![v1::QuorumMember {
                node_id: 1,
                storage_id: vec![7; 16].into(),
                matched_index: 42,
                last_contact_ms: 0,
                endpoint: "controller-0:9093".into(),
            }],
            learners: vec![v1::QuorumMember {
                node_id: 2,
                storage_id: vec![8; 16].into(),
                matched_index: 40,
                last_contact_ms: 10,
                endpoint: "unix:///tmp/controller".into(),
            }],
        }))
    }

    async fn register_broker(
        &self,
        _: Request<v1::RegisterBrokerRequest>,
    ) -> Result<Response<v1::RegisterBrokerReply>, Status> {
        Err(Status::unimplemented("not for gateways"))
    }

    async fn broker_heartbeat(
        &self,
        _: Request<Streaming<v1::BrokerHeartbeatRequest>>,
    ) -> Result<Response<Self::BrokerHeartbeatStream>, Status> {
        Err(Status::unimplemented("not for gateways"))
    }

    async fn register_gateway(
        &self,
        _: Request<Streaming<v1::RegisterGatewayRequest>>,
    ) -> Result<Response<Self::RegisterGatewayStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn alter_partition(
        &self,
        _: Request<v1::AlterPartitionRequest>,
    ) -> Result<Response<v1::AlterPartitionReply>, Status> {
        Err(Status::unimplemented("not for gateways"))
    }

    async fn allocate_producer_ids(
        &self,
        _: Request<v1::AllocateProducerIdsRequest>,
    ) -> Result<Response<v1::AllocateProducerIdsReply>, Status> {
        Err(Status::unimplemented("not for gateways"))
    }
}
