//! Between the messages of `strom.v1.GroupCoordinator` and the coordinator core's types.

use strom_groups as core;
use strom_proto::convert::topic_id;
use strom_proto::v1;
use strom_types::{ErrorCode, LeaderEpoch, TopicId};
use uuid::Uuid;

pub(super) fn codes(errors: Vec<ErrorCode>) -> Vec<i32> {
    errors.into_iter().map(|error| error as i32).collect()
}

pub(super) fn join(request: v1::JoinGroupRequest) -> core::JoinGroup {
    let protocols = request.protocols.into_iter().map(|protocol| core::Protocol {
        name: protocol.name,
        metadata: protocol.metadata,
    });
    core::JoinGroup {
        group_id: request.group_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        client_id: request.client_id,
        client_host: request.client_host,
        protocol_type: request.protocol_type,
        protocols: protocols.collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        require_known_member_id: request.require_known_member_id,
        supports_skipping_assignment: request.supports_skipping_assignment,
        member_id_suffix: Uuid::new_v4().to_string(),
        reason: request.reason,
    }
}

pub(super) fn join_reply(reply: core::JoinGroupReply) -> v1::JoinGroupReply {
    let members = reply.members.into_iter().map(|member| v1::JoinGroupMember {
        member_id: member.member_id.to_string(),
        group_instance_id: member.group_instance_id.map(|id| id.to_string()),
        metadata: member.metadata,
    });
    v1::JoinGroupReply {
        error: reply.error as i32,
        generation: reply.generation,
        protocol_type: reply.protocol_type.map(|name| name.to_string()),
        protocol_name: reply.protocol_name.map(|name| name.to_string()),
        leader: reply.leader.to_string(),
        member_id: reply.member_id.to_string(),
        members: members.collect(),
        skip_assignment: reply.skip_assignment,
    }
}

pub(super) fn sync(request: v1::SyncGroupRequest) -> core::SyncGroup {
    let assignments = request
        .assignments
        .into_iter()
        .map(|given| core::MemberAssignment {
            member_id: given.member_id,
            assignment: given.assignment,
        });
    core::SyncGroup {
        group_id: request.group_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        generation: request.generation,
        protocol_type: request.protocol_type,
        protocol_name: request.protocol_name,
        assignments: assignments.collect(),
    }
}

pub(super) fn sync_reply(reply: core::SyncGroupReply) -> v1::SyncGroupReply {
    v1::SyncGroupReply {
        error: reply.error as i32,
        protocol_type: reply.protocol_type.map(|name| name.to_string()),
        protocol_name: reply.protocol_name.map(|name| name.to_string()),
        assignment: reply.assignment,
    }
}

pub(super) fn heartbeat(request: v1::GroupHeartbeatRequest) -> core::Heartbeat {
    core::Heartbeat {
        group_id: request.group_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        generation: request.generation,
    }
}

pub(super) fn leave(request: v1::LeaveGroupRequest) -> core::LeaveGroup {
    let members = request.members.into_iter().map(|member| core::LeavingMember {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        reason: member.reason,
    });
    core::LeaveGroup {
        group_id: request.group_id,
        members: members.collect(),
    }
}

pub(super) fn leave_reply(reply: core::LeaveGroupReply) -> v1::LeaveGroupReply {
    let members = reply.members.into_iter().map(|member| v1::LeavingMemberReply {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error: member.error as i32,
    });
    v1::LeaveGroupReply {
        error: reply.error as i32,
        members: members.collect(),
    }
}

pub(super) fn commit(request: v1::OffsetCommitRequest) -> core::OffsetCommit {
    let partitions = request
        .partitions
        .into_iter()
        .map(|part| core::OffsetCommitPartition {
            topic: part.topic,
            // Whoever commits by name has no id.
            topic_id: topic_id(&part.topic_id).unwrap_or(TopicId::ZERO),
            partition: part.partition,
            offset: part.offset,
            leader_epoch: LeaderEpoch(part.leader_epoch),
            metadata: part.metadata,
        });
    core::OffsetCommit {
        group_id: request.group_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        generation: request.generation,
        partitions: partitions.collect(),
        retention_ms: request.retention_ms,
    }
}

pub(super) fn topic_partitions(partitions: Vec<v1::OffsetFetchPartition>) -> Vec<core::TopicPartition> {
    let convert = |part: v1::OffsetFetchPartition| core::TopicPartition {
        topic: part.topic,
        partition: part.partition,
    };
    partitions.into_iter().map(convert).collect()
}

pub(super) fn fetched(offset: &core::FetchedOffset) -> v1::FetchedOffset {
    v1::FetchedOffset {
        topic: offset.topic.to_string(),
        partition: offset.partition,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch.get(),
        metadata: offset.metadata.to_string(),
        error: 0,
    }
}

pub(super) fn offset_delete(request: v1::OffsetDeleteRequest) -> core::OffsetDelete {
    core::OffsetDelete {
        group_id: request.group_id,
        partitions: topic_partitions(request.partitions),
    }
}

pub(super) fn description(group: core::GroupDescription) -> v1::GroupDescription {
    let members = group
        .members
        .into_iter()
        .map(|member| v1::GroupMemberDescription {
            member_id: member.member_id.to_string(),
            group_instance_id: member.group_instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            client_host: member.client_host.to_string(),
            metadata: member.metadata,
            assignment: member.assignment,
        });
    v1::GroupDescription {
        error: group.error as i32,
        group_id: group.group_id,
        state: group.state.name().to_owned(),
        protocol_type: group.protocol_type.to_string(),
        protocol_name: group.protocol.to_string(),
        members: members.collect(),
        error_message: group.error_message,
    }
}

pub(super) fn listed(group: &core::ListedGroup) -> v1::ListedGroup {
    v1::ListedGroup {
        group_id: group.group_id.to_string(),
        protocol_type: group.protocol_type.to_string(),
        state: group.state.name().to_owned(),
        group_type: group.group_type.to_owned(),
    }
}
