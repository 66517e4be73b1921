//! A group member that speaks in frames and does exactly what it is told.

use bytes::Bytes;
use strom_kafka_codec::messages::join_group_request::JoinGroupRequestProtocol;
use strom_kafka_codec::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use strom_kafka_codec::messages::sync_group_request::SyncGroupRequestAssignment;
use strom_kafka_codec::messages::{
    FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest,
    SyncGroupRequest, SyncGroupResponse,
};

use crate::codes::{LEADER_NOT_AVAILABLE, MEMBER_ID_REQUIRED, NONE};
use crate::raw::Raw;

const JOIN_GROUP: i16 = 7;
const COORDINATOR_CODES: [i16; 4] = [14, 15, 16, LEADER_NOT_AVAILABLE];

/// How a member joins.
#[derive(Clone, Debug)]
pub struct Member {
    pub group: String,
    pub id: String,
    pub instance: Option<String>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub generation: i32,
}

impl Member {
    pub fn new(group: &str) -> Self {
        Member {
            group: group.to_owned(),
            id: String::new(),
            instance: None,
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            generation: -1,
        }
    }

    pub fn join_request(&self) -> JoinGroupRequest {
        JoinGroupRequest {
            group_id: self.group.clone().into(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            member_id: self.id.clone().into(),
            group_instance_id: self.instance.clone().map(Into::into),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: Bytes::from_static(b"m"),
            }],
            ..Default::default()
        }
    }

    /// Sends a JoinGroup, which may wait for others.
    pub async fn send_join(&self, raw: &mut Raw) {
        raw.send(JOIN_GROUP, &self.join_request()).await;
    }

    /// Takes the answer to [`send_join`](Self::send_join).
    pub async fn joined(&mut self, raw: &mut Raw) -> JoinGroupResponse {
        let (_, reply) = raw.receive::<JoinGroupResponse>(JOIN_GROUP).await;
        if reply.error_code == NONE {
            self.id = reply.member_id.to_string();
            self.generation = reply.generation_id;
        }
        reply
    }

    /// Joins to the end: with the id that the coordinator asks for, waiting until there is one.
    pub async fn join(&mut self, raw: &mut Raw) -> JoinGroupResponse {
        let deadline = tokio::time::Instant::now() + crate::PATIENCE;
        loop {
            self.send_join(raw).await;
            let reply = self.joined(raw).await;
            match reply.error_code {
                MEMBER_ID_REQUIRED => self.id = reply.member_id.to_string(),
                code if COORDINATOR_CODES.contains(&code) => {
                    assert!(
                        tokio::time::Instant::now() < deadline,
                        "no coordinator: error {code}"
                    );
                    find_coordinator(raw, &self.group).await;
                }
                _ => return reply,
            }
        }
    }

    /// Distributes assignments; for the leader of the generation.
    pub async fn sync(&self, raw: &mut Raw, assignments: &[(&str, &'static [u8])]) -> SyncGroupResponse {
        let assignments = assignments
            .iter()
            .map(|(id, assignment)| SyncGroupRequestAssignment {
                member_id: (*id).to_owned().into(),
                assignment: Bytes::from_static(assignment),
            });
        let request = SyncGroupRequest {
            group_id: self.group.clone().into(),
            generation_id: self.generation,
            member_id: self.id.clone().into(),
            group_instance_id: self.instance.clone().map(Into::into),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: assignments.collect(),
        };
        raw.call(5, &request).await
    }

    pub async fn heartbeat(&self, raw: &mut Raw) -> i16 {
        let request = HeartbeatRequest {
            group_id: self.group.clone().into(),
            generation_id: self.generation,
            member_id: self.id.clone().into(),
            group_instance_id: self.instance.clone().map(Into::into),
        };
        raw.call(4, &request).await.error_code
    }

    pub async fn commit(&self, raw: &mut Raw, topic: &str, offset: i64, metadata: &str) -> i16 {
        let request = OffsetCommitRequest {
            group_id: self.group.clone().into(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone().into(),
            group_instance_id: self.instance.clone().map(Into::into),
            topics: vec![OffsetCommitRequestTopic {
                name: topic.to_owned().into(),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: offset,
                    committed_metadata: Some(metadata.to_owned().into()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let reply = raw.call(8, &request).await;
        let topic = reply.topics.first().expect("the topic's reply");
        topic
            .partitions
            .first()
            .expect("the partition's reply")
            .error_code
    }
}

/// Asks for a group's coordinator, which makes the offsets topic where it is missing; the error code.
pub async fn find_coordinator(raw: &mut Raw, group: &str) -> i16 {
    let request = FindCoordinatorRequest {
        coordinator_keys: vec![group.to_owned().into()],
        ..Default::default()
    };
    let reply = raw.call(4, &request).await;
    reply.coordinators.first().expect("a coordinator").error_code
}

/// Waits until the group's coordinator serves.
pub async fn wait_coordinator(raw: &mut Raw, group: &str) {
    let deadline = tokio::time::Instant::now() + crate::PATIENCE;
    loop {
        let found = find_coordinator(raw, group).await;
        // A member that nobody knows: the answer tells whether the group is loaded.
        let asked = Member::new(group).heartbeat(raw).await;
        if found == NONE && !COORDINATOR_CODES.contains(&asked) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "no coordinator: errors {found} and {asked}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
