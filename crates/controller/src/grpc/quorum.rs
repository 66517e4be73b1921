//! DescribeQuorum: the members as the leader sees them.

use std::time::Duration;

use strom_proto::convert::service_error;
use strom_proto::v1;
use strom_raft_node::{Member, RaftRole};
use strom_types::ErrorCode;
use tonic::Status;

use super::Service;

impl Service {
    pub(super) async fn quorum(&self) -> Result<v1::DescribeQuorumReply, Status> {
        let description = self.inner.raft.describe().await.map_err(|stopped| {
            self.refusal(service_error(
                ErrorCode::ControllerUnavailable,
                stopped.to_string(),
            ))
        })?;
        if description.status.role != RaftRole::Leader {
            return Err(self.not_controller());
        }
        let members = |members: &[Member]| members.iter().map(|member| self.member(member)).collect();
        Ok(v1::DescribeQuorumReply {
            leader_id: self.inner.node_id.get(),
            term: description.status.term,
            commit_index: description.status.commit,
            voters: members(&description.voters),
            learners: members(&description.learners),
        })
    }

    fn member(&self, member: &Member) -> v1::QuorumMember {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let last_contact_ms = if member.node == self.inner.node_id {
            0
        } else {
            member.last_contact.map_or(-1, ms)
        };
        v1::QuorumMember {
            node_id: member.node.get(),
            matched_index: member.matched.unwrap_or(0),
            last_contact_ms,
            endpoint: self.inner.voters.get(&member.node).cloned().unwrap_or_default(),
            ..Default::default()
        }
    }
}
