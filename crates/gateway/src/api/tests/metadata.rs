//! Metadata, DescribeCluster, FindCoordinator and topics that come into being by being asked for.

use strom_kafka_codec::messages::metadata_request::MetadataRequestTopic;
use strom_kafka_codec::messages::{
    DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest, MetadataResponse,
};
use strom_proto::convert::{service_error, topic_id_bytes};
use strom_proto::status::to_status;
use strom_types::{ErrorCode, coordinator_partition};
use tonic::Status;

use super::cluster::{BASE_PORT, Cluster, partition_record, topic_id};
use super::controller::Fault;

fn named(names: &[&str]) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic {
        name: Some((*name).to_owned().into()),
        ..Default::default()
    };
    MetadataRequest {
        topics: Some(names.iter().map(topic).collect()),
        ..Default::default()
    }
}

fn topics(response: &MetadataResponse) -> Vec<(i16, &str)> {
    response
        .topics
        .iter()
        .map(|topic| (topic.error_code, topic.name.as_deref().unwrap_or("-")))
        .collect()
}

#[tokio::test]
async fn all_topics_or_none_by_version() {
    let cluster = Cluster::with_topics().await;
    let none = named(&[]);
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let everything = [(0, "__consumer_offsets"), (0, "orders")];
    assert_eq!(topics(&cluster.ask(0, &none).await), everything);
    assert_eq!(topics(&cluster.ask(1, &none).await), []);
    assert_eq!(topics(&cluster.ask(1, &all).await), everything);
    assert_eq!(topics(&cluster.ask(13, &none).await), []);
    assert_eq!(topics(&cluster.ask(13, &all).await), everything);
}

#[tokio::test]
async fn brokers_are_told_with_the_listeners_addresses() {
    let cluster = Cluster::with_topics().await;
    let response = cluster.ask(13, &named(&[])).await;
    let brokers: Vec<_> = response
        .brokers
        .iter()
        .map(|b| (b.node_id, b.host.as_str(), b.port, b.rack.as_deref()))
        .collect();
    let port = i32::from(BASE_PORT);
    assert_eq!(
        brokers,
        [
            (1, "gateway.test", port + 1, Some("rack-1")),
            (2, "gateway.test", port + 2, Some("rack-2")),
        ],
        "the fenced broker 3 is left out"
    );
    assert_eq!(response.cluster_id.as_deref(), Some("test-cluster"));
    assert_eq!(response.controller_id, 1);
    let at_two = cluster.ask_at(Some(2), 13, &named(&[])).await;
    assert_eq!(at_two.controller_id, 2, "the broker that the client speaks to");
    let at_fenced = cluster.ask_at(Some(3), 13, &named(&[])).await;
    assert_eq!(at_fenced.controller_id, 1, "a live one in any case");
}

#[tokio::test]
async fn topics_are_told_in_the_order_asked_once_each() {
    let cluster = Cluster::with_topics().await;
    let mut request = named(&["zzz", "orders", "no/name", "orders", "__consumer_offsets"]);
    request.allow_auto_topic_creation = false;
    let response = cluster.ask(12, &request).await;
    assert_eq!(
        topics(&response),
        [
            (3, "zzz"),
            (0, "orders"),
            (17, "no/name"),
            (0, "__consumer_offsets")
        ]
    );
    let internal: Vec<bool> = response.topics.iter().map(|topic| topic.is_internal).collect();
    assert_eq!(internal, [false, false, false, true]);
    assert_eq!(cluster.controller.calls(), 0, "nothing was created");
    let operations: Vec<i32> = response
        .topics
        .iter()
        .map(|topic| topic.topic_authorized_operations)
        .collect();
    assert_eq!(operations, [i32::MIN; 4], "not asked for");
    request.include_topic_authorized_operations = true;
    let response = cluster.ask(12, &request).await;
    let operations = response
        .topics
        .iter()
        .map(|topic| topic.topic_authorized_operations);
    assert_eq!(
        operations.collect::<Vec<_>>(),
        [3576; 4],
        "as Kafka does, also of topics that do not exist"
    );
}

