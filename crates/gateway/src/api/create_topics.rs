//! CreateTopics (key 19): through the controllers, answered once this gateway shows the topics.

use std::time::Duration;

use strom_client::Effect;
use strom_config::{Scope, describe_topic};
use strom_kafka_codec::messages::create_topics_request::CreatableTopic;
use strom_kafka_codec::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use strom_kafka_codec::messages::{CreateTopicsRequest, CreateTopicsResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_metadata::ConfigResource;
use strom_proto::v1;
use strom_types::{ErrorCode, TopicId};

use super::admin::{Deadline, Verdict, visible, wait_until};
use super::call::unary;
use super::config_layers::{Layers, dynamic};
use super::nodes::text;
use super::topic_creation::new_topic_id;
use super::{Call, Start};

/// The topic that Kafka keeps its metadata in; the name stays reserved.
const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";
const CONFIGS_SINCE_VERSION: i16 = 5;
/// Leaders are known as soon as a topic is, but for a failure in between; that is not waited for any longer.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let deadline = Deadline::of_request(request.timeout_ms);
    let validate_only = request.validate_only;
    let mut results = Vec::with_capacity(request.topics.len());
    let mut sent: Vec<v1::NewTopic> = Vec::new();
    let mut places = Vec::new();
    for (place, topic) in request.topics.into_iter().enumerate() {
        let name = topic.name.clone();
        match new_topic(topic) {
            Ok(topic) => {
                sent.push(topic);
                places.push(place);
                results.push(failed(name, &Verdict::timed_out()));
            }
            Err(verdict) => results.push(failed(name, &verdict)),
        }
    }
    if !sent.is_empty() {
        let answers = create(&call, deadline, &sent, validate_only).await;
        for ((place, topic), answer) in places.into_iter().zip(&sent).zip(answers) {
            if let Some(result) = results.get_mut(place) {
                *result = match answer {
                    Ok(created) => succeeded(&call, topic, &created),
                    Err(verdict) => failed(text(&topic.name), &verdict),
                };
            }
        }
    }
    CreateTopicsResponse {
        topics: results,
        ..Default::default()
    }
}

fn new_topic(topic: CreatableTopic) -> Result<v1::NewTopic, Verdict> {
    if topic.name == CLUSTER_METADATA_TOPIC {
        return Err(Verdict::refused(
            ErrorCode::InvalidRequest,
            "Creation of internal topic __cluster_metadata is prohibited.",
        ));
    }
    let mut configs = std::collections::BTreeMap::new();
    for config in topic.configs {
        let Some(value) = config.value else {
            return Err(Verdict::refused(
                ErrorCode::InvalidConfig,
                format!("Null value not supported for topic configs: {}", config.name),
            ));
        };
        configs.insert(String::from(config.name), String::from(value));
    }
    let assignments = topic
        .assignments
        .into_iter()
        .map(|assignment| v1::ReplicaAssignment {
            partition: assignment.partition_index,
            brokers: assignment.broker_ids,
        });
    Ok(v1::NewTopic {
        name: String::from(topic.name),
        partitions: topic.num_partitions,
        replication_factor: i32::from(topic.replication_factor),
        assignments: assignments.collect(),
        configs,
        topic_id: new_topic_id(),
    })
}

/// One answer per topic, in order.
async fn create(
    call: &Call,
    deadline: Deadline,
    topics: &[v1::NewTopic],
    validate_only: bool,
) -> Vec<Result<v1::CreateTopicResult, Verdict>> {
    let all = |verdict: Verdict| topics.iter().map(|_| Err(verdict.clone())).collect();
    let request = v1::CreateTopicsRequest {
        topics: topics.to_vec(),
        validate_only,
    };
    // The ids are chosen, so calling again creates nothing twice.
    let reply = call
        .gateway
        .controller()
        .call(
            deadline.left(),
            Effect::Idempotent,
            request,
            |mut stub, request| async move { stub.create_topics(request).await },
        )
        .await;
    let reply = match reply {
        Ok(reply) if reply.results.len() == topics.len() => reply,
        Ok(_) => return all(Verdict::timed_out()),
        Err(error) => return all(Verdict::of_call(&error)),
    };
    let created: Vec<&str> = reply
        .results
        .iter()
        .filter(|result| result.error.is_none())
        .map(|result| result.name.as_str())
        .collect();
    let mut seen = true;
    if !validate_only && !created.is_empty() {
        seen = visible(call, deadline, reply.metadata_offset).await;
        let led = |image: &strom_metadata::Image| {
            created
                .iter()
                .filter_map(|name| image.topic_by_name(name))
                .all(|topic| topic.partitions.values().all(|state| state.leader.is_some()))
        };
        wait_until(call, deadline.left().min(LEADERS_TIMEOUT), led).await;
    }
    reply
        .results
        .into_iter()
        .map(|result| match &result.error {
            Some(error) => Err(Verdict::of_item(Some(error))),
            None if seen => Ok(result),
            None => Err(Verdict::timed_out()),
        })
        .collect()
}

fn failed(name: ByteStr, verdict: &Verdict) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: verdict.code(),
        error_message: verdict.message.clone(),
        ..Default::default()
    }
}

fn succeeded(call: &Call, topic: &v1::NewTopic, created: &v1::CreateTopicResult) -> CreatableTopicResult {
    let names = topic.configs.keys().map(String::as_str);
    call.gateway.idle_keys().set(Scope::Topic, names);
    let id = TopicId::from_slice(&created.topic_id).unwrap_or(TopicId::ZERO);
    CreatableTopicResult {
        name: text(&topic.name),
        topic_id: id.0,
        error_message: None,
        num_partitions: created.partitions,
        replication_factor: i16::try_from(created.replication_factor).unwrap_or(-1),
        configs: Some(configs(call, topic, id)),
        ..Default::default()
    }
}

fn configs(call: &Call, topic: &v1::NewTopic, id: TopicId) -> Vec<CreatableTopicConfigs> {
    if call.version < CONFIGS_SINCE_VERSION {
        return Vec::new();
    }
    let image = call.gateway.metadata().image();
    let own = match image.topic(id) {
        Some(_) => dynamic(&image, &ConfigResource::Topic(id)),
        None => topic.configs.clone(),
    };
    let layers = Layers::of_cluster(call, &image);
    describe_topic(&own, layers.view())
        .into_iter()
        .map(|entry| CreatableTopicConfigs {
            name: ByteStr::from(entry.name),
            value: entry.value.map(ByteStr::from),
            read_only: entry.read_only,
            config_source: entry.source.wire_id(),
            is_sensitive: entry.sensitive,
        })
        .collect()
}
