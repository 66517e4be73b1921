//! A group's client, as the gateway calls for it.

use bytes::Bytes;
use strom_proto::v1::group_coordinator_server::GroupCoordinator;
use strom_proto::v1::{self, FetchedOffset, JoinGroupReply, SyncGroupReply};
use strom_types::ErrorCode;
use tonic::Request;

use crate::grpc::Groups;

pub(super) const OK: i32 = 0;

pub(super) fn code(error: ErrorCode) -> i32 {
    error as i32
}

#[derive(Clone)]
pub(super) struct Client {
    groups: Groups,
    pub(super) group: String,
}

impl Client {
    pub(super) fn new(groups: &Groups, group: &str) -> Client {
        Client {
            groups: groups.clone(),
            group: group.to_owned(),
        }
    }

    pub(super) async fn join(&self, member: &str, session_timeout_ms: i32) -> JoinGroupReply {
        let request = v1::JoinGroupRequest {
            group_id: self.group.clone(),
            member_id: member.into(),
            protocol_type: "consumer".into(),
            protocols: vec![v1::GroupProtocol {
                name: "range".into(),
                metadata: Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0"),
            }],
            session_timeout_ms,
            rebalance_timeout_ms: 10_000,
            client_id: "c".into(),
            client_host: "/h".into(),
            ..Default::default()
        };
        let reply = self.groups.join_group(Request::new(request)).await;
        reply.unwrap().into_inner()
    }

    /// The leader gives each member its own id as its assignment.
    pub(super) async fn sync(&self, joined: &JoinGroupReply) -> SyncGroupReply {
        let assignments = joined.members.iter().map(|member| v1::MemberAssignment {
            member_id: member.member_id.clone(),
            assignment: Bytes::from(member.member_id.clone()),
        });
        let request = v1::SyncGroupRequest {
            group_id: self.group.clone(),
            member_id: joined.member_id.clone(),
            generation: joined.generation,
            assignments: assignments.collect(),
            ..Default::default()
        };
        let reply = self.groups.sync_group(Request::new(request)).await;
        reply.unwrap().into_inner()
    }

    /// Joins as the only member and is given its assignment.
    pub(super) async fn settle(&self, session_timeout_ms: i32) -> JoinGroupReply {
        let joined = self.join("", session_timeout_ms).await;
        assert_eq!(joined.error, OK);
        assert_eq!(self.sync(&joined).await.error, OK);
        joined
    }

    pub(super) async fn heartbeat(&self, joined: &JoinGroupReply) -> i32 {
        let request = v1::GroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: joined.member_id.clone(),
            generation: joined.generation,
            ..Default::default()
        };
        let reply = self.groups.heartbeat(Request::new(request)).await;
        reply.unwrap().into_inner().error
    }

    pub(super) async fn leave(&self, member: &str) -> i32 {
        let request = v1::LeaveGroupRequest {
            group_id: self.group.clone(),
            members: vec![v1::LeavingMember {
                member_id: member.into(),
                ..Default::default()
            }],
        };
        let reply = self.groups.leave_group(Request::new(request)).await;
        reply.unwrap().into_inner().error
    }

    /// Commits as a simple consumer or, with a membership, as a member.
    pub(super) async fn commit_all(
        &self,
        membership: Option<&JoinGroupReply>,
        offsets: &[(&str, i32, i64, &str)],
    ) -> Vec<i32> {
        let partitions =
            offsets
                .iter()
                .map(|(topic, partition, offset, metadata)| v1::OffsetCommitPartition {
                    topic: (*topic).into(),
                    topic_id: Bytes::new(),
                    partition: *partition,
                    offset: *offset,
                    leader_epoch: 4,
                    metadata: (*metadata).into(),
                });
        let request = v1::OffsetCommitRequest {
            group_id: self.group.clone(),
            member_id: membership
                .map(|joined| joined.member_id.clone())
                .unwrap_or_default(),
            generation: membership.map_or(-1, |joined| joined.generation),
            partitions: partitions.collect(),
            retention_ms: -1,
            ..Default::default()
        };
        let reply = self.groups.offset_commit(Request::new(request)).await;
        reply.unwrap().into_inner().errors
    }

    pub(super) async fn commit(&self, topic: &str, offset: i64) -> i32 {
        self.commit_all(None, &[(topic, 0, offset, "")]).await[0]
    }

    pub(super) async fn fetch_all(&self) -> Result<Vec<FetchedOffset>, i32> {
        self.fetch(true, &[]).await
    }

    /// The committed offset of partition 0; -1 = none.
    pub(super) async fn committed(&self, topic: &str) -> Result<i64, i32> {
        Ok(self.fetch(false, &[topic]).await?[0].offset)
    }

    async fn fetch(&self, all: bool, topics: &[&str]) -> Result<Vec<FetchedOffset>, i32> {
        let partitions = topics.iter().map(|topic| v1::OffsetFetchPartition {
            topic: (*topic).into(),
            partition: 0,
        });
        let request = v1::OffsetFetchRequest {
            group_id: self.group.clone(),
            member_epoch: -1,
            require_stable: true,
            all,
            partitions: partitions.collect(),
            ..Default::default()
        };
        let reply = self.groups.offset_fetch(Request::new(request)).await;
        let reply = reply.unwrap().into_inner();
        if reply.error == OK {
            Ok(reply.offsets)
        } else {
            Err(reply.error)
        }
    }

    pub(super) async fn delete_offset(&self, topic: &str) -> v1::OffsetDeleteReply {
        let request = v1::OffsetDeleteRequest {
            group_id: self.group.clone(),
            partitions: vec![v1::OffsetFetchPartition {
                topic: topic.into(),
                partition: 0,
            }],
        };
        self.groups
            .offset_delete(Request::new(request))
            .await
            .unwrap()
            .into_inner()
    }

    pub(super) async fn describe(&self) -> v1::GroupDescription {
        let request = v1::DescribeGroupsRequest {
            group_ids: vec![self.group.clone()],
        };
        let reply = self.groups.describe_groups(Request::new(request)).await;
        reply.unwrap().into_inner().groups.remove(0)
    }
}

pub(super) async fn list(groups: &Groups, states: &[&str]) -> Result<Vec<(String, String)>, i32> {
    let request = v1::ListGroupsRequest {
        states: states.iter().map(|state| (*state).to_owned()).collect(),
        types: Vec::new(),
    };
    let reply = groups
        .list_groups(Request::new(request))
        .await
        .unwrap()
        .into_inner();
    if reply.error != OK {
        return Err(reply.error);
    }
    let mut listed: Vec<_> = reply.groups.into_iter().map(|g| (g.group_id, g.state)).collect();
    listed.sort();
    Ok(listed)
}

pub(super) async fn delete(groups: &Groups, group_ids: &[&str]) -> Vec<i32> {
    let request = v1::DeleteGroupsRequest {
        group_ids: group_ids.iter().map(|id| (*id).to_owned()).collect(),
    };
    groups
        .delete_groups(Request::new(request))
        .await
        .unwrap()
        .into_inner()
        .errors
}
