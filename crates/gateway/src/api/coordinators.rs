//! The way to the broker that keeps a group: the leader of the group's partition of `__consumer_offsets`.

use std::time::Duration;

use strom_metadata::Image;
use strom_types::{BrokerId, ErrorCode, GROUP_METADATA_TOPIC, coordinator_partition};

use super::Call;
use super::nodes::is_live;
use crate::brokers::Broker;

/// For requests that are answered at once.
pub(super) const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(10);
/// For requests that wait for other members. The coordinator ends the wait; this only lets go of one that is stuck.
pub(super) const PARKED_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// The broker that keeps `group`, if one does at present.
pub(super) fn coordinator_id(image: &Image, group: &str) -> Result<BrokerId, ErrorCode> {
    let unavailable = ErrorCode::CoordinatorNotAvailable;
    let topic = image.topic_by_name(GROUP_METADATA_TOPIC).ok_or(unavailable)?;
    let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let partition = coordinator_partition(group, partitions);
    let state = topic.partitions.get(&partition).ok_or(unavailable)?;
    let leader = state.leader.ok_or(unavailable)?;
    if is_live(image, leader) {
        Ok(leader)
    } else {
        Err(unavailable)
    }
}

pub(super) fn coordinator(call: &Call, image: &Image, group: &str) -> Result<Broker, ErrorCode> {
    let id = coordinator_id(image, group)?;
    let broker = call.gateway.brokers().get(image, id);
    broker.ok_or(ErrorCode::CoordinatorNotAvailable)
}

/// How a client's address is shown in groups.
pub(super) fn client_host(call: &Call) -> String {
    // As Java prints an InetAddress without a name.
    format!("/{}", call.connection.peer.ip())
}
