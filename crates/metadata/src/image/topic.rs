//! A topic in the image.

use std::sync::Arc;

use imbl::OrdMap;
use strom_types::TopicId;

use super::partition::PartitionState;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicImage {
    pub id: TopicId,
    pub name: Arc<str>,
    /// Made by the cluster for itself (`__consumer_offsets`): clients may not write to it.
    pub internal: bool,
    /// Numbered from 0 without gaps.
    pub partitions: OrdMap<i32, Arc<PartitionState>>,
}
