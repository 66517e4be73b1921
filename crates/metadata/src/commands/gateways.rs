//! Gateways come and go: they hold nothing, the image only says where clients reach them.

use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::ErrorCode;
use uuid::Uuid;

use super::{Refused, Reply, broken, refuse};
use crate::draft::Draft;
use crate::image::{GatewayImage, uuid_bytes};

pub(super) fn register(draft: &mut Draft, request: &v1::RegisterGatewayRequest) -> Result<Reply, Refused> {
    let record = v1::GatewayRecord {
        gateway_id: request.gateway_id.clone(),
        listeners: request.listeners.clone(),
        rack: request.rack.clone(),
    };
    let gateway = GatewayImage::from_record(&record)
        .map_err(|error| refuse(ErrorCode::InvalidRequest, error.to_string()))?;
    if gateway.id.is_nil() || gateway.listeners.iter().any(|listener| listener.host.is_empty()) {
        return Err(refuse(
            ErrorCode::InvalidRequest,
            "a gateway has an id, and its listeners have hosts",
        ));
    }
    if draft
        .image
        .gateway(gateway.id)
        .is_none_or(|known| **known != gateway)
    {
        draft
            .push(Record::Gateway(record))
            .map_err(|error| broken(&error))?;
    }
    Ok(Reply::RegisterGateway(v1::RegisterGatewayReply::default()))
}

pub(super) fn remove(draft: &mut Draft, id: Uuid) -> Result<Reply, Refused> {
    if draft.image.gateway(id).is_some() {
        let gateway_id = uuid_bytes(&id);
        draft
            .push(Record::RemoveGateway(v1::RemoveGatewayRecord { gateway_id }))
            .map_err(|error| broken(&error))?;
    }
    Ok(Reply::Change(v1::ChangeReply::default()))
}
