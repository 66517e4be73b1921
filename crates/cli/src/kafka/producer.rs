//! Producing to one topic: records into batches, batches into requests, retries without loss of order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use strom_kafka_codec::messages::{InitProducerIdRequest, ProduceResponse};
use strom_records::{BatchBuilder, Compression, NewRecord};
use strom_types::{ProducerEpoch, ProducerId};
use tokio::time::Instant;

use super::partitioner::partition_of;
use super::{Client, Connection, Deadline, KafkaError, Target, TopicView};

/// How to produce.
#[derive(Clone, Debug)]
pub(crate) struct ProducerSettings {
    /// 0, 1 or -1 (all).
    pub(crate) acks: i16,
    pub(crate) compression: Compression,
    /// A batch of this many bytes, before compression, is sent.
    pub(crate) batch_bytes: usize,
    /// A smaller batch is sent after this long.
    pub(crate) linger: Duration,
    /// Produce requests per broker that may wait for their reply.
    pub(crate) requests_in_flight: usize,
    /// Whether the broker drops duplicates that retries make (KIP-98); needs acks=all.
    pub(crate) idempotent: bool,
    /// How long a batch may be retried.
    pub(crate) delivery_timeout: Duration,
}

/// A batch the server has taken.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) partition: i32,
    /// -1 = not told (acks=0, or a duplicate).
    pub(crate) base_offset: i64,
    /// When each record was due, in the order of the batch.
    pub(crate) stamps: Vec<Instant>,
    /// Keys and values, uncompressed.
    pub(crate) payload_bytes: usize,
    pub(crate) acked: Instant,
}

/// A batch that is still being filled.
struct Open {
    builder: BatchBuilder,
    begun: Instant,
    stamps: Vec<Instant>,
    payload_bytes: usize,
}

/// A finished batch, to be sent until it is acknowledged.
pub(super) struct Sealed {
    /// The order within its partition.
    pub(super) ordinal: u64,
    pub(super) bytes: Bytes,
    pub(super) stamps: Vec<Instant>,
    pub(super) payload_bytes: usize,
    pub(super) deadline: Deadline,
}

/// One partition's batches.
#[derive(Default)]
pub(super) struct Lane {
    open: Option<Open>,
    pub(super) ready: VecDeque<Sealed>,
    /// Batches on their way, by ordinal.
    pub(super) in_flight: BTreeSet<u64>,
    /// Whether the broker knows our producer id here. Until it does, it takes any sequence number as the first, so
    /// that a second batch on its way could slip in before a first one that has to be sent again.
    pub(super) introduced: bool,
    /// Batches to be sent again, once nothing of this partition is on its way, so that the order stays.
    pub(super) again: Vec<Sealed>,
    next_sequence: i32,
    next_ordinal: u64,
}

impl Lane {
    /// Whether another batch may go out behind those on their way.
    pub(super) fn may_send(&self, idempotent: bool) -> bool {
        self.again.is_empty() && (self.introduced || !idempotent || self.in_flight.is_empty())
    }

    /// Whether a batch before `ordinal` is not yet acknowledged.
    pub(super) fn has_before(&self, ordinal: u64) -> bool {
        let again = self.again.iter().any(|earlier| earlier.ordinal < ordinal);
        again || self.in_flight.range(..ordinal).next().is_some()
    }

    /// Puts the batches to be sent again in front, in order.
    pub(super) fn requeue(&mut self) {
        self.again.sort_by_key(|batch| std::cmp::Reverse(batch.ordinal));
        for batch in self.again.drain(..) {
            self.ready.push_front(batch);
        }
    }

    fn is_idle(&self) -> bool {
        self.open.is_none() && self.ready.is_empty() && self.in_flight.is_empty() && self.again.is_empty()
    }
}

/// The batches of one request, by partition.
pub(super) type Sent = Vec<(i32, Sealed)>;

/// Something that was waited for.
pub(super) enum Event {
    Reply {
        leader: i32,
        sent: Sent,
        result: Result<ProduceResponse, KafkaError>,
    },
    Connected {
        leader: i32,
        result: Result<Arc<Connection>, KafkaError>,
    },
    Leaders(Result<TopicView, KafkaError>),
}

/// A producer for one topic.
pub(crate) struct Producer<'a> {
    pub(super) client: &'a Client,
    pub(super) settings: ProducerSettings,
    pub(super) topic: TopicView,
    identity: Option<(ProducerId, ProducerEpoch)>,
    pub(super) lanes: BTreeMap<i32, Lane>,
    /// The partition that keyless records go to until its batch is full.
    sticky: usize,
    pub(super) connections: BTreeMap<i32, Arc<Connection>>,
    /// Leaders that are being connected to.
    pub(super) connecting: BTreeSet<i32>,
    /// Whether the leaders are being looked up.
    pub(super) refreshing: bool,
    /// Requests on their way, by leader.
    pub(super) requests: BTreeMap<i32, usize>,
    /// All that is waited for lies here, so that a dropped [`poll`](Self::poll) loses nothing.
    pub(super) awaited: FuturesUnordered<LocalBoxFuture<'a, Event>>,
    pub(super) buffered_bytes: usize,
    /// No requests before this instant, after an error.
    pub(super) paused_until: Option<Instant>,
    pub(super) last_error: Option<KafkaError>,
}

