//! Offsets: where partitions begin and end, what a group has committed.

use std::collections::BTreeMap;

use futures::future::join_all;
use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use strom_kafka_codec::messages::list_offsets_response::ListOffsetsPartitionResponse;
use strom_kafka_codec::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use strom_kafka_codec::messages::{ListOffsetsRequest, OffsetCommitRequest, OffsetFetchRequest};
use strom_types::{ErrorCode, Offset};

use super::membership::Generation;
use super::{Client, Deadline, KafkaError, Target, TopicPartition, TopicView};

/// ListOffsets' timestamp for the next offset to be written (with read_committed: the last stable offset).
pub(crate) const LATEST: i64 = -1;
/// ListOffsets' timestamp for the first offset that exists.
pub(crate) const EARLIEST: i64 = -2;

/// What to look for, per partition: a timestamp in milliseconds, [`LATEST`] or [`EARLIEST`].
pub(crate) type Wanted = BTreeMap<TopicPartition, i64>;
/// Offsets by partition.
pub(crate) type Offsets = BTreeMap<TopicPartition, Offset>;

fn leader_of(topics: &[TopicView], key: &TopicPartition) -> i32 {
    let topic = topics.iter().find(|topic| topic.name == *key.topic);
    topic
        .and_then(|topic| topic.partitions.get(&key.partition))
        .map_or(-1, |partition| partition.leader)
}

/// Whether only committed transactions are to be seen, as the wire wants it.
pub(crate) fn isolation_level(read_committed: bool) -> i8 {
    i8::from(read_committed)
}

fn list_request(
    wanted: &Wanted,
    read_committed: bool,
    version: i16,
    deadline: Deadline,
) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (key, &timestamp) in wanted {
        let partition = ListOffsetsPartition {
            partition_index: key.partition,
            timestamp,
            ..Default::default()
        };
        topics.entry(&key.topic).or_default().push(partition);
    }
    let topics = topics.into_iter();
    ListOffsetsRequest {
        replica_id: -1,
        isolation_level: if version >= 2 {
            isolation_level(read_committed)
        } else {
            0
        },
        topics: topics
            .map(|(name, partitions)| ListOffsetsTopic {
                name: ByteStr::from(name.to_owned()),
                partitions,
            })
            .collect(),
        timeout_ms: if version >= 10 { deadline.remaining_ms() } else { 0 },
    }
}

impl Client {
    /// The offsets at the wanted timestamps; -1 where no record is that young. All topics must exist.
    pub(crate) async fn list_offsets(
        &self,
        wanted: &Wanted,
        read_committed: bool,
    ) -> Result<Offsets, KafkaError> {
        let mut names: Vec<String> = wanted.keys().map(|key| key.topic.to_string()).collect();
        names.dedup();
        let mut topics = self.topics(&names).await?;
        let (mut left, mut found) = (wanted.clone(), Offsets::new());
        let deadline = self.deadline();
        let attempt = async || {
            let answers = self.list_once(&topics, &left, read_committed, deadline).await;
            let mut failure = None;
            for (key, answer) in answers {
                match answer {
                    Ok(offset) => {
                        left.remove(&key);
                        found.insert(key, offset);
                    }
                    Err(error) if error.is_retriable() => failure = Some(error),
                    Err(error) => return Err(error),
                }
            }
            if failure.is_some() {
                topics = self.topics(&names).await?;
            }
            failure.map_or(Ok(()), Err)
        };
        self.retry("listing offsets", deadline, attempt).await?;
        Ok(found)
    }

    /// Asks every leader once; each partition comes back with its offset or why not.
    async fn list_once(
        &self,
        topics: &[TopicView],
        wanted: &Wanted,
        read_committed: bool,
        deadline: Deadline,
    ) -> Vec<(TopicPartition, Result<Offset, KafkaError>)> {
        let mut by_leader: BTreeMap<i32, Wanted> = BTreeMap::new();
        for (key, &timestamp) in wanted {
            by_leader
                .entry(leader_of(topics, key))
                .or_default()
                .insert(key.clone(), timestamp);
        }
        let calls = by_leader.iter().map(|(&leader, part)| async move {
            match self.list_at(leader, part, read_committed, deadline).await {
                Ok(offsets) => offsets,
                Err(error) => {
                    // One error stands for all; it is told once per attempt anyway.
                    let first = part.keys().next().cloned();
                    first.map(|key| (key, Err(error))).into_iter().collect()
                }
            }
        });
        join_all(calls).await.into_iter().flatten().collect()
    }

