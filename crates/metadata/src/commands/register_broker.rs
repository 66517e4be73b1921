//! RegisterBroker: a new life of a broker takes over from the one before (KIP-631, KIP-903, KIP-966).

use std::collections::BTreeSet;

use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::{BrokerEpoch, BrokerId, ErrorCode, MetadataOffset};
use uuid::Uuid;

use super::{Context, Refused, Reply, broken, refuse};
use crate::broker_changes::{Departure, leave_isrs};
use crate::draft::Draft;
use crate::image::{BrokerImage, Image, LogDirectory};

/// Stands in a reply for the index of the entry, which is known once it is committed.
pub(super) const EPOCH_TO_COME: i64 = -1;

pub(super) fn register_broker(
    draft: &mut Draft,
    context: &Context<'_>,
    request: &v1::RegisterBrokerRequest,
) -> Result<Reply, Refused> {
    check_cluster(&draft.image, &request.cluster_id)?;
    let record = new_record(&draft.image, request);
    let new = read(&record)?;
    check_directories(&draft.image, &new)?;
    let before = draft.image.broker(new.id).cloned();
    if let Some(before) = &before {
        if before.incarnation == new.incarnation {
            return Ok(reply(&draft.image, before.epoch.get()));
        }
        let alive = context.sessions.is_alive(before.id, before.epoch, context.now);
        // On the same volume the new process holds the directories' locks, so the old one is gone.
        if alive && directory_ids(before) != directory_ids(&new) {
            return Err(refuse(
                ErrorCode::DuplicateBrokerRegistration,
                format!("Another broker is registered with that broker id ({}).", new.id),
            ));
        }
    }
    let departure = departure(before.as_deref(), &new);
    draft
        .push(Record::Broker(record))
        .map_err(|error| broken(&error))?;
    let configs = context.configs(&draft.image);
    leave_isrs(draft, &configs, new.id, departure).map_err(|error| broken(&error))?;
    Ok(reply(&draft.image, EPOCH_TO_COME))
}

fn reply(image: &Image, broker_epoch: i64) -> Reply {
    Reply::RegisterBroker(v1::RegisterBrokerReply {
        broker_epoch,
        cluster_id: image.cluster_id().to_owned(),
    })
}

/// A broker that has never been in a cluster names none.
fn check_cluster(image: &Image, cluster_id: &str) -> Result<(), Refused> {
    if cluster_id.is_empty() || cluster_id == image.cluster_id() {
        return Ok(());
    }
    Err(refuse(
        ErrorCode::InconsistentClusterId,
        format!(
            "Expected cluster ID {}, but got cluster ID {cluster_id}",
            image.cluster_id()
        ),
    ))
}

fn new_record(image: &Image, request: &v1::RegisterBrokerRequest) -> v1::BrokerRecord {
    let cordoned = image
        .broker(BrokerId(request.broker_id))
        .is_some_and(|broker| broker.cordoned);
    v1::BrokerRecord {
        broker_id: request.broker_id,
        incarnation: request.incarnation.clone(),
        rack: request.rack.clone(),
        endpoint: request.endpoint.clone(),
        directories: request.directories.clone(),
        fenced: true,
        in_controlled_shutdown: false,
        disk_full: false,
        previous_clean_epoch: request.previous_clean_epoch,
        cordoned,
        broker_epoch: None,
    }
}

fn read(record: &v1::BrokerRecord) -> Result<BrokerImage, Refused> {
    let invalid = |message: String| refuse(ErrorCode::InvalidRegistration, message);
    let new =
        BrokerImage::from_record(record, MetadataOffset(0)).map_err(|error| invalid(error.to_string()))?;
    if new.incarnation.is_nil() || new.endpoint.is_empty() {
        return Err(invalid("a broker has an incarnation and an endpoint".to_owned()));
    }
    Ok(new)
}

/// Every directory is one broker's only: a copied volume must not pass as two replicas.
fn check_directories(image: &Image, new: &BrokerImage) -> Result<(), Refused> {
    let invalid = |message: String| Err(refuse(ErrorCode::InvalidRegistration, message));
    let own = directory_ids(new);
    if new.directories.is_empty() || own.len() != new.directories.len() || own.contains(&Uuid::nil()) {
        return invalid("No directories specified, or one of them twice, in request".to_owned());
    }
    let others = image.brokers().filter(|broker| broker.id != new.id);
    for other in others {
        if other.directories.iter().any(|dir| own.contains(&dir.id)) {
            return invalid(format!(
                "Broker {} has a log directory that belongs to broker {}",
                new.id, other.id
            ));
        }
    }
    Ok(())
}

fn directory_ids(broker: &BrokerImage) -> BTreeSet<Uuid> {
    broker
        .directories
        .iter()
        .map(|dir: &LogDirectory| dir.id)
        .collect()
}

/// What the new life still has of what the old one held.
fn departure(before: Option<&BrokerImage>, new: &BrokerImage) -> Departure {
    let Some(before) = before else {
        // Nothing is known of the disks of a broker that was unregistered.
        return Departure::DiskLost;
    };
    if !directory_ids(before).is_subset(&directory_ids(new)) {
        return Departure::DiskLost;
    }
    let closed_in_order =
        new.previous_clean_epoch != BrokerEpoch::NONE && new.previous_clean_epoch == before.epoch;
    if closed_in_order {
        Departure::DiskKept
    } else {
        Departure::Crashed
    }
}
