//! A change in the making: the records so far, and the image as they will leave it.

use std::sync::Arc;

use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::{BrokerId, MetadataOffset, TopicIdPartition};

use crate::image::{BrokerImage, Image, ImageError, PartitionState};
use crate::partition_change::{PartitionChange, change_partition};

/// Partitions in one packed record.
const PACK: usize = 512;

/// Collects records and applies each as it comes, so that later steps of a command see the earlier ones.
pub(crate) struct Draft {
    pub(crate) image: Image,
    records: Vec<v1::MetadataRecord>,
    packed: Vec<v1::PartitionRecord>,
    /// Partitions whose new leader may lack committed records.
    pub(crate) unclean: Vec<TopicIdPartition>,
}

impl Draft {
    /// The draft's image stands at the next index: the likely, not the sure one of the entry to be.
    pub(crate) fn on(image: &Image) -> Draft {
        let mut image = image.clone();
        image.index = MetadataOffset(image.index.get() + 1);
        Draft {
            image,
            records: Vec::new(),
            packed: Vec::new(),
            unclean: Vec::new(),
        }
    }

    /// Adds a record. An error means that a command made a record which the log would refuse: a bug of the
    /// command, which then fails as a whole.
    pub(crate) fn push(&mut self, record: Record) -> Result<(), ImageError> {
        let record = v1::MetadataRecord { record: Some(record) };
        self.image.apply_one(&record)?;
        self.flush();
        self.records.push(record);
        Ok(())
    }

    /// Sets a partition's state.
    pub(crate) fn put_partition(
        &mut self,
        key: TopicIdPartition,
        state: PartitionState,
    ) -> Result<(), ImageError> {
        state.check().map_err(|rule| ImageError::Partition(key, rule))?;
        let record = state.to_record(key);
        self.image.put_partition(key, state)?;
        self.packed.push(record);
        if self.packed.len() >= PACK {
            self.flush();
        }
        Ok(())
    }

    /// Applies a change to a partition that exists. Returns whether it changed anything.
    pub(crate) fn change(
        &mut self,
        key: TopicIdPartition,
        change: &PartitionChange,
    ) -> Result<bool, ImageError> {
        let Some(old) = self.image.partition(key).map(Arc::clone) else {
            return Ok(false);
        };
        let live = |id: BrokerId| replica_is_live(&self.image, &old, id);
        let has_room = |id: BrokerId| live(id) && self.image.broker(id).is_some_and(|b| !b.disk_full);
        // Who has a full disk leads if nobody else in sync can: reads go on.
        let isr = change.isr.as_ref().unwrap_or(&old.isr);
        let pick_by_room = isr.iter().any(|id| !change.unclean.contains(id) && has_room(*id));
        let may_lead = |id: BrokerId| if pick_by_room { has_room(id) } else { live(id) };
        let Some(changed) = change_partition(&old, change, may_lead) else {
            return Ok(false);
        };
        if changed.unclean {
            self.unclean.push(key);
        }
        self.put_partition(key, changed.state)?;
        Ok(true)
    }

    pub(crate) fn into_parts(mut self) -> (Vec<v1::MetadataRecord>, Image, Vec<TopicIdPartition>) {
        self.flush();
        (self.records, self.image, self.unclean)
    }

    fn flush(&mut self) {
        match self.packed.len() {
            0 => {}
            1 => self
                .records
                .extend(self.packed.pop().map(|record| v1::MetadataRecord {
                    record: Some(Record::Partition(record)),
                })),
            _ => {
                let partitions = std::mem::take(&mut self.packed);
                self.records.push(v1::MetadataRecord {
                    record: Some(Record::Partitions(v1::PartitionsRecord { partitions })),
                });
            }
        }
    }
}

/// Whether a replica may lead or enter the ISR: its broker is in service and its directory online.
pub(crate) fn replica_is_live(image: &Image, state: &PartitionState, id: BrokerId) -> bool {
    image
        .broker(id)
        .is_some_and(|broker| broker.is_active() && replica_is_online(broker, state))
}

/// Whether the replica's directory is online; with no directory named, any will do.
pub(crate) fn replica_is_online(broker: &BrokerImage, state: &PartitionState) -> bool {
    let named = state
        .replicas
        .iter()
        .zip(&state.directories)
        .find(|(replica, _)| **replica == broker.id)
        .map(|(_, directory)| directory);
    match named {
        Some(directory) => broker
            .directories
            .iter()
            .any(|dir| dir.id == *directory && dir.online),
        None => !broker.is_dirless(),
    }
}
