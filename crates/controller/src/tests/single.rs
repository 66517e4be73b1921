//! One voter: changes are seen by the watch, kept over restarts, and refused as Kafka refuses them.

use strom_client::Effect;
use strom_proto::v1;
use strom_types::{ErrorCode, MetadataOffset};

use super::{Heart, LIMIT, Node, config, create, eventually};
use crate::{App, BuildError};

#[tokio::test]
async fn a_topic_is_created_watched_and_kept_over_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let epoch = node.register(5, "local:broker").await;
    Heart::open(&node.client, 5, epoch)
        .await
        .come_into_service()
        .await;
    let reply = node.create("t", 3).await;
    assert_eq!(reply.results[0].error, None);
    let index = MetadataOffset(reply.metadata_offset);
    assert!(node.metadata.wait_for(index, LIMIT).await);
    let image = node.metadata.image();
    assert_eq!(image.cluster_id().len(), 22);
    let topic = image.topic_by_name("t").expect("watched").clone();
    assert_eq!(topic.id.as_bytes().as_slice(), reply.results[0].topic_id.as_ref());
    assert!(topic.partitions.values().all(|state| state.leader.is_some()));
    eventually("ready", || node.health.ready().ok()).await;
    node.stop().await;

    let node = Node::start(dir.path());
    eventually("the topic is there again", || {
        node.metadata.image().topic_by_name("t").cloned()
    })
    .await;
    let again = node.metadata.image();
    assert_eq!(again.cluster_id(), image.cluster_id());
    assert_eq!(again.topic_by_name("t"), Some(&topic));
    assert_eq!(
        again.broker(strom_types::BrokerId(5)).map(|b| b.epoch.get()),
        Some(epoch)
    );
    let reply = node.create("t", 3).await;
    let code = reply.results[0].error.as_ref().map(|error| error.code);
    assert_eq!(code, Some(ErrorCode::TopicAlreadyExists as i32));
    node.stop().await;
}

#[tokio::test]
async fn every_call_is_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let epoch = node.register(1, "local:broker").await;
    let mut heart = Heart::open(&node.client, 1, epoch).await;
    heart.come_into_service().await;
    node.create("t", 1).await;
    let mut stub = node.client.stub().expect("a stub");
    let grown = stub
        .create_partitions(v1::CreatePartitionsRequest {
            topics: vec![v1::NewPartitions {
                name: "t".into(),
                count: 4,
                assignments: vec![],
            }],
            validate_only: false,
        })
        .await
        .expect("grows")
        .into_inner();
    assert_eq!(grown.results[0].error, None);
    let altered = stub
        .alter_configs(v1::AlterConfigsRequest {
            resources: vec![v1::AlterConfigsResource {
                resource_type: v1::ConfigResourceType::Topic.into(),
                resource_name: "t".into(),
                ops: vec![v1::ConfigOp {
                    key: "retention.ms".into(),
                    kind: 0,
                    value: Some("5000".into()),
                }],
                replace_all: false,
            }],
            validate_only: false,
        })
        .await
        .expect("alters")
        .into_inner();
    assert!(
        node.metadata
            .wait_for(MetadataOffset(altered.metadata_offset), LIMIT)
            .await
    );
    assert_eq!(node.metadata.image().partition_count(), 4);
    let elected = stub
        .elect_leaders(v1::ElectLeadersRequest {
            all: true,
            ..Default::default()
        })
        .await
        .expect("elects")
        .into_inner();
    assert!(elected.results.is_empty());
    let block = || {
        let mut stub = stub.clone();
        async move {
            let request = v1::AllocateProducerIdsRequest {
                broker_id: 1,
                broker_epoch: epoch,
            };
            stub.allocate_producer_ids(request)
                .await
                .expect("allocates")
                .into_inner()
                .first
        }
    };
    assert_eq!([block().await, block().await], [0, 1000]);
    let quorum = stub
        .describe_quorum(v1::DescribeQuorumRequest {})
        .await
        .expect("describes")
        .into_inner();
    assert_eq!((quorum.leader_id, quorum.voters.len()), (1, 1));
    let deleted = stub
        .delete_topics(v1::DeleteTopicsRequest {
            topics: vec![v1::TopicName {
                name: "t".into(),
                ..Default::default()
            }],
        })
        .await
        .expect("deletes")
        .into_inner();
    assert_eq!(deleted.results[0].error, None);
    let unregister = v1::UnregisterBrokerRequest { broker_id: 1 };
    let refused = stub.unregister_broker(unregister).await.expect_err("it lives");
    let error = strom_proto::status::from_status(&refused);
    assert_eq!(error.code, ErrorCode::InvalidRequest as i32);
    assert!(!heart.beat().await.fenced, "it serves on");
    drop(heart);
    eventually("fenced", || node.is_fenced(1).filter(|fenced| *fenced)).await;
    let gone = stub
        .unregister_broker(unregister)
        .await
        .expect("unregisters")
        .into_inner();
    assert!(
        node.metadata
            .wait_for(MetadataOffset(gone.metadata_offset), LIMIT)
            .await
    );
    assert_eq!(node.metadata.image().brokers().count(), 0);
    let stale = v1::AlterPartitionRequest {
        broker_id: 1,
        broker_epoch: epoch,
        partitions: vec![],
    };
    let refused = stub.alter_partition(stale).await.expect_err("stale");
    let error = strom_proto::status::from_status(&refused);
    assert_eq!(error.code, ErrorCode::StaleBrokerEpoch as i32);
    node.stop().await;
}

