//! Internal clients: transports to other services, the controller with its leader search, a local image of the
//! metadata, and the data lanes to brokers.

mod controller;
mod error;
mod lane;
mod metadata;
mod peers;

pub use controller::{ControllerClient, Effect, is_refused};
pub use error::{CallError, EndpointError};
pub use lane::{
    FetchCall, FetchLane, LaneError, LaneLimits, ProduceCall, ProduceLane, ProduceStream, StreamName,
};
pub use metadata::{MetadataCache, MetadataChange, MetadataWatcher};
pub use peers::{LOCAL_SCHEME, Peers, Transport};
