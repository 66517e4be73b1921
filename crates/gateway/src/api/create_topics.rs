//! CreateTopics (key 19): through the controllers, answered once this gateway shows the topics.

use strom_client::Effect;
use strom_config::{Scope, describe_topic};
use strom_kafka_codec::messages::create_topics_request::CreatableTopic;
use strom_kafka_codec::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use strom_kafka_codec::messages::{CreateTopicsRequest, CreateTopicsResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_metadata::ConfigResource;
use strom_proto::v1;
use strom_types::{ErrorCode, TopicId};

use super::admin::{Changed, Deadline, Verdict, change, led, send_valid};
use super::call::unary;
use super::config_layers::{Layers, dynamic};
use super::topic_creation::new_topic_id;
use super::{Call, Start};

/// The topic that Kafka keeps its metadata in; the name stays reserved.
const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";
const CONFIGS_SINCE_VERSION: i16 = 5;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let deadline = Deadline::of_request(request.timeout_ms);
    let validate_only = request.validate_only;
    let names: Vec<ByteStr> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let topics = request.topics.into_iter().map(new_topic);
    let answers = send_valid(topics, |topics| create(&call, deadline, topics, validate_only)).await;
    let results = names.into_iter().zip(answers).map(|(name, answer)| match answer {
        Ok(created) => CreatableTopicResult { name, ..created },
        Err(refused) => CreatableTopicResult {
            name,
            error_code: refused.code(),
            error_message: refused.message,
            ..Default::default()
        },
    });
    CreateTopicsResponse {
        topics: results.collect(),
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

/// The ids are chosen, so calling again creates nothing twice.
pub(super) async fn call_controllers(
    call: &Call,
    deadline: Deadline,
    request: v1::CreateTopicsRequest,
) -> Result<Changed<v1::CreateTopicsReply>, Verdict> {
    change(
        call,
        deadline,
        Effect::Idempotent,
        request,
        |mut stub, request| async move { stub.create_topics(request).await },
    )
    .await
}

/// One answer per topic, in order.
async fn create(
    call: &Call,
    deadline: Deadline,
    topics: Vec<v1::NewTopic>,
    validate_only: bool,
) -> Result<Vec<Result<CreatableTopicResult, Verdict>>, Verdict> {
    let request = v1::CreateTopicsRequest {
        topics: topics.clone(),
        validate_only,
    };
    let changed = call_controllers(call, deadline, request).await?;
    let results = &changed.reply.results;
    if !validate_only {
        let created = results.iter().filter(|result| result.error.is_none());
        let created: Vec<&str> = created.map(|result| result.name.as_str()).collect();
        led(call, deadline, changed.reply.metadata_offset, &created).await;
    }
    let answers = topics.iter().zip(results).map(|(topic, result)| {
        let verdict = changed.verdict(result.error.as_ref());
        verdict.ok(()).map(|()| succeeded(call, topic, result))
    });
    Ok(answers.collect())
}

fn succeeded(call: &Call, topic: &v1::NewTopic, created: &v1::CreateTopicResult) -> CreatableTopicResult {
    let names = topic.configs.keys().map(String::as_str);
    call.gateway.idle_keys().set(Scope::Topic, names);
    let id = TopicId::from_slice(&created.topic_id).unwrap_or(TopicId::ZERO);
    CreatableTopicResult {
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
