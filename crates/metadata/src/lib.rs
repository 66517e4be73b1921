//! The cluster's metadata as a pure state machine: the image, its records and deltas, and the commands that change it.

mod broker_changes;
mod commands;
mod controller_core;
mod draft;
mod election;
mod image;
mod partition_change;
mod placement;
mod sessions;
#[cfg(test)]
mod testing;
mod topic_settings;

pub use commands::{
    BrokerChange, Command, Context, ControllerSettings, Outcome, PRODUCER_ID_BLOCK, Reply, evaluate,
};
pub use controller_core::{
    Answer, ControllerCore, CoreConfig, CoreEvent, NextBatch, RequestId, unconfirmed_heartbeat,
};
pub use election::{Ballot, Elected, Title, elect};
pub use image::{
    BrokerImage, ConfigResource, Delta, DynamicConfigs, GatewayImage, GatewayListener, Image, ImageError,
    LogDirectory, PartitionState, RemovedTopic, TopicImage, UnknownConfigResource,
};
pub use partition_change::{Changed, PartitionChange, change_partition};
pub use placement::{Placement, PlacementError};
pub use sessions::BrokerSessions;
pub use strom_proto::v1;
