//! The producer's other half: connections and requests to the partitions' leaders.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strom_kafka_codec::messages::{MetadataRequest, ProduceRequest};
use strom_types::ErrorCode;
use tokio::time::{Instant, sleep_until};

use super::producer::{Delivered, Event, Producer, Sealed, Sent};
use super::topics::metadata_request;
use super::{Deadline, KafkaError, TopicView};

/// The pause after a retriable error.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A request takes no further batch beyond this size.
const REQUEST_BYTES: usize = 4 << 20;

impl Producer<'_> {
    /// Sends what is due and waits until something is acknowledged or a batch becomes due. Nothing is lost if the
    /// future is dropped.
    ///
    /// # Errors
    /// The first batch that the server refuses for good or that cannot be delivered in time.
    pub(crate) async fn poll(&mut self) -> Result<Vec<Delivered>, KafkaError> {
        self.seal_lingering(self.settings.linger)?;
        let mut delivered = self.send_ready()?;
        if !delivered.is_empty() {
            return Ok(delivered);
        }
        let wake = [self.next_linger(), self.paused_until]
            .into_iter()
            .flatten()
            .min();
        let timer = async {
            match wake {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = self.awaited.next(), if !self.awaited.is_empty() => {
                self.take(event, &mut delivered)?;
            }
            () = timer => {}
        }
        Ok(delivered)
    }

    fn take(&mut self, event: Event, delivered: &mut Vec<Delivered>) -> Result<(), KafkaError> {
        match event {
            Event::Reply { leader, sent, result } => self.take_reply(leader, sent, result, delivered),
            Event::Connected { leader, result } => {
                self.connecting.remove(&leader);
                match result {
                    Ok(connection) => {
                        self.connections.insert(leader, connection);
                        Ok(())
                    }
                    Err(error) if error.is_retriable() || error.is_timeout() => {
                        self.pause(error);
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            Event::Leaders(result) => {
                self.refreshing = false;
                self.take_leaders(result)
            }
        }
    }

    /// Sends everything without lingering and waits for all acknowledgements.
    pub(crate) async fn flush(&mut self, mut each: impl FnMut(Delivered)) -> Result<(), KafkaError> {
        self.seal_lingering(Duration::ZERO)?;
        while !self.is_idle() {
            self.poll().await?.into_iter().for_each(&mut each);
        }
        if self.settings.acks == 0 {
            self.await_unanswered().await?;
        }
        Ok(())
    }

    /// With acks=0, a reply to something else on the same connection shows that all before it has arrived.
    async fn await_unanswered(&self) -> Result<(), KafkaError> {
        let deadline = self.client.deadline();
        for connection in self.connections.values() {
            let none: [String; 0] = [];
            connection
                .call(deadline, |version| -> MetadataRequest {
                    metadata_request(Some(&none), version)
                })
                .await?;
        }
        Ok(())
    }

    fn send_ready(&mut self) -> Result<Vec<Delivered>, KafkaError> {
        let mut delivered = Vec::new();
        if self.refreshing || self.paused_until.is_some_and(|until| until > Instant::now()) {
            return Ok(delivered);
        }
        if self.paused_until.take().is_some() {
            self.refresh_leaders();
            self.expire()?;
            return Ok(delivered);
        }
        let mut leaders: Vec<i32> = self
            .topic
            .partitions
            .values()
            .map(|partition| partition.leader)
            .collect();
        leaders.sort_unstable();
        leaders.dedup();
        for leader in leaders {
            while self.requests.get(&leader).copied().unwrap_or(0) < self.settings.requests_in_flight {
                if !self.has_ready(leader) || !self.connect(leader) {
                    break;
                }
                let sent = self.take_ready(leader);
                self.send(leader, sent, &mut delivered)?;
            }
        }
        self.expire()?;
        Ok(delivered)
    }

    fn has_ready(&self, leader: i32) -> bool {
        let led = self
            .topic
            .partitions
            .iter()
            .filter(|(_, partition)| partition.leader == leader);
        let mut lanes = led.filter_map(|(index, _)| self.lanes.get(index));
        lanes.any(|lane| !lane.ready.is_empty() && lane.may_send(self.settings.idempotent))
    }

    /// One batch per partition that `leader` leads.
    fn take_ready(&mut self, leader: i32) -> Sent {
        let (mut sent, mut size) = (Sent::new(), 0);
        for (&index, partition) in &self.topic.partitions {
            let Some(lane) = self.lanes.get_mut(&index).filter(|_| partition.leader == leader) else {
                continue;
            };
            if size >= REQUEST_BYTES || !lane.may_send(self.settings.idempotent) {
                continue;
            }
            if let Some(batch) = lane.ready.pop_front() {
                size += batch.bytes.len();
                lane.in_flight.insert(batch.ordinal);
                sent.push((index, batch));
            }
        }
        sent
    }

    /// Whether there is a connection to `leader`; if not, one is made or, without a leader, sending pauses.
    fn connect(&mut self, leader: i32) -> bool {
        if self
            .connections
            .get(&leader)
            .is_some_and(|connection| !connection.is_broken())
        {
            return true;
        }
        if leader < 0 {
            let subject = format!("producing to {}", self.topic.name);
            self.pause(KafkaError::Server {
                subject,
                code: ErrorCode::LeaderNotAvailable,
                message: None,
            });
        } else if self.connecting.insert(leader) {
            let client = self.client;
            self.awaited.push(Box::pin(async move {
                Event::Connected {
                    leader,
                    result: client.dedicated(leader).await,
                }
            }));
        }
        false
    }

    pub(super) fn pause(&mut self, error: KafkaError) {
        self.paused_until = Some(Instant::now() + RETRY_PAUSE);
        self.last_error = Some(error);
    }

    fn refresh_leaders(&mut self) {
        let (client, name) = (self.client, self.topic.name.clone());
        self.refreshing = true;
        self.awaited
            .push(Box::pin(async move { Event::Leaders(client.topic(&name).await) }));
    }

    fn take_leaders(&mut self, result: Result<TopicView, KafkaError>) -> Result<(), KafkaError> {
        match result {
            // Partitions that have been added meanwhile are left alone.
            Ok(topic) => self.topic.partitions.extend(topic.partitions),
            Err(error) if error.is_retriable() || error.is_timeout() => self.pause(error),
            Err(error) => return Err(error),
        }
        self.topic
            .partitions
            .retain(|index, _| self.lanes.contains_key(index));
        Ok(())
    }

    fn send(&mut self, leader: i32, sent: Sent, delivered: &mut Vec<Delivered>) -> Result<(), KafkaError> {
        let Some(connection) = self.connections.get(&leader) else {
            return Ok(());
        };
        let deadline = sent
            .iter()
            .map(|(_, batch)| batch.deadline.remaining())
            .max()
            .unwrap_or_default();
        let deadline = Deadline::after(deadline);
        let request = self.request(&sent, deadline);
        if self.settings.acks == 0 {
            match connection.send_unanswered(|_| request) {
                Ok(()) => sent.into_iter().for_each(|(index, batch)| {
                    delivered.push(self.finish(index, batch, -1));
                }),
                Err(error) => self.send_again(sent, error)?,
            }
            return Ok(());
        }
        match connection.send(|_| request) {
            Ok(reply) => {
                *self.requests.entry(leader).or_default() += 1;
                self.awaited.push(Box::pin(async move {
                    Event::Reply {
                        leader,
                        sent,
                        result: reply.wait(deadline).await,
                    }
                }));
            }
            Err(error) => self.send_again(sent, error)?,
        }
        Ok(())
    }

    fn request(&self, sent: &Sent, deadline: Deadline) -> ProduceRequest {
        let data = |(index, batch): &(i32, Sealed)| {
            let records: Bytes = batch.bytes.clone();
            PartitionProduceData {
                index: *index,
                records: Some(records),
            }
        };
        ProduceRequest {
            acks: self.settings.acks,
            timeout_ms: deadline.remaining_ms(),
            topic_data: vec![TopicProduceData {
                name: ByteStr::from(self.topic.name.clone()),
                partition_data: sent.iter().map(data).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }
}
