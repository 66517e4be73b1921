//! The produce stream: what requests hold for a partition is appended in the order it arrives, and answered as it is
//! acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strom_proto::convert::topic_id_partition;
use strom_proto::splice::{Payload, Spliced, SplicedSender, SplicedStream};
use strom_proto::v1::{
    LeaderHint, ProduceHead, ProducePartition, ProducePartitionReply, ProduceReplyHead, RecordError,
};
use strom_records::BatchHeader;
use strom_replication::Acks;
use strom_types::{ErrorCode, ProducerBatch, TopicIdPartition};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::assembly::{Assembly, failed, refused};
use super::checks::{Checks, Part, Ready};
use super::lanes::LaneName;
use super::refused::RefusedBatches;
use crate::broker::Broker;
use crate::partition::{Ack, Partition, ProduceError, ProduceTerms};

/// How often requests past their time-out are looked for.
const TIMEOUT_CHECK: Duration = Duration::from_millis(100);

pub(super) async fn serve(
    broker: Broker,
    lane: Option<LaneName>,
    mut requests: SplicedStream<ProduceHead>,
    sender: SplicedSender<ProduceReplyHead>,
) {
    let fence = match lane.map(|lane| broker.lanes().open(lane)) {
        None => strom_runtime::Shutdown::new(),
        Some(Some(fence)) => fence,
        Some(None) => return,
    };
    let mut stream = ProduceStream {
        checks: Checks::new(broker.check_permits().clone()),
        broker,
        sender,
        open: VecDeque::new(),
        refused: RefusedBatches::default(),
    };
    let mut tick = interval(TIMEOUT_CHECK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ended = false;
    while !(ended && stream.checks.is_empty()) {
        tokio::select! {
            biased;
            () = fence.cancelled() => {
                debug!("a produce stream was fenced by its lane's next one");
                return;
            }
            _ = tick.tick() => stream.expire(),
            ready = stream.checks.next(), if !stream.checks.is_empty() => {
                for ready in ready {
                    stream.append(ready);
                }
            }
            request = requests.next(), if !ended && stream.checks.has_room() => match request {
                Some(Ok(request)) => {
                    stream.broker.wait_for_write_room().await;
                    // Fenced while it waited: what the lane sent on its next stream may be appended already.
                    if fence.is_triggered() {
                        return;
                    }
                    stream.take(request);
                }
                Some(Err(error)) => {
                    warn!(%error, "a produce stream broke");
                    return;
                }
                None => ended = true,
            },
        }
    }
}

struct ProduceStream {
    broker: Broker,
    sender: SplicedSender<ProduceReplyHead>,
    checks: Checks,
    /// Requests that are not answered yet, oldest first; some may be complete.
    open: VecDeque<Arc<Assembly>>,
    refused: RefusedBatches,
}

impl ProduceStream {
    fn take(&mut self, request: Spliced<ProduceHead>) {
        let Spliced { head, mut payload } = request;
        let received = self.broker.clock().mono();
        let assembly = Arc::new(Assembly::new(&head, received, self.sender.clone()));
        let acks = i16::try_from(head.acks)
            .map_err(|_| ErrorCode::InvalidRequiredAcks)
            .and_then(Acks::try_from);
        for (place, part) in head.partitions.iter().enumerate() {
            let terms = acks.map(|acks| ProduceTerms {
                acks,
                zstd_allowed: head.zstd_allowed,
            });
            let found = self.partition_of(part, &mut payload, terms);
            match found {
                Ok((partition, records, terms)) => {
                    let part = Part {
                        partition,
                        records,
                        terms,
                        assembly: assembly.clone(),
                        place,
                    };
                    if let Some(ready) = self.checks.begin(part) {
                        self.append(ready);
                    }
                }
                Err(code) => assembly.set(place, failed(code)),
            }
        }
        while self.open.front().is_some_and(|oldest| oldest.is_complete()) {
            self.open.pop_front();
        }
        if !assembly.is_complete() {
            self.open.push_back(assembly);
        }
    }

    /// Takes one partition's records off the payload.
    fn partition_of(
        &mut self,
        part: &ProducePartition,
        payload: &mut Payload,
        terms: Result<ProduceTerms, ErrorCode>,
    ) -> Result<(Arc<Partition>, Bytes, ProduceTerms), ErrorCode> {
        let length = usize::try_from(part.length).unwrap_or(usize::MAX);
        let records = payload
            .take_bytes(length)
            .map_err(|_| ErrorCode::InvalidRequest)?;
        let terms = terms?;
        let key =
            topic_id_partition(&part.topic_id, part.partition).map_err(|_| ErrorCode::InvalidRequest)?;
        let Some(partition) = self.broker.partitions().get(key) else {
            let code = ErrorCode::NotLeaderOrFollower;
            self.note_refused(key, &records, code);
            return Err(code);
        };
        Ok((partition, records, terms))
    }

    fn append(&mut self, (part, checked): Ready) {
        let key = part.partition.key();
        let batch = producer_batch(&part.records);
        if batch.is_some_and(|batch| self.refused.is_overtaken_by(key, batch)) {
            let refused = failed(ErrorCode::NotLeaderOrFollower);
            return part.assembly.set(part.place, refused);
        }
        let ack = Ack {
            sink: part.assembly.clone(),
            place: part.place,
        };
        let appended = checked.and_then(|batch| part.partition.append_produced(batch, ack));
        if let Err(error) = appended {
            self.note_refused(key, &part.records, error.code());
            self.broker.metrics().produce_refused(error.code());
            part.assembly.set(part.place, explain(&part.partition, &error));
        }
    }

    /// What was sent behind it must not be appended before it.
    fn note_refused(&mut self, key: TopicIdPartition, records: &Bytes, code: ErrorCode) {
        if let Some(batch) = producer_batch(records) {
            self.refused.note(key, batch, code);
        }
    }

    fn expire(&mut self) {
        let now = self.broker.clock().mono();
        self.open.retain(|assembly| {
            if assembly.is_complete() {
                return false;
            }
            let expired = assembly.deadline <= now;
            if expired {
                assembly.time_out();
            }
            !expired
        });
    }
}

fn explain(partition: &Partition, error: &ProduceError) -> ProducePartitionReply {
    match error {
        ProduceError::Invalid(invalid) => {
            let faults = invalid.record_faults().iter().map(|fault| RecordError {
                batch_index: fault.batch_index,
                message: fault.message.to_string(),
            });
            refused(error.code(), invalid.to_string(), faults.collect(), None)
        }
        ProduceError::Refused(code @ ErrorCode::NotLeaderOrFollower) => {
            let (leader, epoch) = partition.leader();
            let hint = LeaderHint {
                leader_id: leader.map_or(-1, |id| id.get()),
                leader_epoch: epoch.get(),
            };
            refused(*code, String::new(), Vec::new(), Some(hint))
        }
        ProduceError::Refused(code) => failed(*code),
    }
}

fn producer_batch(records: &Bytes) -> Option<ProducerBatch> {
    BatchHeader::parse(records).ok()?.producer_batch()
}
