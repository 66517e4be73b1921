//! The `Controller` service.

use bytes::Bytes;
use strom_metadata::{Command, Reply};
use strom_proto::convert::service_error;
use strom_proto::status::to_status;
use strom_proto::v1;
use strom_proto::v1::controller_server::Controller;
use strom_runtime::Caller;
use strom_types::{BrokerId, ErrorCode};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::Service;

type Answer<T> = Result<Response<T>, Status>;
type Updates<T> = ReceiverStream<Result<T, Status>>;

/// Submits a command and takes the reply that belongs to it.
macro_rules! change {
    ($service:expr, $request:expr, $kind:ident) => {
        change!($service, $request, $kind => $kind)
    };
    ($service:expr, $request:expr, $command:ident => $reply:ident) => {
        match $service.submit(Command::$command($request)).await? {
            Reply::$reply(reply) => Ok(Response::new(reply)),
            other => Err(mismatch(&other)),
        }
    };
}

fn mismatch(reply: &Reply) -> Status {
    to_status(&service_error(
        ErrorCode::UnknownServerError,
        format!("a reply of another kind: {reply:?}"),
    ))
}

/// The message of a broker that speaks of itself.
fn own<Q>(request: Request<Q>, what: &str, broker: impl Fn(&Q) -> i32) -> Result<Q, Status> {
    let id = BrokerId(broker(request.get_ref()));
    Caller::of(request.extensions()).check_broker(id, what)?;
    Ok(request.into_inner())
}

#[tonic::async_trait]
impl Controller for Service {
    type WatchMetadataStream = Updates<v1::MetadataUpdate>;
    type BrokerHeartbeatStream = Updates<v1::BrokerHeartbeatReply>;
    type RegisterGatewayStream = Updates<v1::RegisterGatewayReply>;

    async fn watch_metadata(
        &self,
        request: Request<v1::WatchMetadataRequest>,
    ) -> Answer<Self::WatchMetadataStream> {
        self.watch(request.into_inner()).map(Response::new)
    }

    async fn register_broker(
        &self,
        request: Request<v1::RegisterBrokerRequest>,
    ) -> Answer<v1::RegisterBrokerReply> {
        let request = own(request, "RegisterBroker", |request| request.broker_id)?;
        change!(self, request, RegisterBroker)
    }

    async fn broker_heartbeat(
        &self,
        request: Request<Streaming<v1::BrokerHeartbeatRequest>>,
    ) -> Answer<Self::BrokerHeartbeatStream> {
        let caller = Caller::of(request.extensions());
        Ok(Response::new(self.heartbeats(caller, request.into_inner())))
    }

    async fn unregister_broker(
        &self,
        request: Request<v1::UnregisterBrokerRequest>,
    ) -> Answer<v1::ChangeReply> {
        change!(self, request.into_inner(), UnregisterBroker => Change)
    }

    async fn register_gateway(
        &self,
        request: Request<Streaming<v1::RegisterGatewayRequest>>,
    ) -> Answer<Self::RegisterGatewayStream> {
        Ok(Response::new(self.gateway(request.into_inner())))
    }

    async fn alter_partition(
        &self,
        request: Request<v1::AlterPartitionRequest>,
    ) -> Answer<v1::AlterPartitionReply> {
        let request = own(request, "AlterPartition", |request| request.broker_id)?;
        change!(self, request, AlterPartition)
    }

    async fn allocate_producer_ids(
        &self,
        request: Request<v1::AllocateProducerIdsRequest>,
    ) -> Answer<v1::AllocateProducerIdsReply> {
        let request = own(request, "AllocateProducerIds", |request| request.broker_id)?;
        change!(self, request, AllocateProducerIds)
    }

    async fn create_topics(
        &self,
        request: Request<v1::CreateTopicsRequest>,
    ) -> Answer<v1::CreateTopicsReply> {
        let mut request = request.into_inner();
        for topic in request
            .topics
            .iter_mut()
            .filter(|topic| topic.topic_id.is_empty())
        {
            topic.topic_id = Bytes::copy_from_slice(Uuid::new_v4().as_bytes());
        }
        change!(self, request, CreateTopics)
    }

    async fn delete_topics(
        &self,
        request: Request<v1::DeleteTopicsRequest>,
    ) -> Answer<v1::DeleteTopicsReply> {
        change!(self, request.into_inner(), DeleteTopics)
    }

    async fn create_partitions(
        &self,
        request: Request<v1::CreatePartitionsRequest>,
    ) -> Answer<v1::CreatePartitionsReply> {
        change!(self, request.into_inner(), CreatePartitions)
    }

    async fn alter_configs(
        &self,
        request: Request<v1::AlterConfigsRequest>,
    ) -> Answer<v1::AlterConfigsReply> {
        change!(self, request.into_inner(), AlterConfigs)
    }

    async fn elect_leaders(
        &self,
        request: Request<v1::ElectLeadersRequest>,
    ) -> Answer<v1::ElectLeadersReply> {
        change!(self, request.into_inner(), ElectLeaders)
    }

    async fn describe_quorum(
        &self,
        _request: Request<v1::DescribeQuorumRequest>,
    ) -> Answer<v1::DescribeQuorumReply> {
        self.quorum().await.map(Response::new)
    }
}
