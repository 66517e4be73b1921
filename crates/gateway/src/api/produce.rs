//! Produce (key 0): record batches go to their leaders untouched, in the order they came in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use strom_client::ProduceCall;
use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use strom_kafka_codec::messages::{ProduceRequest, ProduceResponse};
use strom_metadata::Image;
use strom_proto::convert::{error_code, topic_id_bytes};
use strom_proto::splice::Payload;
use strom_proto::v1::{ProduceHead, ProducePartition, ProducePartitionReply};
use strom_types::{BrokerId, ErrorCode, TopicId, TopicIdPartition, is_internal_topic};
use tokio::time::timeout;

use super::call::decode;
use super::{Call, Failure, Reply, ReplyFuture, Start};
use crate::brokers::Broker;
use crate::codes::{client_code, error_text, kafka, lane_code};

/// zstd came with Produce v7 (KIP-110).
const ZSTD_SINCE_VERSION: i16 = 7;
const TOPIC_IDS_SINCE_VERSION: i16 = 13;
const LEADER_HINTS_SINCE_VERSION: i16 = 10;
/// The broker answers within the client's time-out; past this margin the lane is taken for stuck.
const REPLY_MARGIN: Duration = Duration::from_secs(5);

pub(super) fn start(call: Call, body: Decoder) -> Start {
    Start::InOrder(Box::pin(async move {
        let request = decode::<ProduceRequest>(&call, body)?;
        let acks = request.acks;
        let pending = submit(&call, request).await;
        let reply: ReplyFuture = Box::pin(async move { finish(call, acks, pending).await });
        Ok(reply)
    }))
}

/// Where one partition of the request stands in the reply.
#[derive(Clone, Copy)]
struct Slot {
    topic: usize,
    partition: usize,
}

/// The part of the request that goes to one broker.
#[derive(Default)]
struct Share {
    partitions: Vec<ProducePartition>,
    payload: Payload,
    slots: Vec<Slot>,
}

struct Sent {
    call: ProduceCall,
    slots: Vec<Slot>,
}

struct Pending {
    response: ProduceResponse,
    sent: Vec<Sent>,
    wait_max: Duration,
}

/// Splits the request by leader and puts each share on its lane.
async fn submit(call: &Call, request: ProduceRequest) -> Pending {
    let wait_max = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)) + REPLY_MARGIN;
    let refused = refuse_whole(&request);
    let image = call.gateway.metadata().image();
    let head = ProduceHead {
        acks: i32::from(request.acks),
        timeout_ms: u32::try_from(request.timeout_ms).unwrap_or(0),
        zstd_allowed: call.version >= ZSTD_SINCE_VERSION,
        ..Default::default()
    };
    let mut shares: BTreeMap<BrokerId, (Broker, Share)> = BTreeMap::new();
    let mut response = ProduceResponse::default();
    for (topic_index, topic) in request.topic_data.into_iter().enumerate() {
        let found = if call.version >= TOPIC_IDS_SINCE_VERSION {
            image
                .topic(TopicId(topic.topic_id))
                .ok_or(ErrorCode::UnknownTopicId)
        } else {
            image
                .topic_by_name(&topic.name)
                .ok_or(ErrorCode::UnknownTopicOrPartition)
        };
        let mut replies = Vec::with_capacity(topic.partition_data.len());
        for (partition_index, data) in topic.partition_data.into_iter().enumerate() {
            let slot = Slot {
                topic: topic_index,
                partition: partition_index,
            };
            let place = match (refused, found) {
                (Some(code), _) | (None, Err(code)) => Err(code),
                // Coordinators write these; what a client wrote would be taken for theirs.
                (None, Ok(topic)) if is_internal_topic(&topic.name) => Err(ErrorCode::InvalidTopicException),
                (None, Ok(topic)) => place(call, &image, TopicIdPartition::new(topic.id, data.index)),
            };
            match (place, data.records) {
                (Ok((key, broker)), Some(records)) => {
                    replies.push(waiting(data.index));
                    let (_, share) = shares
                        .entry(broker.id)
                        .or_insert_with(|| (broker, Share::default()));
                    share.partitions.push(ProducePartition {
                        topic_id: topic_id_bytes(key.topic_id),
                        partition: key.partition,
                        length: u32::try_from(records.len()).unwrap_or(u32::MAX),
                    });
                    share.payload.push(records);
                    share.slots.push(slot);
                }
                (Ok(_), None) => replies.push(failed(data.index, ErrorCode::InvalidRecord)),
                (Err(code), _) => replies.push(failed(data.index, code)),
            }
        }
        response.responses.push(TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: replies,
        });
    }
    let sent = send(&head, shares, &mut response).await;
    Pending {
        response,
        sent,
        wait_max,
    }
}

