//! Produce (key 0): record batches go to their leaders untouched, in the order they came in.

mod leader_hints;
mod partition_reply;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use leader_hints::{add_leader_hints, drop_leader_hints};
use partition_reply::{Slot, at, failed, fill, partition_reply};
use strom_client::ProduceCall;
use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use strom_kafka_codec::messages::{ProduceRequest, ProduceResponse};
use strom_metadata::Image;
use strom_proto::convert::{error_code, topic_id_bytes};
use strom_proto::splice::Payload;
use strom_proto::v1::{ProduceHead, ProducePartition, ProduceReplyHead};
use strom_records::BatchHeader;
use strom_types::{
    Admitted, BrokerId, ErrorCode, ProducerBatch, TopicId, TopicIdPartition, is_internal_topic,
};
use tokio::time::timeout;

use super::call::decode;
use super::{Call, Failure, Reply, ReplyFuture, Start};
use crate::brokers::Broker;
use crate::codes::produce_lane_code;

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

/// One partition's records on the way to their leader.
struct Part {
    slot: Slot,
    key: TopicIdPartition,
    records: Bytes,
    /// Of an idempotent producer: it keeps its order.
    batch: Option<ProducerBatch>,
}

struct Sent {
    call: ProduceCall,
    parts: Vec<SentPart>,
}

struct SentPart {
    slot: Slot,
    ordered: Option<(TopicIdPartition, Admitted)>,
}

struct Pending {
    response: ProduceResponse,
    sent: Vec<Sent>,
    wait_max: Duration,
}

/// What goes to each leader.
type Shares = BTreeMap<BrokerId, (Broker, Vec<Part>)>;

/// Splits the request by leader and puts each share on its lane.
async fn submit(call: &Call, request: ProduceRequest) -> Pending {
    let wait_max = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)) + REPLY_MARGIN;
    let refused = refuse_whole(&request);
    let ordered = request.acks != 0;
    let image = call.gateway.metadata().image();
    let head = ProduceHead {
        acks: i32::from(request.acks),
        timeout_ms: u32::try_from(request.timeout_ms).unwrap_or(0),
        zstd_allowed: call.version >= ZSTD_SINCE_VERSION,
        ..Default::default()
    };
    let mut shares = Shares::new();
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
            let (topic, records) = match (refused, found, data.records) {
                (Some(code), ..) | (None, Err(code), _) => {
                    replies.push(failed(data.index, code));
                    continue;
                }
                // Coordinators write these; what a client wrote would be taken for theirs.
                (None, Ok(topic), _) if is_internal_topic(&topic.name) => {
                    replies.push(failed(data.index, ErrorCode::InvalidTopicException));
                    continue;
                }
                (None, Ok(_), None) => {
                    replies.push(failed(data.index, ErrorCode::InvalidRecord));
                    continue;
                }
                (None, Ok(topic), Some(records)) => (topic, records),
            };
            let part = Part {
                slot: Slot {
                    topic: topic_index,
                    partition: partition_index,
                },
                key: TopicIdPartition::new(topic.id, data.index),
                batch: producer_batch(&records).filter(|_| ordered),
                records,
            };
            replies.push(share_out(call, &image, part, &mut shares));
        }
        response.responses.push(TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: replies,
        });
    }
    let sent = send(call, &head, shares, &mut response).await;
    Pending {
        response,
        sent,
        wait_max,
    }
}

fn producer_batch(records: &Bytes) -> Option<ProducerBatch> {
    BatchHeader::parse(records).ok()?.producer_batch()
}

/// Gives the part to its leader's share; the reply that stands until the leader's comes.
fn share_out(call: &Call, image: &Image, part: Part, shares: &mut Shares) -> PartitionProduceResponse {
    let index = part.key.partition;
    match leader(call, image, part.key) {
        Ok(broker) => {
            let (_, parts) = shares.entry(broker.id).or_insert_with(|| (broker, Vec::new()));
            parts.push(part);
            failed(index, ErrorCode::RequestTimedOut)
        }
        Err(code) => {
            if let Some(batch) = part.batch {
                call.connection.produce_order.unsent(part.key, batch);
            }
            failed(index, code)
        }
    }
}

/// Puts each share on its broker's lane; what cannot be sent is answered at once.
async fn send(call: &Call, head: &ProduceHead, shares: Shares, response: &mut ProduceResponse) -> Vec<Sent> {
    let order = &call.connection.produce_order;
    let mut all = Vec::with_capacity(shares.len());
    for (broker, parts) in shares.into_values() {
        let stream = match broker.produce().stream().await {
            Ok(stream) => stream,
            Err(error) => {
                for part in parts {
                    if let Some(batch) = part.batch {
                        order.unsent(part.key, batch);
                    }
                    fill(response, part.slot, produce_lane_code(&error));
                }
                continue;
            }
        };
        let (mut head, mut payload, mut sent) = (head.clone(), Payload::default(), Vec::new());
        for part in parts {
            let ordered = match part.batch {
                None => None,
                Some(batch) => match order.admit(part.key, batch, stream.name()) {
                    Some(admitted) => Some((part.key, admitted)),
                    None => {
                        fill(response, part.slot, ErrorCode::NotLeaderOrFollower);
                        continue;
                    }
                },
            };
            head.partitions.push(ProducePartition {
                topic_id: topic_id_bytes(part.key.topic_id),
                partition: part.key.partition,
                length: u32::try_from(part.records.len()).unwrap_or(u32::MAX),
            });
            payload.push(part.records);
            let slot = part.slot;
            sent.push(SentPart { slot, ordered });
        }
        if sent.is_empty() {
            continue;
        }
        match stream.submit(head, payload).await {
            Ok(reply) => all.push(Sent {
                call: reply,
                parts: sent,
            }),
            Err(error) => settle(call, response, &sent, Err(produce_lane_code(&error))),
        }
    }
    all
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

fn leader(call: &Call, image: &Image, key: TopicIdPartition) -> Result<Broker, ErrorCode> {
    let state = image.partition(key).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let leader = state.leader.ok_or(ErrorCode::LeaderNotAvailable)?;
    call.gateway
        .brokers()
        .get(image, leader)
        .ok_or(ErrorCode::LeaderNotAvailable)
}

/// Puts a leader's answers, or what became of them, where the request had the partitions.
fn settle(
    call: &Call,
    response: &mut ProduceResponse,
    parts: &[SentPart],
    outcome: Result<ProduceReplyHead, ErrorCode>,
) {
    let (mut answers, otherwise) = match outcome {
        Ok(reply) => (reply.partitions.into_iter(), ErrorCode::RequestTimedOut),
        Err(code) => (Vec::new().into_iter(), code),
    };
    for part in parts {
        let answer = answers.next();
        let code = answer
            .as_ref()
            .map_or(otherwise, |answer| error_code(answer.error));
        if let Some(place) = at(response, part.slot) {
            *place = match answer {
                Some(answer) => partition_reply(place.index, answer),
                None => failed(place.index, code),
            };
        }
        if let Some((key, admitted)) = part.ordered {
            call.connection.produce_order.settle(key, admitted, code);
        }
    }
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
    for Sent { call: reply, parts } in sent {
        let outcome = match timeout(wait_max, reply).await {
            Ok(Ok(Ok(reply))) => Ok(reply),
            Ok(Ok(Err(error))) => Err(produce_lane_code(&error)),
            Ok(Err(_)) | Err(_) => Err(ErrorCode::RequestTimedOut),
        };
        settle(&call, &mut response, &parts, outcome);
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
    let waited = sent.iter().map(|sent| sent.parts.len()).sum::<usize>();
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
