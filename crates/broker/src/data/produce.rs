//! The produce stream: requests are appended in the order they arrive, and answered as they are acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strom_proto::convert::{error_code, topic_id_partition};
use strom_proto::splice::{Payload, Spliced, SplicedSender, SplicedStream};
use strom_proto::v1::{
    LeaderHint, ProduceHead, ProducePartition, ProducePartitionReply, ProduceReplyHead, RecordError,
};
use strom_records::BatchHeader;
use strom_replication::Acks;
use strom_types::{ErrorCode, TopicIdPartition};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::assembly::{Assembly, failed, refused};
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
        broker,
        sender,
        open: VecDeque::new(),
        refused: RefusedBatches::default(),
    };
    let mut tick = interval(TIMEOUT_CHECK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = fence.cancelled() => {
                debug!("a produce stream was fenced by its lane's next one");
                return;
            }
            _ = tick.tick() => stream.expire(),
            request = requests.next() => match request {
                Some(Ok(request)) => {
                    stream.broker.wait_for_write_room().await;
                    stream.append(request);
                }
                Some(Err(error)) => {
                    warn!(%error, "a produce stream broke");
                    return;
                }
                None => return,
            },
        }
    }
}

struct ProduceStream {
    broker: Broker,
    sender: SplicedSender<ProduceReplyHead>,
    /// Requests that are not answered yet, oldest first; some may be complete.
    open: VecDeque<Arc<Assembly>>,
    refused: RefusedBatches,
}

impl ProduceStream {
    fn append(&mut self, request: Spliced<ProduceHead>) {
        let Spliced { head, mut payload } = request;
        let timeout = Duration::from_millis(u64::from(head.timeout_ms));
        let deadline = self.broker.clock().mono() + timeout;
        let assembly = Assembly::new(
            head.correlation,
            head.partitions.len(),
            deadline,
            self.sender.clone(),
        );
        let assembly = Arc::new(assembly);
        let acks = i16::try_from(head.acks)
            .map_err(|_| ErrorCode::InvalidRequiredAcks)
            .and_then(Acks::try_from);
        for (place, part) in head.partitions.iter().enumerate() {
            let ack = Ack {
                sink: assembly.clone(),
                place,
            };
            if let Err(reply) = self.append_part(part, &mut payload, acks, head.zstd_allowed, ack) {
                assembly.set(place, *reply);
            }
        }
        while self.open.front().is_some_and(|oldest| oldest.is_complete()) {
            self.open.pop_front();
        }
        if !assembly.is_complete() {
            self.open.push_back(assembly);
        }
    }

    fn append_part(
        &mut self,
        part: &ProducePartition,
        payload: &mut Payload,
        acks: Result<Acks, ErrorCode>,
        zstd_allowed: bool,
        ack: Ack,
    ) -> Result<(), Box<ProducePartitionReply>> {
        let refuse = |code| Box::new(failed(code));
        let length = usize::try_from(part.length).unwrap_or(usize::MAX);
        let records = payload
            .take_bytes(length)
            .map_err(|_| refuse(ErrorCode::InvalidRequest))?;
        let terms = ProduceTerms {
            acks: acks.map_err(refuse)?,
            zstd_allowed,
        };
        let key = topic_id_partition(&part.topic_id, part.partition)
            .map_err(|_| refuse(ErrorCode::InvalidRequest))?;
        let batch = BatchHeader::parse(&records)
            .ok()
            .and_then(|header| header.producer_batch());
        if batch.is_some_and(|batch| self.refused.is_overtaken_by(key, batch)) {
            return Err(refuse(ErrorCode::NotLeaderOrFollower));
        }
        let appended = self.append_batch(key, &records, terms, ack);
        if let (Some(batch), Err(code)) = (batch, appended.as_ref().map_err(|reply| error_code(reply.error)))
        {
            self.refused.note(key, batch, code);
        }
        appended
    }

    fn append_batch(
        &self,
        key: TopicIdPartition,
        records: &Bytes,
        terms: ProduceTerms,
        ack: Ack,
    ) -> Result<(), Box<ProducePartitionReply>> {
        let partition = self
            .broker
            .partitions()
            .get(key)
            .ok_or_else(|| Box::new(failed(ErrorCode::NotLeaderOrFollower)))?;
        partition.produce(records, terms, ack).map_err(|error| {
            self.broker.metrics().produce_refused(error.code());
            Box::new(explain(&partition, &error))
        })
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