/// Puts each share on its broker's lane; what cannot be sent is answered at once.
async fn send(
    head: &ProduceHead,
    shares: BTreeMap<BrokerId, (Broker, Share)>,
    response: &mut ProduceResponse,
) -> Vec<Sent> {
    let mut sent = Vec::with_capacity(shares.len());
    for (broker, share) in shares.into_values() {
        let head = ProduceHead {
            partitions: share.partitions,
            ..head.clone()
        };
        match broker.produce().submit(head, share.payload).await {
            Ok(reply) => sent.push(Sent {
                call: reply,
                slots: share.slots,
            }),
            Err(error) => fill(response, &share.slots, lane_code(&error)),
        }
    }
    sent
}

/// What makes the whole request wrong.
fn refuse_whole(request: &ProduceRequest) -> Option<ErrorCode> {
    if !(-1..=1).contains(&request.acks) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    if request.transactional_id.is_some() {
        // Transactions are not served yet, and no id has been handed out.
        return Some(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let mut seen = std::collections::BTreeSet::new();
    let twice = request.topic_data.iter().any(|topic| {
        topic
            .partition_data
            .iter()
            .any(|data| !seen.insert((topic.topic_id, topic.name.as_str(), data.index)))
    });
    twice.then_some(ErrorCode::InvalidRequest)
}

fn place(call: &Call, image: &Image, key: TopicIdPartition) -> Result<(TopicIdPartition, Broker), ErrorCode> {
    let state = image.partition(key).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let leader = state.leader.ok_or(ErrorCode::LeaderNotAvailable)?;
    let broker = call
        .gateway
        .brokers()
        .get(image, leader)
        .ok_or(ErrorCode::LeaderNotAvailable)?;
    Ok((key, broker))
}

fn waiting(index: i32) -> PartitionProduceResponse {
    // Stands if the broker leaves the partition out of its reply: nothing is known of it then.
    failed(index, ErrorCode::RequestTimedOut)
}

fn failed(index: i32, code: ErrorCode) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: kafka(code),
        base_offset: -1,
        ..Default::default()
    }
}

fn fill(response: &mut ProduceResponse, slots: &[Slot], code: ErrorCode) {
    for slot in slots {
        if let Some(reply) = at(response, *slot) {
            *reply = failed(reply.index, code);
        }
    }
}

fn at(response: &mut ProduceResponse, slot: Slot) -> Option<&mut PartitionProduceResponse> {
    response
        .responses
        .get_mut(slot.topic)?
        .partition_responses
        .get_mut(slot.partition)
}

/// Waits for the brokers and puts their answers where the request had the partitions.
async fn finish(call: Call, acks: i16, pending: Pending) -> Result<Reply, Failure> {
    let Pending {
        mut response,
        sent,
        wait_max,
    } = pending;
    if acks == 0 {
        return unacknowledged(&call, &response, sent).await;
    }
    for Sent { call: reply, slots } in sent {
        match timeout(wait_max, reply).await {
            Ok(Ok(Ok(reply))) => {
                for (slot, answer) in slots.iter().zip(reply.partitions) {
                    if let Some(place) = at(&mut response, *slot) {
                        *place = partition_reply(place.index, answer);
                    }
                }
            }
            Ok(Ok(Err(error))) => fill(&mut response, &slots, lane_code(&error)),
            Ok(Err(_)) | Err(_) => fill(&mut response, &slots, ErrorCode::RequestTimedOut),
        }
    }
    if call.version >= LEADER_HINTS_SINCE_VERSION {
        add_leader_hints(&call, &mut response);
    } else {
        drop_leader_hints(&mut response);
    }
    call.frame::<ProduceRequest>(&response)
}

/// acks=0: no reply, but a failure closes the connection, as Kafka does to make the client look again.
async fn unacknowledged(call: &Call, response: &ProduceResponse, sent: Vec<Sent>) -> Result<Reply, Failure> {
    let waited = sent.iter().map(|sent| sent.slots.len()).sum::<usize>();
    let all: usize = response
        .responses
        .iter()
        .map(|topic| topic.partition_responses.len())
        .sum();
    let mut failed = waited < all;
    for Sent { call: reply, .. } in sent {
        match reply.await {
            Ok(Ok(reply)) => failed |= reply.partitions.iter().any(|p| p.error != 0),
            _ => failed = true,
        }
    }
    if failed {
        call.gateway.metrics().answered(response);
        return Err(Failure::UnacknowledgedProduce);
    }
    Ok(Reply::None)
}