#[tokio::test]
async fn ids_are_for_version_12_and_later() {
    let cluster = Cluster::with_topics().await;
    let by_id = |id| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            topic_id: id,
            name: None,
        }]),
        ..Default::default()
    };
    for version in [12, 13] {
        let known = cluster.ask(version, &by_id(topic_id(1).0)).await;
        assert_eq!(topics(&known), [(0, "orders")]);
        let unknown = cluster.ask(version, &by_id(topic_id(9).0)).await;
        assert_eq!(topics(&unknown), [(100, "-")]);
        assert_eq!(unknown.topics[0].topic_id, topic_id(9).0);
    }
    for version in [10, 11] {
        let refused = cluster.ask(version, &by_id(topic_id(1).0)).await;
        assert_eq!(topics(&refused), [(42, "")]);
    }
    let with_id = cluster.ask(10, &named(&["orders"])).await;
    assert_eq!(
        with_id.topics[0].topic_id,
        topic_id(1).0,
        "told, though not asked by"
    );
}

#[tokio::test]
async fn partitions_say_who_leads_and_who_is_away() {
    let cluster = Cluster::with_topics().await;
    let id = topic_id_bytes(topic_id(1));
    let at = cluster
        .controller
        .commit(vec![partition_record(&id, 1, None, &[2, 3, 7])]);
    cluster.sees(at).await;
    let response = cluster.ask(9, &named(&["orders"])).await;
    let partitions = &response.topics[0].partitions;
    let told = |n: usize| {
        let p = &partitions[n];
        (p.error_code, p.partition_index, p.leader_id, p.leader_epoch)
    };
    assert_eq!(told(0), (0, 0, 1, 5));
    assert_eq!(told(1), (5, 1, -1, 5), "LEADER_NOT_AVAILABLE, with the epoch");
    assert_eq!(partitions[1].replica_nodes, [2, 3, 7]);
    assert_eq!(partitions[1].offline_replicas, [3, 7], "fenced, and unknown");
    assert_eq!(partitions[0].isr_nodes, [1, 2]);
}

#[tokio::test]
async fn a_missing_topic_is_created_on_demand() {
    let cluster = Cluster::empty(&[("num.partitions", "1")]).await;
    let response = cluster
        .ask(4, &named(&["fresh", "bad name", "__transaction_state"]))
        .await;
    assert_eq!(
        topics(&response),
        [(0, "fresh"), (17, "bad name"), (3, "__transaction_state")]
    );
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
    let mut again = named(&["other"]);
    again.allow_auto_topic_creation = false;
    assert_eq!(topics(&cluster.ask(4, &again).await), [(3, "other")]);
    let switched_off = Cluster::empty(&[("auto.create.topics.enable", "false")]).await;
    assert_eq!(
        topics(&switched_off.ask(4, &named(&["fresh"])).await),
        [(3, "fresh")]
    );
    assert_eq!(switched_off.controller.calls(), 0);
}

#[tokio::test]
async fn creation_that_fails_is_a_transient_error_and_no_hang() {
    let cluster = Cluster::empty(&[]).await;
    cluster
        .controller
        .fail_next(Fault::Refuse(Status::internal("broken")));
    let lost = cluster.ask(4, &named(&["fresh"])).await;
    assert_eq!(
        topics(&lost),
        [(0, "fresh")],
        "asking again is harmless, so it is done"
    );
    let refusal = service_error(ErrorCode::PolicyViolation, "no");
    cluster.controller.fail_next(Fault::Refuse(to_status(&refusal)));
    assert_eq!(
        topics(&cluster.ask(4, &named(&["second"])).await),
        [(3, "second")]
    );
    cluster.controller.fail_next(Fault::LoseAnswer);
    let made = cluster.ask(4, &named(&["third"])).await;
    assert_eq!(topics(&made), [(0, "third")], "asking again finds the topic made");
    let collides = cluster.ask(4, &named(&["a.b", "a_b"])).await;
    assert_eq!(topics(&collides), [(0, "a.b"), (17, "a_b")]);
}

#[tokio::test]
async fn a_thousand_clients_make_one_creation() {
    let cluster = Cluster::empty(&[]).await;
    let request = named(&["hot"]);
    let asked = (0..50).map(|_| cluster.ask(12, &request));
    for response in futures::future::join_all(asked).await {
        assert_eq!(topics(&response), [(0, "hot")]);
    }
    assert_eq!(cluster.controller.calls(), 1);
}

