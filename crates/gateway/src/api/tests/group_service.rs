//! A group coordinator for tests: every field of every answer is set.

use strom_proto::v1;
use strom_proto::v1::group_coordinator_server::GroupCoordinator;
use strom_types::ErrorCode;
use tonic::{Request, Response, Status};

use super::broker::FakeBroker;

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl GroupCoordinator for FakeBroker {
    async fn join_group(&self, request: Request<v1::JoinGroupRequest>) -> Reply<v1::JoinGroupReply> {
        let error = self.called("join_group")?;
        let request = request.into_inner();
        Ok(Response::new(v1::JoinGroupReply {
            error,
            generation: 4,
            protocol_type: Some(request.protocol_type),
            protocol_name: request.protocols.first().map(|protocol| protocol.name.clone()),
            leader: "m-1".into(),
            member_id: "m-1".into(),
            members: vec![v1::JoinGroupMember {
                member_id: "m-1".into(),
                group_instance_id: Some("i-1".into()),
                // What the gateway says of the client.
                metadata: format!(
                    "{} {} {} {}",
                    request.client_id,
                    request.client_host,
                    request.require_known_member_id,
                    request.supports_skipping_assignment
                )
                .into(),
            }],
            skip_assignment: true,
        }))
    }

    async fn sync_group(&self, request: Request<v1::SyncGroupRequest>) -> Reply<v1::SyncGroupReply> {
        let error = self.called("sync_group")?;
        let request = request.into_inner();
        let first = request.assignments.into_iter().next().unwrap_or_default();
        Ok(Response::new(v1::SyncGroupReply {
            error,
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignment: first.assignment,
        }))
    }

    async fn heartbeat(&self, _: Request<v1::GroupHeartbeatRequest>) -> Reply<v1::GroupHeartbeatReply> {
        let error = self.called("heartbeat")?;
        Ok(Response::new(v1::GroupHeartbeatReply { error }))
    }

    async fn leave_group(&self, request: Request<v1::LeaveGroupRequest>) -> Reply<v1::LeaveGroupReply> {
        let error = self.called("leave_group")?;
        let members = request.into_inner().members.into_iter();
        Ok(Response::new(v1::LeaveGroupReply {
            error: 0,
            members: members
                .map(|member| v1::LeavingMemberReply {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    error,
                })
                .collect(),
        }))
    }

    async fn offset_commit(&self, request: Request<v1::OffsetCommitRequest>) -> Reply<v1::OffsetCommitReply> {
        let error = self.called("offset_commit")?;
        Ok(Response::new(v1::OffsetCommitReply {
            errors: self.each(request.into_inner().partitions, |_| error),
        }))
    }

    async fn offset_fetch(&self, request: Request<v1::OffsetFetchRequest>) -> Reply<v1::OffsetFetchReply> {
        let error = self.called("offset_fetch")?;
        let request = request.into_inner();
        let mut partitions = request.partitions;
        if request.all {
            for (topic, partition) in [("orders", 1), ("gone", 0)] {
                partitions.push(v1::OffsetFetchPartition {
                    topic: topic.into(),
                    partition,
                });
            }
        }
        let offset = |asked: v1::OffsetFetchPartition| v1::FetchedOffset {
            topic: asked.topic,
            partition: asked.partition,
            offset: 50 + i64::from(asked.partition),
            leader_epoch: 2,
            metadata: "note".into(),
            error: 0,
        };
        Ok(Response::new(v1::OffsetFetchReply {
            error,
            offsets: self.each(partitions, offset),
        }))
    }

    async fn offset_delete(&self, request: Request<v1::OffsetDeleteRequest>) -> Reply<v1::OffsetDeleteReply> {
        let error = self.called("offset_delete")?;
        Ok(Response::new(v1::OffsetDeleteReply {
            error,
            partition_errors: self.each(request.into_inner().partitions, |_| 0),
        }))
    }

    async fn describe_groups(
        &self,
        request: Request<v1::DescribeGroupsRequest>,
    ) -> Reply<v1::DescribeGroupsReply> {
        let error = self.called("describe_groups")?;
        let describe = |group_id: String| {
            let unknown = group_id.starts_with("unknown");
            v1::GroupDescription {
                error: if unknown {
                    ErrorCode::GroupIdNotFound as i32
                } else {
                    error
                },
                group_id,
                state: "Stable".into(),
                protocol_type: "consumer".into(),
                protocol_name: "range".into(),
                members: vec![v1::GroupMemberDescription {
                    member_id: "m-1".into(),
                    group_instance_id: Some("i-1".into()),
                    client_id: "c".into(),
                    client_host: "/127.0.0.1".into(),
                    metadata: b"metadata".as_slice().into(),
                    assignment: b"assignment".as_slice().into(),
                }],
                error_message: String::new(),
            }
        };
        Ok(Response::new(v1::DescribeGroupsReply {
            groups: self.each(request.into_inner().group_ids, describe),
        }))
    }

    async fn list_groups(&self, request: Request<v1::ListGroupsRequest>) -> Reply<v1::ListGroupsReply> {
        let error = self.called("list_groups")?;
        let request = request.into_inner();
        Ok(Response::new(v1::ListGroupsReply {
            error,
            groups: vec![v1::ListedGroup {
                group_id: format!("of-broker-{}", self.id),
                protocol_type: "consumer".into(),
                state: request.states.into_iter().next().unwrap_or("Empty".into()),
                group_type: request.types.into_iter().next().unwrap_or("classic".into()),
            }],
        }))
    }

    async fn delete_groups(&self, request: Request<v1::DeleteGroupsRequest>) -> Reply<v1::DeleteGroupsReply> {
        let error = self.called("delete_groups")?;
        Ok(Response::new(v1::DeleteGroupsReply {
            errors: self.each(request.into_inner().group_ids, |_| error),
        }))
    }
}