fn partition_reply(index: i32, answer: ProducePartitionReply) -> PartitionProduceResponse {
    let code = client_code(error_code(answer.error));
    let hint = answer.current_leader.unwrap_or_default();
    PartitionProduceResponse {
        index,
        error_code: kafka(code),
        base_offset: if code.is_none() { answer.base_offset } else { -1 },
        log_append_time_ms: answer.log_append_time_ms,
        log_start_offset: answer.log_start_offset,
        record_errors: answer
            .record_errors
            .into_iter()
            .map(|error| BatchIndexAndErrorMessage {
                batch_index: error.batch_index,
                batch_index_error_message: Some(error_text(error.message)),
            })
            .collect(),
        error_message: (!answer.error_message.is_empty()).then(|| error_text(answer.error_message)),
        current_leader: match code {
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
                if hint.leader_epoch > 0 || hint.leader_id > 0 =>
            {
                LeaderIdAndEpoch {
                    leader_id: hint.leader_id,
                    leader_epoch: hint.leader_epoch,
                }
            }
            _ => LeaderIdAndEpoch::default(),
        },
    }
}

/// Older versions cannot carry what the broker said of the leader; a reply with it could not be encoded.
fn drop_leader_hints(response: &mut ProduceResponse) {
    for reply in response
        .responses
        .iter_mut()
        .flat_map(|topic| &mut topic.partition_responses)
    {
        reply.current_leader = LeaderIdAndEpoch::default();
    }
}

/// KIP-951: with NOT_LEADER_OR_FOLLOWER comes who leads now, and where.
fn add_leader_hints(call: &Call, response: &mut ProduceResponse) {
    let stale = [
        kafka(ErrorCode::NotLeaderOrFollower),
        kafka(ErrorCode::FencedLeaderEpoch),
    ];
    let image: Arc<Image> = call.gateway.metadata().image();
    let mut leaders = std::collections::BTreeSet::new();
    for topic in &mut response.responses {
        let found = image
            .topic(TopicId(topic.topic_id))
            .or_else(|| image.topic_by_name(&topic.name));
        for reply in topic
            .partition_responses
            .iter_mut()
            .filter(|p| stale.contains(&p.error_code))
        {
            let Some(state) = found.and_then(|t| t.partitions.get(&reply.index)) else {
                continue;
            };
            let Some(leader) = state.leader else { continue };
            if state.leader_epoch.get() >= reply.current_leader.leader_epoch {
                reply.current_leader = LeaderIdAndEpoch {
                    leader_id: leader.get(),
                    leader_epoch: state.leader_epoch.get(),
                };
            }
            leaders.insert(reply.current_leader.leader_id);
        }
    }
    response.node_endpoints = leaders
        .into_iter()
        .filter_map(|id| {
            let broker = image.broker(BrokerId(id))?;
            let (host, port) = call.connection.listener.of_broker(BrokerId(id));
            let rack = broker.rack.clone().map(Into::into);
            Some(NodeEndpoint {
                node_id: id,
                host: host.to_owned().into(),
                port: i32::from(port),
                rack,
            })
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use strom_kafka_codec::encode_response_frame;

    use super::*;

    #[test]
    fn a_leader_hint_never_keeps_an_old_client_from_its_answer() {
        let hint = LeaderIdAndEpoch {
            leader_id: 2,
            leader_epoch: 7,
        };
        let reply = PartitionProduceResponse {
            error_code: kafka(ErrorCode::NotLeaderOrFollower),
            current_leader: hint,
            ..Default::default()
        };
        let topic = TopicProduceResponse {
            partition_responses: vec![reply],
            ..Default::default()
        };
        let mut response = ProduceResponse {
            responses: vec![topic],
            ..Default::default()
        };
        let old = LEADER_HINTS_SINCE_VERSION - 1;
        assert!(
            encode_response_frame(1, old, &response).is_err(),
            "the version cannot carry it"
        );
        drop_leader_hints(&mut response);
        assert!(encode_response_frame(1, old, &response).is_ok());
    }
}
