//! DescribeQuorum (key 55): the controllers' quorum, in the words of KRaft's metadata topic.
//!
//! Raft's term stands for the leader's epoch, its commit index for the high watermark, and what a member has matched
//! for its log end offset.

use strom_client::Effect;
use strom_kafka_codec::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use strom_kafka_codec::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::v1;
use strom_types::ErrorCode;
use uuid::Uuid;

use super::admin::{ADMIN_TIMEOUT, Verdict};
use super::call::unary;
use super::nodes::text;
use super::{Call, Start};
use crate::codes::kafka;

const METADATA_TOPIC: &str = "__cluster_metadata";
const LISTENER: &str = "CONTROLLER";
/// Directory ids, nodes and their listeners (KIP-853).
const NODES_SINCE_VERSION: i16 = 2;

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, handle)
}

async fn handle(call: Call, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    if !asks_for_metadata(&request) {
        return unknown(request);
    }
    let reply = call
        .gateway
        .controller()
        .call(
            ADMIN_TIMEOUT,
            Effect::Idempotent,
            v1::DescribeQuorumRequest {},
            |mut stub, request| async move { stub.describe_quorum(request).await },
        )
        .await;
    match reply {
        Ok(quorum) => describe(call.version, call.gateway.clock().wall().0, &quorum),
        Err(error) => {
            let verdict = Verdict::of_call(&error);
            DescribeQuorumResponse {
                error_code: verdict.code(),
                error_message: verdict.message,
                ..Default::default()
            }
        }
    }
}

fn asks_for_metadata(request: &DescribeQuorumRequest) -> bool {
    match request.topics.as_slice() {
        [topic] => {
            topic.topic_name == METADATA_TOPIC
                && topic.partitions.len() == 1
                && topic
                    .partitions
                    .iter()
                    .all(|partition| partition.partition_index == 0)
        }
        _ => false,
    }
}

fn unknown(request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.into_iter().map(|topic| TopicData {
        topic_name: topic.topic_name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| PartitionData {
                partition_index: partition.partition_index,
                error_code: kafka(ErrorCode::UnknownTopicOrPartition),
                ..Default::default()
            })
            .collect(),
    });
    DescribeQuorumResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn describe(version: i16, now_ms: i64, quorum: &v1::DescribeQuorumReply) -> DescribeQuorumResponse {
    let offset = |index: u64| i64::try_from(index).unwrap_or(i64::MAX);
    let end = quorum
        .voters
        .iter()
        .filter(|member| member.node_id == quorum.leader_id)
        .map(|leader| leader.matched_index)
        .max()
        .unwrap_or(quorum.commit_index);
    let state = |member: &v1::QuorumMember| {
        let last_contact = match member.last_contact_ms {
            -1 => -1,
            ago => now_ms.saturating_sub(ago),
        };
        let directory = Uuid::from_slice(&member.storage_id).unwrap_or_default();
        ReplicaState {
            replica_id: member.node_id,
            replica_directory_id: if version >= NODES_SINCE_VERSION {
                directory
            } else {
                Uuid::nil()
            },
            log_end_offset: offset(member.matched_index),
            last_fetch_timestamp: last_contact,
            last_caught_up_timestamp: if member.matched_index >= end {
                last_contact
            } else {
                -1
            },
        }
    };
    let partition = PartitionData {
        partition_index: 0,
        leader_id: quorum.leader_id,
        leader_epoch: i32::try_from(quorum.term).unwrap_or(i32::MAX),
        high_watermark: offset(quorum.commit_index),
        current_voters: quorum.voters.iter().map(state).collect(),
        observers: quorum.learners.iter().map(state).collect(),
        ..Default::default()
    };
    let members = quorum.voters.iter().chain(&quorum.learners);
    DescribeQuorumResponse {
        topics: vec![TopicData {
            topic_name: ByteStr::from_static(METADATA_TOPIC),
            partitions: vec![partition],
        }],
        nodes: if version >= NODES_SINCE_VERSION {
            members.map(node).collect()
        } else {
            Vec::new()
        },
        ..Default::default()
    }
}

/// A member that is reached over a unix socket or inside the process has no listener to tell of.
fn node(member: &v1::QuorumMember) -> Node {
    let address = member
        .endpoint
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
        .filter(|(host, _)| !host.contains('/'));
    Node {
        node_id: member.node_id,
        listeners: address
            .map(|(host, port)| Listener {
                name: ByteStr::from_static(LISTENER),
                host: text(host),
                port,
            })
            .into_iter()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_and_ports_are_listeners() {
        for (endpoint, listener) in [
            ("controller-0:9093", Some(("controller-0", 9093))),
            ("[::1]:9093", Some(("[::1]", 9093))),
            ("unix:///tmp/c.sock", None),
            ("local:controller", None),
            ("", None),
        ] {
            let member = v1::QuorumMember {
                endpoint: endpoint.to_owned(),
                ..Default::default()
            };
            let node = node(&member);
            let found = node.listeners.first();
            assert_eq!(found.map(|l| (l.host.as_str(), l.port)), listener, "{endpoint}");
        }
    }

    #[test]
    fn who_lags_has_not_caught_up() {
        let member = |node_id, matched_index, last_contact_ms| v1::QuorumMember {
            node_id,
            matched_index,
            last_contact_ms,
            ..Default::default()
        };
        let quorum = v1::DescribeQuorumReply {
            leader_id: 1,
            term: 3,
            commit_index: 9,
            voters: vec![member(1, 10, 0), member(2, 10, 40), member(3, 8, -1)],
            learners: Vec::new(),
        };
        let response = describe(2, 1_000, &quorum);
        let partition = &response.topics[0].partitions[0];
        let times: Vec<(i64, i64)> = partition
            .current_voters
            .iter()
            .map(|voter| (voter.last_fetch_timestamp, voter.last_caught_up_timestamp))
            .collect();
        assert_eq!(times, [(1_000, 1_000), (960, 960), (-1, -1)]);
        assert_eq!((partition.leader_epoch, partition.high_watermark), (3, 9));
    }
}
