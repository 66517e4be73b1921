//! The cluster's metadata as a pure state machine: the image, its records and deltas, and the commands that change it.

mod image;

pub use image::{
    BrokerImage, ConfigMap, ConfigResource, Delta, GatewayImage, GatewayListener, Image, ImageError,
    LogDirectory, PartitionState, RemovedTopic, TopicImage, UnknownConfigResource,
};
pub use strom_proto::v1;