#[tokio::test]
async fn the_clusters_description_tells_of_fenced_brokers_on_demand() {
    let cluster = Cluster::with_topics().await;
    let mut request = DescribeClusterRequest::default();
    let ids = |response: &strom_kafka_codec::messages::DescribeClusterResponse| {
        let brokers = response.brokers.iter();
        brokers.map(|b| (b.broker_id, b.is_fenced)).collect::<Vec<_>>()
    };
    assert_eq!(ids(&cluster.ask(2, &request).await), [(1, false), (2, false)]);
    request.include_fenced_brokers = true;
    let all = cluster.ask(2, &request).await;
    assert_eq!(ids(&all), [(1, false), (2, false), (3, true)]);
    assert_eq!(all.cluster_id, "test-cluster");
    for (endpoint_type, error) in [(2, 114), (3, 115)] {
        request.endpoint_type = endpoint_type;
        assert_eq!(cluster.ask(2, &request).await.error_code, error);
    }
}

#[tokio::test]
async fn a_groups_coordinator_leads_its_partition() {
    let cluster = Cluster::with_topics().await;
    let groups = ["a", "b", "c", "some-group", ""];
    let request = FindCoordinatorRequest {
        coordinator_keys: groups.iter().map(|group| (*group).into()).collect(),
        ..Default::default()
    };
    let response = cluster.ask(6, &request).await;
    for (group, found) in groups.iter().zip(&response.coordinators) {
        let leader = 1 + coordinator_partition(group, 2);
        assert_eq!((found.key.as_str(), found.error_code), (*group, 0));
        assert_eq!(
            (found.node_id, found.port),
            (leader, i32::from(BASE_PORT) + leader)
        );
        assert_eq!(found.host, "gateway.test");
    }
    let single = FindCoordinatorRequest {
        key: "a".into(),
        ..Default::default()
    };
    let old = cluster.ask(0, &single).await;
    assert_eq!(
        (old.error_code, old.node_id),
        (0, 1 + coordinator_partition("a", 2))
    );
}

#[tokio::test]
async fn the_first_group_creates_the_offsets_topic() {
    let cluster = Cluster::empty(&[("offsets.topic.num.partitions", "7")]).await;
    let request = FindCoordinatorRequest {
        key: "a".into(),
        ..Default::default()
    };
    let response = cluster.ask(3, &request).await;
    assert_eq!(response.error_code, 0, "{response:?}");
    let image = cluster.controller.image();
    let topic = image.topic_by_name("__consumer_offsets").unwrap();
    assert!(topic.internal);
    assert_eq!(topic.partitions.len(), 7);
    let replicas = topic.partitions.get(&0).map(|state| state.replicas.len());
    assert_eq!(replicas, Some(2), "3 by default, but only two brokers are live");
    let configs = image
        .config(&strom_metadata::ConfigResource::Topic(topic.id))
        .unwrap();
    let policy = configs.get("cleanup.policy").map(String::as_str);
    assert_eq!(policy, Some("compact"));
    assert_eq!(
        configs.get("segment.bytes").map(String::as_str),
        Some("104857600")
    );
}

#[tokio::test]
async fn no_coordinator_is_a_code_that_fits() {
    let cluster = Cluster::empty(&[]).await;
    cluster.controller.hold_feed();
    let mut request = FindCoordinatorRequest {
        key: "a".into(),
        ..Default::default()
    };
    let appearing = cluster.ask(3, &request).await;
    assert_eq!(
        (appearing.error_code, appearing.node_id, appearing.port),
        (15, -1, -1)
    );
    request.key_type = 1;
    assert_eq!(
        cluster.ask(3, &request).await.error_code,
        53,
        "transactions come later"
    );
    request.key_type = 9;
    assert_eq!(cluster.ask(3, &request).await.error_code, 42);
    let share = FindCoordinatorRequest {
        key_type: 2,
        coordinator_keys: vec!["a".into()],
        ..Default::default()
    };
    assert_eq!(cluster.ask(6, &share).await.coordinators[0].error_code, 42);
}
