//! UnregisterBroker: the broker is gone for good.

use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::{BrokerId, ErrorCode};

use super::{Context, Refused, Reply, broken, refuse};
use crate::broker_changes::{Departure, leave_isrs};
use crate::draft::Draft;

/// Its replicas stay assigned, so that the id can come back; what it then still holds is not believed. A broker that
/// lives is refused (Kafka carries it out): it would leave every ISR at once, and serve nobody until it is restarted.
pub(super) fn unregister_broker(
    draft: &mut Draft,
    context: &Context<'_>,
    request: &v1::UnregisterBrokerRequest,
) -> Result<Reply, Refused> {
    let id = BrokerId(request.broker_id);
    let Some(broker) = draft.image.broker(id).cloned() else {
        return Err(refuse(
            ErrorCode::BrokerIdNotRegistered,
            format!("Broker ID {id} is not currently registered"),
        ));
    };
    if !broker.fenced || context.sessions.is_alive(id, broker.epoch, context.now) {
        return Err(refuse(
            ErrorCode::InvalidRequest,
            format!(
                "Broker {id} is alive. Stop it first; it can be unregistered once its session has ended."
            ),
        ));
    }
    draft
        .push(Record::RemoveBroker(v1::RemoveBrokerRecord {
            broker_id: id.get(),
            broker_epoch: broker.epoch.get(),
        }))
        .map_err(|error| broken(&error))?;
    let configs = context.configs(&draft.image);
    leave_isrs(draft, &configs, id, Departure::DiskKept).map_err(|error| broken(&error))?;
    Ok(Reply::Change(v1::ChangeReply::default()))
}
