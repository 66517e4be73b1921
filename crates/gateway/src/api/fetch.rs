//! Fetch (key 1): a long poll over all partitions asked for, whoever leads them; records pass through untouched.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::select_all;
use strom_client::{FetchCall, LaneError};
use strom_kafka_codec::Decoder;
use strom_kafka_codec::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use strom_kafka_codec::messages::{FetchRequest, FetchResponse};
use strom_metadata::Image;
use strom_proto::convert::{error_code, topic_id_bytes};
use strom_proto::splice::Spliced;
use strom_proto::v1::{FetchHead, FetchPartition, FetchPartitionReply, FetchQuery};
use strom_types::{BrokerId, ErrorCode, TopicIdPartition};
use tokio::time::timeout;

use super::call::decode;
use super::nodes::Node;
use super::{Call, Failure, Reply, Start};
use crate::brokers::Broker;
use crate::codes::{client_code, fetch_lane_code, kafka};
use crate::fetch_sessions::{SessionFetch, TOPIC_IDS_SINCE_VERSION, Want, WantKey};

const LEADER_HINTS_SINCE_VERSION: i16 = 16;
/// Who leads, and where logs part, as tagged fields of a partition.
const LEADER_EPOCHS_SINCE_VERSION: i16 = 12;
const READ_COMMITTED: i8 = 1;
/// The broker answers within the client's wait; past this margin the lane is taken for stuck.
const REPLY_MARGIN: Duration = Duration::from_secs(10);

pub(super) fn start(call: Call, body: Decoder) -> Start {
    Start::Now(Box::pin(async move {
        let request = decode::<FetchRequest>(&call, body)?;
        let response = handle(&call, request).await;
        call.frame::<FetchRequest>(&response) as Result<Reply, Failure>
    }))
}

/// Codes of partitions that do not exist.
const UNKNOWN: [i16; 2] = [
    ErrorCode::UnknownTopicOrPartition as i16,
    ErrorCode::UnknownTopicId as i16,
];

/// What one fetch asks of the brokers, apart from its partitions.
struct Terms {
    max_wait_ms: u32,
    min_bytes: u32,
    max_bytes: u32,
    read_committed: bool,
    rack: String,
    /// A client that claims to be a replica.
    poses_as_replica: bool,
}

/// The part of a fetch that goes to one broker; `places` are positions among the wants.
struct Share {
    broker: Broker,
    partitions: Vec<FetchPartition>,
    places: Vec<usize>,
}

async fn handle(call: &Call, request: FetchRequest) -> FetchResponse {
    let terms = terms(call, &request);
    let now = call.gateway.clock().mono();
    let fetch = match call.gateway.sessions().begin(now, call.version, request) {
        Ok(fetch) => fetch,
        Err(code) => {
            return FetchResponse {
                error_code: kafka(code),
                ..Default::default()
            };
        }
    };
    let image = call.gateway.metadata().image();
    let mut replies: Vec<Option<PartitionData>> = Vec::with_capacity(fetch.wants.len());
    let shares = split(call, &image, &fetch, &terms, &mut replies);
    // An error is news that must not wait for data. Only what does not exist does, as Kafka lets it, while there is
    // something to wait for: a client that keeps asking for it beside other partitions would never pause.
    let urgent = |data: &PartitionData| !UNKNOWN.contains(&data.error_code);
    let max_wait_ms = if shares.is_empty() || replies.iter().flatten().any(urgent) {
        0
    } else {
        terms.max_wait_ms
    };
    ask(&fetch, &terms, max_wait_ms, shares, &mut replies).await;
    respond(call, &image, &fetch, replies)
}

fn terms(call: &Call, request: &FetchRequest) -> Terms {
    let not_negative = |n: i32| u32::try_from(n).unwrap_or(0);
    let bytes_max = call.gateway.config().fetch_bytes_max;
    Terms {
        max_wait_ms: not_negative(request.max_wait_ms).min(call.gateway.config().fetch_wait_ms_max),
        min_bytes: not_negative(request.min_bytes).min(bytes_max),
        max_bytes: not_negative(request.max_bytes).min(bytes_max),
        read_committed: request.isolation_level == READ_COMMITTED,
        rack: request.rack_id.to_string(),
        poses_as_replica: request.replica_id >= 0 || request.replica_state.replica_id >= 0,
    }
}

