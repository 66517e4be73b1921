//! AlterConfigs and IncrementalAlterConfigs, and what a change means for the partitions.

use std::collections::BTreeSet;

use strom_config::{
    AlterOp, ConfigError, ConfigMap, Scope, alter, registry, validate_broker, validate_client_metrics,
    validate_cluster_default, validate_group, validate_topic,
};
use strom_proto::v1;
use strom_proto::v1::ConfigResourceType;
use strom_proto::v1::config_op::Kind;
use strom_types::{BrokerId, ErrorCode, TopicIdPartition};

use super::{Context, Refused, Reply, broken, refuse};
use crate::broker_changes::elect_leaderless;
use crate::draft::Draft;
use crate::image::{ConfigResource, Image, ImageError, config_record};
use crate::partition_change::PartitionChange;
use crate::topic_settings::{ClusterConfigs, DURABILITY, to_map};

const MIN_ISR: &str = "min.insync.replicas";
const UNCLEAN: &str = "unclean.leader.election.enable";

pub(super) fn alter_configs(
    draft: &mut Draft,
    context: &Context<'_>,
    request: &v1::AlterConfigsRequest,
) -> Result<Reply, Refused> {
    let base = draft.image.clone();
    let mut seen = BTreeSet::new();
    let named = |change: &v1::AlterConfigsResource| (change.resource_type, change.resource_name.clone());
    let twice: BTreeSet<_> = request
        .resources
        .iter()
        .map(named)
        .filter(|name| !seen.insert(name.clone()))
        .collect();
    let mut results = Vec::with_capacity(request.resources.len());
    for change in &request.resources {
        let error = if twice.contains(&named(change)) {
            Some(refuse(
                ErrorCode::InvalidRequest,
                "Each resource must appear at most once.",
            ))
        } else {
            alter_one(draft, context, change)?.err()
        };
        results.push(v1::AlterConfigsResult {
            resource_type: change.resource_type,
            resource_name: change.resource_name.clone(),
            error,
        });
    }
    if request.validate_only {
        *draft = Draft::on(&base);
    }
    Ok(Reply::AlterConfigs(v1::AlterConfigsReply {
        results,
        metadata_offset: 0,
    }))
}

/// The inner error refuses this resource only.
fn alter_one(
    draft: &mut Draft,
    context: &Context<'_>,
    change: &v1::AlterConfigsResource,
) -> Result<Result<(), Refused>, Refused> {
    let configs = context.configs(&draft.image);
    let checked = resource(&draft.image, change).and_then(|resource| {
        let before = to_map(draft.image.config(&resource));
        let after = after(&resource, &before, change)?;
        check(&configs, &resource, &before, &after)?;
        Ok((resource, before, after))
    });
    let (resource, before, after) = match checked {
        Ok(checked) => checked,
        Err(error) => return Ok(Err(error)),
    };
    write(draft, context, &resource, &before, &after).map_err(|error| broken(&error))?;
    Ok(Ok(()))
}

/// The resource that a client names (topics by name), if it exists.
fn resource(image: &Image, change: &v1::AlterConfigsResource) -> Result<ConfigResource, Refused> {
    let name = change.resource_name.as_str();
    let invalid = |message: String| refuse(ErrorCode::InvalidRequest, message);
    match ConfigResourceType::try_from(change.resource_type) {
        Ok(ConfigResourceType::Topic) => image
            .topic_by_name(name)
            .map(|topic| ConfigResource::Topic(topic.id))
            .ok_or_else(|| {
                refuse(
                    ErrorCode::UnknownTopicOrPartition,
                    format!("The topic '{name}' does not exist."),
                )
            }),
        Ok(ConfigResourceType::Broker) if name.is_empty() => Ok(ConfigResource::BrokerDefault),
        Ok(ConfigResourceType::Broker) => {
            let id = name
                .parse()
                .ok()
                .filter(|id| *id >= 0)
                .map(BrokerId)
                .ok_or_else(|| invalid(format!("Invalid broker name {name}")))?;
            if image.broker(id).is_none() {
                return Err(refuse(
                    ErrorCode::BrokerIdNotRegistered,
                    format!("No node with id {id} found."),
                ));
            }
            Ok(ConfigResource::Broker(id))
        }
        Ok(ConfigResourceType::Group) if !name.is_empty() => Ok(ConfigResource::Group(name.to_owned())),
        Ok(ConfigResourceType::ClientMetrics) if !name.is_empty() => {
            Ok(ConfigResource::ClientMetrics(name.to_owned()))
        }
        Ok(ConfigResourceType::Group | ConfigResourceType::ClientMetrics) => {
            Err(invalid("Default group resources are not allowed.".to_owned()))
        }
        Ok(ConfigResourceType::Unspecified) | Err(_) => Err(invalid(format!(
            "Unexpected resource type {}",
            change.resource_type
        ))),
    }
}

/// The resource's keys as the operations leave them.
fn after(
    resource: &ConfigResource,
    before: &ConfigMap,
    change: &v1::AlterConfigsResource,
) -> Result<ConfigMap, Refused> {
    let mut named = BTreeSet::new();
    let mut after = before.clone();
    if change.replace_all {
        // Fixed for the topic's life, so not naming it does not mean to remove it.
        after.retain(|key, _| key == DURABILITY);
    }
    for op in &change.ops {
        if !named.insert(op.key.as_str()) {
            return Err(refuse(
                ErrorCode::InvalidRequest,
                format!("Error due to duplicate config keys: {}", op.key),
            ));
        }
        match apply_op(resource, after.get(&op.key).map(String::as_str), op)? {
            Some(value) => after.insert(op.key.clone(), value),
            None => after.remove(&op.key),
        };
    }
    Ok(after)
}

