//! Who leads now, in a produce reply that says NOT_LEADER_OR_FOLLOWER (KIP-951).

use std::sync::Arc;

use strom_kafka_codec::messages::ProduceResponse;
use strom_kafka_codec::messages::produce_response::{LeaderIdAndEpoch, NodeEndpoint};
use strom_metadata::Image;
use strom_types::{BrokerId, ErrorCode, TopicId};

use crate::api::Call;
use crate::api::nodes::Node;
use crate::codes::kafka;

/// Older versions cannot carry what the broker said of the leader; a reply with it could not be encoded.
pub(super) fn drop_leader_hints(response: &mut ProduceResponse) {
    for reply in response
        .responses
        .iter_mut()
        .flat_map(|topic| &mut topic.partition_responses)
    {
        reply.current_leader = LeaderIdAndEpoch::default();
    }
}

/// KIP-951: with NOT_LEADER_OR_FOLLOWER comes who leads now, and where.
pub(super) fn add_leader_hints(call: &Call, response: &mut ProduceResponse) {
    let stale = [
        kafka(ErrorCode::NotLeaderOrFollower),
        kafka(ErrorCode::FencedLeaderEpoch),
    ];
    let image: Arc<Image> = call.gateway.metadata().image();
    let mut leaders = std::collections::BTreeSet::new();
    for topic in &mut response.responses {
        let found = image
            .topic(TopicId(topic.topic_id))
            .or_else(|| image.topic_by_name(&topic.name));
        for reply in topic
            .partition_responses
            .iter_mut()
            .filter(|p| stale.contains(&p.error_code))
        {
            let Some(state) = found.and_then(|t| t.partitions.get(&reply.index)) else {
                continue;
            };
            let Some(leader) = state.leader else { continue };
            if state.leader_epoch.get() >= reply.current_leader.leader_epoch {
                reply.current_leader = LeaderIdAndEpoch {
                    leader_id: leader.get(),
                    leader_epoch: state.leader_epoch.get(),
                };
            }
            leaders.insert(reply.current_leader.leader_id);
        }
    }
    response.node_endpoints = leaders
        .into_iter()
        .filter_map(|id| {
            let node = Node::of(call, image.broker(BrokerId(id))?);
            Some(NodeEndpoint {
                node_id: node.id,
                host: node.host,
                port: node.port,
                rack: node.rack,
            })
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use strom_kafka_codec::encode_response_frame;
    use strom_kafka_codec::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};

    use super::super::LEADER_HINTS_SINCE_VERSION;
    use super::*;

    #[test]
    fn a_leader_hint_never_keeps_an_old_client_from_its_answer() {
        let hint = LeaderIdAndEpoch {
            leader_id: 2,
            leader_epoch: 7,
        };
        let reply = PartitionProduceResponse {
            error_code: kafka(ErrorCode::NotLeaderOrFollower),
            current_leader: hint,
            ..Default::default()
        };
        let topic = TopicProduceResponse {
            partition_responses: vec![reply],
            ..Default::default()
        };
        let mut response = ProduceResponse {
            responses: vec![topic],
            ..Default::default()
        };
        let old = LEADER_HINTS_SINCE_VERSION - 1;
        assert!(
            encode_response_frame(1, old, &response).is_err(),
            "the version cannot carry it"
        );
        drop_leader_hints(&mut response);
        assert!(encode_response_frame(1, old, &response).is_ok());
    }
}
