//! `strom.v1.GroupCoordinator`: finds the group's coordinator on this broker and converts to and fro.

mod convert;

use std::collections::BTreeMap;

use futures::future::join_all;
use strom_groups::{Event, GroupFilter, Reply as CoreReply};
use strom_proto::v1;
use strom_proto::v1::group_coordinator_server::GroupCoordinator;
use strom_types::{ErrorCode, TopicIdPartition};
use tonic::{Request, Response, Status};

use crate::groups::Coordinators;

#[derive(Clone)]
pub(crate) struct Groups {
    coordinators: Coordinators,
}

type Reply<T> = Result<Response<T>, Status>;

impl Groups {
    pub(crate) fn new(coordinators: Coordinators) -> Self {
        Groups { coordinators }
    }

    /// Puts an event to the group's coordinator; `read` takes the answer out of the core's reply.
    async fn ask<T>(
        &self,
        group: &str,
        make: impl FnOnce(strom_groups::RequestId) -> Event + Send + 'static,
        read: impl FnOnce(CoreReply) -> Option<T>,
    ) -> Result<T, ErrorCode> {
        let key = self.coordinators.partition_of(group)?;
        let reply = self.coordinators.ask(key, make).await?;
        // The core answers each event with its own kind of reply.
        read(reply).ok_or(ErrorCode::UnknownServerError)
    }

    /// The places of the group ids, by the partition that coordinates them; those without one are told apart.
    fn by_partition(&self, groups: &[String]) -> Result<BTreeMap<TopicIdPartition, Vec<usize>>, ErrorCode> {
        let mut places: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (place, group) in groups.iter().enumerate() {
            places
                .entry(self.coordinators.partition_of(group)?)
                .or_default()
                .push(place);
        }
        Ok(places)
    }

    async fn delete(&self, groups: &[String]) -> Result<Vec<ErrorCode>, ErrorCode> {
        let mut errors = vec![ErrorCode::UnknownServerError; groups.len()];
        let parts = self.by_partition(groups)?.into_iter().map(|(key, places)| {
            let ids: Vec<String> = places.iter().filter_map(|at| groups.get(*at).cloned()).collect();
            async move {
                let count = ids.len();
                let reply = self
                    .coordinators
                    .ask(key, move |id| Event::DeleteGroups(id, ids))
                    .await;
                let errors = match reply {
                    Ok(CoreReply::DeleteGroups(errors)) => errors,
                    Ok(_) => vec![ErrorCode::UnknownServerError; count],
                    Err(error) => vec![error; count],
                };
                (places, errors)
            }
        });
        for (places, found) in join_all(parts).await {
            for (place, error) in places.into_iter().zip(found) {
                if let Some(slot) = errors.get_mut(place) {
                    *slot = error;
                }
            }
        }
        Ok(errors)
    }

    async fn describe(&self, group: String) -> v1::GroupDescription {
        let id = group.clone();
        let described = async {
            let key = self.coordinators.partition_of(&group)?;
            self.coordinators
                .look(key, move |core| core.describe(&group))
                .await
        };
        match described.await {
            Ok(description) => convert::description(description),
            Err(error) => v1::GroupDescription {
                error: error as i32,
                group_id: id,
                ..Default::default()
            },
        }
    }

