//! Committed offsets: commit, delete, fetch. What can be read is what the log has committed, never earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strom_types::{ErrorCode, LeaderEpoch, Offset, WallMs};

use crate::appends::Waiter;
use crate::context::{Context, Step};
use crate::coordinator::Coordinator;
use crate::effect::{OffsetDeleteReply, Reply};
use crate::event::{OffsetCommit, OffsetCommitPartition, OffsetDelete, RequestId, TopicPartition};
use crate::group::Group;
use crate::record::{OffsetCommitValue, OffsetKey, Record};
use crate::state::GroupState;

/// The offsets of one group, by topic and partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Offsets(BTreeMap<Arc<str>, BTreeMap<i32, OffsetCommitValue>>);

impl Offsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&OffsetCommitValue> {
        self.0.get(topic)?.get(&partition)
    }

    pub(crate) fn set(&mut self, topic: &Arc<str>, partition: i32, value: OffsetCommitValue) {
        match self.0.get_mut(topic) {
            Some(partitions) => {
                partitions.insert(partition, value);
            }
            None => {
                let partitions = BTreeMap::from([(partition, value)]);
                self.0.insert(Arc::clone(topic), partitions);
            }
        }
    }

    pub(crate) fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.0.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.0.remove(topic);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, &OffsetCommitValue)> {
        self.0.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, value)| (topic, *partition, value))
        })
    }

    /// Keys of all offsets of these topics; of all topics when `None`.
    pub(crate) fn keys(&self, group: &Arc<str>, topics: Option<&BTreeSet<&str>>) -> BTreeSet<OffsetKey> {
        self.iter()
            .filter(|(topic, ..)| topics.is_none_or(|topics| topics.contains(&***topic)))
            .map(|(topic, partition, _)| OffsetKey {
                group: Arc::clone(group),
                topic: Arc::clone(topic),
                partition,
            })
            .collect()
    }
}

/// One partition's answer to OffsetFetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedOffset {
    pub topic: Arc<str>,
    pub partition: i32,
    /// -1 = none committed.
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
}

impl Coordinator {
    pub(crate) fn on_offset_commit(&mut self, step: &mut Step<'_>, request: RequestId, commit: OffsetCommit) {
        let count = commit.partitions.len();
        let refuse = |error| Reply::OffsetCommit(vec![error; count]);
        let group_id: Arc<str> = Arc::from(commit.group_id.as_str());
        let checked = self.with_group(step, &group_id, |group, cx| {
            group.check_commit(&commit)?;
            if matches!(group.state, GroupState::Stable | GroupState::PreparingRebalance) {
                group.renew_session(cx, &commit.member_id);
            }
            Ok(())
        });
        // A group that does not exist comes into being with the first offset of a simple consumer.
        let checked = checked.unwrap_or_else(|| {
            if commit.generation >= 0 {
                Err(ErrorCode::GroupIdNotFound)
            } else if self.is_full() {
                Err(ErrorCode::GroupMaxSizeReached)
            } else {
                Ok(())
            }
        });
        if let Err(error) = checked {
            return step.reply(request, refuse(error));
        }
        let mut cx = self.context(step);
        if cx.appends.records() + count > cx.config.limits.pending_records_max {
            return cx.reply(request, refuse(ErrorCode::CoordinatorNotAvailable));
        }
        let (records, errors) = commit_records(&cx, &group_id, commit.retention_ms, commit.partitions);
        if records.is_empty() {
            return cx.reply(request, Reply::OffsetCommit(errors));
        }
        cx.append(records, Waiter::OffsetCommit { request, errors });
    }

    pub(crate) fn on_offset_delete(
        &mut self,
        step: &mut Step<'_>,
        request: RequestId,
        delete: &OffsetDelete,
    ) {
        let refuse = |error| {
            Reply::OffsetDelete(OffsetDeleteReply {
                error,
                partition_errors: Vec::new(),
            })
        };
        let refused = self.with_group(step, &delete.group_id, |group, cx| {
            group.check_offset_delete()?;
            let (records, partition_errors) = group.delete_records(cx, &delete.partitions);
            if records.is_empty() {
                let error = ErrorCode::None;
                let reply = OffsetDeleteReply {
                    error,
                    partition_errors,
                };
                cx.reply(request, Reply::OffsetDelete(reply));
            } else {
                let waiter = Waiter::OffsetDelete {
                    request,
                    partition_errors,
                };
                cx.append(records, waiter);
            }
            Ok(())
        });
        if let Err(error) = refused.unwrap_or(Err(ErrorCode::GroupIdNotFound)) {
            step.reply(request, refuse(error));
        }
    }

    pub(crate) fn on_topics_deleted(&mut self, step: &mut Step<'_>, topics: &[String]) {
        let topics: BTreeSet<&str> = topics.iter().map(String::as_str).collect();
        let mut keys = BTreeSet::new();
        for group in self.groups() {
            if group.state != GroupState::Dead {
                keys.extend(group.offsets.keys(&group.id, Some(&topics)));
            }
        }
        let mut cx = self.context(step);
        for group in cx.appends.groups() {
            let pending = cx.appends.offset_keys(&group);
            keys.extend(pending.into_iter().filter(|key| topics.contains(&*key.topic)));
        }
        if !keys.is_empty() {
            cx.append(tombstones(keys), Waiter::Nobody);
        }
    }

