//! Being a member of a classic consumer group (KIP-62, KIP-394), with the range assignor.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use strom_kafka_codec::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use strom_kafka_codec::messages::join_group_request::JoinGroupRequestProtocol;
use strom_kafka_codec::messages::leave_group_request::MemberIdentity;
use strom_kafka_codec::messages::sync_group_request::SyncGroupRequestAssignment;
use strom_kafka_codec::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use strom_kafka_codec::{ApiKey, ByteStr, versioned};
use strom_types::ErrorCode;

use super::range_assignor::{Subscriptions, assign};
use super::{Client, Deadline, KafkaError, Target, TopicPartition};

const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";
/// How often to tell the coordinator that we live: a third of the session.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// Short, so that a killed CLI does not hold its partitions for long; above Kafka's default minimum of 6 s.
const SESSION_TIMEOUT_MS: i32 = 10_000;
const REBALANCE_TIMEOUT_MS: i32 = 10_000;

/// One life of a member in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) number: i32,
    pub(crate) member_id: String,
}

/// A member: joins, keeps alive, leaves.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    client: &'a Client,
    group: String,
    topics: Vec<String>,
    generation: Generation,
}

impl<'a> Member<'a> {
    pub(crate) fn new(client: &'a Client, group: &str, topics: &[String]) -> Self {
        Self {
            client,
            group: group.to_owned(),
            topics: topics.to_vec(),
            generation: Generation {
                number: -1,
                member_id: String::new(),
            },
        }
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    pub(crate) fn generation(&self) -> &Generation {
        &self.generation
    }

    fn subject(&self, doing: &str) -> String {
        format!("{doing} group {}", self.group)
    }

    /// Joins or re-joins, until there is an assignment that the whole group agrees on.
    pub(crate) async fn join(&mut self) -> Result<Vec<TopicPartition>, KafkaError> {
        let deadline = self.client.deadline();
        loop {
            let error = match self.join_once().await {
                Ok(assignment) => return Ok(assignment),
                Err(error) => error,
            };
            match error.code() {
                Some(ErrorCode::MemberIdRequired | ErrorCode::RebalanceInProgress) => {}
                Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                    self.generation.member_id.clear();
                }
                _ => return Err(error),
            }
            if deadline.has_passed() {
                return Err(deadline.missed(self.subject("joining"), Some(error)));
            }
        }
    }

    async fn join_once(&mut self) -> Result<Vec<TopicPartition>, KafkaError> {
        let joined = self.send_join().await?;
        self.generation.member_id = joined.member_id.as_str().to_owned();
        KafkaError::check(self.subject("joining"), joined.error_code, None)?;
        self.generation.number = joined.generation_id;
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let assignments = if leads {
            self.assign_all(&joined).await?
        } else {
            Vec::new()
        };
        self.sync(assignments).await
    }

