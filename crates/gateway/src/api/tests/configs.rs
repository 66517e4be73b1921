//! Configs: described with their sources, altered through the controllers.

use strom_kafka_codec::messages::describe_configs_response::DescribeConfigsResult;
use strom_kafka_codec::messages::*;

use super::cluster::Cluster;

fn describe(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    DescribeConfigsRequest {
        resources: vec![describe_configs_request::DescribeConfigsResource {
            resource_type,
            resource_name: name.to_owned().into(),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).to_owned().into()).collect()),
        }],
        include_synonyms: true,
        include_documentation: false,
    }
}

async fn described(cluster: &Cluster, request: &DescribeConfigsRequest) -> DescribeConfigsResult {
    let mut response = cluster.ask(4, request).await;
    assert_eq!(response.results.len(), 1);
    response.results.remove(0)
}

/// (value, source, synonyms) of the only key.
fn only(result: &DescribeConfigsResult) -> (Option<&str>, i8, Vec<(&str, i8)>) {
    assert_eq!(result.configs.len(), 1, "{result:?}");
    let config = &result.configs[0];
    let synonyms = config.synonyms.iter().map(|s| (s.name.as_str(), s.source));
    (config.value.as_deref(), config.config_source, synonyms.collect())
}

fn set(resource_type: i8, name: &str, ops: &[(&str, i8, Option<&str>)]) -> IncrementalAlterConfigsRequest {
    IncrementalAlterConfigsRequest {
        resources: vec![incremental_alter_configs_request::AlterConfigsResource {
            resource_type,
            resource_name: name.to_owned().into(),
            configs: ops
                .iter()
                .map(
                    |(key, op, value)| incremental_alter_configs_request::AlterableConfig {
                        name: (*key).to_owned().into(),
                        config_operation: *op,
                        value: value.map(|value| value.to_owned().into()),
                    },
                )
                .collect(),
        }],
        validate_only: false,
    }
}

async fn altered(cluster: &Cluster, request: &IncrementalAlterConfigsRequest) -> i16 {
    cluster.ask(1, request).await.responses[0].error_code
}