    async fn list(&self, filter: GroupFilter) -> Result<Vec<v1::ListedGroup>, ErrorCode> {
        let mut all = Vec::new();
        for key in self.coordinators.led() {
            let filter = filter.clone();
            match self.coordinators.look(key, move |core| core.list(&filter)).await {
                Ok(listed) => all.extend(listed.iter().map(convert::listed)),
                // Led elsewhere by now, and listed there.
                Err(ErrorCode::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

#[tonic::async_trait]
impl GroupCoordinator for Groups {
    async fn join_group(&self, request: Request<v1::JoinGroupRequest>) -> Reply<v1::JoinGroupReply> {
        let join = convert::join(request.into_inner());
        let (group, member) = (join.group_id.clone(), join.member_id.clone());
        let answer = self.ask(
            &group,
            move |id| Event::JoinGroup(id, join),
            |reply| match reply {
                CoreReply::JoinGroup(reply) => Some(reply),
                _ => None,
            },
        );
        Ok(Response::new(match answer.await {
            Ok(reply) => convert::join_reply(reply),
            Err(error) => v1::JoinGroupReply {
                error: error as i32,
                generation: -1,
                member_id: member,
                ..Default::default()
            },
        }))
    }

    async fn sync_group(&self, request: Request<v1::SyncGroupRequest>) -> Reply<v1::SyncGroupReply> {
        let sync = convert::sync(request.into_inner());
        let group = sync.group_id.clone();
        let answer = self.ask(
            &group,
            move |id| Event::SyncGroup(id, sync),
            |reply| match reply {
                CoreReply::SyncGroup(reply) => Some(reply),
                _ => None,
            },
        );
        Ok(Response::new(match answer.await {
            Ok(reply) => convert::sync_reply(reply),
            Err(error) => v1::SyncGroupReply {
                error: error as i32,
                ..Default::default()
            },
        }))
    }

    async fn heartbeat(&self, request: Request<v1::GroupHeartbeatRequest>) -> Reply<v1::GroupHeartbeatReply> {
        let heartbeat = convert::heartbeat(request.into_inner());
        let group = heartbeat.group_id.clone();
        let answer = self.ask(
            &group,
            move |id| Event::Heartbeat(id, heartbeat),
            |reply| match reply {
                CoreReply::Heartbeat(error) => Some(error),
                _ => None,
            },
        );
        let error = answer.await.unwrap_or_else(|error| error) as i32;
        Ok(Response::new(v1::GroupHeartbeatReply { error }))
    }

    async fn leave_group(&self, request: Request<v1::LeaveGroupRequest>) -> Reply<v1::LeaveGroupReply> {
        let leave = convert::leave(request.into_inner());
        let group = leave.group_id.clone();
        let answer = self.ask(
            &group,
            move |id| Event::LeaveGroup(id, leave),
            |reply| match reply {
                CoreReply::LeaveGroup(reply) => Some(reply),
                _ => None,
            },
        );
        Ok(Response::new(match answer.await {
            Ok(reply) => convert::leave_reply(reply),
            Err(error) => v1::LeaveGroupReply {
                error: error as i32,
                members: Vec::new(),
            },
        }))
    }

    async fn offset_commit(&self, request: Request<v1::OffsetCommitRequest>) -> Reply<v1::OffsetCommitReply> {
        let commit = convert::commit(request.into_inner());
        let (group, count) = (commit.group_id.clone(), commit.partitions.len());
        let answer = self.ask(
            &group,
            move |id| Event::OffsetCommit(id, commit),
            |reply| match reply {
                CoreReply::OffsetCommit(errors) => Some(errors),
                _ => None,
            },
        );
        let errors = answer.await.unwrap_or_else(|error| vec![error; count]);
        Ok(Response::new(v1::OffsetCommitReply {
            errors: convert::codes(errors),
        }))
    }

    /// Nothing is unstable until there are transactions, so `require_stable` changes nothing yet. The member and its
    /// epoch matter to consumer groups (KIP-848) alone.
    async fn offset_fetch(&self, request: Request<v1::OffsetFetchRequest>) -> Reply<v1::OffsetFetchReply> {
        let request = request.into_inner();
        let fetched = async {
            let key = self.coordinators.partition_of(&request.group_id)?;
            let group = request.group_id;
            let all = request.all;
            let wanted = convert::topic_partitions(request.partitions);
            let look = move |core: &strom_groups::Coordinator| {
                if all {
                    core.fetch_all_offsets(&group)
                } else {
                    core.fetch_offsets(&group, &wanted)
                }
            };
            self.coordinators.look(key, look).await
        };
        Ok(Response::new(match fetched.await {
            Ok(offsets) => v1::OffsetFetchReply {
                error: 0,
                offsets: offsets.iter().map(convert::fetched).collect(),
            },
            Err(error) => v1::OffsetFetchReply {
                error: error as i32,
                offsets: Vec::new(),
            },
        }))
    }

    async fn offset_delete(&self, request: Request<v1::OffsetDeleteRequest>) -> Reply<v1::OffsetDeleteReply> {
        let delete = convert::offset_delete(request.into_inner());
        let group = delete.group_id.clone();
        let answer = self.ask(
            &group,
            move |id| Event::OffsetDelete(id, delete),
            |reply| match reply {
                CoreReply::OffsetDelete(reply) => Some(reply),
                _ => None,
            },
        );
        Ok(Response::new(match answer.await {
            Ok(reply) => v1::OffsetDeleteReply {
                error: reply.error as i32,
                partition_errors: convert::codes(reply.partition_errors),
            },
            Err(error) => v1::OffsetDeleteReply {
                error: error as i32,
                partition_errors: Vec::new(),
            },
        }))
    }

    async fn describe_groups(
        &self,
        request: Request<v1::DescribeGroupsRequest>,
    ) -> Reply<v1::DescribeGroupsReply> {
        let groups = request.into_inner().group_ids;
        let groups = join_all(groups.into_iter().map(|group| self.describe(group))).await;
        Ok(Response::new(v1::DescribeGroupsReply { groups }))
    }

    /// As in Kafka, a coordinator that is still loading fails the whole list: a part would pass for all.
    async fn list_groups(&self, request: Request<v1::ListGroupsRequest>) -> Reply<v1::ListGroupsReply> {
        let request = request.into_inner();
        let filter = GroupFilter {
            states: request.states,
            types: request.types,
        };
        Ok(Response::new(match self.list(filter).await {
            Ok(groups) => v1::ListGroupsReply { error: 0, groups },
            Err(error) => v1::ListGroupsReply {
                error: error as i32,
                groups: Vec::new(),
            },
        }))
    }

    async fn delete_groups(&self, request: Request<v1::DeleteGroupsRequest>) -> Reply<v1::DeleteGroupsReply> {
        let groups = request.into_inner().group_ids;
        let errors = self.delete(&groups).await;
        let errors = errors.unwrap_or_else(|error| vec![error; groups.len()]);
        Ok(Response::new(v1::DeleteGroupsReply {
            errors: convert::codes(errors),
        }))
    }
}
