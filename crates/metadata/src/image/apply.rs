//! Applying a batch of records: whole or not at all.

use std::sync::Arc;

use imbl::OrdMap;
use strom_proto::convert::{MalformedField, topic_id, topic_id_partition};
use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::{BrokerId, MetadataOffset, TopicId, TopicIdPartition};

use super::broker::broker_id;
use super::delta::{Delta, Touched};
use super::partition::uuid;
use super::{BrokerImage, ConfigResource, GatewayImage, Image, ImageError, PartitionState, TopicImage};

impl Image {
    /// Applies one entry of the metadata log and says what it changed. On an error the image is as before.
    pub fn apply(&mut self, index: MetadataOffset, batch: &v1::MetadataBatch) -> Result<Delta, ImageError> {
        if index <= self.index {
            return Err(ImageError::Index {
                at: self.index,
                got: index,
            });
        }
        let mut next = self.clone();
        let mut touched = Touched::default();
        next.index = index;
        for record in &batch.records {
            next.apply_record(record, &mut touched)?;
        }
        let old = std::mem::replace(self, next);
        Ok(Delta::of_touched(&old, self, touched))
    }

    pub(super) fn apply_record(
        &mut self,
        record: &v1::MetadataRecord,
        touched: &mut Touched,
    ) -> Result<(), ImageError> {
        match record.record.as_ref().ok_or(ImageError::UnknownRecord)? {
            Record::NoOp(_) => {}
            Record::Cluster(record) => self.cluster_id = Arc::from(record.cluster_id.as_str()),
            Record::Topic(record) => touched.topics.push(self.apply_topic(record)?),
            Record::RemoveTopic(record) => touched.topics.push(self.remove_topic(record)?),
            Record::Partition(record) => touched.partitions.push(self.apply_partition(record)?),
            Record::Partitions(pack) => {
                for record in &pack.partitions {
                    touched.partitions.push(self.apply_partition(record)?);
                }
            }
            Record::Broker(record) => touched.brokers.push(self.apply_broker(record)?),
            Record::BrokerState(record) => touched.brokers.push(self.apply_broker_state(record)?),
            Record::RemoveBroker(record) => touched.brokers.push(self.remove_broker(record)?),
            Record::Gateway(record) => {
                let gateway = GatewayImage::from_record(record)?;
                self.gateways.insert(gateway.id, Arc::new(gateway));
            }
            Record::RemoveGateway(record) => {
                let id = uuid(&record.gateway_id)?;
                self.gateways.remove(&id).ok_or(ImageError::UnknownGateway(id))?;
            }
            Record::Config(record) => touched.configs.push(self.apply_config(record)?),
            Record::ProducerIds(record) => self.apply_producer_ids(record)?,
            Record::Feature(record) => {
                self.features.insert(record.name.clone(), record.level);
            }
        }
        Ok(())
    }

    fn apply_topic(&mut self, record: &v1::TopicRecord) -> Result<TopicId, ImageError> {
        let id = topic_id(&record.topic_id)?;
        let taken = self.topic_names.get(record.name.as_str());
        let renamed = self
            .topics
            .get(&id)
            .is_some_and(|topic| topic.name.as_ref() != record.name);
        if id.is_zero() || record.name.is_empty() || renamed || taken.is_some_and(|other| *other != id) {
            return Err(ImageError::TopicName {
                id,
                name: record.name.clone(),
            });
        }
        let name: Arc<str> = Arc::from(record.name.as_str());
        let partitions = self
            .topics
            .get(&id)
            .map_or_else(OrdMap::new, |topic| topic.partitions.clone());
        self.topic_names.insert(Arc::clone(&name), id);
        let topic = TopicImage {
            id,
            name,
            internal: record.internal,
            partitions,
        };
        self.topics.insert(id, Arc::new(topic));
        Ok(id)
    }

    fn remove_topic(&mut self, record: &v1::RemoveTopicRecord) -> Result<TopicId, ImageError> {
        let id = topic_id(&record.topic_id)?;
        let topic = self.topics.remove(&id).ok_or(ImageError::UnknownTopic(id))?;
        self.topic_names.remove(&topic.name);
        self.configs.remove(&ConfigResource::Topic(id));
        self.partition_count = self.partition_count.saturating_sub(topic.partitions.len());
        Ok(id)
    }

