//! Every configuration key of Kafka 4.3.1 and of Strom: one typed table, and the pure rules over it.

mod alter;
mod describe;
mod docs;
mod effective;
mod error;
mod key;
mod layers;
mod registry;
mod suggest;
mod table;
mod topic;
mod valid;
mod validate;
mod value;

pub use alter::{AlterOp, alter};
pub use describe::{
    Entry, Synonym, describe_broker, describe_client_metrics, describe_cluster_default, describe_group,
    describe_topic,
};
pub use docs::reference_tables;
pub use effective::Effective;
pub use error::ConfigError;
pub use key::{Effect, Importance, Key, Kind, Retired, Scope, SynonymOf, Update};
pub use layers::{BrokerLayers, ConfigMap, Source};
pub use registry::{Registry, registry};
pub use suggest::suggest;
pub use table::TableError;
pub use topic::{CleanupPolicy, Compression, Durability, TimestampType, TopicConfig};
pub use valid::Valid;
pub use validate::{
    validate_broker, validate_client_metrics, validate_cluster_default, validate_group, validate_topic,
};
pub use value::{Secret, Value};
