//! Changes of state within one life of a broker: fencing, unfencing, controlled shutdown, lost directories, full disks.

use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::{BrokerEpoch, BrokerId, LeaderEpoch, TopicIdPartition};
use uuid::Uuid;

use super::{Context, Refused, Reply, broken, check_broker_epoch};
use crate::broker_changes::{
    Departure, elect_leaderless, leave_damaged, leave_isrs, leave_isrs_of_offline_directories,
    yield_leaderships,
};
use crate::draft::Draft;
use crate::image::{BrokerImage, ImageError};

/// The state that a broker should have. A controlled shutdown is not taken back within one life, and a directory
/// that went offline stays so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerChange {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
    pub fenced: bool,
    pub in_controlled_shutdown: bool,
    /// `None` = as it is.
    pub disk_full: Option<bool>,
    pub offline_directories: Vec<Uuid>,
}

impl BrokerChange {
    /// Takes the broker out of service.
    pub fn fence(broker: BrokerId, epoch: BrokerEpoch) -> Self {
        BrokerChange {
            broker,
            epoch,
            fenced: true,
            in_controlled_shutdown: false,
            disk_full: None,
            offline_directories: Vec::new(),
        }
    }

    /// The broker as it is after the change.
    pub(crate) fn applied_to(&self, broker: &BrokerImage) -> BrokerImage {
        let mut after = broker.clone();
        after.fenced = self.fenced;
        after.in_controlled_shutdown |= self.in_controlled_shutdown;
        after.disk_full = self.disk_full.unwrap_or(after.disk_full);
        for directory in &mut after.directories {
            directory.online &= !self.offline_directories.contains(&directory.id);
        }
        after
    }
}

pub(super) fn change_broker(
    draft: &mut Draft,
    context: &Context<'_>,
    change: &BrokerChange,
) -> Result<Reply, Refused> {
    let id = check_broker_epoch(&draft.image, change.broker.get(), change.epoch.get())?;
    if let Some(before) = draft.image.broker(id).cloned() {
        let after = change.applied_to(&before);
        if after != *before {
            write(draft, context, &before, &after).map_err(|error| broken(&error))?;
        }
    }
    Ok(Reply::Change(v1::ChangeReply::default()))
}

fn write(
    draft: &mut Draft,
    context: &Context<'_>,
    before: &BrokerImage,
    after: &BrokerImage,
) -> Result<(), ImageError> {
    let id = after.id;
    draft.push(Record::BrokerState(after.to_state_record()))?;
    let configs = context.configs(&draft.image);
    if before.is_active() && !after.is_active() {
        leave_isrs(draft, &configs, id, Departure::DiskKept)?;
    } else if before.directories != after.directories {
        leave_isrs_of_offline_directories(draft, &configs, id)?;
    }
    if !before.disk_full && after.disk_full {
        yield_leaderships(draft, id)?;
    }
    if !before.is_active() && after.is_active() {
        elect_leaderless(draft, &configs, |_, state| state.replicas.contains(&id))?;
    }
    Ok(())
}

pub(super) fn drop_damaged(
    draft: &mut Draft,
    broker: BrokerId,
    epoch: BrokerEpoch,
    replicas: &[(TopicIdPartition, LeaderEpoch)],
) -> Result<Reply, Refused> {
    let id = check_broker_epoch(&draft.image, broker.get(), epoch.get())?;
    leave_damaged(draft, id, replicas).map_err(|error| broken(&error))?;
    Ok(Reply::Change(v1::ChangeReply::default()))
}
