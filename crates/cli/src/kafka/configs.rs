//! Configs of topics, brokers and groups: reading and changing them.

use std::collections::BTreeMap;

use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::describe_configs_request::DescribeConfigsResource;
use strom_kafka_codec::messages::describe_configs_response::DescribeConfigsResult;
use strom_kafka_codec::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use strom_kafka_codec::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use super::{Client, Deadline, KafkaError, Target};

/// How many topics' configs one request asks for.
const TOPICS_AT_ONCE: usize = 1000;

/// Kafka's `ConfigResource.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResourceKind {
    Topic,
    Broker,
    ClientMetrics,
    Group,
}

impl ResourceKind {
    fn id(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Broker => "broker",
            Self::ClientMetrics => "client-metrics",
            Self::Group => "group",
        }
    }
}

/// Whose configs; an empty broker name stands for all brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) kind: ResourceKind,
    pub(crate) name: String,
}

impl Resource {
    pub(crate) fn topic(name: &str) -> Self {
        Self {
            kind: ResourceKind::Topic,
            name: name.to_owned(),
        }
    }

    /// For messages: `topic orders`.
    pub(crate) fn subject(&self) -> String {
        match (self.kind, self.name.as_str()) {
            (ResourceKind::Broker, "") => "the default of all brokers".to_owned(),
            (kind, name) => format!("{} {name}", kind.name()),
        }
    }

    /// A broker tells its own static configs; anything else is known everywhere.
    fn target(&self) -> Target<'static> {
        match self.kind {
            ResourceKind::Broker => self.name.parse().map_or(Target::Any, Target::Broker),
            _ => Target::Any,
        }
    }
}

/// One config as it is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigEntry {
    pub(crate) key: String,
    /// `None` for null and for what is secret.
    pub(crate) value: Option<String>,
    pub(crate) source: &'static str,
    pub(crate) is_default: bool,
    pub(crate) read_only: bool,
    pub(crate) sensitive: bool,
    pub(crate) kind: &'static str,
    /// Where else the value could come from, the strongest first: source, key, value.
    pub(crate) synonyms: Vec<(&'static str, String, Option<String>)>,
}

/// Kafka's `ConfigSource`, in words.
fn source_name(id: i8) -> &'static str {
    match id {
        1 => "topic",
        2 => "broker",
        3 => "cluster",
        4 => "static",
        5 => "default",
        6 => "logger",
        7 => "client-metrics",
        8 => "group",
        _ => "unknown",
    }
}

fn kind_name(id: i8) -> &'static str {
    match id {
        1 => "boolean",
        2 => "string",
        3 => "int",
        4 => "short",
        5 => "long",
        6 => "double",
        7 => "list",
        8 => "class",
        9 => "password",
        _ => "unknown",
    }
}

fn text(value: Option<&ByteStr>) -> Option<String> {
    value.map(|value| value.as_str().to_owned())
}

fn entries_of(result: &DescribeConfigsResult) -> Vec<ConfigEntry> {
    let mut entries: Vec<ConfigEntry> = result
        .configs
        .iter()
        .map(|config| ConfigEntry {
            key: config.name.as_str().to_owned(),
            value: text(config.value.as_ref()),
            source: source_name(config.config_source),
            is_default: config.config_source == 5,
            read_only: config.read_only,
            sensitive: config.is_sensitive,
            kind: kind_name(config.config_type),
            synonyms: config
                .synonyms
                .iter()
                .map(|other| {
                    (
                        source_name(other.source),
                        other.name.as_str().to_owned(),
                        text(other.value.as_ref()),
                    )
                })
                .collect(),
        })
        .collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    entries
}

/// What to do with a key; the numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigChange {
    Set,
    Delete,
    /// Adds to a list.
    Append,
    /// Takes out of a list.
    Subtract,
}

/// A change, its key and value.
pub(crate) type Alteration = (ConfigChange, String, Option<String>);