    /// The offsets of these partitions, in their order; -1 where there is none, also of a group that does not exist.
    pub fn fetch_offsets(&self, group_id: &str, partitions: &[TopicPartition]) -> Vec<FetchedOffset> {
        let offsets = self.readable_offsets(group_id);
        partitions
            .iter()
            .map(|wanted| {
                let topic = Arc::from(wanted.topic.as_str());
                match offsets.and_then(|offsets| offsets.get(&wanted.topic, wanted.partition)) {
                    Some(value) => fetched(topic, wanted.partition, value),
                    None => FetchedOffset {
                        topic,
                        partition: wanted.partition,
                        offset: -1,
                        leader_epoch: LeaderEpoch::NONE,
                        metadata: Arc::from(""),
                    },
                }
            })
            .collect()
    }

    /// All offsets of the group, by topic and partition.
    pub fn fetch_all_offsets(&self, group_id: &str) -> Vec<FetchedOffset> {
        self.readable_offsets(group_id)
            .into_iter()
            .flat_map(Offsets::iter)
            .map(|(topic, partition, value)| fetched(Arc::clone(topic), partition, value))
            .collect()
    }

    fn readable_offsets(&self, group_id: &str) -> Option<&Offsets> {
        self.group(group_id)
            .filter(|group| group.state != GroupState::Dead)
            .map(|group| &group.offsets)
    }
}

fn fetched(topic: Arc<str>, partition: i32, value: &OffsetCommitValue) -> FetchedOffset {
    FetchedOffset {
        topic,
        partition,
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: Arc::clone(&value.metadata),
    }
}

fn commit_records(
    cx: &Context<'_>,
    group: &Arc<str>,
    retention_ms: i64,
    partitions: Vec<OffsetCommitPartition>,
) -> (Vec<Record>, Vec<ErrorCode>) {
    let expire_timestamp = (retention_ms >= 0).then(|| WallMs(cx.wall.0.saturating_add(retention_ms)));
    let metadata_max = cx.config.offset_metadata_max_bytes;
    let mut records = Vec::with_capacity(partitions.len());
    let mut errors = Vec::with_capacity(partitions.len());
    // Partitions of one topic come together, and then share its name.
    let mut last_topic: Arc<str> = Arc::from("");
    for partition in partitions {
        // kafkajs commits -2 and -1 to begin anew at the earliest and latest record.
        if partition.offset < -2 || partition.partition < 0 {
            errors.push(ErrorCode::InvalidRequest);
            continue;
        }
        if partition.metadata.encode_utf16().count() > metadata_max {
            errors.push(ErrorCode::OffsetMetadataTooLarge);
            continue;
        }
        if *last_topic != *partition.topic {
            last_topic = Arc::from(partition.topic);
        }
        errors.push(ErrorCode::None);
        records.push(Record::OffsetCommit {
            key: OffsetKey {
                group: Arc::clone(group),
                topic: Arc::clone(&last_topic),
                partition: partition.partition,
            },
            value: OffsetCommitValue {
                offset: partition.offset,
                leader_epoch: partition.leader_epoch,
                metadata: Arc::from(partition.metadata),
                commit_timestamp: cx.wall,
                expire_timestamp,
                topic_id: partition.topic_id,
            },
        });
    }
    (records, errors)
}

pub(crate) fn tombstones(keys: BTreeSet<OffsetKey>) -> Vec<Record> {
    keys.into_iter()
        .map(|key| Record::OffsetTombstone { key })
        .collect()
}

impl Group {
    fn check_commit(&self, commit: &OffsetCommit) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        // A simple consumer or an admin client.
        if commit.generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if commit.generation < 0 && commit.member_id.is_empty() && commit.group_instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(&commit.member_id, commit.group_instance_id.as_deref())?;
        if commit.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        // In PreparingRebalance members may still commit what they are about to give up.
        if self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        match self.state {
            GroupState::Dead => Err(ErrorCode::GroupIdNotFound),
            GroupState::Empty => Ok(()),
            _ if self.is_consumer_group() => Ok(()),
            _ => Err(ErrorCode::NonEmptyGroup),
        }
    }

    fn delete_records(
        &self,
        cx: &Context<'_>,
        partitions: &[TopicPartition],
    ) -> (Vec<Record>, Vec<ErrorCode>) {
        let subscribed = self.subscribed_topics();
        // With commits on their way: the tombstone comes after them in the log.
        let known = self.all_offset_keys(cx);
        let mut doomed = BTreeSet::new();
        let errors = partitions.iter().map(|wanted| {
            if self.is_subscribed(subscribed.as_ref(), &wanted.topic) {
                return ErrorCode::GroupSubscribedToTopic;
            }
            let key = OffsetKey {
                group: Arc::clone(&self.id),
                topic: Arc::from(wanted.topic.as_str()),
                partition: wanted.partition,
            };
            if known.contains(&key) {
                doomed.insert(key);
            }
            ErrorCode::None
        });
        let errors = errors.collect();
        (tombstones(doomed), errors)
    }

    /// Keys of the offsets it has, and of those on their way into the log.
    pub(crate) fn all_offset_keys(&self, cx: &Context<'_>) -> BTreeSet<OffsetKey> {
        let mut keys = self.offsets.keys(&self.id, None);
        keys.extend(cx.appends.offset_keys(&self.id));
        keys
    }
}
