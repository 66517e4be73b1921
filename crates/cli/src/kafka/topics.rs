//! Topics as the metadata shows them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::metadata_request::MetadataRequestTopic;
use strom_kafka_codec::messages::metadata_response::MetadataResponseTopic;
use strom_kafka_codec::messages::{MetadataRequest, MetadataResponse};
use strom_types::ErrorCode;
use uuid::Uuid;

use super::{Client, KafkaError};

/// How long a topic that is not there is waited for: one that was just created takes a moment to be known everywhere.
const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(1);

/// One partition of a topic, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicPartition {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

impl TopicPartition {
    pub(crate) fn new(topic: &str, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Where a partition lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionView {
    /// -1 = none.
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) isr: Vec<i32>,
    pub(crate) offline: Vec<i32>,
}

/// A topic and its partitions, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicView {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) internal: bool,
    pub(crate) partitions: BTreeMap<i32, PartitionView>,
}

impl TopicView {
    fn of(topic: &MetadataResponseTopic) -> Self {
        let partitions = topic.partitions.iter().map(|partition| {
            let view = PartitionView {
                leader: partition.leader_id,
                leader_epoch: partition.leader_epoch,
                replicas: partition.replica_nodes.clone(),
                isr: partition.isr_nodes.clone(),
                offline: partition.offline_replicas.clone(),
            };
            (partition.partition_index, view)
        });
        Self {
            name: topic.name.as_deref().unwrap_or_default().to_owned(),
            id: topic.topic_id,
            internal: topic.is_internal,
            partitions: partitions.collect(),
        }
    }

    /// Its partitions as keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        let topic: Arc<str> = self.name.as_str().into();
        self.partitions.keys().map(move |&partition| TopicPartition {
            topic: Arc::clone(&topic),
            partition,
        })
    }
}

/// Asks for `topics` (`None` = all), without creating any.
pub(crate) fn metadata_request(topics: Option<&[String]>, version: i16) -> MetadataRequest {
    let named = topics.map(|names| {
        let each = names.iter();
        each.map(|name| MetadataRequestTopic {
            name: Some(ByteStr::from(name.clone())),
            ..Default::default()
        })
        .collect()
    });
    // In version 0 the empty list means all topics.
    let topics = if version == 0 {
        Some(named.unwrap_or_default())
    } else {
        named
    };
    MetadataRequest {
        topics,
        allow_auto_topic_creation: version < 4,
        ..Default::default()
    }
}

fn first_error(response: &MetadataResponse) -> Option<KafkaError> {
    response.topics.iter().find_map(|topic| {
        let name = topic.name.as_deref().unwrap_or_default();
        KafkaError::from_code(format!("topic {name}"), topic.error_code, None)
    })
}

impl Client {
    /// Every topic of the cluster, sorted by name.
    pub(crate) async fn all_topics(&self) -> Result<Vec<TopicView>, KafkaError> {
        let deadline = self.deadline();
        let attempt = async || self.metadata_once(None, deadline).await;
        let response = self.retry("listing the topics", deadline, attempt).await?;
        let mut topics: Vec<TopicView> = response.topics.iter().map(TopicView::of).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The named topics, in that order; an unknown one is an error.
    pub(crate) async fn topics(&self, names: &[String]) -> Result<Vec<TopicView>, KafkaError> {
        let deadline = self.deadline();
        let patience = deadline.within(UNKNOWN_TOPIC_PATIENCE);
        let attempt = async || {
            let response = self.metadata_once(Some(names), deadline).await?;
            match first_error(&response) {
                // Not retriable here once the patience is over: the name is simply wrong.
                Some(error) if is_unknown(&error) && patience.has_passed() => Ok(Err(error)),
                Some(error) => Err(error),
                None => Ok(Ok(response)),
            }
        };
        let response = self.retry("looking up the topics", deadline, attempt).await??;
        let mut found: BTreeMap<&str, TopicView> = BTreeMap::new();
        for topic in &response.topics {
            found.insert(topic.name.as_deref().unwrap_or_default(), TopicView::of(topic));
        }
        names
            .iter()
            .map(|name| found.get(name.as_str()).cloned().ok_or_else(|| missing(name)))
            .collect()
    }

    /// One topic.
    pub(crate) async fn topic(&self, name: &str) -> Result<TopicView, KafkaError> {
        let found = self.topics(&[name.to_owned()]).await?;
        found.into_iter().next().ok_or_else(|| missing(name))
    }
}

fn missing(name: &str) -> KafkaError {
    KafkaError::Server {
        subject: format!("topic {name}"),
        code: ErrorCode::UnknownTopicOrPartition,
        message: Some("the server left it out of its reply".to_owned()),
    }
}

fn is_unknown(error: &KafkaError) -> bool {
    error.code() == Some(ErrorCode::UnknownTopicOrPartition)
}
