//! DescribeConfigs (key 32): every key of a resource, with where its value is from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use strom_config::{
    ConfigMap, Entry, describe_broker, describe_client_metrics, describe_cluster_default, describe_group,
    describe_topic,
};
use strom_kafka_codec::messages::describe_configs_request::DescribeConfigsResource;
use strom_kafka_codec::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use strom_kafka_codec::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_metadata::{ConfigResource, Image};
use strom_proto::v1;
use strom_types::{BrokerId, ErrorCode, validate_topic_name};

use super::admin::Verdict;
use super::call::unary;
use super::config_layers::{Layers, dynamic};
use super::list_config_resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::{Call, Start};

/// Groups and subscriptions need not exist to be described, so their number is bounded here.
const UNBACKED_RESOURCES_MAX: usize = 2_000;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let image = call.gateway.metadata().image();
    let layers = Layers::of_cluster(&call, &image);
    let statics = static_values(&call, &image, &request.resources).await;
    let mut seen = BTreeSet::new();
    let mut unbacked = 0;
    let mut results = Vec::new();
    for resource in request.resources {
        // A resource that is named again is told of once: descriptions are much larger than their names.
        if !seen.insert((resource.resource_type, resource.resource_name.clone())) {
            continue;
        }
        unbacked += usize::from(matches!(resource.resource_type, GROUP | CLIENT_METRICS));
        let entries = if unbacked > UNBACKED_RESOURCES_MAX {
            Err(invalid("Too many groups or subscriptions in one request."))
        } else {
            entries(&image, &layers, &statics, &resource)
        };
        let shown = Shown {
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        };
        results.push(result(resource, entries, shown));
    }
    DescribeConfigsResponse {
        results,
        ..Default::default()
    }
}

/// What each broker that is asked about was started with; only it knows.
type Statics = BTreeMap<BrokerId, Result<ConfigMap, Verdict>>;

async fn static_values(call: &Call, image: &Image, resources: &[DescribeConfigsResource]) -> Statics {
    let named = resources
        .iter()
        .filter(|resource| resource.resource_type == BROKER);
    let ids: BTreeSet<BrokerId> = named
        .filter_map(|resource| broker(image, &resource.resource_name).ok())
        .collect();
    let lookups = ids.into_iter().map(|id| async move {
        let no_answer = || {
            let message = format!("Broker {id} does not answer, and its configuration is known to it alone.");
            Verdict::refused(ErrorCode::BrokerNotAvailable, message)
        };
        let Some(broker) = call.gateway.brokers().get(image, id) else {
            return (id, Err(no_answer()));
        };
        let reply = broker.control(LOOKUP_TIMEOUT, |mut stub| async move {
            stub.describe_config(v1::DescribeConfigRequest {}).await
        });
        let values = reply.await.map(|reply| reply.static_values);
        (id, values.map_err(|_| no_answer()))
    });
    join_all(lookups).await.into_iter().collect()
}

fn entries(
    image: &Image,
    layers: &Layers,
    statics: &Statics,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Entry>, Verdict> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            let legal = validate_topic_name(name);
            legal.map_err(|error| Verdict::refused(ErrorCode::InvalidTopicException, error.to_string()))?;
            let topic = image.topic_by_name(name).ok_or_else(|| {
                Verdict::refused(
                    ErrorCode::UnknownTopicOrPartition,
                    "This server does not host this topic-partition.",
                )
            })?;
            let own = dynamic(image, &ConfigResource::Topic(topic.id));
            Ok(describe_topic(&own, layers.view()))
        }
        BROKER if name.is_empty() => Ok(describe_cluster_default(layers.view().dynamic_default)),
        BROKER => {
            let id = broker(image, name)?;
            let values = statics
                .get(&id)
                .cloned()
                .unwrap_or_else(|| Ok(ConfigMap::new()))?;
            Ok(describe_broker(Layers::of_broker(image, id, values).view()))
        }
        // There are no levels per logger that could be described or changed.
        BROKER_LOGGER => broker(image, name).map(|_| Vec::new()),
        CLIENT_METRICS if name.is_empty() => {
            Err(invalid("Client metrics subscription name must not be empty"))
        }
        CLIENT_METRICS => {
            let own = dynamic(image, &ConfigResource::ClientMetrics(name.to_owned()));
            Ok(describe_client_metrics(&own))
        }
        GROUP if name.is_empty() => Err(invalid("Group name must not be empty")),
        GROUP => {
            let own = dynamic(image, &ConfigResource::Group(name.to_owned()));
            Ok(describe_group(&own, layers.view()))
        }
        other => Err(invalid(format!("Unsupported resource type: {other}"))),
    }
}

fn broker(image: &Image, name: &str) -> Result<BrokerId, Verdict> {
    let id = name
        .parse()
        .map_err(|_| invalid(format!("Broker id must be an integer, but it is: {name}")))?;
    match image.broker(BrokerId(id)) {
        Some(broker) => Ok(broker.id),
        None => Err(invalid(format!(
            "Unexpected broker id: no broker {name} is registered."
        ))),
    }
}

fn invalid(message: impl Into<String>) -> Verdict {
    Verdict::refused(ErrorCode::InvalidRequest, message)
}

/// What was asked for beside values.
#[derive(Clone, Copy)]
struct Shown {
    synonyms: bool,
    documentation: bool,
}

fn result(
    resource: DescribeConfigsResource,
    entries: Result<Vec<Entry>, Verdict>,
    shown: Shown,
) -> DescribeConfigsResult {
    let (verdict, entries) = match entries {
        Ok(entries) => (Verdict::of_item(None), entries),
        Err(verdict) => (verdict, Vec::new()),
    };
    // Null and empty both mean all, as in Kafka.
    let keys: Option<BTreeSet<ByteStr>> = resource
        .configuration_keys
        .filter(|keys| !keys.is_empty())
        .map(|keys| keys.into_iter().collect());
    let asked = |entry: &Entry| {
        keys.as_ref()
            .is_none_or(|keys| keys.contains(entry.name.as_str()))
    };
    DescribeConfigsResult {
        error_code: verdict.code(),
        error_message: verdict.message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs: entries
            .into_iter()
            .filter(asked)
            .map(|entry| config(entry, shown))
            .collect(),
    }
}

fn config(entry: Entry, shown: Shown) -> DescribeConfigsResourceResult {
    let synonyms = if shown.synonyms {
        entry.synonyms
    } else {
        Vec::new()
    };
    DescribeConfigsResourceResult {
        name: ByteStr::from(entry.name),
        value: entry.value.map(ByteStr::from),
        read_only: entry.read_only,
        config_source: entry.source.wire_id(),
        is_sensitive: entry.sensitive,
        synonyms: synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: ByteStr::from(synonym.name),
                value: synonym.value.map(ByteStr::from),
                source: synonym.source.wire_id(),
            })
            .collect(),
        config_type: entry.kind.wire_id(),
        documentation: shown.documentation.then(|| ByteStr::from_static(entry.doc)),
    }
}