/// Finds each partition's leader; what has none is answered in `replies`.
fn split(
    call: &Call,
    image: &Image,
    fetch: &SessionFetch,
    terms: &Terms,
    replies: &mut Vec<Option<PartitionData>>,
) -> Vec<Share> {
    let mut shares: BTreeMap<BrokerId, Share> = BTreeMap::new();
    for (place, want) in fetch.wants.iter().enumerate() {
        let found = if terms.poses_as_replica {
            Err(ErrorCode::TopicAuthorizationFailed)
        } else {
            leader_of(call, image, want)
        };
        match found {
            Ok((key, broker)) => {
                let share = shares.entry(broker.id).or_insert_with(|| Share {
                    broker,
                    partitions: Vec::new(),
                    places: Vec::new(),
                });
                share.partitions.push(query_partition(key, want));
                share.places.push(place);
                replies.push(None);
            }
            Err(code) => replies.push(Some(failed(want.key.partition, code))),
        }
    }
    shares.into_values().collect()
}

fn leader_of(call: &Call, image: &Image, want: &Want) -> Result<(TopicIdPartition, Broker), ErrorCode> {
    let topic = if call.version >= TOPIC_IDS_SINCE_VERSION {
        image.topic(want.key.topic_id).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        image
            .topic_by_name(&want.key.topic)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    let state = topic
        .partitions
        .get(&want.key.partition)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let leader = state.leader.ok_or(ErrorCode::LeaderNotAvailable)?;
    let broker = call
        .gateway
        .brokers()
        .get(image, leader)
        .ok_or(ErrorCode::LeaderNotAvailable)?;
    Ok((TopicIdPartition::new(topic.id, want.key.partition), broker))
}

fn query_partition(key: TopicIdPartition, want: &Want) -> FetchPartition {
    FetchPartition {
        topic_id: topic_id_bytes(key.topic_id),
        partition: key.partition,
        fetch_offset: want.fetch.fetch_offset,
        max_bytes: u32::try_from(want.fetch.partition_max_bytes).unwrap_or(0),
        current_leader_epoch: want.fetch.current_leader_epoch,
        last_fetched_epoch: want.fetch.last_fetched_epoch,
    }
}

/// Queries all brokers at once. As soon as one has enough, the others are asked for what they have.
async fn ask(
    fetch: &SessionFetch,
    terms: &Terms,
    max_wait_ms: u32,
    shares: Vec<Share>,
    replies: &mut [Option<PartitionData>],
) {
    let fair = u32::try_from(shares.len()).unwrap_or(u32::MAX).max(1);
    let mut running: Vec<(FetchCall, Vec<usize>)> = Vec::with_capacity(shares.len());
    for share in shares {
        let query = FetchQuery {
            max_wait_ms,
            min_bytes: terms.min_bytes,
            max_bytes: (terms.max_bytes / fair).max(1),
            read_committed: terms.read_committed,
            partitions: share.partitions,
            rack: terms.rack.clone(),
            ..Default::default()
        };
        match share.broker.fetch().query(query).await {
            Ok(query) => running.push((query, share.places)),
            Err(error) => fill(fetch, replies, &share.places, fetch_lane_code(&error)),
        }
    }
    let limit = Duration::from_millis(u64::from(max_wait_ms)) + REPLY_MARGIN;
    let mut waiting = running;
    while !waiting.is_empty() {
        let next = select_all(waiting.iter_mut().map(|(query, _)| Box::pin(query.reply())));
        let answered = timeout(limit, next).await.map(|(reply, at, _)| (reply, at));
        match answered {
            Ok((reply, at)) => {
                let (_, places) = waiting.swap_remove(at);
                match reply {
                    Ok(reply) => spread(fetch, terms, replies, &places, reply),
                    Err(error) => fill(fetch, replies, &places, fetch_lane_code(&error)),
                }
                waiting.iter().for_each(|(query, _)| query.complete());
            }
            Err(_) => {
                for (_, places) in waiting.drain(..) {
                    fill(fetch, replies, &places, fetch_lane_code(&LaneError::Broken));
                }
            }
        }
    }
}

fn fill(fetch: &SessionFetch, replies: &mut [Option<PartitionData>], places: &[usize], code: ErrorCode) {
    for &place in places {
        if let (Some(slot), Some(want)) = (replies.get_mut(place), fetch.wants.get(place)) {
            *slot = Some(failed(want.key.partition, code));
        }
    }
}

/// Puts one broker's answer where its partitions stand, cutting the payload without copying it.
fn spread(
    fetch: &SessionFetch,
    terms: &Terms,
    replies: &mut [Option<PartitionData>],
    places: &[usize],
    reply: Spliced<FetchHead>,
) {
    let Spliced { head, mut payload } = reply;
    for (&place, answer) in places.iter().zip(head.partitions) {
        let (Some(slot), Some(want)) = (replies.get_mut(place), fetch.wants.get(place)) else {
            continue;
        };
        let length = usize::try_from(answer.length).unwrap_or(usize::MAX);
        *slot = Some(match payload.take_bytes(length) {
            Ok(records) => partition_data(want.key.partition, answer, records, terms.read_committed),
            Err(_) => failed(want.key.partition, ErrorCode::UnknownServerError),
        });
    }
}

fn partition_data(
    partition_index: i32,
    answer: FetchPartitionReply,
    records: Bytes,
    read_committed: bool,
) -> PartitionData {
    let aborted = answer.aborted.into_iter().map(|aborted| AbortedTransaction {
        producer_id: aborted.producer_id,
        first_offset: aborted.first_offset,
    });
    let hint = answer.current_leader.unwrap_or_default();
    let code = client_code(error_code(answer.error));
    PartitionData {
        partition_index,
        error_code: kafka(code),
        high_watermark: answer.high_watermark,
        last_stable_offset: answer.last_stable_offset,
        log_start_offset: answer.log_start_offset,
        diverging_epoch: answer
            .diverging_epoch
            .map_or_else(EpochEndOffset::default, |end| EpochEndOffset {
                epoch: end.epoch,
                end_offset: end.end_offset,
            }),
        current_leader: match code {
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch => LeaderIdAndEpoch {
                leader_id: hint.leader_id,
                leader_epoch: hint.leader_epoch,
            },
            _ => LeaderIdAndEpoch::default(),
        },
        aborted_transactions: read_committed.then(|| aborted.collect()),
        preferred_read_replica: answer.preferred_read_replica,
        records: Some(records),
        ..Default::default()
    }
}

fn failed(partition_index: i32, code: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index,
        error_code: kafka(code),
        high_watermark: -1,
        records: Some(Bytes::new()),
        ..Default::default()
    }
}

