//! One partition's part of the reply: where it stands, and what the broker's answer or a failure makes of it.

use strom_kafka_codec::messages::ProduceResponse;
use strom_kafka_codec::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceResponse,
};
use strom_proto::convert::error_code;
use strom_proto::v1::ProducePartitionReply;
use strom_types::ErrorCode;

use crate::codes::{client_code, error_text, kafka};

/// Where one partition of the request stands in the reply.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) topic: usize,
    pub(super) partition: usize,
}

pub(super) fn failed(index: i32, code: ErrorCode) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: kafka(code),
        base_offset: -1,
        ..Default::default()
    }
}

pub(super) fn fill(response: &mut ProduceResponse, slot: Slot, code: ErrorCode) {
    if let Some(reply) = at(response, slot) {
        *reply = failed(reply.index, code);
    }
}

pub(super) fn at(response: &mut ProduceResponse, slot: Slot) -> Option<&mut PartitionProduceResponse> {
    response
        .responses
        .get_mut(slot.topic)?
        .partition_responses
        .get_mut(slot.partition)
}

pub(super) fn partition_reply(index: i32, answer: ProducePartitionReply) -> PartitionProduceResponse {
    let code = match error_code(answer.error) {
        // Surely not written, and to be sent again: what Kafka would say of quotas ends librdkafka's tries.
        ErrorCode::Overloaded => ErrorCode::NotEnoughReplicas,
        code => client_code(code),
    };
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
