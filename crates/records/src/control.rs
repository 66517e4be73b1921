//! Transaction markers: the one record of a control batch.

use bytes::{Buf, Bytes};
use thiserror::Error;

use crate::batches::Batch;
use crate::builder::{BatchBuilder, BuildError, NewRecord};
use crate::record::{Record, RecordError};
use strom_types::{ProducerEpoch, ProducerId};

/// Bound on a marker batch's records, which are never compressed.
const MARKER_BYTES_MAX: usize = 64 << 10;
/// Version of the key and of the value that we write.
const VERSION: i16 = 0;

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MarkerKind {
    Abort,
    Commit,
}

/// Why a control batch holds no marker.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ControlError {
    #[error("the batch is not a control batch")]
    NotControl,
    #[error("the control batch is empty")]
    Empty,
    #[error("the control record's {0} is missing, cut or of a negative version")]
    Malformed(&'static str),
    #[error("control record type {0} is not a transaction marker")]
    OtherType(i16),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The end of a transaction, as written by its coordinator (Kafka's `EndTransactionMarker`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlMarker {
    pub kind: MarkerKind,
    pub coordinator_epoch: i32,
}

impl ControlMarker {
    /// Reads key (version, type) and value (version, coordinator epoch). Later versions only add fields at the end.
    pub fn parse(record: &Record) -> Result<Self, ControlError> {
        let kind = match Self::record_type(record)? {
            0 => MarkerKind::Abort,
            1 => MarkerKind::Commit,
            other => return Err(ControlError::OtherType(other)),
        };
        let mut value = versioned(record.value.as_ref(), "value")?;
        let coordinator_epoch = value
            .try_get_i32()
            .map_err(|_| ControlError::Malformed("value"))?;
        Ok(ControlMarker {
            kind,
            coordinator_epoch,
        })
    }

    /// The control record's type: 0 abort, 1 commit; others belong to raft logs (Kafka's `ControlRecordType`).
    pub fn record_type(record: &Record) -> Result<i16, ControlError> {
        let mut key = versioned(record.key.as_ref(), "key")?;
        key.try_get_i16().map_err(|_| ControlError::Malformed("key"))
    }

    /// The marker in a control batch.
    pub fn of(batch: &Batch) -> Result<Self, ControlError> {
        if !batch.header.is_control() {
            return Err(ControlError::NotControl);
        }
        let mut records = batch.records(MARKER_BYTES_MAX)?;
        Self::parse(&records.next().ok_or(ControlError::Empty)??)
    }

    /// The marker's batch, to be stamped by the leader.
    pub fn build(
        self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        timestamp: i64,
    ) -> Result<Bytes, BuildError> {
        let kind: i16 = match self.kind {
            MarkerKind::Abort => 0,
            MarkerKind::Commit => 1,
        };
        let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        let mut value = VERSION.to_be_bytes().to_vec();
        value.extend_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::new()
            .producer(producer_id, producer_epoch, crate::header::NO_SEQUENCE)
            .transactional(true)
            .control(true);
        builder.push(&NewRecord {
            timestamp,
            key: Some(&key),
            value: Some(&value),
            headers: &[],
        })?;
        builder.build()
    }
}

fn versioned<'a>(field: Option<&'a Bytes>, name: &'static str) -> Result<&'a [u8], ControlError> {
    let mut bytes: &[u8] = field.ok_or(ControlError::Malformed(name))?;
    match bytes.try_get_i16() {
        Ok(version) if version >= 0 => Ok(bytes),
        _ => Err(ControlError::Malformed(name)),
    }
}
