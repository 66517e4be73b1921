//! What a dynamic config belongs to, and how records name it.

use std::fmt;

use strom_proto::v1::ConfigResourceType;
use strom_types::{BrokerId, TopicId};
use thiserror::Error;
use uuid::Uuid;

/// A resource type and name that name no config resource.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("no config resource of type {resource_type} has the name {name:?}")]
pub struct UnknownConfigResource {
    pub resource_type: i32,
    pub name: String,
}

/// The owner of dynamic config keys. Topics are named by id, so that a recreated topic starts clean.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConfigResource {
    Topic(TopicId),
    Broker(BrokerId),
    /// Every broker that has no value of its own.
    BrokerDefault,
    Group(String),
    ClientMetrics(String),
}

impl ConfigResource {
    /// Reads the form in which records (not clients, who name topics by name) carry it.
    pub fn from_record(resource_type: i32, name: &str) -> Result<Self, UnknownConfigResource> {
        let unknown = || UnknownConfigResource {
            resource_type,
            name: name.to_owned(),
        };
        match ConfigResourceType::try_from(resource_type) {
            Ok(ConfigResourceType::Topic) => Uuid::try_parse(name)
                .map(|id| ConfigResource::Topic(TopicId(id)))
                .map_err(|_| unknown()),
            Ok(ConfigResourceType::Broker) if name.is_empty() => Ok(ConfigResource::BrokerDefault),
            Ok(ConfigResourceType::Broker) => match name.parse() {
                Ok(id) if id >= 0 => Ok(ConfigResource::Broker(BrokerId(id))),
                _ => Err(unknown()),
            },
            Ok(ConfigResourceType::Group) => Ok(ConfigResource::Group(name.to_owned())),
            Ok(ConfigResourceType::ClientMetrics) => Ok(ConfigResource::ClientMetrics(name.to_owned())),
            Ok(ConfigResourceType::Unspecified) | Err(_) => Err(unknown()),
        }
    }

    pub fn resource_type(&self) -> ConfigResourceType {
        match self {
            ConfigResource::Topic(_) => ConfigResourceType::Topic,
            ConfigResource::Broker(_) | ConfigResource::BrokerDefault => ConfigResourceType::Broker,
            ConfigResource::Group(_) => ConfigResourceType::Group,
            ConfigResource::ClientMetrics(_) => ConfigResourceType::ClientMetrics,
        }
    }

    /// The name in records.
    pub fn name(&self) -> String {
        match self {
            ConfigResource::Topic(id) => id.to_string(),
            ConfigResource::Broker(id) => id.to_string(),
            ConfigResource::BrokerDefault => String::new(),
            ConfigResource::Group(name) | ConfigResource::ClientMetrics(name) => name.clone(),
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigResource::Topic(id) => write!(f, "topic {id}"),
            ConfigResource::Broker(id) => write!(f, "broker {id}"),
            ConfigResource::BrokerDefault => f.write_str("all brokers"),
            ConfigResource::Group(name) => write!(f, "group {name}"),
            ConfigResource::ClientMetrics(name) => write!(f, "client metrics {name}"),
        }
    }
}