impl Client {
    /// The configs of one resource, sorted by key.
    pub(crate) async fn describe_configs(&self, resource: &Resource) -> Result<Vec<ConfigEntry>, KafkaError> {
        let subject = format!("configs of {}", resource.subject());
        let build = |_: i16, _: Deadline| DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: resource.kind.id(),
                resource_name: ByteStr::from(resource.name.clone()),
                configuration_keys: None,
            }],
            include_synonyms: true,
            include_documentation: false,
        };
        let failure = |result: &DescribeConfigsResult| {
            KafkaError::from_code(&subject, result.error_code, result.error_message.as_deref())
        };
        // Of an unknown topic, a second question says nothing else.
        let retriable =
            |error: &KafkaError| error.code() != Some(strom_types::ErrorCode::UnknownTopicOrPartition);
        let response = self
            .ask(resource.target(), &subject, build, |r| {
                r.results.iter().find_map(failure).filter(retriable)
            })
            .await?;
        match response.results.first() {
            Some(result) => failure(result).map_or_else(|| Ok(entries_of(result)), Err),
            None => Ok(Vec::new()),
        }
    }

    /// One config of many topics, by topic; a topic that is gone by now is left out.
    pub(crate) async fn topics_config(
        &self,
        topics: &[String],
        key: &str,
    ) -> Result<BTreeMap<String, String>, KafkaError> {
        let mut found = BTreeMap::new();
        for some in topics.chunks(TOPICS_AT_ONCE) {
            let build = |_: i16, _: Deadline| DescribeConfigsRequest {
                resources: some
                    .iter()
                    .map(|topic| DescribeConfigsResource {
                        resource_type: ResourceKind::Topic.id(),
                        resource_name: ByteStr::from(topic.clone()),
                        configuration_keys: Some(vec![ByteStr::from(key.to_owned())]),
                    })
                    .collect(),
                include_synonyms: false,
                include_documentation: false,
            };
            let subject = format!("config {key} of {} topics", some.len());
            let response = self.ask(Target::Any, &subject, build, |_| None).await?;
            for result in response.results.iter().filter(|result| result.error_code == 0) {
                let value = result.configs.iter().find(|config| config.name.as_str() == key);
                if let Some(value) = value.and_then(|config| text(config.value.as_ref())) {
                    found.insert(result.resource_name.as_str().to_owned(), value);
                }
            }
        }
        Ok(found)
    }

    /// Changes configs of one resource, all or none of them; with `validate_only`, checks them.
    pub(crate) async fn alter_configs(
        &self,
        resource: &Resource,
        alterations: &[Alteration],
        validate_only: bool,
    ) -> Result<(), KafkaError> {
        let subject = format!("altering {}", resource.subject());
        let build = |_: i16, _: Deadline| IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: resource.kind.id(),
                resource_name: ByteStr::from(resource.name.clone()),
                configs: alterations.iter().map(alterable).collect(),
            }],
            validate_only,
        };
        let failure = |response: &strom_kafka_codec::messages::IncrementalAlterConfigsResponse| {
            response.responses.iter().find_map(|result| {
                KafkaError::from_code(&subject, result.error_code, result.error_message.as_deref())
            })
        };
        let final_here =
            |error: &KafkaError| error.code() != Some(strom_types::ErrorCode::UnknownTopicOrPartition);
        let response = self
            .ask(resource.target(), &subject, build, |r| {
                failure(r).filter(final_here)
            })
            .await?;
        failure(&response).map_or(Ok(()), Err)
    }
}

fn alterable((change, key, value): &Alteration) -> AlterableConfig {
    AlterableConfig {
        name: ByteStr::from(key.clone()),
        config_operation: match change {
            ConfigChange::Set => 0,
            ConfigChange::Delete => 1,
            ConfigChange::Append => 2,
            ConfigChange::Subtract => 3,
        },
        value: value.clone().map(ByteStr::from),
    }
}