    async fn list_at(
        &self,
        leader: i32,
        wanted: &Wanted,
        read_committed: bool,
        deadline: Deadline,
    ) -> Result<Vec<(TopicPartition, Result<Offset, KafkaError>)>, KafkaError> {
        if leader < 0 {
            let names: Vec<String> = wanted.keys().map(TopicPartition::to_string).collect();
            let subject = format!("offsets of {}", names.join(", "));
            return Err(KafkaError::Server {
                subject,
                code: ErrorCode::LeaderNotAvailable,
                message: None,
            });
        }
        let build = |version, deadline| list_request(wanted, read_committed, version, deadline);
        let connection = self.broker(leader, deadline).await?;
        let response = connection
            .call(deadline, |version| build(version, deadline))
            .await?;
        let mut offsets = Vec::new();
        for topic in &response.topics {
            for partition in &topic.partitions {
                let key = TopicPartition::new(&topic.name, partition.partition_index);
                let answer = listed(&key, partition);
                offsets.push((key, answer));
            }
        }
        Ok(offsets)
    }

    /// What a group has committed; empty for a group that is not there.
    pub(crate) async fn committed(&self, group: &str) -> Result<Offsets, KafkaError> {
        let name = ByteStr::from(group.to_owned());
        let subject = format!("offsets of group {group}");
        let build = |_: i16, _: Deadline| OffsetFetchRequest {
            group_id: name.clone(),
            topics: None,
            ..Default::default()
        };
        let failure = |code: i16| KafkaError::from_code(&subject, code, None);
        let response = self
            .ask(Target::Group(group), &subject, build, |r| failure(r.error_code))
            .await?;
        KafkaError::check(&subject, response.error_code, None)?;
        let mut offsets = Offsets::new();
        for topic in &response.topics {
            for partition in &topic.partitions {
                let key = TopicPartition::new(&topic.name, partition.partition_index);
                KafkaError::check(
                    format!("offset of {key} in group {group}"),
                    partition.error_code,
                    None,
                )?;
                if partition.committed_offset >= 0 {
                    offsets.insert(key, partition.committed_offset);
                }
            }
        }
        Ok(offsets)
    }

    /// Commits `offsets`, as a member or, with no generation, from outside an idle group.
    pub(crate) async fn commit(
        &self,
        group: &str,
        generation: Option<&Generation>,
        offsets: &Offsets,
    ) -> Result<(), KafkaError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let subject = format!("committing offsets of group {group}");
        let build = |_: i16, _: Deadline| commit_request(group, generation, offsets);
        let error_of =
            |code: i16, key: String| KafkaError::from_code(format!("{subject} for {key}"), code, None);
        let first = |response: &strom_kafka_codec::messages::OffsetCommitResponse| {
            response.topics.iter().find_map(|topic| {
                let mut partitions = topic.partitions.iter();
                partitions
                    .find_map(|p| error_of(p.error_code, format!("{}-{}", topic.name, p.partition_index)))
            })
        };
        let response = self.ask(Target::Group(group), &subject, build, first).await?;
        first(&response).map_or(Ok(()), Err)
    }
}

fn listed(key: &TopicPartition, answer: &ListOffsetsPartitionResponse) -> Result<Offset, KafkaError> {
    KafkaError::check(format!("offset of {key}"), answer.error_code, None)?;
    Ok(answer.offset)
}

fn commit_request(group: &str, generation: Option<&Generation>, offsets: &Offsets) -> OffsetCommitRequest {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (key, &offset) in offsets {
        topics
            .entry(&key.topic)
            .or_default()
            .push(OffsetCommitRequestPartition {
                partition_index: key.partition,
                committed_offset: offset,
                committed_metadata: Some(ByteStr::new()),
                ..Default::default()
            });
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| OffsetCommitRequestTopic {
            name: ByteStr::from(name.to_owned()),
            partitions,
            ..Default::default()
        });
    OffsetCommitRequest {
        group_id: ByteStr::from(group.to_owned()),
        generation_id_or_member_epoch: generation.map_or(-1, |g| g.number),
        member_id: generation
            .map(|g| ByteStr::from(g.member_id.clone()))
            .unwrap_or_default(),
        topics: topics.collect(),
        ..Default::default()
    }
}