impl<'a> Producer<'a> {
    /// Looks the topic up and, if idempotent, takes a producer id.
    pub(crate) async fn start(
        client: &'a Client,
        topic: &str,
        settings: ProducerSettings,
    ) -> Result<Self, KafkaError> {
        let topic = client.topic(topic).await?;
        let identity = if settings.idempotent {
            Some(take_identity(client).await?)
        } else {
            None
        };
        let lanes: BTreeMap<i32, Lane> = topic
            .partitions
            .keys()
            .map(|&index| (index, Lane::default()))
            .collect();
        Ok(Self {
            client,
            settings,
            topic,
            identity,
            // Several producers at once begin at different partitions.
            sticky: usize::from(uuid::Uuid::new_v4().as_bytes()[0]) % lanes.len().max(1),
            lanes,
            connections: BTreeMap::new(),
            connecting: BTreeSet::new(),
            refreshing: false,
            requests: BTreeMap::new(),
            awaited: FuturesUnordered::new(),
            buffered_bytes: 0,
            paused_until: None,
            last_error: None,
        })
    }

    /// How many partitions there are.
    pub(crate) fn partition_count(&self) -> usize {
        self.lanes.len()
    }

    /// Bytes that are not yet acknowledged.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// The partition for a record: by its key, else the present sticky one.
    pub(crate) fn choose(&self, key: Option<&[u8]>) -> i32 {
        let index = key.map_or(self.sticky, |key| partition_of(key, self.lanes.len()));
        self.lanes.keys().nth(index).copied().unwrap_or(0)
    }

    /// Whether the topic has this partition.
    pub(crate) fn has_partition(&self, partition: i32) -> bool {
        self.lanes.contains_key(&partition)
    }

    /// Adds a record that was due at `stamp`. `partition` must be one of the topic's.
    pub(crate) fn push(
        &mut self,
        partition: i32,
        record: &NewRecord<'_>,
        stamp: Instant,
    ) -> Result<(), KafkaError> {
        let unbuildable =
            |error: strom_records::BuildError| KafkaError::Records("batch".to_owned(), error.to_string());
        let compression = self.settings.compression;
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return Err(KafkaError::Records(
                format!("partition {partition}"),
                "the topic lacks it".to_owned(),
            ));
        };
        let (identity, sequence) = (self.identity, lane.next_sequence);
        let open = lane.open.get_or_insert_with(|| {
            let mut builder = BatchBuilder::new().compression(compression);
            if let Some((id, epoch)) = identity {
                builder = builder.producer(id, epoch, sequence);
            }
            Open {
                builder,
                begun: Instant::now(),
                stamps: Vec::new(),
                payload_bytes: 0,
            }
        });
        let before = open.builder.uncompressed_len();
        open.builder.push(record).map_err(unbuildable)?;
        open.stamps.push(stamp);
        open.payload_bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let after = open.builder.uncompressed_len();
        self.buffered_bytes += after - before;
        if after >= self.settings.batch_bytes {
            self.seal(partition)?;
            if self.lanes.keys().nth(self.sticky) == Some(&partition) {
                self.sticky = (self.sticky + 1) % self.lanes.len().max(1);
            }
        }
        Ok(())
    }

    /// Finishes a partition's open batch.
    fn seal(&mut self, partition: i32) -> Result<(), KafkaError> {
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return Ok(());
        };
        let Some(open) = lane.open.take() else {
            return Ok(());
        };
        let (count, uncompressed) = (open.builder.count(), open.builder.uncompressed_len());
        let built = open.builder.build();
        let bytes = built.map_err(|error| KafkaError::Records("batch".to_owned(), error.to_string()))?;
        lane.next_sequence = sequence_after(lane.next_sequence, count);
        self.buffered_bytes = self.buffered_bytes.saturating_sub(uncompressed) + bytes.len();
        lane.ready.push_back(Sealed {
            ordinal: lane.next_ordinal,
            bytes,
            stamps: open.stamps,
            payload_bytes: open.payload_bytes,
            deadline: Deadline::after(self.settings.delivery_timeout),
        });
        lane.next_ordinal += 1;
        Ok(())
    }

    /// Finishes the batches that have been open for `linger`.
    pub(super) fn seal_lingering(&mut self, linger: Duration) -> Result<(), KafkaError> {
        let due = |lane: &Lane| {
            lane.open
                .as_ref()
                .is_some_and(|open| open.begun.elapsed() >= linger)
        };
        let partitions: Vec<i32> = self
            .lanes
            .iter()
            .filter(|(_, lane)| due(lane))
            .map(|(&p, _)| p)
            .collect();
        partitions
            .into_iter()
            .try_for_each(|partition| self.seal(partition))
    }

    /// When the next open batch will have lingered long enough.
    pub(super) fn next_linger(&self) -> Option<Instant> {
        let opens = self.lanes.values().filter_map(|lane| lane.open.as_ref());
        opens.map(|open| open.begun + self.settings.linger).min()
    }

    /// Whether all is acknowledged.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.values().all(Lane::is_idle)
    }
}

async fn take_identity(client: &Client) -> Result<(ProducerId, ProducerEpoch), KafkaError> {
    let subject = "taking a producer id";
    let build = |_: i16, _: Deadline| InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let response = client
        .ask(Target::Any, subject, build, |r| {
            KafkaError::from_code(subject, r.error_code, None)
        })
        .await?;
    KafkaError::check(subject, response.error_code, None)?;
    Ok((
        ProducerId(response.producer_id),
        ProducerEpoch(response.producer_epoch),
    ))
}

/// The sequence number after `count` records, which begins again at 0 after the largest (as in Kafka's
/// `DefaultRecordBatch.incrementSequence`).
fn sequence_after(sequence: i32, count: i32) -> i32 {
    sequence
        .checked_add(count)
        .unwrap_or_else(|| count - (i32::MAX - sequence) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(5, 3), 8);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }
}