/// The whole reply: grouped by topic, in the order of the request, without what a session's client knows already.
fn respond(
    call: &Call,
    image: &Image,
    fetch: &SessionFetch,
    replies: Vec<Option<PartitionData>>,
) -> FetchResponse {
    let answered = fetch.wants.iter().zip(replies).map(|(want, reply)| {
        let reply = reply.unwrap_or_else(|| failed(want.key.partition, ErrorCode::RequestTimedOut));
        (want.key.clone(), reply)
    });
    let news = call.gateway.sessions().filter(fetch, answered.collect());
    let mut response = FetchResponse {
        session_id: fetch.session_id,
        ..Default::default()
    };
    if call.version >= LEADER_HINTS_SINCE_VERSION {
        response.node_endpoints = hints(call, image, &news);
    }
    for (key, mut data) in news {
        if call.version < LEADER_EPOCHS_SINCE_VERSION {
            // Older versions cannot carry these; a reply with them could not be encoded.
            data.current_leader = LeaderIdAndEpoch::default();
            data.diverging_epoch = EpochEndOffset::default();
        }
        match response.responses.last_mut() {
            Some(topic) if topic.topic_id == key.topic_id.0 && topic.topic == key.topic => {
                topic.partitions.push(data);
            }
            _ => response.responses.push(FetchableTopicResponse {
                topic: key.topic,
                topic_id: key.topic_id.0,
                partitions: vec![data],
            }),
        }
    }
    response
}

/// KIP-951: where the leaders that partitions name can be reached.
fn hints(call: &Call, image: &Image, news: &[(WantKey, PartitionData)]) -> Vec<NodeEndpoint> {
    let mut leaders: Vec<i32> = news
        .iter()
        .map(|(_, data)| data.current_leader.leader_id)
        .filter(|id| *id >= 0)
        .collect();
    leaders.sort_unstable();
    leaders.dedup();
    let endpoint = |id: i32| {
        let node = Node::of(call, image.broker(BrokerId(id))?);
        Some(NodeEndpoint {
            node_id: node.id,
            host: node.host,
            port: node.port,
            rack: node.rack,
        })
    };
    leaders.into_iter().filter_map(endpoint).collect()
}