    /// For a draft: applies a record without keeping book of what it touches.
    pub(crate) fn apply_one(&mut self, record: &v1::MetadataRecord) -> Result<(), ImageError> {
        self.apply_record(record, &mut Touched::default())
    }

    fn apply_partition(&mut self, record: &v1::PartitionRecord) -> Result<TopicIdPartition, ImageError> {
        let key = topic_id_partition(&record.topic_id, record.partition)?;
        let state = PartitionState::from_record(key, record)?;
        self.put_partition(key, state)?;
        Ok(key)
    }

    pub(crate) fn put_partition(
        &mut self,
        key: TopicIdPartition,
        state: PartitionState,
    ) -> Result<(), ImageError> {
        let topic = self
            .topics
            .get_mut(&key.topic_id)
            .ok_or(ImageError::UnknownTopic(key.topic_id))?;
        match topic.partitions.get(&key.partition) {
            Some(old) if state.leader_epoch < old.leader_epoch => {
                return Err(ImageError::Partition(key, "leader epochs never go back"));
            }
            Some(old) if state.partition_epoch < old.partition_epoch => {
                return Err(ImageError::Partition(key, "partition epochs never go back"));
            }
            Some(_) => {}
            None if usize::try_from(key.partition) != Ok(topic.partitions.len()) => {
                return Err(ImageError::Partition(key, "partitions are numbered without gaps"));
            }
            None => self.partition_count += 1,
        }
        Arc::make_mut(topic)
            .partitions
            .insert(key.partition, Arc::new(state));
        Ok(())
    }

    fn apply_broker(&mut self, record: &v1::BrokerRecord) -> Result<BrokerId, ImageError> {
        let broker = BrokerImage::from_record(record, self.index)?;
        let id = broker.id;
        self.brokers.insert(id, Arc::new(broker));
        Ok(id)
    }

    fn apply_broker_state(&mut self, record: &v1::BrokerStateRecord) -> Result<BrokerId, ImageError> {
        let id = self.registered(record.broker_id, record.broker_epoch)?;
        let broker = self.brokers.get_mut(&id).ok_or(ImageError::UnknownBroker(id))?;
        *broker = Arc::new(broker.with_state(record)?);
        Ok(id)
    }

    fn remove_broker(&mut self, record: &v1::RemoveBrokerRecord) -> Result<BrokerId, ImageError> {
        let id = self.registered(record.broker_id, record.broker_epoch)?;
        self.brokers.remove(&id);
        Ok(id)
    }

    fn registered(&self, id: i32, epoch: i64) -> Result<BrokerId, ImageError> {
        let id = broker_id(id)?;
        match self.brokers.get(&id) {
            Some(broker) if broker.epoch.get() == epoch => Ok(id),
            _ => Err(ImageError::UnknownBroker(id)),
        }
    }

    fn apply_config(&mut self, record: &v1::ConfigRecord) -> Result<ConfigResource, ImageError> {
        let resource = ConfigResource::from_record(record.resource_type, &record.resource_name)?;
        if record.key.is_empty() {
            return Err(MalformedField { field: "key" }.into());
        }
        if let ConfigResource::Topic(id) = resource
            && !self.topics.contains_key(&id)
        {
            return Err(ImageError::UnknownTopic(id));
        }
        let mut keys = self.configs.get(&resource).cloned().unwrap_or_default();
        match &record.value {
            Some(value) => keys.insert(record.key.clone(), value.clone()),
            None => keys.remove(&record.key),
        };
        if keys.is_empty() {
            self.configs.remove(&resource);
        } else {
            self.configs.insert(resource.clone(), keys);
        }
        Ok(resource)
    }

    fn apply_producer_ids(&mut self, record: &v1::ProducerIdsRecord) -> Result<(), ImageError> {
        if record.next_producer_id < self.next_producer_id {
            return Err(ImageError::ProducerIds {
                at: self.next_producer_id,
                got: record.next_producer_id,
            });
        }
        self.next_producer_id = record.next_producer_id;
        Ok(())
    }
}