fn apply_op(
    resource: &ConfigResource,
    current: Option<&str>,
    op: &v1::ConfigOp,
) -> Result<Option<String>, Refused> {
    let kind = match Kind::try_from(op.kind) {
        Ok(Kind::Delete) => return Ok(None),
        Ok(Kind::Set) => AlterOp::Set,
        Ok(Kind::Append) => AlterOp::Append,
        Ok(Kind::Subtract) => AlterOp::Subtract,
        Err(_) => {
            return Err(refuse(
                ErrorCode::InvalidRequest,
                format!("Unknown operation on {}", op.key),
            ));
        }
    };
    let operand = op.value.as_deref().ok_or_else(|| {
        refuse(
            ErrorCode::InvalidConfig,
            format!("Null value not supported for configs: {}", op.key),
        )
    })?;
    if kind == AlterOp::Set {
        // Also keys of older Kafkas, which are not in the registry: the check of the whole resource decides.
        return Ok(Some(operand.to_owned()));
    }
    let key = registry()
        .require(scope(resource), &op.key)
        .map_err(|error| refused(&error))?;
    alter(key, kind, current, operand).map_err(|error| refused(&error))
}

fn scope(resource: &ConfigResource) -> Scope {
    match resource {
        ConfigResource::Topic(_) => Scope::Topic,
        ConfigResource::Broker(_) | ConfigResource::BrokerDefault => Scope::Broker,
        ConfigResource::Group(_) => Scope::Group,
        ConfigResource::ClientMetrics(_) => Scope::ClientMetrics,
    }
}

fn check(
    configs: &ClusterConfigs<'_>,
    resource: &ConfigResource,
    before: &ConfigMap,
    after: &ConfigMap,
) -> Result<(), Refused> {
    let changed: ConfigMap = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let outcome = match resource {
        ConfigResource::Topic(_) => validate_topic(after, configs.layers()),
        ConfigResource::Broker(_) => validate_broker(&changed),
        ConfigResource::BrokerDefault => validate_cluster_default(&changed),
        ConfigResource::Group(_) => validate_group(after, configs.layers()),
        ConfigResource::ClientMetrics(_) => validate_client_metrics(after),
    };
    outcome.map_err(|error| refused(&error))?;
    let invalid = |message: String| Err(refuse(ErrorCode::InvalidConfig, message));
    match resource {
        ConfigResource::Topic(_) if after.get(DURABILITY) != before.get(DURABILITY) => {
            invalid(format!("{DURABILITY} is fixed when a topic is created."))
        }
        ConfigResource::Broker(id) => match [MIN_ISR, DURABILITY]
            .iter()
            .find(|key| changed.contains_key(**key))
        {
            Some(key) => invalid(format!(
                "{key} cannot be altered for broker {id} alone: all brokers must see a topic alike."
            )),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn refused(error: &ConfigError) -> Refused {
    let code = if error.is_invalid_request() {
        ErrorCode::InvalidRequest
    } else {
        ErrorCode::InvalidConfig
    };
    refuse(code, error.to_string())
}

fn write(
    draft: &mut Draft,
    context: &Context<'_>,
    resource: &ConfigResource,
    before: &ConfigMap,
    after: &ConfigMap,
) -> Result<(), ImageError> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        if before.get(key) != after.get(key) {
            draft.push(config_record(resource, key, after.get(key).cloned()))?;
        }
    }
    let differs = |key: &str| before.get(key) != after.get(key);
    let concerns = |key: TopicIdPartition| match resource {
        ConfigResource::Topic(id) => key.topic_id == *id,
        _ => true,
    };
    if !matches!(resource, ConfigResource::Topic(_) | ConfigResource::BrokerDefault) {
        return Ok(());
    }
    let configs = context.configs(&draft.image);
    if differs(MIN_ISR) {
        follow_min_isr(draft, &configs, concerns)?;
    }
    if differs(UNCLEAN) {
        elect_leaderless(draft, &configs, |key, _| concerns(key))?;
    }
    Ok(())
}

/// Ships the new effective min ISR in the partitions' own records, in the same entry.
fn follow_min_isr(
    draft: &mut Draft,
    configs: &ClusterConfigs<'_>,
    concerns: impl Fn(TopicIdPartition) -> bool,
) -> Result<(), ImageError> {
    let base = draft.image.clone();
    let mut last = None;
    for (key, state) in base.partitions() {
        if !concerns(key) {
            continue;
        }
        let settings = match last {
            Some((topic, settings)) if topic == key.topic_id => settings,
            _ => configs.topic(&base, key.topic_id),
        };
        last = Some((key.topic_id, settings));
        let min_isr = settings.effective_min_isr(state.replicas.len());
        if min_isr != state.min_isr {
            let change = PartitionChange {
                min_isr: Some(min_isr),
                ..Default::default()
            };
            draft.change(key, &change)?;
        }
    }
    Ok(())
}
