//! A broker's registration in the image, and its form as a record.

use strom_proto::convert::MalformedField;
use strom_proto::v1;
use strom_types::{BrokerEpoch, BrokerId, MetadataOffset};
use uuid::Uuid;

use super::partition::{uuid, uuid_bytes};

/// One log directory of a broker, by the id in its id file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogDirectory {
    pub id: Uuid,
    pub online: bool,
}

/// One life of a broker process, from its registration on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerImage {
    pub id: BrokerId,
    /// The index of the entry that registered it.
    pub epoch: BrokerEpoch,
    pub incarnation: Uuid,
    pub rack: Option<String>,
    /// Where other services reach it: `host:port` or `unix:///path`.
    pub endpoint: String,
    pub directories: Vec<LogDirectory>,
    /// Out of service: leads nothing, is in no ISR that others could fill.
    pub fenced: bool,
    pub in_controlled_shutdown: bool,
    /// Takes no replicas of new partitions.
    pub cordoned: bool,
    /// Refuses appends for want of space: leads only what nobody else can.
    pub disk_full: bool,
    /// The epoch under which its directories were last closed in order; `NONE` after a crash.
    pub previous_clean_epoch: BrokerEpoch,
}

impl BrokerImage {
    /// May be given leaderships and may enter ISRs.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Has no directory left to write to.
    pub fn is_dirless(&self) -> bool {
        !self.directories.is_empty() && self.directories.iter().all(|dir| !dir.online)
    }

    pub(crate) fn from_record(
        record: &v1::BrokerRecord,
        index: MetadataOffset,
    ) -> Result<Self, MalformedField> {
        let of_entry = i64::try_from(index.get()).map_err(|_| MalformedField { field: "index" })?;
        Ok(BrokerImage {
            id: broker_id(record.broker_id)?,
            epoch: BrokerEpoch(record.broker_epoch.unwrap_or(of_entry)),
            incarnation: uuid(&record.incarnation)?,
            rack: (!record.rack.is_empty()).then(|| record.rack.clone()),
            endpoint: record.endpoint.clone(),
            directories: directories(&record.directories)?,
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            cordoned: record.cordoned,
            disk_full: record.disk_full,
            previous_clean_epoch: BrokerEpoch(record.previous_clean_epoch),
        })
    }

    pub(super) fn with_state(&self, record: &v1::BrokerStateRecord) -> Result<Self, MalformedField> {
        Ok(BrokerImage {
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            cordoned: record.cordoned,
            disk_full: record.disk_full,
            directories: directories(&record.directories)?,
            ..self.clone()
        })
    }

    pub(super) fn to_record(&self) -> v1::BrokerRecord {
        v1::BrokerRecord {
            broker_id: self.id.get(),
            incarnation: uuid_bytes(&self.incarnation),
            rack: self.rack.clone().unwrap_or_default(),
            endpoint: self.endpoint.clone(),
            directories: directory_records(&self.directories),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            previous_clean_epoch: self.previous_clean_epoch.get(),
            cordoned: self.cordoned,
            disk_full: self.disk_full,
            broker_epoch: Some(self.epoch.get()),
        }
    }

    /// The record that says this broker's changeable state.
    pub(crate) fn to_state_record(&self) -> v1::BrokerStateRecord {
        v1::BrokerStateRecord {
            broker_id: self.id.get(),
            broker_epoch: self.epoch.get(),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            cordoned: self.cordoned,
            disk_full: self.disk_full,
            directories: directory_records(&self.directories),
        }
    }
}

pub(super) fn broker_id(number: i32) -> Result<BrokerId, MalformedField> {
    if number < 0 {
        return Err(MalformedField { field: "broker_id" });
    }
    Ok(BrokerId(number))
}

fn directories(records: &[v1::LogDirectory]) -> Result<Vec<LogDirectory>, MalformedField> {
    let read = |record: &v1::LogDirectory| {
        Ok(LogDirectory {
            id: uuid(&record.directory_id)?,
            online: record.online,
        })
    };
    records.iter().map(read).collect()
}

fn directory_records(directories: &[LogDirectory]) -> Vec<v1::LogDirectory> {
    let write = |dir: &LogDirectory| v1::LogDirectory {
        directory_id: uuid_bytes(&dir.id),
        online: dir.online,
    };
    directories.iter().map(write).collect()
}
