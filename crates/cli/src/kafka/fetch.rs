//! Reading partitions: one fetch in flight per leader, positions kept here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::fetch_request::{FetchPartition, FetchTopic};
use strom_kafka_codec::messages::fetch_response::PartitionData;
use strom_kafka_codec::messages::{FetchRequest, FetchResponse};
use strom_records::Batch;
use strom_types::{ErrorCode, Offset};

use super::isolation::visible;
use super::offsets::{Offsets, isolation_level};
use super::{Client, Deadline, KafkaError, TopicPartition};

/// The pause before metadata is looked up again after an error.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// What a reply may take beyond the time the server is asked to wait for data.
const REPLY_SLACK: Duration = Duration::from_secs(30);

/// How to fetch.
#[derive(Clone, Debug)]
pub(crate) struct FetchSettings {
    pub(crate) read_committed: bool,
    pub(crate) max_wait: Duration,
    pub(crate) max_bytes: i32,
    pub(crate) partition_max_bytes: i32,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            read_committed: false,
            max_wait: Duration::from_millis(500),
            max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
        }
    }
}

/// What one partition gave.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) key: TopicPartition,
    /// Records below this offset were asked for before and come along only because their batch does.
    pub(crate) from: Offset,
    pub(crate) batches: Vec<Batch>,
}

type InFlight = BoxFuture<'static, (i32, Result<FetchResponse, KafkaError>)>;

