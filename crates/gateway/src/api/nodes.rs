//! The brokers as clients see them: ids, addresses, racks, who is offline, and what clients may do.

use std::sync::Arc;

use strom_kafka_codec::ByteStr;
use strom_metadata::{BrokerImage, Image, PartitionState};
use strom_types::BrokerId;

use super::Call;
use crate::brokers::Broker;

/// Kafka's `AclOperation` codes as bits, for resources on which everything is allowed: there are no ACLs yet.
pub(super) const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
pub(super) const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
pub(super) const GROUP_OPERATIONS: i32 = bits(&[3, 6, 8, 10, 11]);
/// "Not asked for" (KIP-430).
pub(super) const OPERATIONS_OMITTED: i32 = i32::MIN;

const fn bits(operations: &[u8]) -> i32 {
    let mut mask = 0;
    let mut rest = operations;
    while let [operation, tail @ ..] = rest {
        mask |= 1 << *operation;
        rest = tail;
    }
    mask
}

pub(super) fn operations(asked: bool, all: i32) -> i32 {
    if asked { all } else { OPERATIONS_OMITTED }
}

/// How clients are told to reach a broker.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub id: i32,
    pub host: ByteStr,
    pub port: i32,
    pub rack: Option<ByteStr>,
    pub fenced: bool,
}

impl Node {
    pub(super) fn of(call: &Call, broker: &BrokerImage) -> Self {
        let (host, port) = call.connection.listener.of_broker(broker.id);
        Node {
            id: broker.id.get(),
            host: text(host),
            port: i32::from(port),
            rack: broker.rack.as_deref().map(text),
            fenced: broker.fenced,
        }
    }

    /// Kafka's `Node.noNode()`.
    pub(super) fn none() -> Self {
        Node {
            id: -1,
            host: ByteStr::new(),
            port: -1,
            rack: None,
            fenced: false,
        }
    }
}

/// The brokers that Metadata lists: the live ones, as in Kafka. While there is none, all that are registered: each
/// address leads to a gateway, and a client that is told of no node at all has nobody left to ask (librdkafka drops
/// every connection and never comes back).
pub(super) fn listed(image: &Image) -> impl Iterator<Item = &Arc<BrokerImage>> {
    let none_live = image.live_brokers().next().is_none();
    image.brokers().filter(move |broker| none_live || !broker.fenced)
}

/// The node that clients send changes to. Any gateway takes them, so it is the id of a broker that is listed: the one
/// that the client is speaking to, if that is live.
pub(super) fn controller_id(call: &Call, image: &Image) -> i32 {
    let live = |id: &BrokerId| is_live(image, *id);
    call.addressed_broker()
        .filter(live)
        .or_else(|| listed(image).next().map(|broker| broker.id))
        .map_or(-1, BrokerId::get)
}

pub(super) fn is_live(image: &Image, id: BrokerId) -> bool {
    image.broker(id).is_some_and(|broker| !broker.fenced)
}

/// Who answers a request that concerns one node: the broker whose address the client used. A bootstrap address names
/// none, so all live brokers answer together.
pub(super) fn addressed_brokers(call: &Call, image: &Image) -> Vec<Broker> {
    let ids: Vec<BrokerId> = match call.addressed_broker() {
        Some(id) => vec![id],
        None => image.live_brokers().map(|broker| broker.id).collect(),
    };
    ids.into_iter()
        .filter_map(|id| call.gateway.brokers().get(image, id))
        .collect()
}

/// The replicas that are out of service.
pub(super) fn offline_replicas(image: &Image, state: &PartitionState) -> Vec<i32> {
    let offline = |id: &&BrokerId| {
        image
            .broker(**id)
            .is_none_or(|broker| broker.fenced || broker.is_dirless())
    };
    state.replicas.iter().filter(offline).map(|id| id.get()).collect()
}

pub(super) fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| id.get()).collect()
}

pub(super) fn text(text: &str) -> ByteStr {
    ByteStr::from(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_kafkas() {
        // As printed by `kafka-topics` and friends for a broker without an authorizer.
        assert_eq!(TOPIC_OPERATIONS, 3576);
        assert_eq!(CLUSTER_OPERATIONS, 8096);
        assert_eq!(GROUP_OPERATIONS, 3400);
        assert_eq!(operations(false, TOPIC_OPERATIONS), i32::MIN);
    }
}