    async fn send_join(&self) -> Result<JoinGroupResponse, KafkaError> {
        let subscription = ConsumerProtocolSubscription {
            topics: self
                .topics
                .iter()
                .map(|name| ByteStr::from(name.clone()))
                .collect(),
            ..Default::default()
        };
        let metadata = versioned::encode(&subscription, 1).map_err(|source| KafkaError::Encode {
            api: ApiKey::JoinGroup,
            source,
        })?;
        let build = |_: i16, _: Deadline| JoinGroupRequest {
            group_id: ByteStr::from(self.group.clone()),
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: ByteStr::from(self.generation.member_id.clone()),
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: ASSIGNOR.into(),
                metadata: metadata.clone(),
            }],
            ..Default::default()
        };
        let subject = self.subject("joining");
        let error_of =
            |response: &JoinGroupResponse| KafkaError::from_code(&subject, response.error_code, None);
        self.client
            .ask(Target::Group(&self.group), &subject, build, error_of)
            .await
    }

    /// As the group's leader: who reads what.
    async fn assign_all(
        &self,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, KafkaError> {
        let malformed = |source| KafkaError::Malformed {
            address: format!("a member of group {}", self.group),
            api: ApiKey::JoinGroup,
            source,
        };
        let mut subscriptions = Subscriptions::new();
        for member in &joined.members {
            let read: ConsumerProtocolSubscription =
                versioned::decode_lenient(member.metadata.clone()).map_err(malformed)?;
            let topics = read
                .topics
                .iter()
                .map(|topic| topic.as_str().to_owned())
                .collect();
            subscriptions.insert(member.member_id.as_str().to_owned(), topics);
        }
        // Another member's topic may not exist (any more), so all are listed and the wanted ones picked.
        let wanted = |name: &String| subscriptions.values().any(|topics| topics.contains(name));
        let all = self.client.all_topics().await?;
        let counts = all
            .into_iter()
            .filter(|topic| wanted(&topic.name))
            .map(|topic| (topic.name, topic.partitions.into_keys().collect::<Vec<_>>()));
        let assigned = assign(&subscriptions, &counts.collect());
        assigned
            .into_iter()
            .map(|(member, partitions)| {
                let assignment = encode_assignment(&partitions)?;
                Ok(SyncGroupRequestAssignment {
                    member_id: ByteStr::from(member),
                    assignment,
                })
            })
            .collect()
    }

    async fn sync(
        &self,
        assignments: Vec<SyncGroupRequestAssignment>,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        let subject = self.subject("taking an assignment in");
        let build = |version: i16, _: Deadline| SyncGroupRequest {
            group_id: ByteStr::from(self.group.clone()),
            generation_id: self.generation.number,
            member_id: ByteStr::from(self.generation.member_id.clone()),
            protocol_type: (version >= 5).then(|| PROTOCOL_TYPE.into()),
            protocol_name: (version >= 5).then(|| ASSIGNOR.into()),
            assignments: assignments.clone(),
            ..Default::default()
        };
        let response = self
            .client
            .ask(Target::Group(&self.group), &subject, build, |r| {
                KafkaError::from_code(&subject, r.error_code, None)
            })
            .await?;
        KafkaError::check(&subject, response.error_code, None)?;
        decode_assignment(response.assignment).map_err(|source| KafkaError::Malformed {
            address: format!("the leader of group {}", self.group),
            api: ApiKey::SyncGroup,
            source,
        })
    }

    /// Tells the coordinator that we live; `false` when it is time to [`join`](Self::join) again.
    pub(crate) async fn heartbeat(&self) -> Result<bool, KafkaError> {
        let subject = self.subject("heartbeat to");
        let build = |_: i16, _: Deadline| HeartbeatRequest {
            group_id: ByteStr::from(self.group.clone()),
            generation_id: self.generation.number,
            member_id: ByteStr::from(self.generation.member_id.clone()),
            ..Default::default()
        };
        let response = self
            .client
            .ask(Target::Group(&self.group), &subject, build, |r| {
                KafkaError::from_code(&subject, r.error_code, None)
            })
            .await?;
        match KafkaError::from_code(&subject, response.error_code, None) {
            None => Ok(true),
            Some(error) if is_out_of_step(&error) => Ok(false),
            Some(error) => Err(error),
        }
    }

    /// Leaves, so that the others need not wait for the session to end.
    pub(crate) async fn leave(&self) -> Result<(), KafkaError> {
        let subject = self.subject("leaving");
        let member_id = ByteStr::from(self.generation.member_id.clone());
        let build = |version: i16, _: Deadline| {
            let mut request = LeaveGroupRequest {
                group_id: ByteStr::from(self.group.clone()),
                ..Default::default()
            };
            if version >= 3 {
                request.members.push(MemberIdentity {
                    member_id: member_id.clone(),
                    ..Default::default()
                });
            } else {
                request.member_id = member_id.clone();
            }
            request
        };
        let response = self
            .client
            .ask(Target::Group(&self.group), &subject, build, |r| {
                KafkaError::from_code(&subject, r.error_code, None)
            })
            .await?;
        KafkaError::check(&subject, response.error_code, None)
    }
}

/// Whether the group has moved on without us, so that joining again is the cure.
pub(crate) fn is_out_of_step(error: &KafkaError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::RebalanceInProgress | ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration)
    )
}

fn encode_assignment(partitions: &[TopicPartition]) -> Result<Bytes, KafkaError> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for key in partitions {
        topics.entry(&key.topic).or_default().push(key.partition);
    }
    let topics = topics.into_iter();
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: topics
            .map(|(topic, partitions)| AssignedTopic {
                topic: ByteStr::from(topic.to_owned()),
                partitions,
            })
            .collect(),
        user_data: None,
    };
    versioned::encode(&assignment, 1).map_err(|source| KafkaError::Encode {
        api: ApiKey::SyncGroup,
        source,
    })
}

/// Reads what a member has been given; no bytes mean nothing.
pub(crate) fn decode_assignment(bytes: Bytes) -> Result<Vec<TopicPartition>, strom_kafka_codec::DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let read: ConsumerProtocolAssignment = versioned::decode_lenient(bytes)?;
    let topics = read.assigned_partitions.iter();
    Ok(topics
        .flat_map(|t| t.partitions.iter().map(|&p| TopicPartition::new(&t.topic, p)))
        .collect())
}
