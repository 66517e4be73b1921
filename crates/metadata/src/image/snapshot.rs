//! A whole image as records, and back.

use strom_proto::convert::topic_id_bytes;
use strom_proto::v1;
use strom_proto::v1::metadata_record::Record;
use strom_types::{MetadataOffset, TopicIdPartition};

use super::delta::Touched;
use super::{ConfigResource, Image, ImageError, TopicImage};

/// Partitions in one packed record: about 8 KiB.
const PARTITIONS_PER_RECORD: usize = 128;

impl Image {
    /// The records that rebuild this image, always in the same order. Made as the iterator is drawn.
    pub fn to_records(&self) -> impl Iterator<Item = v1::MetadataRecord> + '_ {
        let cluster = (!self.cluster_id.is_empty()).then(|| {
            Record::Cluster(v1::ClusterRecord {
                cluster_id: self.cluster_id.to_string(),
            })
        });
        let producer_ids = (self.next_producer_id > 0).then(|| {
            Record::ProducerIds(v1::ProducerIdsRecord {
                next_producer_id: self.next_producer_id,
                broker_id: -1,
            })
        });
        let features = self.features.iter().map(|(name, level)| {
            Record::Feature(v1::FeatureRecord {
                name: name.clone(),
                level: *level,
            })
        });
        let brokers = self
            .brokers
            .values()
            .map(|broker| Record::Broker(broker.to_record()));
        let gateways = self
            .gateways
            .values()
            .map(|gateway| Record::Gateway(gateway.to_record()));
        let topics = self.topics.values().flat_map(|topic| topic_records(topic));
        let configs = self.configs.iter().flat_map(|(resource, keys)| {
            keys.iter()
                .map(|(key, value)| config_record(resource, key, Some(value.clone())))
        });
        cluster
            .into_iter()
            .chain(features)
            .chain(producer_ids)
            .chain(brokers)
            .chain(gateways)
            .chain(topics)
            .chain(configs)
            .map(|record| v1::MetadataRecord { record: Some(record) })
    }

    /// The image that `records` (in the order of [`Image::to_records`]) describe, as of `index`.
    pub fn from_records(
        index: MetadataOffset,
        records: impl IntoIterator<Item = v1::MetadataRecord>,
    ) -> Result<Image, ImageError> {
        let mut image = Image::empty();
        image.index = index;
        for record in records {
            // Nobody asks what changed: a record's list of touched keys is dropped at once.
            image.apply_record(&record, &mut Touched::default())?;
        }
        Ok(image)
    }
}

fn topic_records(topic: &TopicImage) -> impl Iterator<Item = Record> + '_ {
    let head = Record::Topic(v1::TopicRecord {
        topic_id: topic_id_bytes(topic.id),
        name: topic.name.to_string(),
        internal: topic.internal,
    });
    let mut rest = topic.partitions.iter().peekable();
    let packs = std::iter::from_fn(move || {
        rest.peek()?;
        let partitions = rest
            .by_ref()
            .take(PARTITIONS_PER_RECORD)
            .map(|(partition, state)| state.to_record(TopicIdPartition::new(topic.id, *partition)))
            .collect();
        Some(Record::Partitions(v1::PartitionsRecord { partitions }))
    });
    std::iter::once(head).chain(packs)
}

pub(crate) fn config_record(resource: &ConfigResource, key: &str, value: Option<String>) -> Record {
    Record::Config(v1::ConfigRecord {
        resource_type: resource.resource_type().into(),
        resource_name: resource.name(),
        key: key.to_owned(),
        value,
    })
}