#[tokio::test]
async fn a_topics_value_goes_through_all_layers() {
    let cluster = Cluster::empty(&[("log.retention.hours", "2")]).await;
    let topics = CreateTopicsRequest {
        topics: vec![create_topics_request::CreatableTopic {
            name: "t".into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: 5000,
        ..Default::default()
    };
    cluster.ask(7, &topics).await;
    let request = describe(2, "t", Some(&["retention.ms"]));
    let result = described(&cluster, &request).await;
    let (value, source, synonyms) = only(&result);
    assert_eq!((value, source), (Some("7200000"), 4), "static");
    assert_eq!(synonyms, [("log.retention.hours", 4), ("log.retention.hours", 5)]);
    assert_eq!(
        altered(&cluster, &set(4, "", &[("log.retention.ms", 0, Some("500"))])).await,
        0
    );
    let result = described(&cluster, &request).await;
    assert_eq!(
        (only(&result).0, only(&result).1),
        (Some("500"), 3),
        "dynamic default, at once"
    );
    assert_eq!(
        altered(&cluster, &set(2, "t", &[("retention.ms", 0, Some("9"))])).await,
        0
    );
    let result = described(&cluster, &request).await;
    assert_eq!(
        (only(&result).0, only(&result).1),
        (Some("9"), 1),
        "the topic's own"
    );
    assert_eq!(
        altered(&cluster, &set(2, "t", &[("retention.ms", 1, None)])).await,
        0
    );
    let result = described(&cluster, &request).await;
    assert_eq!(only(&result).1, 3);
}

#[tokio::test]
async fn null_and_empty_keys_mean_all() {
    let cluster = Cluster::with_topics().await;
    for keys in [None, Some::<&[&str]>(&[])] {
        let topic = described(&cluster, &describe(2, "orders", keys)).await;
        assert!(
            topic.configs.len() >= 33,
            "every topic key, {}",
            topic.configs.len()
        );
        assert!(topic.configs.iter().all(|config| config.config_type != 0));
    }
    let broker = described(&cluster, &describe(4, "2", None)).await;
    assert!(broker.configs.len() >= 300, "every broker key");
    let node = broker
        .configs
        .iter()
        .find(|config| config.name == "node.id")
        .unwrap();
    assert_eq!((node.value.as_deref(), node.read_only), (Some("2"), true));
    let rack = broker
        .configs
        .iter()
        .find(|config| config.name == "broker.rack")
        .unwrap();
    assert_eq!(rack.value.as_deref(), Some("rack-2"));
    assert!(
        broker.configs.iter().all(|config| config.documentation.is_none()),
        "not asked for"
    );
    let mut documented = describe(2, "orders", Some(&["retention.ms"]));
    documented.include_documentation = true;
    let result = described(&cluster, &documented).await;
    assert!(
        result.configs[0]
            .documentation
            .as_deref()
            .is_some_and(|doc| !doc.is_empty())
    );
}

#[tokio::test]
async fn a_broker_is_described_by_itself() {
    let cluster = Cluster::empty(&[("log.dirs", "/the-gateways")]).await;
    let request = describe(4, "2", Some(&["log.dirs"]));
    let of_two = described(&cluster, &request).await;
    assert_eq!((only(&of_two).0, only(&of_two).1), (Some("/data-2"), 4));
    assert_eq!(cluster.brokers[1].take_calls(), ["describe_config"]);
    cluster.brokers[1].script(|script| script.status = Some(tonic::Status::unavailable("gone")));
    let gone = described(&cluster, &request).await;
    assert_eq!((gone.error_code, gone.configs.len()), (8, 0));
    let keys = Some::<&[&str]>(&["log.dirs"]);
    let other = described(&cluster, &describe(4, "1", keys)).await;
    assert_eq!(only(&other).0, Some("/data-1"), "others are");
}

#[tokio::test]
async fn resources_that_cannot_be_described() {
    let cluster = Cluster::with_topics().await;
    for (resource_type, name, code) in [
        (2, "missing", 3),
        (2, "no/name", 17),
        (4, "9", 42),
        (4, "x", 42),
        (8, "", 42),
        (16, "", 42),
        (32, "", 42),
        (0, "x", 42),
        (2, "orders", 0),
        (4, "", 0),
        (8, "1", 0),
        (16, "m", 0),
        (32, "g", 0),
    ] {
        let result = described(&cluster, &describe(resource_type, name, None)).await;
        assert_eq!(result.error_code, code, "{resource_type} {name:?}");
        assert_eq!(result.error_message.is_some(), code != 0);
    }
}

#[tokio::test]
async fn one_request_cannot_ask_for_the_same_thing_a_million_times() {
    let cluster = Cluster::with_topics().await;
    let mut request = describe(4, "1", None);
    request.resources = vec![request.resources[0].clone(); 1000];
    assert_eq!(cluster.ask(4, &request).await.results.len(), 1);
    let template = request.resources[0].clone();
    let group = |n: u32| describe_configs_request::DescribeConfigsResource {
        resource_type: 32,
        resource_name: format!("g{n}").into(),
        ..template.clone()
    };
    request.resources = (0..2_100).map(group).collect();
    request.include_synonyms = false;
    let response = cluster.ask(4, &request).await;
    let refused = response.results.iter().filter(|result| result.error_code == 42);
    assert_eq!((response.results.len(), refused.count()), (2_100, 100));
}

#[tokio::test]
async fn alterations_are_checked() {
    let cluster = Cluster::with_topics().await;
    for (resource_type, name, ops, code) in [
        (2, "orders", vec![("retention.ms", 0, Some("x"))], 40),
        (2, "orders", vec![("no.such.key", 0, Some("x"))], 40),
        (2, "orders", vec![("retention.ms", 0, None)], 42),
        (2, "orders", vec![("retention.ms", 9, Some("1"))], 42),
        (2, "orders", vec![("cleanup.policy", 2, Some("compact"))], 0),
        (2, "orders", vec![("retention.ms", 2, Some("1"))], 40),
        (2, "missing", vec![("retention.ms", 0, Some("1"))], 3),
        (4, "9", vec![("log.retention.ms", 0, Some("1"))], 42),
        (8, "1", vec![("root", 0, Some("DEBUG"))], 42),
        (77, "1", vec![("root", 0, Some("DEBUG"))], 42),
    ] {
        let request = set(resource_type, name, &ops);
        assert_eq!(
            altered(&cluster, &request).await,
            code,
            "{resource_type} {name} {ops:?}"
        );
    }
    let mut check = set(2, "orders", &[("retention.ms", 0, Some("5"))]);
    check.validate_only = true;
    assert_eq!(altered(&cluster, &check).await, 0);
    let result = described(&cluster, &describe(2, "orders", Some(&["retention.ms"]))).await;
    assert_eq!(only(&result).1, 5, "only checked");
}

/// The refusal repeats the value, and must still fit into the reply's string.
#[tokio::test]
async fn a_refused_value_of_any_length_is_answered() {
    let cluster = Cluster::with_topics().await;
    let value = "ß".repeat(16_383);
    let request = set(2, "orders", &[("retention.ms", 0, Some(&value))]);
    for version in [0, 1] {
        let response = cluster.ask(version, &request).await;
        let refused = &response.responses[0];
        let text = refused.error_message.as_deref().unwrap();
        assert_eq!(refused.error_code, 40);
        assert!(text.contains("for configuration retention.ms"), "{text}");
    }
}

#[tokio::test]
async fn plain_alterations_replace_everything() {
    let cluster = Cluster::with_topics().await;
    altered(&cluster, &set(2, "orders", &[("retention.ms", 0, Some("5"))])).await;
    let request = AlterConfigsRequest {
        resources: vec![alter_configs_request::AlterConfigsResource {
            resource_type: 2,
            resource_name: "orders".into(),
            configs: vec![alter_configs_request::AlterableConfig {
                name: "max.message.bytes".into(),
                value: Some("1000".into()),
            }],
        }],
        validate_only: false,
    };
    assert_eq!(cluster.ask(2, &request).await.responses[0].error_code, 0);
    let keys = Some::<&[&str]>(&["max.message.bytes", "retention.ms"]);
    let result = described(&cluster, &describe(2, "orders", keys)).await;
    let sources: Vec<_> = result
        .configs
        .iter()
        .map(|c| (c.name.as_str(), c.config_source))
        .collect();
    assert_eq!(sources, [("max.message.bytes", 1), ("retention.ms", 5)]);
}

#[tokio::test]
async fn resources_are_listed() {
    let cluster = Cluster::with_topics().await;
    altered(&cluster, &set(16, "m", &[("interval.ms", 0, Some("1000"))])).await;
    let list = |response: ListConfigResourcesResponse| -> Vec<(i8, String)> {
        let resources = response.config_resources.iter();
        resources
            .map(|r| (r.resource_type, r.resource_name.to_string()))
            .collect()
    };
    let v0 = list(cluster.ask(0, &ListConfigResourcesRequest::default()).await);
    assert_eq!(v0, [(16, "m".to_owned())]);
    let topics = ListConfigResourcesRequest {
        resource_types: vec![2, 2],
    };
    let v1 = list(cluster.ask(1, &topics).await);
    assert_eq!(
        v1,
        [(2, "__consumer_offsets".to_owned()), (2, "orders".to_owned())]
    );
    let all = list(cluster.ask(1, &ListConfigResourcesRequest::default()).await);
    assert_eq!(all.len(), 2 + 2 + 2 + 1);
    let odd = ListConfigResourcesRequest {
        resource_types: vec![3],
    };
    assert_eq!(cluster.ask(1, &odd).await.error_code, 35);
}
