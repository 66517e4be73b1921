//! One request spread over the brokers that can answer its parts, and the answers put back in their places.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use futures::future::join_all;
use strom_client::CallError;
use strom_metadata::Image;
use strom_proto::convert::partition_key;
use strom_proto::v1::PartitionKey;
use strom_types::{BrokerId, ErrorCode, TopicIdPartition};

use super::Call;
use crate::brokers::Broker;

/// The part of the request that goes to one broker.
struct Share<W> {
    broker: Broker,
    wants: Vec<W>,
    places: Vec<usize>,
}

/// Asks each broker once for all its parts, all brokers at the same time. `send` answers in the order of what it is
/// given; `failed` says what a lost call means. The result has the order of `wants`.
pub(super) async fn scatter<W, A, F, Fut>(
    wants: Vec<Result<(Broker, W), ErrorCode>>,
    failed: fn(&CallError) -> ErrorCode,
    send: F,
) -> Vec<Result<A, ErrorCode>>
where
    F: Fn(Broker, Vec<W>) -> Fut,
    Fut: Future<Output = Result<Vec<A>, CallError>>,
{
    // Stands where a broker leaves a part out of its answer: nothing is known of it then.
    let unknown = failed(&CallError::Indeterminate {
        target: "broker".into(),
        reason: "left out of the answer".into(),
    });
    let mut answers = Vec::with_capacity(wants.len());
    let mut shares: BTreeMap<BrokerId, Share<W>> = BTreeMap::new();
    for (place, want) in wants.into_iter().enumerate() {
        match want {
            Ok((broker, want)) => {
                let share = shares.entry(broker.id).or_insert_with(|| Share {
                    broker,
                    wants: Vec::new(),
                    places: Vec::new(),
                });
                share.wants.push(want);
                share.places.push(place);
                answers.push(Err(unknown));
            }
            Err(code) => answers.push(Err(code)),
        }
    }
    let asked = shares.into_values().map(|share| {
        let reply = send(share.broker, share.wants);
        async move { (share.places, reply.await) }
    });
    for (places, reply) in join_all(asked).await {
        match reply {
            Ok(list) => {
                for (place, answer) in places.into_iter().zip(list) {
                    put(&mut answers, place, Ok(answer));
                }
            }
            Err(error) => {
                let code = failed(&error);
                places
                    .into_iter()
                    .for_each(|place| put(&mut answers, place, Err(code)));
            }
        }
    }
    answers
}

fn put<A>(answers: &mut [Result<A, ErrorCode>], place: usize, answer: Result<A, ErrorCode>) {
    if let Some(slot) = answers.get_mut(place) {
        *slot = answer;
    }
}

/// Finds the leaders of the partitions that one request names.
pub(super) struct Leaders<'a> {
    call: &'a Call,
    image: &'a Image,
    named: BTreeSet<TopicIdPartition>,
}

impl<'a> Leaders<'a> {
    pub(super) fn new(call: &'a Call, image: &'a Image) -> Self {
        Leaders {
            call,
            image,
            named: BTreeSet::new(),
        }
    }

    /// The leader's broker and the partition's internal name. A partition that is named again is INVALID_REQUEST, so
    /// that no reply is larger than what it tells of.
    pub(super) fn find(&mut self, topic: &str, partition: i32) -> Result<(Broker, PartitionKey), ErrorCode> {
        let topic = self
            .image
            .topic_by_name(topic)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let state = topic
            .partitions
            .get(&partition)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let key = TopicIdPartition::new(topic.id, partition);
        if !self.named.insert(key) {
            return Err(ErrorCode::InvalidRequest);
        }
        let leader = state.leader.ok_or(ErrorCode::LeaderNotAvailable)?;
        let broker = self
            .call
            .gateway
            .brokers()
            .get(self.image, leader)
            .ok_or(ErrorCode::LeaderNotAvailable)?;
        Ok((broker, partition_key(key)))
    }
}