#[tokio::test]
async fn metrics_tell_of_the_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let epoch = node.register(1, "local:broker").await;
    node.register(2, "local:broker").await;
    let mut heart = Heart::open(&node.client, 1, epoch).await;
    heart.come_into_service().await;
    node.create("t", 3).await;
    let text = node.metrics.encode().expect("encodes");
    for line in [
        "kafka_controller_kafkacontroller_activecontrollercount 1",
        "kafka_controller_kafkacontroller_globaltopiccount 1",
        "kafka_controller_kafkacontroller_globalpartitioncount 3",
        "kafka_controller_kafkacontroller_offlinepartitionscount 0",
        "kafka_controller_kafkacontroller_preferredreplicaimbalancecount 0",
        "kafka_controller_kafkacontroller_activebrokercount 1",
        "kafka_controller_kafkacontroller_fencedbrokercount 1",
        "kafka_controller_controllerstats_uncleanleaderelections_total 0",
        "strom_raft_term ",
        "strom_controller_commit_seconds_count ",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    node.stop().await;
}

#[tokio::test]
async fn ten_thousand_partitions_reach_a_late_watcher_as_a_snapshot() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let epoch = node.register(1, "local:broker").await;
    let mut heart = Heart::open(&node.client, 1, epoch).await;
    heart.come_into_service().await;
    let reply = node.create("big", 10_000).await;
    assert_eq!(reply.results[0].error, None);
    let (watcher, late) = strom_client::MetadataWatcher::new(node.client.clone(), "late".into());
    let watching = tokio::spawn(watcher.run(node.shutdown.clone()));
    assert!(late.wait_for(MetadataOffset(reply.metadata_offset), LIMIT).await);
    assert_eq!(late.image().partition_count(), 10_000);
    assert!(
        node.metadata
            .wait_for(MetadataOffset(reply.metadata_offset), LIMIT)
            .await
    );
    assert_eq!(
        late.image().topic_by_name("big"),
        node.metadata.image().topic_by_name("big")
    );
    node.stop().await;
    watching.await.expect("no panic");
}

#[tokio::test]
async fn what_does_not_belong_together_does_not_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut mine = config(1, dir.path(), vec![]);
    mine.cluster_id = Some("mine".into());
    let node = Node::start_with(mine.clone());
    create(&node.client, "no-broker", 1).await.expect("an answer");
    let build = |config| {
        App::build(config, super::environment())
            .err()
            .map(|e| e.to_string())
    };
    assert!(build(mine.clone()).is_some(), "two processes on one directory");
    node.stop().await;
    let mut theirs = mine.clone();
    theirs.cluster_id = Some("theirs".into());
    let error = build(theirs).expect("refused");
    assert!(error.contains("belongs to cluster mine"), "{error}");
    let other_node = config(2, dir.path(), vec![]);
    let error = build(other_node).expect("refused");
    assert!(error.contains("belongs to node 1"), "{error}");
    let several = vec![
        (strom_types::NodeId(1), "a:1".into()),
        (strom_types::NodeId(2), "b:1".into()),
    ];
    let empty = tempfile::tempdir().expect("a directory");
    assert!(matches!(
        App::build(config(1, empty.path(), several), super::environment()),
        Err(BuildError::NoClusterId)
    ));
}

#[tokio::test]
async fn a_watcher_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    eventually("a name", || {
        (!node.metadata.image().cluster_id().is_empty()).then_some(())
    })
    .await;
    let request = v1::WatchMetadataRequest {
        cluster_id: "other".into(),
        ..Default::default()
    };
    let call = node
        .client
        .call(LIMIT, Effect::Once, request, |mut stub, request| async move {
            stub.watch_metadata(request).await
        });
    let error = call.await.map(|_| ()).expect_err("refused");
    assert_eq!(error.code(), ErrorCode::InconsistentClusterId);
    node.stop().await;
}