/// Fetches the partitions it has positions for.
pub(crate) struct Fetcher<'a> {
    client: &'a Client,
    settings: FetchSettings,
    positions: Offsets,
    /// Partitions by leader; empty = to be looked up.
    leaders: BTreeMap<i32, Vec<TopicPartition>>,
    busy: BTreeSet<i32>,
    in_flight: FuturesUnordered<InFlight>,
    /// Rotates the order of partitions in requests, so that none starves behind `max_bytes`.
    turn: usize,
    /// Since when nothing but errors came, and the last of them.
    failing: Option<(Deadline, KafkaError)>,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(client: &'a Client, settings: FetchSettings) -> Self {
        Self {
            client,
            settings,
            positions: Offsets::new(),
            leaders: BTreeMap::new(),
            busy: BTreeSet::new(),
            in_flight: FuturesUnordered::new(),
            turn: 0,
            failing: None,
        }
    }

    /// Reads these partitions from these offsets from now on, and no others.
    pub(crate) fn assign(&mut self, positions: Offsets) {
        self.positions = positions;
        self.forget_requests();
    }

    fn forget_requests(&mut self) {
        self.leaders.clear();
        self.busy.clear();
        self.in_flight = FuturesUnordered::new();
    }

    /// Stops reading a partition.
    pub(crate) fn remove(&mut self, key: &TopicPartition) {
        self.positions.remove(key);
    }

    /// Goes on at another offset.
    pub(crate) fn seek(&mut self, key: &TopicPartition, offset: Offset) {
        if let Some(position) = self.positions.get_mut(key) {
            *position = offset;
        }
    }

    /// The next offsets to fetch.
    pub(crate) fn positions(&self) -> &Offsets {
        &self.positions
    }

    /// Waits for the next reply and gives what is in it, possibly nothing. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The server's refusal, e.g. OFFSET_OUT_OF_RANGE with the partition as its subject; retriable errors only once
    /// they have lasted as long as the client's timeout.
    pub(crate) async fn next(&mut self) -> Result<Vec<Fetched>, KafkaError> {
        if self.positions.is_empty() {
            return std::future::pending().await;
        }
        loop {
            if let Err(error) = self.send_where_idle().await {
                self.note_failure(error)?;
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
            let Some((leader, result)) = self.in_flight.next().await else {
                continue;
            };
            self.busy.remove(&leader);
            match result.and_then(|response| self.take(&response)) {
                Ok(fetched) => {
                    self.failing = None;
                    return Ok(fetched);
                }
                Err(error) => {
                    self.note_failure(error)?;
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Keeps a retriable error for later and looks the leaders up again.
    fn note_failure(&mut self, error: KafkaError) -> Result<(), KafkaError> {
        if !error.is_retriable() && !error.is_timeout() {
            return Err(error);
        }
        self.forget_requests();
        let deadline = self
            .failing
            .as_ref()
            .map_or_else(|| self.client.deadline(), |(deadline, _)| *deadline);
        if deadline.has_passed() {
            return Err(deadline.missed("fetching", Some(error)));
        }
        self.failing = Some((deadline, error));
        Ok(())
    }

    async fn find_leaders(&mut self) -> Result<(), KafkaError> {
        let mut names: Vec<String> = self.positions.keys().map(|key| key.topic.to_string()).collect();
        names.dedup();
        let topics = self.client.topics(&names).await?;
        let mut leaders: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for key in self.positions.keys() {
            let topic = topics.iter().find(|topic| topic.name == *key.topic);
            let partition = topic.and_then(|topic| topic.partitions.get(&key.partition));
            let (code, leader) = match partition {
                None => (ErrorCode::UnknownTopicOrPartition, -1),
                Some(partition) => (ErrorCode::LeaderNotAvailable, partition.leader),
            };
            if leader < 0 {
                return Err(KafkaError::Server {
                    subject: format!("fetching {key}"),
                    code,
                    message: None,
                });
            }
            leaders.entry(leader).or_default().push(key.clone());
        }
        self.leaders = leaders;
        Ok(())
    }

    async fn send_where_idle(&mut self) -> Result<(), KafkaError> {
        if self.leaders.is_empty() {
            self.find_leaders().await?;
        }
        self.turn = self.turn.wrapping_add(1);
        let idle: Vec<i32> = self
            .leaders
            .keys()
            .filter(|leader| !self.busy.contains(leader))
            .copied()
            .collect();
        for leader in idle {
            let topics = self.request_topics(leader);
            if topics.is_empty() {
                continue;
            }
            let connection = self.client.broker(leader, self.client.deadline()).await?;
            let deadline = Deadline::after(self.settings.max_wait + REPLY_SLACK);
            let reply = connection.send(|_| self.request(topics))?;
            self.busy.insert(leader);
            // The connection is held until the reply is there.
            self.in_flight.push(Box::pin(async move {
                let result = reply.wait(deadline).await;
                drop(connection);
                (leader, result)
            }));
        }
        Ok(())
    }

    fn request_topics(&self, leader: i32) -> Vec<FetchTopic> {
        let mut keys: Vec<&TopicPartition> = self.leaders.get(&leader).into_iter().flatten().collect();
        let turn = self.turn.checked_rem(keys.len()).unwrap_or(0);
        keys.rotate_left(turn);
        let mut topics: Vec<FetchTopic> = Vec::new();
        for key in keys {
            let Some(&fetch_offset) = self.positions.get(key) else {
                continue;
            };
            let partition = FetchPartition {
                partition: key.partition,
                fetch_offset,
                partition_max_bytes: self.settings.partition_max_bytes,
                ..Default::default()
            };
            match topics.last_mut().filter(|topic| *topic.topic == *key.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(FetchTopic {
                    topic: ByteStr::from(key.topic.to_string()),
                    partitions: vec![partition],
                    ..Default::default()
                }),
            }
        }
        topics
    }

    fn request(&self, topics: Vec<FetchTopic>) -> FetchRequest {
        FetchRequest {
            max_wait_ms: i32::try_from(self.settings.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: self.settings.max_bytes,
            isolation_level: isolation_level(self.settings.read_committed),
            topics,
            ..Default::default()
        }
    }

    fn take(&mut self, response: &FetchResponse) -> Result<Vec<Fetched>, KafkaError> {
        KafkaError::check("fetching", response.error_code, None)?;
        let mut fetched = Vec::new();
        let mut failure = None;
        for topic in &response.responses {
            for partition in &topic.partitions {
                let key = TopicPartition::new(&topic.topic, partition.partition_index);
                match self.take_partition(key, partition) {
                    Ok(part) => fetched.extend(part),
                    Err(error) => failure = Some(error),
                }
            }
        }
        // What came is handed out first; the error comes again.
        match failure {
            Some(error) if fetched.is_empty() => Err(error),
            Some(_) => {
                self.forget_requests();
                Ok(fetched)
            }
            None => Ok(fetched),
        }
    }

    fn take_partition(
        &mut self,
        key: TopicPartition,
        data: &PartitionData,
    ) -> Result<Option<Fetched>, KafkaError> {
        KafkaError::check(key.to_string(), data.error_code, None)?;
        let Some(position) = self.positions.get_mut(&key) else {
            return Ok(None);
        };
        let records = data.records.clone().unwrap_or_default();
        if records.is_empty() {
            return Ok(None);
        }
        let unreadable =
            |reason: String| KafkaError::Records(format!("{key} from offset {position}"), reason);
        let aborted = data.aborted_transactions.as_deref().unwrap_or_default();
        let seen = visible(records, self.settings.read_committed.then_some(aborted))
            .map_err(|error| unreadable(error.to_string()))?;
        let Some(next) = seen.next_offset else {
            return Err(unreadable("the reply holds no whole batch".to_owned()));
        };
        for batch in &seen.batches {
            batch
                .verify_crc()
                .map_err(|error| unreadable(error.to_string()))?;
        }
        let from = *position;
        // A batch may end before the position if its later records were compacted away.
        *position = next.max(from);
        Ok(Some(Fetched {
            key,
            from,
            batches: seen.batches,
        }))
    }
}
