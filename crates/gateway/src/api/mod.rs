//! The APIs that are served: one file each, and the table that ApiVersions is derived from.

pub(crate) mod call;

mod admin;
mod alter_configs;
mod api_versions;
mod config_layers;
mod coordinators;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod metadata;
mod nodes;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod scatter;
mod sync_group;
mod topic_creation;
mod unregister_broker;

use std::sync::Arc;

use bytes::Bytes;
use strom_kafka_codec::{ApiKey, Decoder, RequestError, RequestFrame, VersionRange};

pub(crate) use call::{Call, Failure, Reply, ReplyFuture, Start};
pub(crate) use topic_creation::TopicCreation;

use crate::gateway::Gateway;
use crate::net::ConnectionInfo;

/// How requests of one connection may overlap. Replies always keep the order of the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Runs to its end before the next request starts, as in Kafka.
    Serial,
    /// The next request may start while this one waits for its answer.
    Pipelined,
}

/// Takes a request whose header has been read.
type Handler = fn(Call, Decoder) -> Start;

/// One served API.
pub(crate) struct Api {
    pub key: ApiKey,
    /// The versions that are served.
    pub versions: VersionRange,
    /// The oldest version that is advertised; lower than served only for Produce (KAFKA-18659).
    pub advertised_min: i16,
    pub order: Order,
    pub start: Handler,
}

impl Api {
    /// All of Kafka 4.3's stable versions.
    fn new(key: ApiKey, order: Order, start: Handler) -> Self {
        let versions = VersionRange {
            min: key.versions().min,
            max: key.latest_stable(),
        };
        Api {
            key,
            versions,
            advertised_min: versions.min,
            order,
            start,
        }
    }
}

/// Every API that this gateway serves, by key.
pub(crate) fn table() -> Vec<Api> {
    use Order::{Pipelined, Serial};
    let mut apis = vec![
        Api {
            advertised_min: 0,
            ..Api::new(ApiKey::Produce, Pipelined, produce::start)
        },
        Api::new(ApiKey::Fetch, Pipelined, fetch::start),
    ];
    let serial: &[(ApiKey, Handler)] = &[
        (ApiKey::AlterConfigs, alter_configs::start),
        (ApiKey::ApiVersions, api_versions::start),
        (ApiKey::CreatePartitions, create_partitions::start),
        (ApiKey::CreateTopics, create_topics::start),
        (ApiKey::DeleteGroups, delete_groups::start),
        (ApiKey::DeleteRecords, delete_records::start),
        (ApiKey::DeleteTopics, delete_topics::start),
        (ApiKey::DescribeCluster, describe_cluster::start),
        (ApiKey::DescribeConfigs, describe_configs::start),
        (ApiKey::DescribeGroups, describe_groups::start),
        (ApiKey::DescribeLogDirs, describe_log_dirs::start),
        (ApiKey::DescribeProducers, describe_producers::start),
        (ApiKey::DescribeQuorum, describe_quorum::start),
        (ApiKey::DescribeTopicPartitions, describe_topic_partitions::start),
        (ApiKey::ElectLeaders, elect_leaders::start),
        (ApiKey::FindCoordinator, find_coordinator::start),
        (ApiKey::Heartbeat, heartbeat::start),
        (ApiKey::IncrementalAlterConfigs, alter_configs::start_incremental),
        (ApiKey::InitProducerId, init_producer_id::start),
        (ApiKey::JoinGroup, join_group::start),
        (ApiKey::LeaveGroup, leave_group::start),
        (ApiKey::ListConfigResources, list_config_resources::start),
        (ApiKey::ListGroups, list_groups::start),
        (ApiKey::ListOffsets, list_offsets::start),
        (ApiKey::Metadata, metadata::start),
        (ApiKey::OffsetCommit, offset_commit::start),
        (ApiKey::OffsetDelete, offset_delete::start),
        (ApiKey::OffsetFetch, offset_fetch::start),
        (ApiKey::OffsetForLeaderEpoch, offset_for_leader_epoch::start),
        (ApiKey::SyncGroup, sync_group::start),
        (ApiKey::UnregisterBroker, unregister_broker::start),
    ];
    apis.extend(serial.iter().map(|(key, start)| Api::new(*key, Serial, *start)));
    apis.sort_by_key(|api| api.key.as_i16());
    apis
}

/// A request that has been recognised and started.
pub(crate) struct Started {
    pub key: ApiKey,
    pub order: Order,
    pub reply: Start,
}

/// Reads a frame's header and starts its handler. An error closes the connection.
pub(crate) fn start(
    gateway: &Arc<Gateway>,
    connection: &Arc<ConnectionInfo>,
    frame: Bytes,
) -> Result<Started, Failure> {
    let RequestFrame {
        api_key,
        header,
        body,
    } = match RequestFrame::decode(frame) {
        Ok(frame) => frame,
        Err(RequestError::Unsupported {
            api_key,
            correlation_id,
            ..
        }) if api_key == ApiKey::ApiVersions.as_i16() => {
            let reply = Start::Now(api_versions::unsupported_version(gateway, correlation_id));
            return Ok(Started {
                key: ApiKey::ApiVersions,
                order: Order::Serial,
                reply,
            });
        }
        Err(RequestError::Unsupported {
            api_key, api_version, ..
        }) => {
            return Err(Failure::Unsupported { api_key, api_version });
        }
        Err(RequestError::Malformed(error)) => return Err(error.into()),
    };
    let version = header.request_api_version;
    let unsupported = Failure::Unsupported {
        api_key: api_key.as_i16(),
        api_version: version,
    };
    let api = gateway
        .api(api_key)
        .filter(|api| api.versions.contains(version))
        .ok_or(unsupported)?;
    let call = Call {
        gateway: gateway.clone(),
        connection: connection.clone(),
        version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.as_deref().map(Arc::from),
    };
    Ok(Started {
        key: api_key,
        order: api.order,
        reply: (api.start)(call, body),
    })
}

#[cfg(test)]
mod tests;
