//! What the brokers say to produce requests: acknowledged, to be sent again, or refused for good.

use strom_kafka_codec::messages::ProduceResponse;
use strom_kafka_codec::messages::produce_response::PartitionProduceResponse;
use strom_types::ErrorCode;
use tokio::time::Instant;

use super::KafkaError;
use super::producer::{Delivered, Producer, Sealed, Sent};

impl Producer<'_> {
    pub(super) fn finish(&mut self, index: i32, batch: Sealed, base_offset: i64) -> Delivered {
        if let Some(lane) = self.lanes.get_mut(&index) {
            lane.in_flight.remove(&batch.ordinal);
            lane.introduced = true;
        }
        self.buffered_bytes = self.buffered_bytes.saturating_sub(batch.bytes.len());
        Delivered {
            partition: index,
            base_offset,
            stamps: batch.stamps,
            payload_bytes: batch.payload_bytes,
            acked: Instant::now(),
        }
    }

    pub(super) fn take_reply(
        &mut self,
        leader: i32,
        sent: Sent,
        result: Result<ProduceResponse, KafkaError>,
        delivered: &mut Vec<Delivered>,
    ) -> Result<(), KafkaError> {
        if let Some(count) = self.requests.get_mut(&leader) {
            *count = count.saturating_sub(1);
        }
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                self.connections.remove(&leader);
                return self.send_again(sent, error);
            }
        };
        for (index, batch) in sent {
            let mut answers = response
                .responses
                .iter()
                .flat_map(|topic| &topic.partition_responses);
            let Some(answer) = answers.find(|answer| answer.index == index) else {
                let subject = format!("producing to {}-{index}", self.topic.name);
                let message = Some("the server left the partition out of its reply".to_owned());
                return Err(KafkaError::Server {
                    subject,
                    code: ErrorCode::UnknownServerError,
                    message,
                });
            };
            match self.refusal(index, answer) {
                None => delivered.push(self.finish(index, batch, answer.base_offset)),
                Some(error) => self.send_again(vec![(index, batch)], error)?,
            }
        }
        Ok(())
    }

    fn refusal(&self, index: i32, answer: &PartitionProduceResponse) -> Option<KafkaError> {
        let subject = format!("producing to {}-{index}", self.topic.name);
        let detail = answer
            .record_errors
            .first()
            .and_then(|record| record.batch_index_error_message.as_deref());
        let message = detail.or(answer.error_message.as_deref());
        let error = KafkaError::from_code(subject, answer.error_code, message)?;
        // A repeated batch that had arrived the first time.
        (error.code() != Some(ErrorCode::DuplicateSequenceNumber)).then_some(error)
    }

    /// Keeps batches for another try, unless the error is final.
    pub(super) fn send_again(&mut self, sent: Sent, error: KafkaError) -> Result<(), KafkaError> {
        for (index, batch) in sent {
            let Some(lane) = self.lanes.get_mut(&index) else {
                continue;
            };
            lane.in_flight.remove(&batch.ordinal);
            // An earlier batch of the partition has failed (its reply may be taken later), so this one came out of
            // order; both go again.
            let behind =
                error.code() == Some(ErrorCode::OutOfOrderSequenceNumber) && lane.has_before(batch.ordinal);
            if !(error.is_retriable() || behind) {
                return Err(error);
            }
            if batch.deadline.has_passed() {
                let what = format!("delivering a batch to {}-{index}", self.topic.name);
                return Err(batch.deadline.missed(what, Some(error)));
            }
            lane.again.push(batch);
            if lane.in_flight.is_empty() {
                lane.requeue();
            }
        }
        self.pause(error);
        Ok(())
    }

    /// Moves the batches to be sent again in front, and fails those whose time is up.
    pub(super) fn expire(&mut self) -> Result<(), KafkaError> {
        for (index, lane) in &mut self.lanes {
            if lane.in_flight.is_empty() && !lane.again.is_empty() {
                lane.requeue();
            }
            if let Some(batch) = lane.ready.front().filter(|batch| batch.deadline.has_passed()) {
                let what = format!("delivering a batch to {}-{index}", self.topic.name);
                return Err(batch.deadline.missed(what, self.last_error.take()));
            }
        }
        Ok(())
    }
}
