//! A certificate of the services lets its owner do what is its role's, and speak for no other broker.

use strom_client::Peers;
use strom_proto::splice::{self, Payload, Spliced};
use strom_proto::v1::broker_control_client::BrokerControlClient;
use strom_proto::v1::follower_head::Message;
use strom_proto::v1::{
    AllocateProducerIdsRequest, AlterPartitionRequest, BrokerHeartbeatRequest, CreateTopicsRequest,
    DescribeQuorumRequest, FollowerHead, FollowerHello, LeaderHead, ListOffsetsRequest, ProduceHead,
    ProduceReplyHead, RegisterBrokerRequest, UnregisterBrokerRequest,
};
use strom_testkit::{Cluster, Member};
use strom_types::{BrokerId, ErrorCode, Identity};
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status};

use super::callers::{controller, peers};
use super::{builder, refused, told};

const BROKER: Identity = Identity::Broker(BrokerId(1));

fn assert_denied<T: std::fmt::Debug>(what: &str, outcome: Result<Response<T>, Status>) {
    assert_eq!(outcome.unwrap_err().code(), Code::PermissionDenied, "{what}");
}

#[tokio::test]
async fn a_role_does_what_is_its_own() {
    let cluster = builder().start().await;
    let member = Member::Controller(0);

    let mut gateway = controller(&cluster, &peers(&cluster, &[Identity::Gateway]));
    gateway.describe_quorum(DescribeQuorumRequest {}).await.unwrap();
    let alter = AlterPartitionRequest::default();
    assert_denied("AlterPartition", gateway.alter_partition(alter.clone()).await);
    assert_denied("AlterPartition", gateway.alter_partition(alter).await);
    let register = RegisterBrokerRequest::default();
    assert_denied("RegisterBroker", gateway.register_broker(register).await);
    assert_eq!(refused(&cluster, member, "role"), 3.0);
    assert_eq!(
        told(&cluster).len(),
        2,
        "one line for each method: {:#?}",
        told(&cluster)
    );

    let broker_peers = peers(&cluster, &[BROKER]);
    let mut broker = controller(&cluster, &broker_peers);
    let create = CreateTopicsRequest::default();
    assert_denied("CreateTopics", broker.create_topics(create).await);
    let unregister = UnregisterBrokerRequest { broker_id: 0 };
    assert_denied("UnregisterBroker", broker.unregister_broker(unregister).await);

    let address = cluster.internal_address(Member::Broker(0));
    let mut control = BrokerControlClient::new(broker_peers.control(&address).unwrap());
    let list = ListOffsetsRequest::default();
    assert_denied("ListOffsets", control.list_offsets(list).await);
    let (_sender, body) = splice::channel::<ProduceHead>(1024);
    let transport = broker_peers.data(&address).unwrap();
    let path = "/strom.v1.BrokerData/Produce";
    let produce =
        splice::open::<_, _, ProduceReplyHead>(transport, path, MetadataMap::new(), body, 1024).await;
    assert_eq!(produce.err().unwrap().code(), Code::PermissionDenied);
    assert_eq!(refused(&cluster, Member::Broker(0), "role"), 2.0);
}

#[tokio::test]
async fn a_broker_speaks_for_no_other() {
    let cluster = builder().brokers(2).start().await;
    let peers = peers(&cluster, &[BROKER]);
    let mut caller = controller(&cluster, &peers);
    let register = RegisterBrokerRequest {
        broker_id: 0,
        ..Default::default()
    };
    assert_denied("RegisterBroker", caller.register_broker(register).await);
    let alter = AlterPartitionRequest {
        broker_id: 0,
        ..Default::default()
    };
    assert_denied("AlterPartition", caller.alter_partition(alter).await);
    let allocate = AllocateProducerIdsRequest {
        broker_id: 0,
        ..Default::default()
    };
    assert_denied(
        "AllocateProducerIds",
        caller.allocate_producer_ids(allocate).await,
    );
    let heartbeat = BrokerHeartbeatRequest {
        broker_id: 0,
        ..Default::default()
    };
    let beats = caller.broker_heartbeat(tokio_stream::iter([heartbeat])).await;
    let status = beats.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(refused(&cluster, Member::Controller(0), "broker"), 4.0);

    let leader = hello(&cluster, &peers, 0, 2).await;
    let refusal = leader.refused.unwrap();
    assert_eq!(
        refusal.code,
        ErrorCode::ClusterAuthorizationFailed as i32,
        "{refusal:?}"
    );
    assert_eq!(refused(&cluster, Member::Broker(0), "broker"), 1.0);
    assert_eq!(told(&cluster).len(), 5, "{:#?}", told(&cluster));
}

/// What broker `leader` says to one that calls itself `follower`.
async fn hello(cluster: &Cluster, peers: &Peers, leader: i32, follower: i32) -> LeaderHead {
    let address = cluster.internal_address(Member::Broker(0));
    let transport = peers.data(&address).unwrap();
    let (sender, body) = splice::channel(1024);
    let hello = FollowerHello {
        broker_id: follower,
        leader_id: leader,
        ..Default::default()
    };
    let head = FollowerHead {
        message: Some(Message::Hello(hello)),
    };
    sender.send(Spliced::new(head, Payload::new())).await.unwrap();
    let path = "/strom.v1.Replication/Replicate";
    let mut replies = splice::open::<_, _, LeaderHead>(transport, path, MetadataMap::new(), body, 1 << 20)
        .await
        .unwrap();
    replies.next().await.unwrap().unwrap().head
}
