//! Producer ids, handed out to brokers in blocks (KIP-730).

use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::ErrorCode;

use super::{Refused, Reply, broken, check_broker_epoch, refuse};
use crate::draft::Draft;

/// Ids in one block.
pub const PRODUCER_ID_BLOCK: i32 = 1000;

pub(super) fn allocate(
    draft: &mut Draft,
    request: &v1::AllocateProducerIdsRequest,
) -> Result<Reply, Refused> {
    let broker = check_broker_epoch(&draft.image, request.broker_id, request.broker_epoch)?;
    let first = draft.image.next_producer_id();
    let next_producer_id = first
        .checked_add(i64::from(PRODUCER_ID_BLOCK))
        .ok_or_else(|| refuse(ErrorCode::UnknownServerError, "producer ids are used up"))?;
    draft
        .push(Record::ProducerIds(v1::ProducerIdsRecord {
            next_producer_id,
            broker_id: broker.get(),
        }))
        .map_err(|error| broken(&error))?;
    Ok(Reply::AllocateProducerIds(v1::AllocateProducerIdsReply {
        first,
        count: PRODUCER_ID_BLOCK,
    }))
}
